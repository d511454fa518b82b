"""Reactors without straight borders: round panes, and people cut out of their room and laid over the stimulus.

Letters: T frames, H height, W width, C colour (RGB).
"""

from collections.abc import Sequence

import cv2
import numpy as np

from reactionnet_pipeline.records import Box
from reactionnet_pipeline.seams import Evidence, Rectangle

SHOWN = 0.3  # evidence from which a pixel counts as border, as for straight sides
CUT_OUT_FACE = 40  # pixels: width of the face at which GrabCut works
ANGLES = np.linspace(0, 2 * np.pi, 72, endpoint=False)


def find_round(seen: Evidence, face: Box, min_coverage: float = 0.8) -> Rectangle | None:
    """The bounding box of the ellipse around a face that shows a border all around, and none beside it."""
    width, height = seen.size
    border_HW = np.maximum(seen.vertical_HW, seen.horizontal_HW) > SHOWN
    near_HW = cv2.dilate(border_HW.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    x, y = face.centre
    radii = np.geomspace(0.87, 3.2, 18) * face.w
    across = np.linspace(-0.8, 0.8, 17) * face.w
    down = np.linspace(-0.8, 0.8, 17) * face.w
    ellipses_N4 = np.array(
        [(x + dx, y + dy, r, r * aspect) for r in radii for dx in across for dy in down for aspect in (0.75, 1.0, 1.33)]
    )
    wide_HW = cv2.dilate(near_HW, np.ones((5, 5), np.uint8))  # the first grid is coarse
    for map_HW, rounds, step in ((wide_HW, 0, 0.0), (near_HW, 6, 2.0), (near_HW, 6, 0.5)):
        for _ in range(max(rounds, 1)):
            if step:
                moves = np.array(np.meshgrid(*[(-step, 0, step)] * 4)).reshape(4, -1).T
                ellipses_N4 = (ellipses_N4[:, None] + moves).reshape(-1, 4)
            fits_N = np.abs(np.log(ellipses_N4[:, 2] / ellipses_N4[:, 3])) < 0.5
            fits_N &= (ellipses_N4[:, 2] > 0.85 * face.w) & (ellipses_N4[:, 3] > 0.6 * face.h)  # hair is round too
            inside_N = (ellipses_N4[:, 0] - ellipses_N4[:, 2] > -2) & (
                ellipses_N4[:, 0] + ellipses_N4[:, 2] < width + 2
            )
            inside_N &= (ellipses_N4[:, 1] - ellipses_N4[:, 3] > -2) & (
                ellipses_N4[:, 1] + ellipses_N4[:, 3] < height + 2
            )
            ellipses_N4 = ellipses_N4[fits_N & inside_N]
            if not len(ellipses_N4):
                return None
            score_N = _around(map_HW, ellipses_N4)
            for factor in (0.82, 1.18):
                score_N = score_N - 0.5 * _around(map_HW, ellipses_N4 * (1, 1, factor, factor))
            ellipses_N4 = ellipses_N4[np.argsort(-score_N, kind="stable")[: 40 if step else 200]]
    best = ellipses_N4[:1]
    coverage = float(_around(near_HW, best)[0])
    beside = max(float(_around(near_HW, best * (1, 1, f, f))[0]) for f in (0.8, 1.2))
    if coverage < min_coverage or coverage - beside < 0.4:
        return None
    cx, cy, a, b = best[0]
    x0, y0, x1, y1 = round(cx - a), round(cy - b), round(cx + a), round(cy + b)
    return Rectangle(
        x0=max(x0, 0),
        y0=max(y0, 0),
        x1=min(x1, width),
        y1=min(y1, height),
        coverage=(coverage,) * 4,
        decoupling=(1.0,) * 4,
        quality=coverage,
    )


def _around(map_HW: np.ndarray, ellipses_N4: np.ndarray) -> np.ndarray:
    """(N,) mean of the map along ellipses (centre x, y, half width, half height)."""
    x_NA = ellipses_N4[:, :1] + ellipses_N4[:, 2:3] * np.cos(ANGLES)
    y_NA = ellipses_N4[:, 1:2] + ellipses_N4[:, 3:4] * np.sin(ANGLES)
    height, width = map_HW.shape
    columns, rows = np.clip(x_NA.round().astype(int), 0, width - 1), np.clip(y_NA.round().astype(int), 0, height - 1)
    return map_HW[rows, columns].mean(axis=1)


RESTLESS, CALM = 12.0, 8.0  # grey levels of standard deviation in time: a moving stimulus, somebody's clothes
MOVES_ALL_AROUND = 0.7  # of the places beside the person


def cut_out(frames_THWC: Sequence[np.ndarray] | np.ndarray, face: Box) -> tuple[Rectangle, np.ndarray]:
    """The person of a face that stays: (bounding box, (H, W) mask), by GrabCut on the median of the frames.

    What moves behind the person is blurred by the median, the person is not. Seeds follow the face: its middle and the
    throat are the person; what is two widths away is not.
    """
    size = frames_THWC[0].shape[1::-1]
    scale = min(1.0, CUT_OUT_FACE / face.w)
    small = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    frames = [cv2.resize(frame, small, interpolation=cv2.INTER_AREA) for frame in frames_THWC]
    median_HWC = np.median(np.stack(frames), axis=0).astype(np.uint8)
    height, width = median_HWC.shape[:2]
    x, y, w, h = face.x * scale, face.y * scale, face.w * scale, face.h * scale
    middle, chin = x + w / 2, y + h
    mask_HW = np.full((height, width), cv2.GC_BGD, np.uint8)

    def mark(left: float, top: float, right: float, bottom: float, what: int) -> None:
        mask_HW[max(0, int(top)) : max(0, int(bottom)), max(0, int(left)) : max(0, int(right))] = what

    mark(middle - 2.2 * w, y - h, middle + 2.2 * w, chin + 1.6 * h, cv2.GC_PR_BGD)
    mark(middle - 0.75 * w, y - 0.3 * h, middle + 0.75 * w, chin, cv2.GC_PR_FGD)
    mark(middle - 1.1 * w, chin, middle + 1.1 * w, chin + 1.6 * h, cv2.GC_PR_FGD)
    mark(middle - 0.32 * w, y + 0.1 * h, middle + 0.32 * w, chin, cv2.GC_FGD)
    mark(middle - 0.25 * w, chin, middle + 0.25 * w, chin + 0.35 * h, cv2.GC_FGD)
    # where the stimulus moves all around, what stays calm beside a face is its hair and clothes, whatever their colour
    spread_HW = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]).std(axis=0)
    away_HW = mask_HW == cv2.GC_PR_BGD
    if away_HW.any() and float((spread_HW[away_HW] > RESTLESS).mean()) > MOVES_ALL_AROUND:
        features_HW = cv2.ellipse(
            np.zeros_like(mask_HW), (int(middle), int(y + h / 2)), (int(0.6 * w), int(0.6 * h)), 0, 0, 360, 1, -1
        )
        unsure_HW = mask_HW != cv2.GC_FGD
        mask_HW[unsure_HW & (features_HW == 0) & (cv2.erode(spread_HW, np.ones((3, 3))) > RESTLESS)] = cv2.GC_BGD
        mask_HW[(mask_HW == cv2.GC_PR_FGD) & (cv2.dilate(spread_HW, np.ones((3, 3))) < CALM)] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    around = (
        slice(max(0, int(y - 2 * h)), min(height, int(chin + 2.6 * h))),
        slice(max(0, int(middle - 3.2 * w)), min(width, int(middle + 3.2 * w))),
    )
    part_HW, part_HWC = np.ascontiguousarray(mask_HW[around]), np.ascontiguousarray(median_HWC[around])
    cv2.grabCut(part_HWC, part_HW, None, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    person_HW = np.isin(part_HW, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    person_HW = cv2.morphologyEx(person_HW, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels_HW = cv2.connectedComponents(person_HW)
    label = labels_HW[int(y + h / 2) - around[0].start, int(middle) - around[1].start]
    mask_HW = np.zeros((height, width), bool)
    mask_HW[around] = labels_HW == label if label else person_HW > 0
    mask_HW = cv2.resize(mask_HW.astype(np.uint8) * 255, size, interpolation=cv2.INTER_LINEAR) > 127
    columns = np.flatnonzero(mask_HW.sum(axis=0) >= 3)
    centre = face.x + face.w / 2
    reach = [
        centre - columns[0] if columns[0] > 0 else np.inf,
        columns[-1] - centre if columns[-1] + 1 < size[0] else np.inf,
    ]
    person_HW = mask_HW.copy()
    if min(reach) < np.inf:  # shoulders reach about as far on either side; what goes on is background
        person_HW[:, : max(0, int(centre - 1.15 * min(reach)))] = False
        person_HW[:, int(centre + 1.15 * min(reach)) + 1 :] = False
    columns, rows = np.flatnonzero(person_HW.sum(axis=0) >= 3), np.flatnonzero(person_HW.sum(axis=1) >= 3)
    return (
        Rectangle(
            x0=int(columns[0]),
            y0=int(rows[0]),
            x1=int(columns[-1]) + 1,
            y1=int(rows[-1]) + 1,
            coverage=(1.0,) * 4,
            decoupling=(1.0,) * 4,
        ),
        mask_HW,
    )


def outline_coverage(seen: Evidence, mask_HW: np.ndarray) -> float:
    """Share of a mask's outline, but for the picture's edge, that shows a border."""
    border_HW = np.maximum(seen.vertical_HW, seen.horizontal_HW) > SHOWN
    near_HW = cv2.dilate(border_HW.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    padded_HW = cv2.copyMakeBorder(mask_HW.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    outline_HW = (padded_HW - cv2.erode(padded_HW, np.ones((3, 3), np.uint8)))[1:-1, 1:-1] > 0
    return float(near_HW[outline_HW].mean()) if outline_HW.any() else 0.0
