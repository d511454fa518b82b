"""Gaze: where the eyes turn in the head. Yaw > 0 looks to the right edge of the picture, pitch > 0 up; degrees.

Read from the aligned crop: a patch of 16 x 9 grey levels around each eye's corners, the place of the pupil (the centre of
what is dark between the lids), how far the lids are open, and the head's pose, through a net of one hidden layer. The
right eye is mirrored, so that one net serves both and the answer is their mean. The net was fitted on the rendered faces
S000, S002, ... of RenderedFACS (`tests/benchmarks/gaze.py --fit`); its errors on the other half of the subjects, whom
it never saw, are printed by the same file. They are rendered: on people expect the signs and the trend, not the degrees.

Letters: H height, W width, C colour (RGB), 68x2 landmarks as x, y.
"""

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import cv2
import numpy as np

VERSION = 1
WEIGHTS = "gaze.npz"
CROP_PX = 256  # the crop that the sizes below are for; in another they scale
WINDOW, PATCH = (32, 18), (16, 9)  # width and height: pixels of the crop, and of the patch made of them
EYES = slice(36, 48)  # of the 68 landmarks: six of the eye at the picture's left, then six of the other
CLOSED = 0.5  # closure from which the pupil counts as hidden
# Narrower than this in the source picture, an eye shows no pupil: gaze is not measured
MIN_EYE_PX = 6.0
EYE_PX = 23.5  # width of an eye in the aligned crop of a frontal face
UNIT = np.array([6.0, 6.0, 0.2])  # degrees, degrees, closure: what the net's outputs count in


class Gaze(NamedTuple):
    """Degrees, and the closure of the eyes from 0 (open) to 1."""

    yaw: float
    pitch: float
    closure: float


NOT_SEEN = Gaze(float("nan"), float("nan"), float("nan"))


def find_gaze(crop_HWC: np.ndarray, landmarks_68x2: np.ndarray, pose: tuple[float, float, float]) -> Gaze:
    """Gaze in the head from an aligned crop (`landmarks.warp`), landmarks in its pixels and yaw, pitch, roll.

    The angles mean little where the eyes are closed; `measured` says so.
    """
    weights = _weights()
    inputs_2xF = (eye_inputs(crop_HWC, landmarks_68x2, pose) - weights["mean"]) / weights["std"]
    hidden = np.tanh(inputs_2xF @ weights["w1"] + weights["b1"])
    found_2x3 = (hidden @ weights["w2"] + weights["b2"]) * UNIT
    found_2x3[1, 0] *= -1
    yaw, pitch, closure = found_2x3.mean(axis=0).tolist()
    return Gaze(yaw, pitch, min(max(closure, 0.0), 1.0))


def measured(gaze: Gaze, crop_matrix_2x3: np.ndarray, crop_px: int) -> tuple[float, float]:
    """Yaw and pitch to be stored: NaN through a blink, and where an eye is too small in the source picture.

    `crop_matrix_2x3` maps the source picture to a crop of `crop_px`.
    """
    crop_scale = float(np.hypot(*crop_matrix_2x3[:, 0])) * CROP_PX / crop_px
    eye_px = EYE_PX / crop_scale
    if gaze.closure >= CLOSED or eye_px < MIN_EYE_PX:
        return NOT_SEEN[:2]
    return gaze.yaw, gaze.pitch


def eye_inputs(crop_HWC: np.ndarray, landmarks_68x2: np.ndarray, pose: tuple[float, float, float]) -> np.ndarray:
    """What the net sees of each eye (2, F): the patch, pupil and lids, pose; the right eye mirrored."""
    scale = crop_HWC.shape[1] / CROP_PX
    window = max(round(WINDOW[0] * scale), 4), max(round(WINDOW[1] * scale), 4)
    points_2x6x2 = landmarks_68x2[EYES].reshape(2, 6, 2)
    corner, other = points_2x6x2[:, 0], points_2x6x2[:, 3]
    middle_2x2 = (corner + other) / 2
    patches = []
    for x, y in middle_2x2.tolist():
        # red: skin and the white of the eye are bright in it, an iris of any colour is dark
        red = cv2.getRectSubPix(crop_HWC, window, (x, y))[..., 0]
        patches.append(cv2.resize(red, PATCH, interpolation=cv2.INTER_AREA))
    patches[1] = patches[1][:, ::-1]
    flat = np.array(patches, np.float64).reshape(2, -1)
    normal_2xN = (flat - flat.mean(axis=1, keepdims=True)) / (flat.std(axis=1, keepdims=True) + 6)
    along = other - corner
    size = np.maximum(np.sqrt((along * along).sum(axis=1)), 1e-3)
    lids_2x2 = np.stack([points_2x6x2[:, 1] + points_2x6x2[:, 2], points_2x6x2[:, 4] + points_2x6x2[:, 5]], 1) / 2
    beside = lids_2x2 - middle_2x2[:, None]
    # how far above and below the line of the corners the lids lie, in eye widths
    opening = (beside[..., 1] * along[:, :1] - beside[..., 0] * along[:, 1:]) / (size * size)[:, None]
    yaw, pitch, roll = (angle / 30 for angle in pose)
    poses = [[yaw, pitch, roll], [-yaw, pitch, -roll]]
    return np.concatenate([normal_2xN, _dark_centres(normal_2xN), opening, poses], axis=1)


_X, _Y = (grid.ravel() for grid in np.meshgrid(np.linspace(-1, 1, PATCH[0]), np.linspace(-1, 1, PATCH[1])))
_NEAR = np.exp(-2 * _X**2 - 3 * _Y**2)  # lashes and brows at the rim are dark too
_MOMENTS = np.stack([_NEAR, _NEAR * _X, _NEAR * _Y], axis=1)


def _dark_centres(normal_2xN: np.ndarray) -> np.ndarray:
    """Centre of what is dark in each patch, -1 to 1 on both axes: the pupil."""
    total_x_y = np.maximum(-normal_2xN - 0.3, 0) @ _MOMENTS
    return total_x_y[:, 1:] / (total_x_y[:, :1] + 1e-3)


@cache
def _weights() -> dict[str, np.ndarray]:
    with (
        files("reactionnet_pipeline").joinpath(WEIGHTS).open("rb") as file,
        np.load(file, allow_pickle=False) as loaded,
    ):
        return {name: loaded[name].astype(np.float64) for name in loaded.files}
