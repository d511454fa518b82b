"""Cuts: where one shot ends and the next begins, from grey thumbnails.

A frame is a cut where it differs from the one before far more than the frames around it differ from theirs. Only the
last few frames are remembered, so that a reader that starts later finds the same cuts.

Letters: T frames, H height, W width, C colour (RGB).
"""

from collections import deque
from collections.abc import Iterable

import cv2
import numpy as np

VERSION = 1
SIDE = 32  # pixels of a thumbnail's sides
MIN_STEP = 9.0  # grey levels: the mean difference below which nothing is a cut
TIMES_USUAL = 3.5  # a cut stands out from the median step of the frames before by this factor
MEMORY = 8  # frames


def thumbnail(rgb_HWC: np.ndarray) -> np.ndarray:
    """32 x 32 grey levels (float32) of a picture, colour or grey; a coarse grid of pixels, averaged."""
    step_y, step_x = (max(1, size // (2 * SIDE)) for size in rgb_HWC.shape[:2])
    coarse = np.ascontiguousarray(rgb_HWC[::step_y, ::step_x])
    grey = coarse if coarse.ndim == 2 else cv2.cvtColor(coarse, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


class CutDetector:
    """Takes thumbnails one by one and says of each whether a new shot begins with it."""

    def __init__(self):
        self._last: np.ndarray | None = None
        self._steps: deque[float] = deque(maxlen=MEMORY)

    def is_cut(self, thumbnail_HW: np.ndarray) -> bool:
        last, self._last = self._last, thumbnail_HW
        if last is None:
            return False
        step = float(np.abs(thumbnail_HW - last).mean())
        # without a step to compare with, nothing is a cut: the picture may be moving all the time
        usual = float(np.median(self._steps)) if self._steps else step
        self._steps.append(step)
        return step > MIN_STEP and step > TIMES_USUAL * usual


def find_cuts(thumbnails: Iterable[np.ndarray]) -> list[int]:
    """Places in the sequence at which a new shot begins (never 0)."""
    detector = CutDetector()
    return [place for place, thumbnail_HW in enumerate(thumbnails) if detector.is_cut(thumbnail_HW)]
