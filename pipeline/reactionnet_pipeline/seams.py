"""Borders of panes: straight lines of the picture that stay put while what they separate moves independently.

Two properties mark a pixel pair on a border. The step between the two neighbours is there in nearly every frame
(*persistence*), and their brightness changes in time have nothing to do with one another (*decoupling*: the variance of
the step is the sum of the variances). Inside a camera's picture neighbours change together and edges move. Both are
sums over frames, taken relative to what lies a few pixels beside the line, so that texture and noise cancel.

Letters: T frames, H height, W width, C colour (RGB). A line x lies between the columns x-1 and x.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

FULL_STEP = 16.0  # grey levels: a step counts in full from here on
SMALLEST_VARIANCE = 12.0  # of brightness in time; below this a pixel counts as still
BESIDE = 10  # pixels on either side of a line that say what is usual around it
CLOSE = 2  # pixels beside the line that belong to it (blur by scaling and compression)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the frames of one span say, in [0, 1] but for the grey levels' mean and variance.

    `vertical_HW[y, x]` is the evidence that a border passes between the columns x-1 and x; `horizontal_HW[y, x]` the same
    between the rows y-1 and y. Row and column 0 are 0. `decoupled_*` is the part of it that motion alone gives.
    """

    vertical_HW: np.ndarray
    horizontal_HW: np.ndarray
    decoupled_vertical_HW: np.ndarray
    decoupled_horizontal_HW: np.ndarray
    mean_HW: np.ndarray
    variance_HW: np.ndarray
    num_frames: int

    @property
    def size(self) -> tuple[int, int]:
        """Width, height."""
        return self.variance_HW.shape[1], self.variance_HW.shape[0]


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """A closed rectangle of borders: pixels x0 <= x < x1, y0 <= y < y1. Sides on the picture's edge are free.

    `coverage` is the share of each side (left, top, right, bottom) that shows a border, `decoupling` the share that shows
    independent motion; both are 1 for free sides. `quality` joins the mean and the weakest coverage, less what speaks
    against: open corners, neighbours that run on. A `loose` rectangle has a side that may be a line *within* a pane: both
    its neighbours run on beyond it and nothing moves differently on its two sides.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    coverage: tuple[float, float, float, float]
    decoupling: tuple[float, float, float, float]
    quality: float = 1.0
    loose: bool = False

    @property
    def area(self) -> int:
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def iou(self, other: "Rectangle") -> float:
        shared = self.shared(other)
        return shared / (self.area + other.area - shared)

    def shared(self, other: "Rectangle") -> int:
        """Common pixels."""
        across = max(0, min(self.x1, other.x1) - max(self.x0, other.x0))
        return across * max(0, min(self.y1, other.y1) - max(self.y0, other.y0))

    def sides(self, width: int, height: int) -> list[str]:
        """Names of the sides that do not lie on the edge of a picture of this size."""
        edges = {"x0": 0, "y0": 0, "x1": width, "y1": height}
        return [name for name, edge in edges.items() if getattr(self, name) != edge]

    def scaled(self, factor: float, size: tuple[int, int]) -> "Rectangle":
        """In the pixels of a larger picture of the given width and height."""
        ends = {"x0": size[0], "x1": size[0], "y0": size[1], "y1": size[1]}
        return replace(self, **{name: min(round(getattr(self, name) * factor), end) for name, end in ends.items()})

    @property
    def inside(self) -> tuple[slice, slice]:
        """Index of its pixels in an (H, W) array."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


def evidence(frames_THWC: Iterable[np.ndarray]) -> Evidence:
    """One pass over the frames of a span in which the layout does not change."""
    num_frames, sums = 0, None
    for frame_HWC in frames_THWC:
        grey_HW = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY).astype(np.float32)
        if sums is None:
            sums = {name: np.zeros_like(grey_HW) for name in ("g", "gg", "x", "xx", "y", "yy", "px", "py")}
        num_frames += 1
        cv2.accumulate(grey_HW, sums["g"])
        cv2.accumulateSquare(grey_HW, sums["gg"])
        for axis, name in ((1, "x"), (0, "y")):
            step_HW = _step(grey_HW, axis)
            cv2.accumulate(step_HW, sums[name])
            cv2.accumulateSquare(step_HW, sums[name + name])
            cv2.accumulate(colour_step(frame_HWC, axis), sums["p" + name])
    if sums is None:
        raise ValueError("no frames to take evidence from")
    n = num_frames
    variance_HW = np.maximum(sums["gg"] / n - (sums["g"] / n) ** 2, 0)
    maps = {}
    for axis, name in ((1, "x"), (0, "y")):
        step_variance_HW = np.maximum(sums[name + name] / n - (sums[name] / n) ** 2, 0)
        noise = float(np.percentile(step_variance_HW[1:, 1:], 20))
        moved_HW = variance_HW + np.roll(variance_HW, 1, axis)
        decoupled_HW = np.maximum(step_variance_HW - noise, 0) / (
            np.maximum(moved_HW - noise, 0) + 2 * SMALLEST_VARIANCE
        )
        decoupled_HW = _stands_out(np.minimum(decoupled_HW, 1), axis)
        there_HW = _stands_out(sums["p" + name] / n, axis)
        maps[name] = np.maximum(there_HW, decoupled_HW), decoupled_HW
    return Evidence(
        vertical_HW=maps["x"][0],
        horizontal_HW=maps["y"][0],
        decoupled_vertical_HW=maps["x"][1],
        decoupled_horizontal_HW=maps["y"][1],
        mean_HW=sums["g"] / n,
        variance_HW=variance_HW,
        num_frames=n,
    )


def _step(grey_HW: np.ndarray, axis: int) -> np.ndarray:
    step_HW = np.zeros_like(grey_HW)
    if axis:
        step_HW[:, 1:] = grey_HW[:, 1:] - grey_HW[:, :-1]
    else:
        step_HW[1:] = grey_HW[1:] - grey_HW[:-1]
    return step_HW


def colour_step(frame_HWC: np.ndarray, axis: int) -> np.ndarray:
    """The largest step of the three colours, 1 from FULL_STEP on."""
    out_HW = np.zeros(frame_HWC.shape[:2], np.float32)
    if axis:
        red, green, blue = cv2.split(cv2.absdiff(frame_HWC[:, 1:], frame_HWC[:, :-1]))
        out_HW[:, 1:] = cv2.max(cv2.max(red, green), blue)
    else:
        red, green, blue = cv2.split(cv2.absdiff(frame_HWC[1:], frame_HWC[:-1]))
        out_HW[1:] = cv2.max(cv2.max(red, green), blue)
    return np.minimum(out_HW, FULL_STEP) / FULL_STEP


def _stands_out(map_HW: np.ndarray, axis: int) -> np.ndarray:
    """How far each value lies above the mean beside it, as a share of what it could."""
    wide, narrow = 2 * BESIDE + 1, 2 * CLOSE + 1
    sizes = [(size, 1) if axis else (1, size) for size in (wide, narrow)]
    sum_wide, sum_narrow = (cv2.boxFilter(map_HW, -1, size, normalize=False) for size in sizes)
    usual_HW = np.clip((sum_wide - sum_narrow) / (wide - narrow), 0, 0.99)
    return np.clip((map_HW - usual_HW) / (1 - usual_HW), 0, 1).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a closed rectangle must have. Shares are of a side's length unless said otherwise."""

    shown: float = 0.3  # evidence from which a pixel of a side counts as border
    min_coverage: float = 0.55  # of every side
    min_divider: float = 0.75  # coverage of a side whose neighbours run on beyond it
    min_decoupling: float = 0.15  # of such a side: a seam between two moving things, not a line within one
    min_side: float = 0.05  # smallest width and height, as a share of the longer side of the picture
    loose_end: float = 0.1  # quality lost for each neighbour that runs on beyond a side without decoupling
    gap: int = 5  # pixels from a border, across a frame or a narrow gap, to the motion that it keeps apart
    max_hidden: float = 0.6  # of a side, by a pane on top
    max_lines: int = 40  # candidate lines in each direction
    corner: int = 10  # pixels at each end of a side that tell how it ends


def find_rectangles(seen: Evidence, search: Search = Search(), hidden_HW: np.ndarray | None = None) -> list[Rectangle]:
    """All closed rectangles, best first, near-equal ones only once; the whole picture is one of them.

    A rectangle is closed if its corners are: where one side reaches a corner, so does the other (at rounded corners
    neither does).
    `hidden_HW` marks what a pane on top covers: sides are judged by what can be seen of them.
    """
    width, height = seen.size
    shown_v_HW, shown_h_HW = _shown(seen.vertical_HW, 1, search.shown), _shown(seen.horizontal_HW, 0, search.shown)
    seen_HW = np.ones((height, width), np.float32) if hidden_HW is None else 1 - hidden_HW.astype(np.float32)
    shown = _Segments(shown_v_HW, seen_HW), _Segments(shown_h_HW.T, seen_HW.T)
    moving, near = (
        (
            _Segments(_shown(seen.decoupled_vertical_HW, 1, search.shown, reach), seen_HW),
            _Segments(_shown(seen.decoupled_horizontal_HW, 0, search.shown, reach).T, seen_HW.T),
        )
        for reach in (1, search.gap)
    )
    smallest = round(search.min_side * max(width, height))
    xs = _lines(seen.vertical_HW, shown_v_HW, search.max_lines, smallest)
    ys = _lines(seen.horizontal_HW.T, shown_h_HW.T, search.max_lines, smallest)
    x0_N, y0_N, x1_N, y1_N = _pairs(xs, ys, smallest)

    def sides(segments: tuple[_Segments, _Segments], x0, y0, x1, y1, what=_Segments.share) -> np.ndarray:
        upright, level = segments
        return np.stack(
            [what(upright, x0, y0, y1), what(level, y0, x0, x1), what(upright, x1, y0, y1), what(level, y1, x0, x1)]
        )

    closed_N = sides(shown, x0_N, y0_N, x1_N, y1_N).min(axis=0) >= search.min_coverage
    closed_N &= sides(shown, x0_N, y0_N, x1_N, y1_N, _Segments.hidden).max(axis=0) <= search.max_hidden
    x0_N, y0_N, x1_N, y1_N = (v[closed_N] for v in (x0_N, y0_N, x1_N, y1_N))
    coverage_4N, moving_4N, near_4N = (sides(segments, x0_N, y0_N, x1_N, y1_N) for segments in (shown, moving, near))
    n = search.corner
    upright, level = shown
    open_N = np.zeros(len(x0_N), np.float32)
    doubt_4N = np.zeros_like(coverage_4N)  # the same, but for neighbours on the picture's edge
    overshot_N = np.zeros(len(x0_N), int)
    on_4N = np.zeros_like(coverage_4N)  # at how many ends the neighbour of a side runs on beyond it
    for across, (x_N, inward_x) in enumerate(((x0_N, 1), (x1_N, -1))):
        for down, (y_N, inward_y) in enumerate(((y0_N, 1), (y1_N, -1))):
            ends_x = upright.share(x_N, y_N, y_N + n * inward_y), level.share(y_N, x_N, x_N + n * inward_x)
            open_x = np.abs(ends_x[0] - ends_x[1])
            at_edge = (x_N == 0) | (x_N == width) | (y_N == 0) | (y_N == height)
            overshot_N += at_edge & (open_x > 0.6)  # a side that ends short of the picture's edge
            open_N = np.maximum(open_N, open_x)
            beyond_x = level.share(y_N, x_N - 2 * n * inward_x, x_N)  # the level side runs on beyond the upright one
            beyond_y = upright.share(x_N, y_N - 2 * n * inward_y, y_N)
            on_4N[2 * across] += beyond_x > 0.8
            on_4N[2 * down + 1] += beyond_y > 0.8
            doubt_4N[2 * across] += (beyond_x > 0.8) & (y_N != 0) & (y_N != height)
            doubt_4N[2 * down + 1] += (beyond_y > 0.8) & (x_N != 0) & (x_N != width)
    free_4N = np.stack([x0_N == 0, y0_N == 0, x1_N == width, y1_N == height])
    seam_4N = free_4N | ((near_4N >= search.min_decoupling) & (coverage_4N >= search.min_divider))
    loose_4N = ~seam_4N & (on_4N == 2)
    doubt_N = 0.2 * open_N + search.loose_end * (~seam_4N & (doubt_4N == 1)).sum(axis=0)
    doubt_N -= 0.01 * (moving_4N * ~free_4N).mean(axis=0)  # of two parallel lines, the one where the motion parts
    quality_N = (coverage_4N.mean(axis=0) + coverage_4N.min(axis=0)) / 2 - doubt_N
    found = [
        Rectangle(
            x0=int(x0_N[i]),
            y0=int(y0_N[i]),
            x1=int(x1_N[i]),
            y1=int(y1_N[i]),
            coverage=_four(coverage_4N[:, i]),
            decoupling=_four(moving_4N[:, i]),
            quality=float(quality_N[i]),
            loose=bool(loose_4N[:, i].any()),
        )
        for i in np.argsort(-quality_N, kind="stable")[: 50 * search.max_lines]
        if overshot_N[i] < 2
    ]
    return _distinct(found, 2)


class _Segments:
    """Means of a map along vertical pieces of its columns; the edges of the picture count as border."""

    def __init__(self, map_HW: np.ndarray, seen_HW: np.ndarray):
        self.height, self.width = map_HW.shape
        self.total_HW, self.seen_HW = (np.zeros((self.height + 1, self.width), np.float32) for _ in range(2))
        np.cumsum(map_HW * seen_HW, axis=0, out=self.total_HW[1:])
        np.cumsum(seen_HW, axis=0, out=self.seen_HW[1:])

    def share(self, x: np.ndarray, y0: np.ndarray, y1: np.ndarray) -> np.ndarray:
        """Of columns x between y0 and y1, in either order; 1 on and beyond the picture's edge and where hidden."""
        y0, y1 = np.clip(np.minimum(y0, y1), 0, self.height), np.clip(np.maximum(y0, y1), 0, self.height)
        column = np.minimum(x, self.width - 1)
        seen = self.seen_HW[y1, column] - self.seen_HW[y0, column]
        share = (self.total_HW[y1, column] - self.total_HW[y0, column]) / np.maximum(seen, 1)
        return np.where((x == 0) | (x == self.width) | (seen == 0), np.float32(1), share)

    def hidden(self, x: np.ndarray, y0: np.ndarray, y1: np.ndarray) -> np.ndarray:
        """Share of the pieces that cannot be seen; none of the picture's edge."""
        column = np.minimum(x, self.width - 1)
        seen = (self.seen_HW[y1, column] - self.seen_HW[y0, column]) / (y1 - y0)
        return np.where((x == 0) | (x == self.width), np.float32(0), 1 - seen)


def _pairs(xs: np.ndarray, ys: np.ndarray, smallest: int) -> tuple[np.ndarray, ...]:
    """x0, y0, x1, y1 of all rectangles on these lines that are large enough."""
    pairs_x, pairs_y = (
        np.array([(a, b) for i, a in enumerate(lines) for b in lines[i + 1 :] if b - a >= smallest])
        for lines in (xs, ys)
    )
    across, down = np.divmod(np.arange(len(pairs_x) * len(pairs_y)), len(pairs_y))
    return pairs_x[across, 0], pairs_y[down, 0], pairs_x[across, 1], pairs_y[down, 1]


def _shown(map_HW: np.ndarray, axis: int, shown: float, reach: int = 1) -> np.ndarray:
    """1 where the evidence on the line or within `reach` pixels of it counts."""
    wide = 2 * reach + 1
    kernel = np.ones((1, wide) if axis else (wide, 1), np.uint8)
    return cv2.dilate((map_HW > shown).astype(np.uint8), kernel).astype(np.float32)


def _lines(exact_HW: np.ndarray, tolerant_HW: np.ndarray, max_lines: int, smallest: int) -> np.ndarray:
    """Columns with the longest unbroken runs of evidence, and the two edges of the picture."""
    width = exact_HW.shape[1]
    best_W = np.zeros(width, np.float32)
    run_W = np.zeros(width, np.float32)
    for row in tolerant_HW * 0.5 + exact_HW - 0.6:  # Kadane's maximum sum of a run, in all columns at once
        run_W = np.maximum(run_W + row, 0)
        best_W = np.maximum(best_W, run_W)
    xs = [0, width]
    for x in np.argsort(-best_W, kind="stable"):
        if best_W[x] < 0.2 * smallest or len(xs) >= max_lines + 2:
            break
        if min(abs(int(x) - other) for other in xs) > 2:
            xs.append(int(x))
    return np.array(sorted(xs))


def _four(values: np.ndarray) -> tuple[float, float, float, float]:
    left, top, right, bottom = values.tolist()
    return left, top, right, bottom


def _distinct(found: Sequence[Rectangle], tolerance: int) -> list[Rectangle]:
    kept: list[Rectangle] = []
    corners = np.empty((0, 4))
    for one in found:
        here = np.array([[one.x0, one.y0, one.x1, one.y1]])
        if not kept or np.abs(corners - here).max(axis=1).min() > tolerance:
            kept.append(one)
            corners = np.concatenate([corners, here])
    return kept


def steps_along(frames_THWC: np.ndarray, place: Rectangle, least: float = 0.4) -> np.ndarray:
    """(T,) share of the pixels along a rectangle's sides that show a step, in each frame by itself."""
    height, width = frames_THWC.shape[1:3]
    sides_TS = []
    for name in place.sides(width, height):
        line = getattr(place, name)
        if name[0] == "x":
            band_THWC = frames_THWC[:, place.y0 : place.y1, max(line - 2, 0) : line + 2]
            steps_THW = np.stack([colour_step(np.ascontiguousarray(frame), 1)[:, 1:] for frame in band_THWC])
            sides_TS.append((steps_THW.max(axis=2) > least).astype(np.float32))
        else:
            band_THWC = frames_THWC[:, max(line - 2, 0) : line + 2, place.x0 : place.x1]
            steps_THW = np.stack([colour_step(np.ascontiguousarray(frame), 0)[1:] for frame in band_THWC])
            sides_TS.append((steps_THW.max(axis=1) > least).astype(np.float32))
    return np.concatenate(sides_TS, axis=1).mean(axis=1)


def refine(places: Sequence[Rectangle], seen: Evidence, scale: float, thickest: float) -> list[Rectangle]:
    """Move sides to the pixel at full resolution, to the inner edge of a frame drawn around a pane."""
    return [_refine(place, seen, scale, thickest) for place in places]


def _refine(place: Rectangle, seen: Evidence, scale: float, thickest: float) -> Rectangle:
    width, height = seen.size
    place = place.scaled(scale, (width, height))
    x0, y0, x1, y1 = place.x0, place.y0, place.x1, place.y1
    reach = int(np.ceil(scale)) * 2 + 2
    thickest = round(thickest * max(width, height))
    margin_x, margin_y = round(0.15 * (x1 - x0)), round(0.15 * (y1 - y0))
    sides = []
    for name, line, end in (("x0", x0, width), ("y0", y0, height), ("x1", x1, width), ("y1", y1, height)):
        if line in (0, end):
            sides.append((line, line, line))
            continue
        if name[0] == "x":
            rows = slice(y0 + margin_y, y1 - margin_y)
            profile, mean = seen.vertical_HW[rows].mean(axis=0), seen.mean_HW[rows]
        else:
            columns = slice(x0 + margin_x, x1 - margin_x)
            profile, mean = seen.horizontal_HW[:, columns].mean(axis=1), seen.mean_HW[:, columns].T
        inward = 1 if name[1] == "0" else -1
        sides.append(_edges(profile, mean, line, inward, reach, thickest))
    thick = [abs(inner - outer) for _, outer, inner in sides if inner != outer]
    free = sum(line in (0, end) for (line, _, _), end in zip(sides, (width, height) * 2, strict=True))
    framed = len(thick) >= 2 and len(thick) == 4 - free and max(thick) - min(thick) <= max(3, 0.5 * max(thick))
    x0, y0, x1, y1 = (inner if framed else line for line, _, inner in sides)
    return replace(place, x0=x0, y0=y0, x1=x1, y1=y1)


def _edges(
    profile_L: np.ndarray, mean_SL: np.ndarray, line: int, inward: int, reach: int, thickest: int
) -> tuple[int, int, int]:
    """The border nearest to a line, and the outer and inner edges of the flat frame that it may belong to."""
    last = len(profile_L) - 1
    low, high = max(1, line - reach), min(last, line + reach)
    strongest = low + int(profile_L[low : high + 1].argmax())
    need = 0.6 * profile_L[strongest]

    def is_edge(at: int) -> bool:
        return 0 < at <= last and profile_L[at] >= need and profile_L[at] >= profile_L[max(at - 1, 0) : at + 2].max()

    def flat(a: int, b: int) -> bool:
        a, b = min(a, b), max(a, b)
        strip_SL = mean_SL[:, a + 1 : b - 1] if b - a > 2 else mean_SL[:, a:b]
        return strip_SL.size > 0 and float(strip_SL.std()) < 8

    outer = inner = strongest
    for distance in range(2, thickest + 1):
        if is_edge(outer_try := strongest - inward * distance) and flat(outer_try, strongest):
            outer = outer_try
        if is_edge(inner_try := strongest + inward * distance) and flat(strongest, inner_try):
            inner = inner_try
    return strongest, outer, inner
