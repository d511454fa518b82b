"""Stages that run native code: a crash or a hang costs the element it happened to, never the job.

A dead worker hangs Beam's local runner for ever, so the code runs in a child process of the worker under a time limit.
"""

import concurrent.futures
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from reactionnet_pipeline.errors import RETRYABLE, Code, DeadLetter, SourceError
from reactionnet_pipeline.records import Source

FATAL = (TimeoutError, concurrent.futures.TimeoutError, BrokenProcessPool)


@dataclass(eq=False)
class Isolated(beam.PTransform):
    """Elements -> (results, dead letters), by `fn(element, *arguments)` in a process that may die.

    `source_of(element)` names the source that a letter is about; `span_of(element)` the seconds that are lost with it.
    """

    fn: Callable[..., Any]
    arguments: tuple
    stage: str
    time_limit_s: float
    source_of: Callable[[Any], Source]
    span_of: Callable[[Any], tuple[float | None, float | None]] = lambda _: (None, None)

    def expand(self, elements):
        attempts, failed = elements | "Run" >> beam.ParDo(_Attempt(self)).with_exception_handling(
            exc_class=FATAL, use_subprocess=True, timeout=self.time_limit_s
        )
        results = attempts | "Results" >> beam.Filter(_is_result)
        letters = attempts | "Letters" >> beam.Filter(_is_letter)
        fatal = failed | "Fatal" >> beam.Map(_fatal_letter, self)
        return results, ((letters, fatal) | "All" >> beam.Flatten())

    def letter(self, element: Any, code: Code, message: str) -> DeadLetter:
        """The letter for an element that gave no result."""
        source = self.source_of(element)
        start_s, end_s = self.span_of(element)
        return DeadLetter(
            video_id=source.video_id,
            line=source.line,
            stage=self.stage,
            code=code,
            message=message,
            retryable=code in RETRYABLE,
            lost_start_s=start_s,
            lost_end_s=end_s,
        )


def _is_letter(result: Any) -> bool:
    return isinstance(result, DeadLetter)


def _is_result(result: Any) -> bool:
    return not isinstance(result, DeadLetter)


def _fatal_letter(failure: tuple[Any, tuple], transform: Isolated) -> DeadLetter:
    element, (kind, _, _) = failure
    if issubclass(kind, BrokenProcessPool):
        return transform.letter(element, Code.WORKER_CRASHED, "the process died while it worked on this source")
    return transform.letter(element, Code.TIMEOUT, f"not done after {transform.time_limit_s:g} s")


class _Attempt(beam.DoFn):
    """Runs in the child process: a SourceError becomes a letter, anything else is a fault of ours and stops the job."""

    def __init__(self, transform: Isolated):
        self._transform = transform

    def setup(self):
        one_thread()
        end_with_parent()

    def process(self, element) -> Iterable[Any]:
        try:
            yield self._transform.fn(element, *self._transform.arguments)
        except SourceError as error:
            yield self._transform.letter(element, error.code, error.message)


def one_thread() -> None:
    """One thread a process for what this process may load: parallelism is the runner's, and sums stay in one order."""
    import cv2

    cv2.setNumThreads(1)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def end_with_parent() -> None:
    """Let this process end within a second of its parent, which may have been killed without a word."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
