import os
import subprocess
import sys
from copy import copy
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from misbehaving import work_on
from reactionnet_pipeline.errors import Code, DeadLetter, JobError
from reactionnet_pipeline.isolated import Isolated
from reactionnet_pipeline.launch import finish, local_runner
from reactionnet_pipeline.records import Source


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


def test_a_full_disk_stops_the_job_and_costs_no_source(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pipeline = beam.Pipeline(runner=local_runner(tmp_path))
    stage = Isolated(work_on, (2,), "try", 60, source_of=copy, span_of=copy)  # what a worker can import
    _ = pipeline | beam.Create([Source(video_id="fills", line=2, uri="", split="train")]) | stage
    with pytest.raises(JobError, match=r"a disk is full \(No space left on device\): free some .* goes on"):
        finish(pipeline)


def test_a_worker_that_anybody_started_has_one_thread_and_says_nothing():
    """As Beam's worker pool starts them: many threads allowed, and standard output a pipe that nobody reads."""
    script = (
        "from misbehaving import threads, work_on\n"
        "from reactionnet_pipeline.isolated import call_isolated\n"
        "from reactionnet_pipeline.records import Source\n"
        "source = Source(video_id='talks', line=3, uri='', split='train')\n"
        "assert call_isolated(work_on, (source, 2), 60) == ('talks', 9)\n"
        "assert call_isolated(threads, (source,), 60) == ('talks', 1)\n"
    )
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "OMP_NUM_THREADS": "4",
        "OPENBLAS_NUM_THREADS": "4",
    }
    command = [sys.executable, "-c", script]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert worker.wait(120) == 0
    assert worker.stdout.read() == b""
