"""Face detection with MTCNN's three networks (weights of facenet-pytorch), and with dlib's HOG detector to fill in.

Zhang et al., IEEE SPL 23(10), 2016. The networks are facenet-pytorch's; the steps between them are written here
because its own resize whole float pictures and crop in a loop, at twice the cost (51 ms against 24 for a pane of
320x360). One thread, float32, one picture a call. `look` is the last stage alone: with a guess of where the face is,
it costs 1 to 2 ms and answers in the same convention, which is what a tracker wants.

Letters: N boxes, K networks' crops, H height, W width, C colour (RGB). Box rows are x1, y1, x2, y2.
"""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

from reactionnet_pipeline.records import Box, Face

VERSION = 1
PNET_SCORE, RNET_SCORE = 0.6, 0.7  # the paper's first two thresholds
PYRAMID = 0.709  # each picture of the pyramid has half the area of the one before
PNET_CELL, PNET_STRIDE = 12, 2


@cache
def _networks() -> tuple:
    """P-Net, R-Net and O-Net, in the memory order that halves their time on a CPU."""
    import torch

    from reactionnet_datasets import torchvision_on_cpu

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torchvision_on_cpu.ensure()
    from facenet_pytorch.models.mtcnn import ONet, PNet, RNet

    return tuple(net().eval().to(memory_format=torch.channels_last) for net in (PNet, RNet, ONet))


def _run(network: int, crops_KHWC: np.ndarray) -> list[np.ndarray]:
    import torch

    # (K, H, W, C) in memory is already what torch calls channels_last
    scaled = torch.from_numpy(crops_KHWC).permute(0, 3, 1, 2).float().sub_(127.5).mul_(1 / 128)
    with torch.inference_mode():
        return [out.numpy() for out in _networks()[network](scaled)]


def detect_faces(rgb_HWC: np.ndarray, min_face_px: int = 20, min_score: float = 0.7) -> list[Face]:
    """Faces of one picture, best score first, boxes in its pixels."""
    boxes_N4 = _propose(rgb_HWC, min_face_px)
    if len(boxes_N4):
        boxes_N4 = _refine(rgb_HWC, boxes_N4)
    if not len(boxes_N4):
        return []
    faces = [face for face in look(rgb_HWC, [_box(row) for row in boxes_N4]) if face.score >= min_score]
    rows = np.array([[f.box.x, f.box.y, f.box.x + f.box.w, f.box.y + f.box.h] for f in faces]).reshape(-1, 4)
    keep = _suppress(rows, np.array([face.score for face in faces]), 0.7, by_smaller=True)
    return [faces[i] for i in keep]


def look(rgb_HWC: np.ndarray, guesses: Sequence[Box]) -> list[Face]:
    """O-Net at each guess (widened to a square): where the face there is, and how surely it is one. Same order."""
    squares_N4 = _squared(np.array([[g.x, g.y, g.x + g.w, g.y + g.h] for g in guesses], np.float32).reshape(-1, 4))
    shifts_N4, points_N10, scores_N2 = _run(2, _crops(rgb_HWC, squares_N4, 48))
    side_N1 = (squares_N4[:, 2] - squares_N4[:, 0])[:, None]
    rows_N4 = squares_N4 + shifts_N4 * side_N1
    xs_N5 = squares_N4[:, :1] + points_N10[:, :5] * side_N1
    ys_N5 = squares_N4[:, 1:2] + points_N10[:, 5:] * side_N1
    return [
        Face(box=_box(row), score=round(float(score), 4), points=tuple(zip(xs.tolist(), ys.tolist(), strict=True)))
        for row, score, xs, ys in zip(rows_N4, scores_N2[:, 1], xs_N5, ys_N5, strict=True)
    ]


@cache
def _hog():
    import dlib

    return dlib.get_frontal_face_detector()


def detect_faces_hog(rgb_HWC: np.ndarray, min_score: float = 0.3) -> list[Face]:
    """What dlib's HOG detector finds (faces of 80 px and more), in MTCNN's convention of boxes; no points.

    A HOG box is a square of 0.79 of MTCNN's height whose centre lies 0.064 heights lower, and MTCNN's boxes are 0.73
    as wide as high (medians over 1,152 pictures of rendered_facs).
    """
    squares, scores, _ = _hog().run(rgb_HWC, 0, min_score)
    faces = []
    for square, score in zip(squares, scores, strict=True):
        height = square.width() / 0.79
        x, y = (square.left() + square.right()) / 2, (square.top() + square.bottom()) / 2 - 0.064 * height
        box = Box(x=x - 0.365 * height, y=y - 0.5 * height, w=0.73 * height, h=height)
        faces.append(Face(box=box, score=min(float(score) / 2, 1.0)))  # 2 and more is as sure as HOG gets
    return sorted(faces, key=lambda face: -face.score)


def _propose(rgb_HWC: np.ndarray, min_face_px: int) -> np.ndarray:
    """P-Net over the pyramid: squares that may hold a face."""
    height, width = rgb_HWC.shape[:2]
    scale, found, scores = PNET_CELL / min_face_px, [], []
    picture = rgb_HWC
    while min(height, width) * scale >= PNET_CELL:
        size = (int(width * scale + 1), int(height * scale + 1))
        # each picture of the pyramid is made from the one before: area averages of area averages
        enlarge = size[0] > picture.shape[1]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR if enlarge else cv2.INTER_AREA)
        shifts_1CHW, scores_1CHW = _run(0, picture[None])
        score_HW = scores_1CHW[0, 1]
        ys, xs = np.nonzero(score_HW >= PNET_SCORE)
        corner_N2 = np.stack([xs, ys], axis=1) * PNET_STRIDE
        # the networks were trained with boxes whose last pixel belongs to them, counted from 1
        rows = np.floor(np.hstack([corner_N2 + 1, corner_N2 + PNET_CELL]) / scale)
        shift_N4 = shifts_1CHW[0][:, ys, xs].T
        score = score_HW[ys, xs]
        keep = _suppress(rows, score, 0.5)
        found.append(np.hstack([rows, shift_N4])[keep])
        scores.append(score[keep])
        scale *= PYRAMID
    if not found:
        return np.zeros((0, 4), np.float32)
    rows, score = np.concatenate(found), np.concatenate(scores)
    rows = rows[_suppress(rows[:, :4], score, 0.7)]
    return _squared(_shifted(rows[:, :4], rows[:, 4:])).astype(np.float32)


def _refine(rgb_HWC: np.ndarray, rows_N4: np.ndarray) -> np.ndarray:
    """R-Net: most proposals go, the rest move."""
    shifts_N4, scores_N2 = _run(1, _crops(rgb_HWC, rows_N4, 24))
    good = scores_N2[:, 1] >= RNET_SCORE
    rows, shifts, score = rows_N4[good], shifts_N4[good], scores_N2[good, 1]
    keep = _suppress(rows, score, 0.7)
    return _shifted(rows[keep], shifts[keep])


def _box(row_4: np.ndarray) -> Box:
    """Rounded to 1/4 px, so that what is decided from it does not hang on the last bits of a convolution."""
    x1, y1, x2, y2 = (round(float(value) * 4) / 4 for value in row_4)
    return Box(x=x1, y=y1, w=max(x2 - x1, 1.0), h=max(y2 - y1, 1.0))


def _shifted(rows_N4: np.ndarray, shifts_N4: np.ndarray) -> np.ndarray:
    size_N2 = rows_N4[:, 2:] - rows_N4[:, :2]
    return rows_N4 + shifts_N4 * np.hstack([size_N2, size_N2])


def _squared(rows_N4: np.ndarray) -> np.ndarray:
    centre_N2 = (rows_N4[:, :2] + rows_N4[:, 2:]) / 2
    half_N1 = (rows_N4[:, 2:] - rows_N4[:, :2]).max(axis=1, initial=0, keepdims=True) / 2
    return np.hstack([centre_N2 - half_N1, centre_N2 + half_N1])


def _crops(rgb_HWC: np.ndarray, squares_N4: np.ndarray, size: int) -> np.ndarray:
    """Each square scaled to size x size; what lies outside the picture is mid-grey, which the networks see as zero."""
    height, width = rgb_HWC.shape[:2]
    crops = np.full((len(squares_N4), size, size, 3), 127, np.uint8)
    for crop, (x1, y1, x2, y2) in zip(crops, np.round(squares_N4).astype(int), strict=True):
        left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
        if right - left < 1 or bottom - top < 1:
            continue
        scale = size / (x2 - x1)
        # a coarse grid of pixels is enough for a large face: averaging all of 300x300 costs nearly as much as the network
        step = max(1, int((x2 - x1) / (1.5 * size)))
        a, b = round((left - x1) * scale), round((top - y1) * scale)
        c, d = max(round((right - x1) * scale), a + 1), max(round((bottom - y1) * scale), b + 1)
        part = rgb_HWC[top:bottom:step, left:right:step]
        kernel = cv2.INTER_AREA if scale * step < 1 else cv2.INTER_LINEAR
        crop[b:d, a:c] = cv2.resize(part, (c - a, d - b), interpolation=kernel)[: size - b, : size - a]
    return crops


def _suppress(rows_N4: np.ndarray, scores_N: np.ndarray, most: float, by_smaller: bool = False) -> list[int]:
    """Greedy non-maximum suppression: indices to keep, best first.

    Boxes that share more than `most` of their union (or of the smaller one) with a better box go.
    """
    x1, y1, x2, y2 = np.asarray(rows_N4, np.float32).T
    area_N = (x2 - x1) * (y2 - y1)
    order = np.argsort(-scores_N, kind="stable")
    keep = []
    while len(order):
        best, rest = order[0], order[1:]
        keep.append(int(best))
        w = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest])
        h = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest])
        shared = np.maximum(w, 0) * np.maximum(h, 0)
        whole = np.minimum(area_N[best], area_N[rest]) if by_smaller else area_N[best] + area_N[rest] - shared
        order = rest[shared <= most * whole]
    return keep
