"""Stages that run native code: a crash or a hang costs the element it happened to, never the job.

A dead worker hangs Beam's local runner for ever, so the code runs in a child process of the worker under a time limit.
Beam's own `with_exception_handling(use_subprocess=True)` does the same with a child for every stage, and waits a second
for each of them, worker after worker, when it ends them; here all stages of a worker share one child, so that the models
and libraries in it are loaded once, and it ends at once.

Who starts the workers is the runner's affair (`worker` for local builds, else Beam's own), so nothing is expected of them
here: the child is forked from a server that has one thread and our modules loaded. Forked from a worker it would inherit
the locks of gRPC's threads, and now and then die of them.
"""

import contextlib
import ctypes
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import psutil

from reactionnet_pipeline.errors import RETRYABLE, Code, DeadLetter, SourceError
from reactionnet_pipeline.records import Source

START_METHOD = "forkserver"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def _no_span(element: Any) -> tuple[None, None]:
    return None, None


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
    span_of: Callable[[Any], tuple[float | None, float | None]] = _no_span

    def expand(self, elements):
        attempts = elements | "Run" >> beam.ParDo(_Attempt(self))  # without tags, which Beam's DaskRunner mixes up
        return attempts | "Results" >> beam.Filter(_is_result), attempts | "Letters" >> beam.Filter(_is_letter)

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


class _Attempt(beam.DoFn):
    """A SourceError becomes a letter; anything else that is raised is a fault of ours and stops the job."""

    def __init__(self, transform: Isolated):
        self._transform = transform

    def process(self, element) -> Iterable[Any]:
        transform = self._transform
        try:
            yield call_isolated(transform.fn, (element, *transform.arguments), transform.time_limit_s)
        except SourceError as error:
            yield transform.letter(element, error.code, error.message)


def _is_result(outcome: Any) -> bool:
    return not isinstance(outcome, DeadLetter)


def _is_letter(outcome: Any) -> bool:
    return isinstance(outcome, DeadLetter)


_of_thread = threading.local()
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's


def call_isolated(fn: Callable[..., Any], arguments: tuple, time_limit_s: float) -> Any:
    """`fn(*arguments)` in this thread's child process. Raises what `fn` raises, and SourceError(TIMEOUT, WORKER_CRASHED)."""
    pool: ProcessPoolExecutor | None = getattr(_of_thread, "pool", None)
    if pool is None:
        pool = _of_thread.pool = _start()
    future = pool.submit(_tidy, fn, *arguments)
    try:
        return future.result(time_limit_s)
    except BrokenProcessPool:
        _of_thread.pool = None
        raise SourceError(Code.WORKER_CRASHED, "the process died while it worked on this source") from None
    except FutureTimeoutError:
        if future.done():
            raise  # the function's own
        _kill(pool)
        _of_thread.pool = None
        raise SourceError(Code.TIMEOUT, f"not done after {time_limit_s:g} s") from None


def _start() -> ProcessPoolExecutor:
    one_thread_from_now()
    preload()
    context = multiprocessing.get_context(START_METHOD)
    return ProcessPoolExecutor(1, context, initializer=_prepare, initargs=(os.getpid(),))


def preload() -> None:
    """What the server of the stages' processes loads before the first of them is forked."""
    multiprocessing.set_forkserver_preload(["reactionnet_pipeline.build"])


def _tidy(fn: Callable[..., Any], *arguments: Any) -> Any:
    """Run a stage, and give the memory that it has freed back: what one stage needed is not kept beside the next one's."""
    try:
        return fn(*arguments)
    finally:
        if _malloc_trim is not None:
            _malloc_trim(0)


def _kill(pool: ProcessPoolExecutor) -> None:
    for process in list(pool._processes.values()):  # kill_workers() of Python 3.14
        process.kill()
    pool.shutdown(wait=False, cancel_futures=True)


def _prepare(worker: int) -> None:
    os.dup2(2, 1)  # a runner may have tied the worker's standard output to a pipe that nobody reads
    one_thread()
    end_with(worker)


def one_thread() -> None:
    """One thread a process for what this process may load: parallelism is the runner's, and sums stay in one order."""
    import cv2
    import threadpoolctl

    cv2.setNumThreads(1)
    threadpoolctl.threadpool_limits(1)  # of what is loaded; the rest reads the environment
    one_thread_from_now()


def one_thread_from_now() -> None:
    """The same for libraries that are yet to be loaded, here and in processes that this one starts."""
    for name in THREADS:
        os.environ[name] = "1"


def end_with(pid: int) -> None:
    """Let this process end within a second of another, which may be killed without a word."""

    def watch() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            other = psutil.Process(pid)
            while other.is_running() and other.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
