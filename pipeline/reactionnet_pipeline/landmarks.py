"""The 68 landmarks of a face (dlib, Kazemi & Sullivan, CVPR 2014) and the crop that is aligned with them.

The predictor comes in the wheel of face_recognition_models, trained on iBUG 300-W (not for commercial use). It expects
the box of dlib's own detector; `DLIB_SIDE` and `DLIB_DOWN` make one out of MTCNN's.

Letters: H height, W width, C colour (RGB), 68x2 landmarks as x, y.
"""

import math
from functools import cache

import cv2
import numpy as np

from reactionnet_pipeline.pose import FRONTAL_68x2
from reactionnet_pipeline.records import Box
from reactionnet_pipeline.weights import FILES, weights_file

VERSION = 2
# dlib's box is a square around the same face: its side in heights of MTCNN's box, and how much lower its centre lies.
# On 192 pictures of rendered_facs (true landmarks) the mean error of the inner 51 points is 2.8 % of the distance
# between the outer eye corners; with dlib's own detections as well. Any side of 0.75 to 0.9 does, 0.70 gives 2.9 %.
DLIB_SIDE, DLIB_DOWN = 0.82, 0.05
# Points that keep their places when a face moves its brows, lids, lips and jaw: nose, corners of the eyes and mouth.
STEADY = [*range(27, 36), 36, 39, 42, 45, 48, 54]
_UPRIGHT_CENTRE = FRONTAL_68x2[STEADY].mean(axis=0)
_UPRIGHT = FRONTAL_68x2[STEADY] - _UPRIGHT_CENTRE
CROP_FACE = 0.62  # width of the face (ear to ear, points 0 to 16) in an aligned crop, as a share of its side
_CORNERS = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)
MARGIN = 8  # pixels around a crop's corners that its interpolation may want
CROP_CENTRE = (0.5, 0.44)  # where the root of the nose to the upper lip's middle lies in it


@cache
def _predictor():
    import dlib

    return dlib.shape_predictor(str(weights_file(*FILES["dlib 68 landmarks"])))


def find_landmarks(rgb_HWC: np.ndarray, box: Box) -> np.ndarray:
    """68 points (float32, pixels of the picture) of the face in MTCNN's `box`; they may lie outside the picture."""
    import dlib

    half = DLIB_SIDE * box.h / 2
    x, y = box.x + box.w / 2, box.y + box.h / 2 + DLIB_DOWN * box.h
    square = dlib.rectangle(round(x - half), round(y - half), round(x + half), round(y + half))
    shape = _predictor()(rgb_HWC, square)
    return np.array([(point.x, point.y) for point in shape.parts()], np.float32)


def align(points_68x2: np.ndarray) -> np.ndarray:
    """The turn, scale and shift that brings a face upright: (a, b, x, y) with [[a, -b, x], [b, a, y]].

    Least squares between the steady points and those of a frontal face one unit wide, centred between the root of the
    nose and the upper lip. Four numbers without wrap-around, so that their mean over frames is an alignment again.
    """
    of = points_68x2[STEADY].astype(np.float64)
    centre = of.mean(axis=0)
    of -= centre
    size = float((of * of).sum())
    a = float((of * _UPRIGHT).sum()) / size
    b = float(of[:, 0] @ _UPRIGHT[:, 1] - of[:, 1] @ _UPRIGHT[:, 0]) / size
    x = _UPRIGHT_CENTRE[0] - a * centre[0] + b * centre[1]
    y = _UPRIGHT_CENTRE[1] - b * centre[0] - a * centre[1]
    return np.array([a, b, x, y])


def crop_matrix(alignment_4: np.ndarray, crop_px: int) -> np.ndarray:
    """The 2x3 matrix from picture to pixels of the aligned crop (pixel centres at whole numbers)."""
    a, b, x, y = alignment_4 * (CROP_FACE * crop_px)
    shift_x, shift_y = (share * crop_px for share in CROP_CENTRE)
    return np.array([[a, -b, x + shift_x], [b, a, y + shift_y]])


def warp(rgb_HWC: np.ndarray, matrix_2x3: np.ndarray, crop_px: int) -> np.ndarray:
    """The aligned crop (crop_px, crop_px, 3); black outside the picture. What shrinks much shrinks by area first."""
    corners_42 = (_CORNERS * crop_px - matrix_2x3[:, 2]) @ np.linalg.inv(matrix_2x3[:, :2]).T
    (left, top), (right, bottom) = corners_42.min(axis=0) - MARGIN, corners_42.max(axis=0) + MARGIN
    rgb_HWC, left, top = _cut(rgb_HWC, left, top, right, bottom)
    matrix_2x3 = matrix_2x3 @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1]])
    shrink = int(1 / max(np.hypot(*matrix_2x3[:, 0]), 1e-6))
    if shrink < 2:
        return cv2.warpAffine(rgb_HWC, matrix_2x3, (crop_px, crop_px), flags=cv2.INTER_LINEAR)
    height, width = rgb_HWC.shape[:2]
    small = cv2.resize(rgb_HWC, (max(width // shrink, 1), max(height // shrink, 1)), interpolation=cv2.INTER_AREA)
    grow = np.diag([width / small.shape[1], height / small.shape[0], 1.0])
    grow[:2, 2] = (grow[0, 0] - 1) / 2, (grow[1, 1] - 1) / 2  # pixel centres
    return cv2.warpAffine(small, matrix_2x3 @ grow, (crop_px, crop_px), flags=cv2.INTER_LINEAR)


def _cut(rgb_HWC: np.ndarray, left: float, top: float, right: float, bottom: float) -> tuple[np.ndarray, int, int]:
    """A copy of a part of the picture, and where it begins.

    A crop jumps about in a picture that has left the processor's cache since it was decoded; in a copy, read row by row,
    it costs half (0.25 against 0.42 ms).
    """
    height, width = rgb_HWC.shape[:2]
    a, b = min(max(int(left), 0), width - 1), min(max(int(top), 0), height - 1)
    c, d = min(max(math.ceil(right), a + 1), width), min(max(math.ceil(bottom), b + 1), height)
    return np.ascontiguousarray(rgb_HWC[b:d, a:c]), a, b
