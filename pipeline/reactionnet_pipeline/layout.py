"""Find the panes of a reaction video: where the stimulus is, where who reacts, and from when to when.

Sparse samples of the whole file give one layout (panes.py). Where its borders are missing in some samples, or where it
cannot be found, the samples are split at the changes of the borders and every part is looked at by itself. Times of
changes are then found to the frame, and sides moved to the pixel at full resolution.

Letters: T frames, H height, W width, C colour (RGB).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from reactionnet_pipeline import seams
from reactionnet_pipeline.detector import detect_faces
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.panes import Config, Detect, Found, find_panes, full_face
from reactionnet_pipeline.records import STIMULUS, Face, Layout, Pane
from reactionnet_pipeline.seams import Rectangle
from reactionnet_pipeline.video import VideoInfo, View, read_frames, sample_frames, whole

DEFAULTS = Config()
GOLDEN = (5**0.5 - 1) / 2  # its multiples, modulo 1, never bunch
VERSION = 4  # of the results: raise it when the same video gives another layout


@dataclass(frozen=True, kw_only=True)
class Span:
    """Samples `start` to `stop - 1`, and the panes they show."""

    start: int
    stop: int
    panes: tuple[Found, ...]


def find_layout(path: Path, info: VideoInfo, config: Config = DEFAULTS, detect: Detect = detect_faces) -> Layout:
    """All panes over the length of the file.

    Raises SourceError: TOO_SHORT, STATIC_PICTURE, NO_LAYOUT (one thing fills the picture), NO_FACE (panes, but nobody),
    LAYOUT_AMBIGUOUS (panes, but which is which cannot be told).
    """
    if info.end_s - float(info.times_s[0]) < config.shortest_s:
        raise SourceError(Code.TOO_SHORT, f"{info.end_s:.2f} s of pictures, at least {config.shortest_s} s are needed")
    view = whole(info, config.max_side)
    sampled = list(sample_frames(path, info, sample_numbers(info, config).tolist(), view))
    if len(sampled) < config.shortest_span:
        raise SourceError(Code.UNREADABLE, f"{len(sampled)} of the sampled frames can be decoded")
    numbers, frames_THWC = np.array([number for number, _ in sampled]), np.stack([frame for _, frame in sampled])
    spans = find_spans(frames_THWC, config, detect)
    changes = [
        find_change(path, info, view, (one, two), (int(numbers[one.stop - 1]), int(numbers[two.start])), config)
        for one, two in pairwise(spans)
    ]
    bounds = [0, *changes, info.num_frames]
    panes: list[Pane] = []
    for span, (start, stop) in zip(spans, pairwise(bounds), strict=True):
        start_s = 0.0 if start == 0 else float(info.times_s[start])
        stop_s = info.end_s if stop == info.num_frames else float(info.times_s[stop])
        inside = numbers[(numbers >= start) & (numbers < stop)]
        few = inside[np.unique(np.linspace(0, len(inside) - 1, config.num_full_samples).round().astype(int))]
        places = to_the_pixel(path, info, view, span, few.tolist(), config)
        found = zip(span.panes, places, strict=True)
        panes = _joined(panes, [_pane(pane, place, start_s, stop_s) for pane, place in found])
    return Layout(panes=tuple(panes))


def sample_numbers(info: VideoInfo, config: Config) -> np.ndarray:
    """Frames to look at: evenly spread; in a long file up to a second after key frames, where decoding costs little.

    How long after differs from sample to sample: a file that repeats itself is not to be seen at the same moments only.
    """
    even = np.linspace(0, info.num_frames - 1, config.num_samples).round().astype(int)
    if info.num_frames <= config.decode_all:
        return np.unique(even)
    targets = np.linspace(0, info.num_frames - 1, config.max_samples)
    place = np.searchsorted(info.keyframes, targets)
    keys = np.unique(info.keyframes[np.clip(place, 0, len(info.keyframes) - 1)])
    if len(keys) < config.num_samples:
        keys = np.sort(np.concatenate([keys, keys]))
    spread = (np.arange(len(keys)) * GOLDEN % 1 * info.fps).astype(int)
    return np.unique(np.minimum(keys + spread, info.num_frames - 1))


def find_spans(frames_THWC: np.ndarray, config: Config, detect: Detect) -> list[Span]:
    """The layouts in the order of time. Raises what `find_panes` raises if there is none."""
    faces: dict[int, list[Face]] = {}

    def panes_of(start: int, stop: int, config: Config = config) -> tuple[Found, ...]:
        picks = np.unique(np.linspace(start, stop - 1, min(stop - start, config.num_face_samples)).round().astype(int))
        for t in picks.tolist():
            if t not in faces:
                faces[t] = detect(frames_THWC[t])
        here = {t - start: there for t, there in faces.items() if start <= t < stop}
        return tuple(find_panes(frames_THWC[start:stop], here, config))

    count = len(frames_THWC)
    failure: SourceError | None = None
    cuts: list[int] = []
    try:
        panes = panes_of(0, count)
        supported_T = _supported(border_support(frames_THWC, panes))
        if supported_T.all():
            return [Span(start=0, stop=count, panes=panes)]
        cuts = (np.flatnonzero(np.diff(supported_T.astype(int))) + 1).tolist()
    except SourceError as error:
        if error.code is Code.STATIC_PICTURE:
            raise
        failure = error
    cuts = _spaced(cuts, border_changes(frames_THWC, config), config.shortest_span, count)
    if not cuts and failure:
        raise failure
    # In a short span more stands still, so that more lines look like borders.
    strict = replace(config, search=replace(config.search, min_decoupling=config.parted, min_coverage=0.7))
    spans = []
    for start, stop in pairwise([0, *cuts, count]):
        try:
            spans.append(Span(start=start, stop=stop, panes=panes_of(start, stop, strict)))
        except SourceError as error:
            failure = failure or error
            spans.append(Span(start=start, stop=stop, panes=()))
    spans = _merged(spans, frames_THWC, panes_of)
    shown = sum(span.stop - span.start for span in spans if span.panes)
    if not shown or (failure and shown < config.least_shown * count):
        raise failure or SourceError(Code.NO_LAYOUT, f"{shown} of {count} samples show panes")
    for place, span in enumerate(spans):
        if not span.panes:
            here = {t - span.start: there for t, there in faces.items() if span.start <= t < span.stop}
            alone = full_face(frames_THWC[span.start : span.stop], here, config)
            spans[place] = replace(span, panes=(alone,) if alone else ())
    return _settled(_merged(spans, frames_THWC, panes_of), frames_THWC)


def _settled(spans: Sequence[Span], frames_THWC: np.ndarray) -> list[Span]:
    """Move the bounds between neighbours to where the borders of the one give way to those of the other."""
    spans = _without_mixtures(spans, frames_THWC)
    for place in range(len(spans) - 1):
        one, two = spans[place : place + 2]
        around_THWC, bound = frames_THWC[one.start : two.stop], one.stop - one.start
        if not 0 < bound < len(around_THWC):
            continue
        leaning = border_support(around_THWC, two.panes) - border_support(around_THWC, one.panes)
        before, after = np.median(leaning[:bound]), np.median(leaning[bound:])
        if after - before > 0.3:
            first = one.start + 1 + int(np.cumsum(leaning - (before + after) / 2)[:-1].argmin())
            spans[place : place + 2] = [replace(one, stop=first), replace(two, start=first)]
    return [span for span in spans if span.stop > span.start]


def _without_mixtures(spans: Sequence[Span], frames_THWC: np.ndarray) -> list[Span]:
    """Drop spans without panes in which every sample shows the borders of one or the other neighbour."""
    kept = list(spans)
    for place in range(len(kept) - 2, 0, -1):
        before, here, after = kept[place - 1 : place + 2]
        if here.panes or not before.panes or not after.panes:
            continue
        frames = frames_THWC[here.start : here.stop]
        there_T = np.maximum(border_support(frames, before.panes), border_support(frames, after.panes)) > 0.5
        if there_T.mean() > 0.7:
            kept[place - 1 : place + 1] = [replace(before, stop=here.stop)]
    return kept


PanesOf = Callable[[int, int], tuple[Found, ...]]


def _merged(spans: Sequence[Span], frames_THWC: np.ndarray, panes_of: PanesOf) -> list[Span]:
    """Join neighbours that show the same panes, or one of which shows the borders of the other's panes."""
    spans = list(spans)
    place = 0
    while place + 1 < len(spans):
        one, two = spans[place : place + 2]
        same = _same(one.panes, two.panes)
        if same or _continues(one, two, frames_THWC) or _continues(two, one, frames_THWC):
            longer = max(one, two, key=lambda span: (bool(span.panes), span.stop - span.start))
            try:
                panes = panes_of(one.start, two.stop)
            except SourceError:
                if not same:
                    place += 1
                    continue
                panes = ()  # what more samples do not confirm was an accident of the fewer
            if panes and sorted(pane.role for pane in panes) != sorted(pane.role for pane in longer.panes):
                panes = longer.panes
            spans[place : place + 2] = [Span(start=one.start, stop=two.stop, panes=panes)]
            place = max(place - 1, 0)
        else:
            place += 1
    return spans


def _continues(one: Span, two: Span, frames_THWC: np.ndarray) -> bool:
    """Whether the borders of one span's panes are there in the other too."""
    if not one.panes:
        return False
    usual = np.median(border_support(frames_THWC[one.start : one.stop], one.panes))
    there_T = border_support(frames_THWC[two.start : two.stop], one.panes)
    return usual > 0 and float((there_T > 0.6 * usual).mean()) > 0.7


def _same(one: Sequence[Found], two: Sequence[Found]) -> bool:
    """Two layouts with the same roles in about the same places."""
    if len(one) != len(two):
        return False
    return all(any(a.role == b.role and a.place.iou(b.place) > 0.85 for b in two) for a in one)


def border_support(frames_THWC: np.ndarray, panes: Sequence[Found]) -> np.ndarray:
    """(T,) share of border pixels that show a step, in the pane that shows the least; 0 if no pane has a border."""
    width, height = frames_THWC.shape[2], frames_THWC.shape[1]
    bordered = [pane.place for pane in panes if pane.place.sides(width, height)]
    if not bordered:
        return np.zeros(len(frames_THWC))
    support = [seams.steps_along(frames_THWC, place) for place in bordered]
    return np.min(support, axis=0)


def _supported(support_T: np.ndarray) -> np.ndarray:
    """Whether the borders are there, single samples outvoted by their neighbours."""
    there_T = support_T > 0.6 * np.percentile(support_T, 75)
    if support_T.max() == 0:
        return np.ones(len(support_T), bool)
    padded = np.pad(there_T, 1, mode="edge").astype(int)
    return padded[:-2] + padded[1:-1] + padded[2:] >= 2


def border_changes(frames_THWC: np.ndarray, config: Config) -> list[int]:
    """Samples at which long straight lines appear or vanish that last for some samples, most striking first."""
    width, height = frames_THWC.shape[2] // 2, frames_THWC.shape[1] // 2
    small = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames_THWC]
    changed_T = np.zeros(len(small))
    for axis in (0, 1):
        steps_THW = np.stack([seams.colour_step(frame, axis) > 0.6 for frame in small])
        total_THW = np.concatenate(
            [np.zeros((1, height, width), np.uint16), np.cumsum(steps_THW, axis=0, dtype=np.uint16)]
        )
        kernel = np.ones((config.straight, 1) if axis else (1, config.straight), np.uint8)
        for t in range(2, len(small) - 1):
            before, after = max(t - 4, 0), min(t + 4, len(small))
            was_HW = (total_THW[t] - total_THW[before]) / (t - before)
            is_HW = (total_THW[after] - total_THW[t]) / (after - t)
            change_HW = (np.abs(is_HW - was_HW) > 0.7).astype(np.uint8)
            changed_T[t] += cv2.morphologyEx(change_HW, cv2.MORPH_OPEN, kernel).sum()
    striking = np.flatnonzero(changed_T > config.line_change * (width + height))
    return sorted(striking.tolist(), key=lambda t: (-changed_T[t], t))


def _spaced(known: Sequence[int], changes: Sequence[int], apart: int, count: int, most: int = 8) -> list[int]:
    """At most `most` cuts in order, known ones first, none too close to another or to the ends."""
    cuts: list[int] = []
    for cut in [*known, *changes]:
        if apart <= cut <= count - apart and all(abs(cut - other) >= apart for other in cuts) and len(cuts) < most:
            cuts.append(cut)
    return sorted(cuts)


def find_change(
    path: Path, info: VideoInfo, view: View, spans: tuple[Span, Span], around: tuple[int, int], config: Config
) -> int:
    """First frame of the second span, which lies after frame `around[0]` and at or before `around[1]`."""
    low, high = around

    def leaning(frames_THWC: np.ndarray) -> np.ndarray:
        return border_support(frames_THWC, spans[1].panes) - border_support(frames_THWC, spans[0].panes)

    ends = [frame for _, frame in sample_frames(path, info, [low, high], view)]
    middle = leaning(np.stack(ends)).mean()
    while high - low > config.decode_at_once:
        between = np.unique(np.linspace(low, high, 8).round().astype(int)[1:-1]).tolist()
        seen = [(number, leaning(frame[None])[0]) for number, frame in sample_frames(path, info, between, view)]
        low, high = _turn([low, *(number for number, _ in seen), high], [-1, *(v - middle for _, v in seen), 1])
    seen = [(n, leaning(views[0][None])[0]) for n, views in read_frames(path, info, low, high + 1, lambda _: (view,))]
    return _turn([number for number, _ in seen], [value - middle for _, value in seen])[1]


def _turn(numbers: Sequence[int], leanings: Sequence[float]) -> tuple[int, int]:
    """The neighbouring frames between which the evidence changes sides for good."""
    total = np.cumsum(leanings)
    place = int(total[:-1].argmin())
    return numbers[place], numbers[place + 1]


def to_the_pixel(
    path: Path, info: VideoInfo, view: View, span: Span, numbers: Sequence[int], config: Config
) -> list[Rectangle]:
    """Places of a span's panes in pixels of the video."""
    full = whole(info, config.max_full_side)
    frames = (frame for _, frame in sample_frames(path, info, numbers, full))
    straight = [p.place for p in span.panes if p.shape == "rect" and p.place.sides(view.out_w, view.out_h)]
    exact = {}
    if straight:
        fine = seams.refine(straight, seams.evidence(frames), full.out_w / view.out_w, config.border)
        size, factor = (info.width, info.height), info.width / full.out_w
        exact = {rough: place.scaled(factor, size) for rough, place in zip(straight, fine, strict=True)}
    factor = info.width / view.out_w
    return [exact.get(p.place) or p.place.scaled(factor, (info.width, info.height)) for p in span.panes]


def _pane(found: Found, place: Rectangle, start_s: float, stop_s: float) -> Pane:
    return Pane(
        role=found.role,
        x=place.x0,
        y=place.y0,
        w=place.x1 - place.x0,
        h=place.y1 - place.y0,
        start_s=start_s,
        end_s=stop_s,
        confidence=round(found.confidence, 3),
        shape=found.shape,
        z=found.z,
    )


def _joined(earlier: Sequence[Pane], later: Sequence[Pane]) -> list[Pane]:
    """Panes that go on unchanged through a change of the others stay one pane."""
    panes, rest = list(earlier), list(later)
    for place, pane in enumerate(panes):
        for new in rest:
            alike = pane.role == new.role and pane.shape == new.shape
            alike = alike and pane.box.iou(new.box) > (0.85 if pane.role == STIMULUS else 0.95)
            if alike and abs(pane.end_s - new.start_s) < 1e-6:
                better = max(pane, new, key=lambda p: p.end_s - p.start_s)
                panes[place] = replace(better, start_s=pane.start_s, end_s=new.end_s)
                rest.remove(new)
                break
    return panes + rest
