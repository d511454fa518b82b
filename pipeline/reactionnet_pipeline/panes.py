"""Panes of a span of video in which the layout does not change, and what each of them is.

A face that stays lives in the tightest closed rectangle around it. What moves outside those panes is the stimulus; if
every pane has a face, the one that looks least like a camera on somebody who sits there is.

Letters: T frames, H height, W width, C colour (RGB).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from reactionnet_pipeline import outlines, seams
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.records import REACTION, STIMULUS, Box, Face
from reactionnet_pipeline.seams import Rectangle

# Where every pane shows a face that stays, confidence is this times how much less the stimulus looks like a reactor. A
# talking head beside somebody who sits just as still differs by 0.02 to 0.08, with few samples by up to 0.1.
AMBIGUITY = 2.4
TILED = 0.85  # of a pane that several people's cells fill
BLOCK = 4  # pixels; motion is judged on blocks so that noise averages out


@dataclass(frozen=True, kw_only=True)
class Config:
    """Shares are of the picture unless said otherwise; pixels are those of the smaller picture that is searched."""

    num_samples: int = 48  # frames looked at, evenly spread
    max_samples: int = 96  # in a long video
    decode_all: int = 1000  # frames; longer videos are looked at around their key frames only
    decode_at_once: int = 300  # frames in which the moment of a change is looked for one by one
    num_full_samples: int = 12  # frames of a span looked at in full resolution
    max_full_side: int = 1920
    shortest_span: int = 3  # samples
    least_shown: float = 0.25  # of the samples must show panes that not all of them show
    straight: int = 14  # pixels of the halved picture: a line this long may belong to a border
    line_change: float = 0.12  # length of lines that appear or vanish, of width + height
    num_face_samples: int = 24  # of these, frames in which faces are looked for
    max_side: int = 640  # longer side of the picture that is searched
    shortest_s: float = 1.0
    still: float = 1.5  # grey levels: a block whose standard deviation in time is below has no motion
    moving_share: float = 0.005  # of blocks in motion below which the picture counts as frozen
    min_persistence: float = 0.3  # of samples that must show a face for its pane to be somebody's
    min_width_of_face: float = 1.4  # width of a pane in widths of the face in it
    min_height_of_face: float = 0.85
    picture_quality: float = 0.65  # what a rectangle must beat to count as a pane rather than the whole picture
    area_cost: float = 0.3  # how much tighter rectangles are preferred
    border: float = 0.02  # thickest drawn frame around a pane, of the longer side
    fair: float = 0.62  # quality of a rectangle that may hold a face although no other outline is found
    closed: float = 0.97  # quality that hair and shoulders never have
    sure: float = 0.9  # quality from which no other outline is looked for
    outline: float = 0.6  # share of a cut-out person's outline that shows a border
    unbroken: float = 0.97  # coverage of a line from edge to edge that is a seam although nothing moves near it
    both_move: float = 0.02  # of the blocks on each side of such a line
    parted: float = 0.4  # decoupling of a border that is believed without a face behind it
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


def look_for_faces(frames_THWC: np.ndarray, config: Config, detect: Detect) -> dict[int, list[Face]]:
    """Faces of some of the frames, by index."""
    picks = np.unique(np.linspace(0, len(frames_THWC) - 1, config.num_face_samples).round().astype(int))
    return {int(t): detect(frames_THWC[t]) for t in picks}


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
        self.moving_HW = deviation_HW > max(config.still, 2.0 * min(noise, config.still))
        self.changed_THW = np.abs(np.diff(small_THW, axis=0)) > 3 * config.still

    def inside(self, place: Rectangle) -> tuple[slice, slice]:
        """Index of the blocks that lie wholly in a rectangle."""
        across, down = self.scale
        return (
            slice(int(np.ceil(place.y0 / down)), int(place.y1 / down)),
            slice(int(np.ceil(place.x0 / across)), int(place.x1 / across)),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Look:
    """What is known about a span before its panes are."""

    frames_THWC: np.ndarray
    seen: seams.Evidence
    motion: Motion
    rectangles: Sequence[Rectangle]
    picture: Rectangle


def find_panes(frames_THWC: np.ndarray, faces: dict[int, list[Face]], config: Config) -> list[Found]:
    """The panes of a span in which the layout does not change, stimulus first. Raises as `find_layout` does."""
    seen = seams.evidence(frames_THWC)
    motion = Motion(frames_THWC, config)
    if motion.moving_HW.mean() < config.moving_share:
        raise SourceError(
            Code.STATIC_PICTURE, f"{motion.moving_HW.mean():.2%} of the picture moves, below {config.moving_share:.2%}"
        )
    picture = whole_picture(seen)
    rectangles = _closed(seams.find_rectangles(seen, config.search), picture, motion, config)
    faces = {t: [_clipped(face, picture) for face in there] for t, there in faces.items()}
    look = _Look(frames_THWC=frames_THWC, seen=seen, motion=motion, rectangles=rectangles, picture=picture)
    shapes = face_panes(look, faces, config)
    hosts = list(shapes)
    inner = [host for host in hosts if host != picture]
    hidden_HW = np.zeros(seen.variance_HW.shape, bool)
    for host in inner:
        hidden_HW[host.y0 + 3 : host.y1 - 3, host.x0 + 3 : host.x1 - 3] = True  # its own border stays in sight
    if not inner:
        return _without_reactor(look, hosts, config)
    stimulus = None if picture in hosts else stimulus_pane(seen, picture, inner, hidden_HW, motion, config)
    likeness = {host: _likeness(host, inner, faces, motion) for host in hosts}
    if stimulus is None:
        stimulus = picture if picture in hosts else min(hosts, key=lambda host: likeness[host])
    reactors = [host for host in hosts if host != stimulus]
    if not reactors:
        raise SourceError(Code.NO_LAYOUT, "one pane with a face and nothing beside it that moves")
    worst = min(likeness[host] for host in reactors)
    nested = all(_holds(stimulus, host) for host in reactors)
    margin = worst
    if stimulus in likeness and not nested:
        margin = min(worst, AMBIGUITY * (worst - likeness[stimulus]))
    if margin < config.min_confidence:
        raise SourceError(
            Code.LAYOUT_AMBIGUOUS,
            f"{len(hosts)} panes with faces, likeness to a reactor {sorted(round(v, 2) for v in likeness.values())}: "
            f"confidence {margin:.2f}, at least {config.min_confidence} is needed",
        )
    found = [Found(role=STIMULUS, place=stimulus, confidence=min(1.0, margin * stimulus.quality))]
    for z, host in enumerate(sorted(reactors, key=lambda r: (r.y0, r.x0)), 1):
        confidence = min(1.0, likeness[host] * host.quality)
        found.append(Found(role=REACTION, place=host, confidence=confidence, shape=shapes[host], z=z))
    return found


def _closed(rectangles: Sequence[Rectangle], picture: Rectangle, motion: Motion, config: Config) -> list[Rectangle]:
    """The rectangles, those no longer loose that one unbroken line parts from a picture which moves on both sides of it.

    Where nothing moves near a seam it cannot show that it keeps motions apart; but a line within a room that runs from
    edge to edge, on one pixel all the way and in front of everybody, has nothing that moves on its other side.
    """

    def parted(one: Rectangle) -> bool:
        sides = one.sides(picture.x1, picture.y1)
        if not one.loose or len(sides) != 1 or min(one.coverage) < config.unbroken:
            return False
        here = motion.moving_HW[motion.inside(one)]
        moving, blocks = here.sum(), here.size
        beyond, others = motion.moving_HW.sum() - moving, motion.moving_HW.size - blocks
        return bool(min(moving / max(blocks, 1), beyond / max(others, 1)) > config.both_move)

    return [replace(one, loose=False) if parted(one) else one for one in rectangles]


def whole_picture(seen: seams.Evidence) -> Rectangle:
    width, height = seen.size
    return Rectangle(x0=0, y0=0, x1=width, y1=height, coverage=(1.0,) * 4, decoupling=(1.0,) * 4)


def _clipped(face: Face, picture: Rectangle) -> Face:
    """Without what the detector guesses beyond the edge of the picture."""
    box = face.box
    x0, y0, x1, y1 = max(box.x, 0), max(box.y, 0), min(box.x + box.w, picture.x1), min(box.y + box.h, picture.y1)
    return replace(face, box=Box(x=x0, y=y0, w=max(x1 - x0, 1), h=max(y1 - y0, 1)))


def _holds(outer: Rectangle, inner: Rectangle, slack: int = 2) -> bool:
    return (
        outer.x0 - slack <= inner.x0
        and outer.y0 - slack <= inner.y0
        and inner.x1 <= outer.x1 + slack
        and inner.y1 <= outer.y1 + slack
    )


def face_panes(look: _Look, faces: dict[int, list[Face]], config: Config) -> dict[Rectangle, str]:
    """The tightest well-closed rectangle around every face that is seen often enough, and its shape."""
    votes: dict[Rectangle, set[int]] = {}
    people: dict[Rectangle, list[Box]] = {}
    shapes: dict[Rectangle, str] = {}
    needed = config.min_persistence * len(faces)
    sound = [one for one in look.rectangles if not one.loose]
    seats = clusters(faces)
    homes = [_off_the_edge(_host(sound, look.picture, box, config), sound, look.picture) for box, _ in seats]
    homes = [_with_still_part(home, sound, look.picture, look.motion) for home in homes]
    often = [len(times) >= 0.5 * len(faces) for _, times in seats]
    # People in a picture that has a reactor's pane belong to the stimulus; else one of them may be cut out.
    paned = any(
        home != look.picture and home.quality >= config.fair and many for home, many in zip(homes, often, strict=True)
    )
    for (box, times), home, many in zip(seats, homes, often, strict=True):
        host, shape = home, "rect"
        if many and (home == look.picture or home.quality < config.sure):
            host, shape = _without_borders(look, home, box, paned, config)
        votes.setdefault(host, set()).update(times)
        shapes[host] = shape
        if len(times) >= needed:
            people.setdefault(host, []).append(box)
    for host, boxes in people.items():
        # where one of several cells has found its own pane, the next one's may still be what holds them all
        inner = [other for other in people if other != host and host in votes and _holds(host, other)]
        together = [*boxes, *(box for other in inner for box in people[other])]
        cells = _cells(host, together, look.rectangles, look.picture, config) if host in votes else []
        if cells and (not inner or sum(cell.area for cell in cells) > TILED * host.area):
            times = set().union(*(votes.pop(one) for one in (host, *inner) if one in votes))
            votes.update(dict.fromkeys(cells, times))
    for host in [host for host in votes if host != look.picture]:
        if cell := _without_plain_part(host, people.get(host, []), look):
            votes[cell] = votes.pop(host)
    hosts = [host for host, times in votes.items() if len(times) >= needed]
    kept: dict[Rectangle, str] = {}
    for host in sorted(hosts, key=lambda r: (-len(votes[r]), r.area)):
        if all(_apart(host, other) for other in kept):
            kept[host] = shapes.get(host, "rect")
    return kept


def _without_borders(look: _Look, host: Rectangle, face: Box, paned: bool, config: Config) -> tuple[Rectangle, str]:
    """A round pane or a cut-out person instead of a doubtful rectangle, where there is one."""
    if round_pane := outlines.find_round(look.seen, face):
        return round_pane, "round"
    if paned or (host != look.picture and host.quality >= config.fair):
        return host, "rect"
    if face.w > 0.25 * max(look.picture.x1, look.picture.y1) or look.motion.moving_HW.mean() < 0.03:
        return host, "rect"  # somebody who fills the picture, or nothing to lie over
    person, mask_HW = outlines.cut_out(look.frames_THWC[:: max(1, len(look.frames_THWC) // 16)], face)
    if _is_over_the_stimulus(look, person, mask_HW, face, config):
        return person, "cutout"
    return host, "rect"


def _is_over_the_stimulus(look: _Look, person: Rectangle, mask_HW: np.ndarray, face: Box, config: Config) -> bool:
    """A cut-out has an outline, and what moves around it is no part of its room; people in a full picture have a room.

    Where nothing moves beside the person, only a small figure at the bottom, off the middle, is taken for a cut-out.
    """
    picture, motion = look.picture, look.motion
    if outlines.outline_coverage(look.seen, mask_HW) < config.outline or person.area > 0.45 * picture.area:
        return False
    size = (picture.x1, picture.y1)
    beyond = max(3, round(0.3 * face.w))
    kernel = np.ones((2 * beyond + 1, 2 * beyond + 1), np.uint8)
    near_HW = cv2.dilate(mask_HW.astype(np.uint8), kernel)
    around_HW = cv2.dilate(near_HW, np.ones((17, 17), np.uint8)) > near_HW
    moving_HW = cv2.resize(motion.moving_HW.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    beside = float(moving_HW[around_HW].mean()) if around_HW.any() else 0.0
    if beside > 0.35:
        return True
    elsewhere = float(moving_HW[near_HW == 0].mean())
    off_middle = abs(face.centre[0] / size[0] - 0.5) > 0.15
    small = face.w < 0.18 * max(size) and person.y1 >= size[1] - 2
    return off_middle and small and elsewhere > 0.02


def _cells(
    host: Rectangle, boxes: Sequence[Box], rectangles: Sequence[Rectangle], picture: Rectangle, config: Config
) -> list[Rectangle]:
    """One pane for each of several people where lines between them cut their common pane; empty if there are none."""
    within = [
        one
        for one in rectangles
        if _holds(host, one)
        and one.area < 0.7 * host.area
        and one.quality > 0.8
        and sum(_covered(one, box) > 0.3 for box in boxes) == 1
    ]
    tight = replace(config, area_cost=2 * config.area_cost * picture.area / host.area)
    cells = [_host(within, picture, box, tight) for box in boxes]
    whole_cells = len(boxes) > 1 and picture not in cells and len(set(cells)) == len(cells)
    apart = all(one.shared(two) < 0.1 * one.area for i, one in enumerate(cells) for two in cells[:i])
    return cells if whole_cells and apart else []


def _without_plain_part(host: Rectangle, boxes: Sequence[Box], look: _Look) -> Rectangle | None:
    """The part of a pane with the faces in it, if the rest is an empty cell of one colour."""
    for one in look.rectangles:
        inside = one.quality > 0.8 and _holds(host, one) and one.area < 0.8 * host.area
        if not inside or not boxes or any(_covered(one, box) < 0.9 for box in boxes):
            continue
        rest = np.zeros(look.seen.mean_HW.shape, bool)
        rest[host.inside] = True
        rest[max(one.y0 - 3, 0) : one.y1 + 3, max(one.x0 - 3, 0) : one.x1 + 3] = False
        plain = rest.any() and float(look.seen.mean_HW[rest].std()) < 2.5
        if plain and float(look.seen.variance_HW[rest].mean()) < 2.5:
            return one
    return None


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
    shared = one.shared(two)
    small, large = sorted((one.area, two.area))
    return shared < 0.3 * small or (shared > 0.9 * small and small < 0.4 * large)


def _host(rectangles: Sequence[Rectangle], picture: Rectangle, face: Box, config: Config) -> Rectangle:
    best, best_score = picture, config.picture_quality - config.area_cost
    x, y = face.centre
    for one in rectangles:
        if one == picture or not (one.x0 < x < one.x1 and one.y0 < y < one.y1):
            continue
        # A rectangle of hair and shoulders hugs the face; the part of the picture beside a single seam is no such thing.
        closed = one.quality > config.closed or len(one.sides(picture.x1, picture.y1)) == 1
        wide = 1.0 if closed else config.min_width_of_face
        if one.x1 - one.x0 < wide * face.w or one.y1 - one.y0 < config.min_height_of_face * face.h:
            continue
        if _covered(one, face) < 0.7:
            continue
        score = one.quality - config.area_cost * one.area / picture.area
        if score > best_score:
            best, best_score = one, score
    return best


def _off_the_edge(host: Rectangle, rectangles: Sequence[Rectangle], picture: Rectangle, reach: int = 12) -> Rectangle:
    """The same pane without the narrow margin between it and the picture's edge, where there is a border."""
    margins = [
        one
        for one in rectangles
        if one.quality > host.quality - 0.05
        and all(
            a == b or (b in (0, edge) and abs(a - b) <= reach)
            for a, b, edge in (
                (one.x0, host.x0, 0),
                (one.y0, host.y0, 0),
                (one.x1, host.x1, picture.x1),
                (one.y1, host.y1, picture.y1),
            )
        )
    ]
    return min(margins, key=lambda one: one.area, default=host) if host != picture else host


def _with_still_part(host: Rectangle, rectangles: Sequence[Rectangle], picture: Rectangle, motion: Motion) -> Rectangle:
    """The same pane with what lies behind one of its sides, if nothing moves there: that side is a line in the room."""
    for one in sorted(rectangles, key=lambda r: -r.area):
        same = [one.x0 == host.x0, one.y0 == host.y0, one.x1 == host.x1, one.y1 == host.y1]
        if one == picture or sum(same) != 3 or not host.area < one.area < 1.8 * host.area:
            continue
        moving = motion.moving_HW[motion.inside(one)].sum() - motion.moving_HW[motion.inside(host)].sum()
        blocks = (one.area - host.area) / BLOCK**2
        if one.quality > host.quality - 0.05 and moving < 0.005 * blocks:
            return one
    return host


def _covered(place: Rectangle, face: Box) -> float:
    """Share of a face in a rectangle; the detector's boxes may reach beyond the picture and the pane."""
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
    for one in _closed(seams.find_rectangles(seen, config.search, hidden_HW), picture, motion, config):
        if one.loose or any(_holds(host, one) or not _apart_or_over(host, one) for host in reactors):
            continue
        explained = moves_HW[motion.inside(one)].sum() / moves_HW.sum()
        quality = config.picture_quality if one.area == picture.area else one.quality
        quality -= config.area_cost * _leaves_content(one, picture, reactors, seen)
        score = explained + config.area_cost * (quality - one.area / picture.area)
        if score > best_score:
            best, best_score = one, score
    return best


def _leaves_content(one: Rectangle, picture: Rectangle, reactors: Sequence[Rectangle], seen: seams.Evidence) -> bool:
    """Whether a side from edge to edge cuts something off that is neither a plain bar nor holds a reactor."""
    bars = (
        (one.x0 > 0, slice(None), slice(0, one.x0)),
        (one.x1 < picture.x1, slice(None), slice(one.x1, None)),
        (one.y0 > 0, slice(0, one.y0), slice(None)),
        (one.y1 < picture.y1, slice(one.y1, None), slice(None)),
    )
    spans_x, spans_y = one.x1 - one.x0 == picture.x1, one.y1 - one.y0 == picture.y1
    for place, (cut, rows, columns) in enumerate(bars):
        if not cut or not (spans_y if place < 2 else spans_x):
            continue
        left = np.ones(seen.mean_HW.shape, bool)
        for host in reactors:
            left[max(host.y0 - 3, 0) : host.y1 + 3, max(host.x0 - 3, 0) : host.x1 + 3] = False
        bar, free = seen.mean_HW[rows, columns], left[rows, columns]
        if free.mean() > 0.8 and float(bar[free].std()) > 12:
            return True
    return False


def _apart_or_over(host: Rectangle, stimulus: Rectangle) -> bool:
    """A reactor may lie beside the stimulus, on it, or over one of its corners, but never hide most of it."""
    return host.shared(stimulus) < 0.5 * stimulus.area


def _likeness(host: Rectangle, inner: Sequence[Rectangle], faces: dict[int, list[Face]], motion: Motion) -> float:
    """How much a pane looks like a camera on somebody who sits there: a face that is always there and stays in its
    place, before a background that stands still, without cuts."""
    insets = [other for other in inner if other != host and _holds(host, other)]
    places, times = [], set()
    for t, there in faces.items():
        mine = [
            face.box
            for face in there
            if _covered(host, face.box) > 0.7 and not any(_covered(other, face.box) > 0.5 for other in insets)
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


def _without_reactor(look: _Look, hosts: Sequence[Rectangle], config: Config) -> list[Found]:
    """Nobody in a pane of his own: say whether there are panes at all."""
    rectangles, picture, motion = look.rectangles, look.picture, look.motion
    moving = motion.moving_HW.sum()
    for one in rectangles if not hosts else ():
        share = motion.moving_HW[motion.inside(one)].sum() / moving
        parted = [
            d
            for d, name in zip(one.decoupling, ("x0", "y0", "x1", "y1"), strict=True)
            if name in one.sides(picture.x1, picture.y1)
        ]
        if one.loose or one.quality < 0.8 or not 0.05 < share < 0.95 or one.area < 0.05 * picture.area:
            continue
        if min(parted) > config.parted:
            raise SourceError(
                Code.NO_FACE,
                f"a pane of {one.x1 - one.x0}x{one.y1 - one.y0} of {picture.x1}x{picture.y1} pixels, "
                "but no face that stays in any",
            )
    best = max((one.quality for one in rectangles if one != picture), default=0.0)
    raise SourceError(Code.NO_LAYOUT, f"one thing fills the picture: best border around a part of it {best:.2f}")


def full_face(frames_THWC: np.ndarray, faces: dict[int, list[Face]], config: Config) -> Found | None:
    """The reactor's pane where it fills the picture, as before and after the split screen; None without one."""
    height, width = frames_THWC.shape[1:3]
    picture = Rectangle(x0=0, y0=0, x1=width, y1=height, coverage=(1.0,) * 4, decoupling=(1.0,) * 4)
    if not any(len(times) >= 0.5 * len(faces) and box.w > 0.08 * width for box, times in clusters(faces)):
        return None
    likeness = _likeness(picture, [], faces, Motion(frames_THWC, config))
    if likeness < config.min_confidence:
        return None
    return Found(role=REACTION, place=picture, confidence=min(1.0, likeness))
