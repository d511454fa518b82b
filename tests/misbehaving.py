"""A stage that does what the source's id says. It stands here because the processes of stages import it by name."""

import faulthandler
import os
import time
from pathlib import Path

from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.records import Source


def work_on(source: Source, power: int) -> tuple[str, int]:
    """Its id and a power of its line; or an abort, a hang, an error, a fault."""
    if source.video_id == "aborts":
        faulthandler.disable()  # no dump in the test's output
        os.abort()
    if source.video_id == "hangs":
        time.sleep(60)
    if source.video_id == "bad":
        raise SourceError(Code.NO_LAYOUT, "no seam")
    if source.video_id == "bug":
        _ = 1 / 0
    if source.video_id == "fills":
        fill_the_disk()
    if source.video_id == "talks":
        print("x" * (1 << 20), flush=True)  # more than a pipe holds that nobody reads
    return source.video_id, source.line**power


def fill_the_disk() -> None:
    """OSError, as from any file on a disk that is full."""
    Path("/dev/full").write_bytes(b"x")


def threads(source: Source) -> tuple[str, int]:
    """How many threads the libraries of a stage may use: the most that any of them says."""
    import cv2
    import numpy  # noqa: F401
    import scipy.linalg  # noqa: F401
    import threadpoolctl

    return source.video_id, max(cv2.getNumThreads(), *(one["num_threads"] for one in threadpoolctl.threadpool_info()))
