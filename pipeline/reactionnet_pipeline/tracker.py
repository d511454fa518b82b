"""Trackers that carry one face from frame to frame between detections, selectable by name.

`mtcnn` (the default) looks at the last place with MTCNN's last network, which says again and again where the face is
and whether it is one; the others are the general trackers of OpenCV and dlib, among them Boosting (Grabner et al.,
BMVC 2006), which the ReactionNet paper used. Those run on a window around the face, made so small that the face is
`FACE_PX` high, because their cost grows with the picture.

Letters: H height, W width, C colour (RGB).
"""

from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from reactionnet_pipeline import detector
from reactionnet_pipeline.records import Box

VERSION = 1
FACE_PX = 48  # height of the face in a general tracker's window
WINDOW = 3.0  # the window's side in heights of the face; whoever leaves it within a second is lost
FOLLOWED_IOU = 0.3  # MTCNN's network may not jump further than this in one step


class Tracker(Protocol):
    """Started on a face, asked in frame order; None where it has lost the face. The score may be unknown (None)."""

    def start(self, rgb_HWC: np.ndarray, box: Box) -> None: ...

    def update(self, rgb_HWC: np.ndarray) -> tuple[Box, float | None] | None: ...


class Look:
    """MTCNN's O-Net at the last place, 1 to 2 ms a face. The score is its own."""

    def __init__(self, min_score: float):
        self._min_score = min_score

    def start(self, rgb_HWC: np.ndarray, box: Box) -> None:
        self._box = box

    def update(self, rgb_HWC: np.ndarray) -> tuple[Box, float] | None:
        face = detector.look(rgb_HWC, [self._box])[0]
        if face.score < self._min_score or face.box.iou(self._box) < FOLLOWED_IOU:
            return None
        self._box = face.box
        return face.box, face.score


class _Windowed:
    """What the general trackers share: a window that stays where it was at the start, scaled."""

    def start(self, rgb_HWC: np.ndarray, box: Box) -> None:
        half = WINDOW * box.h / 2
        x, y = box.centre
        height, width = rgb_HWC.shape[:2]
        self._left, self._top = max(round(x - half), 0), max(round(y - half), 0)
        self._right, self._bottom = min(round(x + half), width), min(round(y + half), height)
        self._scale = min(1.0, FACE_PX / box.h)
        self._start(self._cut(rgb_HWC), self._inside(box))

    def update(self, rgb_HWC: np.ndarray) -> tuple[Box, None] | None:
        found = self._update(self._cut(rgb_HWC))
        if found is None:
            return None
        x, y, w, h = (value / self._scale for value in found)
        return Box(x=x + self._left, y=y + self._top, w=w, h=h), None  # none of them gives a probability

    def _cut(self, rgb_HWC: np.ndarray) -> np.ndarray:
        window = rgb_HWC[self._top : self._bottom, self._left : self._right]
        if self._scale == 1:
            return np.ascontiguousarray(window)
        return cv2.resize(window, None, fx=self._scale, fy=self._scale, interpolation=cv2.INTER_AREA)

    def _inside(self, box: Box) -> tuple[float, float, float, float]:
        return (
            (box.x - self._left) * self._scale,
            (box.y - self._top) * self._scale,
            box.w * self._scale,
            box.h * self._scale,
        )

    def _start(self, window_HWC: np.ndarray, xywh: tuple[float, float, float, float]) -> None:
        raise NotImplementedError

    def _update(self, window_HWC: np.ndarray) -> tuple[float, float, float, float] | None:
        raise NotImplementedError


class OpenCV(_Windowed):
    """A tracker of cv2 or cv2.legacy; most of them want boxes of whole pixels."""

    def __init__(self, create: Callable, whole_pixels: bool):
        self._create, self._whole_pixels = create, whole_pixels

    def _start(self, window_HWC, xywh):
        cv2.setRNGSeed(0)  # Boosting draws its features at random; so does MIL, which cannot be seeded (OpenCV 4.14)
        self._tracker = self._create()
        height, width = window_HWC.shape[:2]
        x, y = min(max(xywh[0], 0), width - 2), min(max(xywh[1], 0), height - 2)
        box = (x, y, max(min(xywh[2], width - x), 2), max(min(xywh[3], height - y), 2))
        self._tracker.init(window_HWC, tuple(int(value) for value in box) if self._whole_pixels else box)

    def _update(self, window_HWC):
        found, xywh = self._tracker.update(window_HWC)
        return xywh if found else None


class Dlib(_Windowed):
    """dlib's correlation tracker (Danelljan et al., BMVC 2014); lost where its peak does not stand out."""

    MIN_PEAK = 5.0  # peak to side lobe ratio

    def _start(self, window_HWC, xywh):
        import dlib

        x, y, w, h = xywh
        self._tracker = dlib.correlation_tracker()
        self._tracker.start_track(window_HWC, dlib.drectangle(x, y, x + w, y + h))

    def _update(self, window_HWC):
        if self._tracker.update(window_HWC) < self.MIN_PEAK:
            return None
        place = self._tracker.get_position()
        return place.left(), place.top(), place.width(), place.height()


OPENCV = {  # how to create it, and whether it wants whole pixels
    "boosting": (cv2.legacy.TrackerBoosting_create, True),  # a box of fractions takes the process down (4.14)
    "medianflow": (cv2.legacy.TrackerMedianFlow_create, False),
    "kcf": (cv2.TrackerKCF_create, True),
    "csrt": (cv2.TrackerCSRT_create, True),
    "mil": (cv2.TrackerMIL_create, True),
}
NAMES = ("mtcnn", *OPENCV, "dlib")


def make_tracker(name: str, min_score: float) -> Tracker:
    """A tracker by its name in `NAMES`, not yet started."""
    if name == "mtcnn":
        return Look(min_score)
    if name == "dlib":
        return Dlib()
    if name in OPENCV:
        return OpenCV(*OPENCV[name])
    raise ValueError(f"no tracker {name!r}: one of {', '.join(NAMES)}")
