"""Find the panes of a reaction video: where the stimulus is, where who reacts, and from when to when.

A layout is found on sparse samples of a span: closed rectangles of borders (seams.py), faces (MTCNN) and where the
picture changes. A face that stays lives in the tightest rectangle around it; what moves outside those panes is the
stimulus. The sides are then moved to the pixel at full resolution.

Letters: T frames, H height, W width, C colour (RGB).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from reactionnet_pipeline import seams
from reactionnet_pipeline.detector import detect_faces
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.records import REACTION, STIMULUS, Box, Face, Layout, Pane
from reactionnet_pipeline.seams import Rectangle
from reactionnet_pipeline.video import VideoInfo, sample_frames, whole

VERSION = 1  # of the results: raise it when the same video gives another layout
BLOCK = 4  # pixels; motion is judged on blocks so that noise averages out


@dataclass(frozen=True, kw_only=True)
class Config:
    """Shares are of the picture unless said otherwise; pixels are those of the smaller picture that is searched."""

    num_samples: int = 48  # frames looked at in a span of constant layout
    num_face_samples: int = 24  # of these, frames in which faces are looked for
    max_side: int = 640  # longer side of the picture that is searched
    shortest_s: float = 1.0
    still: float = 1.5  # grey levels: a block whose standard deviation in time is below has no motion
    moving_share: float = 0.005  # of blocks in motion below which the picture counts as frozen
    min_persistence: float = 0.3  # of samples that must show a face for its pane to be somebody's
    min_width_of_face: float = 1.3  # width of a pane in widths of the face in it
    min_height_of_face: float = 1.05
    picture_quality: float = 0.65  # what a rectangle must beat to count as a pane rather than the whole picture
    area_cost: float = 0.3  # how much tighter rectangles are preferred
    border: float = 0.02  # thickest drawn frame around a pane, of the longer side
    min_confidence: float = 0.35
    search: seams.Search = field(default_factory=seams.Search)


Detect = Callable[[np.ndarray], list[Face]]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A pane in the pixels of the frames that were searched."""

    role: str
    place: Rectangle
    confidence: float
    shape: str = "rect"
    z: int = 0


def find_layout(path: Path, info: VideoInfo, config: Config = Config(), detect: Detect = detect_faces) -> Layout:
    """All panes over the length of the file.

    Raises SourceError: TOO_SHORT, STATIC_PICTURE, NO_LAYOUT (one thing fills the picture), NO_FACE (panes, but nobody),
    LAYOUT_AMBIGUOUS (panes, but which is which cannot be told).
    """
    if info.end_s - float(info.times_s[0]) < config.shortest_s:
        raise SourceError(Code.TOO_SHORT, f"{info.end_s:.2f} s of pictures, at least {config.shortest_s} s are needed")
    numbers = np.unique(np.linspace(0, info.num_frames - 1, config.num_samples).round().astype(int))
    view = whole(info, config.max_side)
    frames_THWC = np.stack([frame for _, frame in sample_frames(path, info, numbers.tolist(), view)])
    faces = look_for_faces(frames_THWC, config, detect)
    found = find_panes(frames_THWC, faces, config)
    full = whole(info)
    few = numbers[np.unique(np.linspace(0, len(numbers) - 1, 12).round().astype(int))]
    large = (frame for _, frame in sample_frames(path, info, few.tolist(), full))
    places = refine([pane.place for pane in found], seams.evidence(large), full.w / view.out_w, config)
    panes = [
        Pane(
            role=pane.role,
            x=place.x0,
            y=place.y0,
            w=place.x1 - place.x0,
            h=place.y1 - place.y0,
            start_s=0.0,
            end_s=info.end_s,
            confidence=round(pane.confidence, 3),
            shape=pane.shape,
            z=pane.z,
        )
        for pane, place in zip(found, places, strict=True)
    ]
    return Layout(panes=tuple(panes))


def look_for_faces(frames_THWC: np.ndarray, config: Config, detect: Detect) -> dict[int, list[Face]]:
    """Faces of some of the frames, by index."""
    picks = np.unique(np.linspace(0, len(frames_THWC) - 1, config.num_face_samples).round().astype(int))
    return {int(t): detect(frames_THWC[t]) for t in picks}


def find_panes(frames_THWC: np.ndarray, faces: dict[int, list[Face]], config: Config) -> list[Found]:
    """The panes of a span in which the layout does not change, stimulus first. Raises as `find_layout` does."""
    seen = seams.evidence(frames_THWC)
    motion = Motion(frames_THWC, config)
    if motion.moving_HW.mean() < config.moving_share:
        raise SourceError(
            Code.STATIC_PICTURE, f"{motion.moving_HW.mean():.2%} of the picture moves, below {config.moving_share:.2%}"
        )
    rectangles = seams.find_rectangles(seen, config.search)
    picture = whole_picture(seen)
    hosts = face_panes(rectangles, picture, faces, config)
    inner = [host for host in hosts if host != picture]
    hidden_HW = np.zeros(seen.variance_HW.shape, bool)
    for host in inner:
        hidden_HW[host.y0 + 3 : host.y1 - 3, host.x0 + 3 : host.x1 - 3] = True  # its own border stays in sight
    if not inner:
        return _without_reactor(rectangles, picture, motion, hosts)
    stimulus = None if picture in hosts else stimulus_pane(seen, picture, inner, hidden_HW, motion, config)
    likeness = {host: _likeness(host, inner, faces, motion) for host in hosts}
    if stimulus is None:
        stimulus = picture if picture in hosts else min(hosts, key=lambda host: likeness[host])
    reactors = [host for host in hosts if host != stimulus]
    if not reactors:
        raise SourceError(Code.NO_LAYOUT, "one pane with a face and nothing beside it that moves")
    worst = min(likeness[host] for host in reactors)
    nested = all(_holds(stimulus, host) for host in reactors)
    margin = worst if stimulus not in likeness or nested else min(worst, 0.5 + worst - likeness[stimulus])
    if margin < config.min_confidence:
        raise SourceError(
            Code.LAYOUT_AMBIGUOUS,
            f"{len(hosts)} panes with faces, likeness to a reactor {sorted(round(v, 2) for v in likeness.values())}: "
            f"confidence {margin:.2f}, at least {config.min_confidence} is needed",
        )
    found = [Found(role=STIMULUS, place=stimulus, confidence=min(1.0, margin * stimulus.quality))]
    for z, host in enumerate(sorted(reactors, key=lambda r: (r.y0, r.x0)), 1):
        found.append(Found(role=REACTION, place=host, confidence=min(1.0, likeness[host] * host.quality), z=z))
    return found


class Motion:
    """What changes from sample to sample, on blocks of BLOCK pixels."""

    def __init__(self, frames_THWC: np.ndarray, config: Config):
        height, width = frames_THWC.shape[1:3]
        size = max(1, width // BLOCK), max(1, height // BLOCK)
        self.scale = width / size[0], height / size[1]
        small_THW = np.stack(
            [cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA) for f in frames_THWC]
        ).astype(np.float32)
        deviation_HW = small_THW.std(axis=0)
        noise = float(np.percentile(deviation_HW, 5))
        self.moving_HW = deviation_HW > max(config.still, 2.0 * noise if noise < 3 else 0)
        self.changed_THW = np.abs(np.diff(small_THW, axis=0)) > 3 * config.still

    def inside(self, place: Rectangle) -> tuple[slice, slice]:
        """Index of the blocks that lie wholly in a rectangle."""
        across, down = self.scale
        return (
            slice(int(np.ceil(place.y0 / down)), int(place.y1 / down)),
            slice(int(np.ceil(place.x0 / across)), int(place.x1 / across)),
        )


def whole_picture(seen: seams.Evidence) -> Rectangle:
    width, height = seen.size
    return Rectangle(x0=0, y0=0, x1=width, y1=height, coverage=(1.0,) * 4, decoupling=(1.0,) * 4)


def _holds(outer: Rectangle, inner: Rectangle, slack: int = 2) -> bool:
    return (
        outer.x0 - slack <= inner.x0
        and outer.y0 - slack <= inner.y0
        and inner.x1 <= outer.x1 + slack
        and inner.y1 <= outer.y1 + slack
    )


def face_panes(
    rectangles: Sequence[Rectangle], picture: Rectangle, faces: dict[int, list[Face]], config: Config
) -> list[Rectangle]:
    """The tightest well-closed rectangle around every face that is seen often enough."""
    votes: dict[Rectangle, set[int]] = {}
    for box, times in clusters(faces):
        votes.setdefault(_host(rectangles, picture, box, config), set()).update(times)
    needed = config.min_persistence * len(faces)
    hosts = [host for host, times in votes.items() if len(times) >= needed]
    kept: list[Rectangle] = []
    for host in sorted(hosts, key=lambda r: (-len(votes[r]), r.area)):
        if all(_apart(host, other) for other in kept):
            kept.append(host)
    return kept


def clusters(faces: dict[int, list[Face]]) -> list[tuple[Box, set[int]]]:
    """Faces of about the same place and size, whenever seen: (median box, when), most often seen first."""
    groups: list[list[tuple[int, Box]]] = []
    for t, there in sorted(faces.items()):
        for face in there:
            x, y = face.box.centre
            near = [
                group
                for group in groups
                if np.hypot(group[-1][1].centre[0] - x, group[-1][1].centre[1] - y) < 0.7 * face.box.w
                and 0.6 < group[-1][1].w / face.box.w < 1.6
            ]
            if near:
                near[0].append((t, face.box))
            else:
                groups.append([(t, face.box)])
    out = []
    for group in sorted(groups, key=lambda g: -len(g)):
        x, y, w, h = np.median([(b.x, b.y, b.w, b.h) for _, b in group], axis=0).tolist()
        out.append((Box(x=x, y=y, w=w, h=h), {t for t, _ in group}))
    return out


def _apart(one: Rectangle, two: Rectangle) -> bool:
    """Two panes share little, or one is an inset of the other."""
    across = max(0, min(one.x1, two.x1) - max(one.x0, two.x0))
    down = max(0, min(one.y1, two.y1) - max(one.y0, two.y0))
    small, large = sorted((one.area, two.area))
    return across * down < 0.3 * small or (across * down > 0.9 * small and small < 0.4 * large)


def _host(rectangles: Sequence[Rectangle], picture: Rectangle, face: Box, config: Config) -> Rectangle:
    best, best_score = picture, config.picture_quality - config.area_cost
    x, y = face.centre
    for one in rectangles:
        if one == picture or not (one.x0 < x < one.x1 and one.y0 < y < one.y1):
            continue
        if one.x1 - one.x0 < config.min_width_of_face * face.w or one.y1 - one.y0 < config.min_height_of_face * face.h:
            continue
        if _covered(one, face) < 0.85:
            continue
        score = one.quality - config.area_cost * one.area / picture.area
        if score > best_score:
            best, best_score = one, score
    return best


def _covered(place: Rectangle, face: Box) -> float:
    box = Box(x=place.x0, y=place.y0, w=place.x1 - place.x0, h=place.y1 - place.y0)
    return box.intersection(face) / (face.w * face.h)


def stimulus_pane(
    seen: seams.Evidence,
    picture: Rectangle,
    reactors: Sequence[Rectangle],
    hidden_HW: np.ndarray,
    motion: Motion,
    config: Config,
) -> Rectangle | None:
    """The rectangle that explains what moves outside the reactors' panes; None if nothing does."""
    outside_HW = np.ones_like(motion.moving_HW)
    for host in reactors:
        rows, columns = motion.inside(host)
        outside_HW[max(rows.start - 2, 0) : rows.stop + 2, max(columns.start - 2, 0) : columns.stop + 2] = False
    moves_HW = motion.moving_HW & outside_HW
    if moves_HW.sum() < 4:
        return None
    best, best_score = None, -1.0
    for one in seams.find_rectangles(seen, config.search, hidden_HW):
        if any(_holds(host, one) or not _apart_or_over(host, one) for host in reactors):
            continue
        explained = moves_HW[motion.inside(one)].sum() / moves_HW.sum()
        quality = config.picture_quality if one.area == picture.area else one.quality
        score = explained + config.area_cost * (quality - one.area / picture.area)
        if score > best_score:
            best, best_score = one, score
    return best


def _apart_or_over(host: Rectangle, stimulus: Rectangle) -> bool:
    """A reactor may lie beside the stimulus, on it, or over one of its corners, but never hide most of it."""
    across = max(0, min(host.x1, stimulus.x1) - max(host.x0, stimulus.x0))
    down = max(0, min(host.y1, stimulus.y1) - max(host.y0, stimulus.y0))
    return across * down < 0.5 * stimulus.area


def _likeness(host: Rectangle, inner: Sequence[Rectangle], faces: dict[int, list[Face]], motion: Motion) -> float:
    """How much a pane looks like a camera on somebody who sits there: a face that is always there and stays in its
    place, before a background that stands still, without cuts."""
    insets = [other for other in inner if other != host and _holds(host, other)]
    places, times = [], set()
    for t, there in faces.items():
        mine = [
            face.box
            for face in there
            if _covered(host, face.box) > 0.85 and not any(_covered(other, face.box) > 0.5 for other in insets)
        ]
        if mine:
            times.add(t)
            box = max(mine, key=lambda b: b.w * b.h)
            places.append((*box.centre, box.w))
    if not places:
        return 0.0
    x, y, w = np.median(np.array(places), axis=0)
    away = np.median([np.hypot(px - x, py - y) / w + abs(np.log(pw / w)) for px, py, pw in places])
    place = motion.inside(host)
    still = 1 - float(motion.moving_HW[place].mean())
    cuts = float((motion.changed_THW[(slice(None), *place)].mean(axis=(1, 2)) > 0.6).mean())
    persistence = len(times) / len(faces)
    return persistence * (0.5 + 0.3 * float(np.exp(-2 * away)) + 0.2 * still) * (1 - cuts)


def _without_reactor(
    rectangles: Sequence[Rectangle], picture: Rectangle, motion: Motion, hosts: Sequence[Rectangle]
) -> list[Found]:
    """Nobody in a pane of his own: say whether there are panes at all."""
    moving = motion.moving_HW.sum()
    if not hosts:
        for one in rectangles:
            share = motion.moving_HW[motion.inside(one)].sum() / moving
            if one.quality > 0.8 and 0.05 < share < 0.95 and one.area > 0.05 * picture.area:
                raise SourceError(
                    Code.NO_FACE,
                    f"a pane of {one.x1 - one.x0}x{one.y1 - one.y0} of {picture.x1}x{picture.y1} pixels, "
                    "but no face that stays in any",
                )
    best = max((one.quality for one in rectangles if one != picture), default=0.0)
    raise SourceError(Code.NO_LAYOUT, f"one thing fills the picture: best border around a part of it {best:.2f}")


def refine(places: Sequence[Rectangle], seen: seams.Evidence, scale: float, config: Config) -> list[Rectangle]:
    """Move sides to the pixel at full resolution, to the inner edge of a frame drawn around a pane."""
    return [_refine(place, seen, scale, config) for place in places]


def _refine(place: Rectangle, seen: seams.Evidence, scale: float, config: Config) -> Rectangle:
    width, height = seen.size
    x0, y0, x1, y1 = (round(v * scale) for v in (place.x0, place.y0, place.x1, place.y1))
    x1, y1 = min(x1, width), min(y1, height)
    reach = int(np.ceil(scale)) * 2 + 2
    thickest = round(config.border * max(width, height))
    margin_x, margin_y = round(0.15 * (x1 - x0)), round(0.15 * (y1 - y0))
    sides = []
    for name, line, end in (("x0", x0, width), ("y0", y0, height), ("x1", x1, width), ("y1", y1, height)):
        if line in (0, end):
            sides.append((line, 0))
            continue
        if name[0] == "x":
            rows = slice(y0 + margin_y, y1 - margin_y)
            profile, mean = seen.vertical_HW[rows].mean(axis=0), seen.mean_HW[rows]
        else:
            columns = slice(x0 + margin_x, x1 - margin_x)
            profile, mean = seen.horizontal_HW[:, columns].mean(axis=1), seen.mean_HW[:, columns].T
        inward = 1 if name[1] == "0" else -1
        sides.append(_edges(profile, mean, line, inward, reach, thickest))
    thick = [b for _, b in sides if b]
    framed = len(thick) >= 2 and len(thick) == sum(1 for line, _ in sides if line not in (0, width, height))
    framed = framed and max(thick) - min(thick) <= max(3, 0.5 * max(thick))
    x0, y0, x1, y1 = (
        line + (thickness if framed else 0) * (1 if place_in < 2 else -1)
        for place_in, (line, thickness) in enumerate(sides)
    )
    return Rectangle(x0=x0, y0=y0, x1=x1, y1=y1, coverage=place.coverage, decoupling=place.decoupling)


def _edges(
    profile_L: np.ndarray, mean_SL: np.ndarray, line: int, inward: int, reach: int, thickest: int
) -> tuple[int, int]:
    """(outer edge, thickness of a flat frame inside of it) near a line."""
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
    return (outer, abs(inner - outer)) if outer != inner else (strongest, 0)
