import faulthandler
import os
import time

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from reactionnet_pipeline.errors import Code, DeadLetter, SourceError
from reactionnet_pipeline.isolated import Isolated
from reactionnet_pipeline.records import Source


def work_on(source: Source, power: int) -> tuple[str, int]:
    """Does what the source's id says."""
    if source.video_id == "aborts":
        faulthandler.disable()  # no dump in the test's output
        os.abort()
    if source.video_id == "hangs":
        time.sleep(60)
    if source.video_id == "bad":
        raise SourceError(Code.NO_LAYOUT, "no seam")
    if source.video_id == "bug":
        _ = 1 / 0
    return source.video_id, source.line**power


def itself(source: Source) -> Source:
    return source


def span(source: Source) -> tuple[float, float]:
    return source.line * 1.0, source.line + 0.5


def run(*video_ids, results, letters):
    sources = [Source(video_id=name, line=line, uri="", split="train") for line, name in enumerate(video_ids, 2)]
    stage = Isolated(work_on, (2,), "try", 2, source_of=itself, span_of=span)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        found, dead = pipeline | beam.Create(sources) | stage
        assert_that(found, equal_to(results), label="Found")
        assert_that(dead, equal_to(letters), label="Dead")


def letter(video_id, line, code, message, retryable):
    return DeadLetter(
        video_id=video_id, line=line, stage="try", code=code, message=message, retryable=retryable,
        lost_start_s=line * 1.0, lost_end_s=line + 0.5,
    )  # fmt: skip


def test_a_crash_a_hang_and_a_bad_source_cost_only_themselves():
    run(
        "good", "aborts", "fine", "hangs", "bad", "last",
        results=[("good", 4), ("fine", 16), ("last", 49)],
        letters=[
            letter("aborts", 3, Code.WORKER_CRASHED, "the process died while it worked on this source", True),
            letter("hangs", 5, Code.TIMEOUT, "not done after 2 s", True),
            letter("bad", 6, Code.NO_LAYOUT, "no seam", False),
        ],
    )  # fmt: skip


def test_a_fault_of_ours_stops_the_job():
    with pytest.raises(ZeroDivisionError):
        run("good", "bug", results=[("good", 4)], letters=[])
