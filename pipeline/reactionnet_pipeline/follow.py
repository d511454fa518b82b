"""Following the faces of one reaction pane through its frames: boxes, landmarks, head pose, aligned crops.

MTCNN searches the pane every one and a half seconds, after every cut, and more often while nothing is followed; in
between a tracker carries each face. Short gaps are interpolated and boxes smoothed as in the ERI paper ("interpolation
with a window width of 12 frames and frame smoothing"); a longer gap ends the track, and whoever comes back gets a new
number: that it is the same person is for the embeddings to say. dlib's HOG detector fills where MTCNN finds nothing.

What is done when hangs on the number of the frame in the whole file alone, each detection starts the trackers anew, and
every window is finite, so that a reader that starts a second earlier or later finds the same faces.

Letters: H height, W width, C colour (RGB). Boxes of `Seen` and `FollowedFace` are pixels of the upright picture.
"""

import math
from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, pairwise
from typing import Any

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from reactionnet_pipeline import detector, landmarks
from reactionnet_pipeline.cuts import CutDetector, thumbnail
from reactionnet_pipeline.pose import head_pose
from reactionnet_pipeline.records import Box, Face, Pane
from reactionnet_pipeline.tracker import NAMES, Tracker, make_tracker

VERSION = 3
DETECTED, TRACKED, INTERPOLATED = "detected", "tracked", "interpolated"
SAME_IOU = 0.3  # a detection that shares this much with a followed face is that face
NEAR = 1.5  # heights of the face that a person may have moved between two looks without a cut
# Distances of colours. In the shared videos two looks at one person within a clip, jump cuts included, differ by 0.09
# (median; 95 %: 0.17, at most 0.25), looks at two persons by 0.22 and more (1 %: 0.27, median 0.82), though some of
# them sit before the same wall.
ALIKE, ALIKE_HERE, UNLIKE = 0.25, 0.27, 0.4
# frames whose landmarks are found in one go: dlib's trees are 65 MB, and faces that follow one another read the same
# leaves of them, which are then still in the processor's cache
BURST = 24
LOOK_AHEAD_S = 0.75  # with both smoothings just under a second
# A face has moved where a cell of its 16 x 16 grey levels changes by this much in a quarter of a second. In any three
# seconds of the shared videos a person does so three times at least (by 10.8); a poster, pasted in and compressed, once
# or twice, where a key frame of a poor video draws it anew (the third largest step is at most 1).
PATCH, MOVED, MOVES = 16, 5.0, 3


@dataclass(frozen=True, kw_only=True)
class Config:
    """How faces are followed. Times are seconds, scores 0 to 1."""

    tracker: str = "mtcnn"  # one of tracker.NAMES; the ReactionNet paper used "boosting"
    detect_every_s: float = 1.5  # full search of the pane
    search_every_s: float = 0.25  # the same while there is nobody, or somebody was just lost
    follow_every_s: float = 0.1  # how often the tracker is asked: every second frame at 25 frames per second
    max_gap: int = 12  # frames that are interpolated; ERI paper, section 3.1
    smoothing_s: float = 0.12  # half width of the window that smooths boxes and alignments
    keep_score: float = 0.6  # a sighting
    # somebody: the mean score over this long. In the shared videos, also made smaller, no half second of a person has a
    # median below 0.98 (drawn faces: 0.93); the skull printed on a shirt in pub09 has 0.82, single detections up to 0.975
    min_score: float = 0.92
    min_track_s: float = 0.5
    still_s: float = 3.0  # who does not move for so long is a picture on the wall
    search_px: int = 300  # the picture that is searched has the area of a square of this side, at most
    min_face_px: int = 20  # in that picture
    crop_px: int = 256  # side of the aligned crop; 0: none

    def __post_init__(self) -> None:
        if self.tracker not in NAMES:
            raise ValueError(f"tracker {self.tracker!r}; expected one of {', '.join(NAMES)}")


@dataclass(frozen=True, kw_only=True)
class FollowedFace:
    """One face in one frame, in pixels of the upright picture; angles in degrees (signs: see `pose`)."""

    track: int  # local to the pane and the call; stable for one person
    box: Box
    source: str  # detected, tracked or interpolated
    score: float
    landmarks_68x2: np.ndarray
    yaw: float
    pitch: float
    roll: float
    crop_matrix_2x3: np.ndarray  # from the picture to the aligned crop
    crop_HWC: np.ndarray | None


def follow_faces(
    frames: Iterable[tuple[int, float, np.ndarray]],
    pane: Pane,
    scale: float,
    config: Config,
    fps: float,
    *,
    masked: Sequence[Box] = (),
    cuts: Container[int] | None = None,
) -> Iterator[tuple[int, float, list[FollowedFace]]]:
    """Every frame in order with the faces of the pane's people, left to right.

    What comes out depends on less than a second ahead; `BURST` frames more are held.

    `frames` gives (number in the file, time, the pane's pixels times `scale`); numbers may have holes. Faces that lie
    mostly in `masked` (areas of other panes on top, in picture pixels) are nobody's. `cuts` holds the frames that begin
    a shot, at the latest when they are handed over; without it they are found here.
    """
    place = _Place(pane=pane, scale=scale)
    radius = round(config.smoothing_s * fps)
    moments = _observe(frames, place, config, fps, masked, cuts)
    moments = _fill_gaps(moments, config, fps)
    moments = _drop_decoys(moments, pane, config, fps)
    moments = _smooth_boxes(moments, radius)
    for moment, faces in _describe(moments, place, radius, config.crop_px):
        yield moment.frame, moment.time_s, sorted(faces, key=lambda face: (face.box.x, face.track))


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where the pane's pixels lie in the picture."""

    pane: Pane
    scale: float

    def to_picture(self, box: Box) -> Box:
        x, y, w, h = (value / self.scale for value in (box.x, box.y, box.w, box.h))
        return _rounded(Box(x=x + self.pane.x, y=y + self.pane.y, w=w, h=h))

    def to_pane(self, box: Box) -> Box:
        x, y, w, h = (box.x - self.pane.x, box.y - self.pane.y, box.w, box.h)
        return Box(x=x * self.scale, y=y * self.scale, w=w * self.scale, h=h * self.scale)


def _rounded(box: Box) -> Box:
    x, y, w, h = (round(value * 4) / 4 for value in (box.x, box.y, box.w, box.h))
    return Box(x=x, y=y, w=w, h=h)


@dataclass(eq=False)
class _Track:
    """A person while he or she is followed; `box` and `last_frame` are where and when the face was seen last."""

    number: int
    tracker: Tracker
    colours: np.ndarray
    box: Box
    first_frame: int
    last_frame: int
    scores: deque[float]  # of the last sightings, as many as must convince
    believed: bool = False  # that this is a face
    num_cuts: int = 0  # how many cuts the person has outlived
    lively: bool = False  # moves as people do
    out_of_sight: bool = False  # not found after a cut: may turn up anywhere, for a moment
    moves: deque[int] = field(default_factory=lambda: deque(maxlen=64))  # frames in which the face was seen to move
    patch: tuple[tuple[slice, slice], np.ndarray] | None = None  # a place in the pane, and what it looked like

    def sighted(self, frame: int, box: Box, score: float, min_score: float) -> None:
        self.box, self.last_frame, self.out_of_sight = box, frame, False
        self.convinced_by(score, min_score)

    def convinced_by(self, score: float, min_score: float) -> None:
        self.scores.append(score)
        if len(self.scores) == self.scores.maxlen:
            self.believed |= sum(self.scores) >= min_score * len(self.scores)

    def watch(self, frame: int, rgb_HWC: np.ndarray) -> None:
        """Has the place of the face changed, other than as a whole, since it was noted?"""
        if self.patch is not None and np.abs(_grey_patch(rgb_HWC, self.patch[0]) - self.patch[1]).max() > MOVED:
            self.moves.append(frame)

    def note(self, rgb_HWC: np.ndarray, box: Box) -> None:
        height, width = rgb_HWC.shape[:2]
        top, bottom = max(round(box.y), 0), min(round(box.y + box.h), height)
        left, right = max(round(box.x), 0), min(round(box.x + box.w), width)
        if bottom - top < PATCH // 2 or right - left < PATCH // 2:
            self.patch = None
            return
        step_y, step_x = max(1, (bottom - top) // (4 * PATCH)), max(1, (right - left) // (4 * PATCH))
        place = (slice(top, bottom, step_y), slice(left, right, step_x))
        self.patch = (place, _grey_patch(rgb_HWC, place))


def _grey_patch(rgb_HWC: np.ndarray, place: tuple[slice, slice]) -> np.ndarray:
    """Grey levels about their mean: the light of a screen comes and goes on posters too."""
    grey = cv2.cvtColor(np.ascontiguousarray(rgb_HWC[place]), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (PATCH, PATCH), interpolation=cv2.INTER_AREA).astype(np.float32)
    return small - small.mean()


@dataclass(frozen=True)
class _Seen:
    track: _Track
    box: Box
    score: float
    source: str


@dataclass
class _Moment:
    """One frame on its way through the stages below, with what is known about it so far."""

    frame: int
    time_s: float
    rgb_HWC: np.ndarray
    shot: int
    seen: dict[int, _Seen] = field(default_factory=dict)  # by number of the track


def _observe(frames, place: _Place, config: Config, fps: float, masked: Sequence[Box], cuts) -> Iterator[_Moment]:
    """Stage one, without looking ahead: cuts, detections, trackers."""
    every = {
        name: max(1, round(seconds * fps))
        for name, seconds in (
            ("detect", config.detect_every_s),
            ("search", config.search_every_s),
            ("follow", config.follow_every_s if config.tracker == "mtcnn" else 0.0),
        )
    }
    # how many sightings make half a second, not more than are seen before the first of them must be handed on
    life = min(config.max_gap, round(config.min_track_s * fps)) // every["follow"] + 1
    cutter, people, shot, last = CutDetector(), _People(place, config, masked, life, every["follow"]), 0, None
    unasked: list[_Moment] = []  # since the trackers or the detector were last asked
    recent: deque[_Moment] = deque(maxlen=config.max_gap)  # of this shot; none of them is handed on yet
    for frame, time_s, rgb_HWC in frames:
        # a frame that was due but is missing from a damaged file is made good by the next one
        due = {name: last is None or frame // step > last // step for name, step in every.items()}
        cut = cutter.is_cut(thumbnail(rgb_HWC)) if cuts is None else frame in cuts
        shot += cut
        if cut:
            recent.clear()
        people.forget(frame)
        if due["search"]:
            people.watch(frame, rgb_HWC, cut)
        moment = _Moment(frame, time_s, rgb_HWC, shot)
        if due["detect"] or cut or (due["search"] and people.anyone_missing()):
            people.detect(moment, unasked, recent, cut, fill=due["detect"])
            unasked = []
        elif due["follow"] or people.anyone_lost():
            people.follow(moment, unasked)
            unasked = []
        else:
            unasked.append(moment)
        last = frame
        recent.append(moment)
        yield moment


class _People:
    """Who is in the pane just now."""

    def __init__(self, place: _Place, config: Config, masked: Sequence[Box], life: int, step: int):
        self._place, self._config, self._masked, self._life, self._step = place, config, masked, life, step
        self._tracks: list[_Track] = []
        self._num_tracks = 0
        self._asked: int | None = None  # the frame for which trackers or detector were last asked

    def forget(self, frame: int) -> None:
        """End the tracks whose gap has become too long."""
        self._tracks = [track for track in self._tracks if frame - track.last_frame <= self._config.max_gap + 1]

    def watch(self, frame: int, rgb_HWC: np.ndarray, cut: bool) -> None:
        for track in self._tracks:
            if not cut:
                track.watch(frame, rgb_HWC)
            track.note(rgb_HWC, self._place.to_pane(track.box))

    def anyone_missing(self) -> bool:
        """Nobody is there, or somebody was not found when last looked for."""
        return not self._tracks or any(track.last_frame != self._asked for track in self._tracks)

    def anyone_lost(self) -> bool:
        """Somebody in the shot was not found when last looked for: the frame of the return counts for the gap."""
        return any(track.last_frame != self._asked and not track.out_of_sight for track in self._tracks)

    def follow(self, moment: _Moment, unasked: Sequence[_Moment]) -> None:
        """Ask the trackers, and write into the moment who was found; `unasked` are those since they were asked last."""
        in_sight = [track for track in self._tracks if not track.out_of_sight]
        seen = [one for track in in_sight if (one := self._found_again(track, moment, unasked))]
        self._asked = moment.frame
        moment.seen = {one.track.number: one for one in self._apart(seen)}

    def _found_again(
        self, track: _Track, moment: _Moment, unasked: Sequence[_Moment], check: bool = False
    ) -> _Seen | None:
        """A face that was followed up to now; where it is lost, the last moments before are asked after all."""
        followed = self._checked if check else self._followed
        was_there = track.last_frame == self._asked
        one = followed(track, moment.frame, moment.rgb_HWC)
        if one is None and was_there:
            self._look_back(track, unasked)
        return one

    def _look_back(self, track: _Track, unasked: Sequence[_Moment]) -> None:
        for earlier in unasked:
            before = self._followed(track, earlier.frame, earlier.rgb_HWC)
            if before is None:
                break
            earlier.seen[track.number] = before

    def _followed(self, track: _Track, frame: int, rgb_HWC: np.ndarray) -> _Seen | None:
        found = track.tracker.update(rgb_HWC)
        if found is None or self._hidden(box := self._place.to_picture(found[0])):
            return None
        score = found[1] if found[1] is not None else track.scores[-1]
        track.sighted(frame, box, score, self._config.min_score)
        return _Seen(track, box, score, TRACKED)

    def _apart(self, seen: list[_Seen]) -> list[_Seen]:
        """Two tracks on one face: the younger one is not believed, and ends."""
        kept: list[_Seen] = []
        for one in sorted(seen, key=lambda one: one.track.number):
            if all(one.box.iou(other.box) < 0.5 for other in kept):
                kept.append(one)
            else:
                self._tracks.remove(one.track)
        return kept

    def detect(
        self, moment: _Moment, unasked: Sequence[_Moment], recent: Sequence[_Moment], cut: bool, fill: bool
    ) -> None:
        """Search the pane and tell who is who. Whoever is not found is followed, but not across a cut.

        Whoever is new is looked for in the `recent` moments of the shot as well: the search may have missed a face there.
        """
        frame, rgb_HWC = moment.frame, moment.rgb_HWC
        if cut:
            for track in self._tracks:
                if track.last_frame == self._asked and not track.out_of_sight:
                    self._look_back(track, unasked)
        faces = self._search(rgb_HWC, fill)
        colours = [describe_colours(rgb_HWC, face.box) for face in faces]
        boxes = [self._place.to_picture(face.box) for face in faces]
        known = [(track.box, track.colours, cut or track.out_of_sight) for track in self._tracks]
        pairs = match_people(known, list(zip(boxes, colours, strict=True)))
        found = {self._tracks[i]: k for i, k in pairs}
        seen = []
        for track in self._tracks:
            track.out_of_sight |= cut
            if track in found:
                k = found[track]
                track.colours = colours[k]
                track.num_cuts += track.out_of_sight
                track.sighted(frame, boxes[k], faces[k].score, self._config.min_score)
                track.tracker.start(rgb_HWC, faces[k].box)
                seen.append(_Seen(track, boxes[k], faces[k].score, DETECTED))
            elif not track.out_of_sight and (one := self._found_again(track, moment, unasked, check=True)):
                seen.append(one)
        self._asked = frame
        seen = self._apart(seen)
        for k in set(range(len(faces))) - set(found.values()):
            taken = any(boxes[k].iou(one.box) > SAME_IOU for one in seen)
            if not taken:
                seen.append(self._begin(frame, rgb_HWC, faces[k], boxes[k], colours[k]))
                self._trace_back(seen[-1], recent)
        moment.seen = {one.track.number: one for one in seen}

    def _checked(self, track: _Track, frame: int, rgb_HWC: np.ndarray) -> _Seen | None:
        """Follow a face that the search has missed, if MTCNN's last network still takes it for one."""
        one = self._followed(track, frame, rgb_HWC)
        if one is None or self._config.tracker == "mtcnn":
            return one
        face = detector.look(rgb_HWC, [self._place.to_pane(one.box)])[0]
        return one if face.score >= self._config.keep_score else None

    def _begin(self, frame: int, rgb_HWC: np.ndarray, face: Face, box: Box, colours: np.ndarray) -> _Seen:
        tracker = make_tracker(self._config.tracker, self._config.keep_score)
        tracker.start(rgb_HWC, face.box)
        scores: deque[float] = deque(maxlen=self._life)
        track = _Track(self._num_tracks, tracker, colours, box, frame, frame, scores)
        track.sighted(frame, box, face.score, self._config.min_score)
        self._num_tracks += 1
        self._tracks.append(track)
        return _Seen(track, box, face.score, DETECTED)

    def _trace_back(self, found: _Seen, recent: Sequence[_Moment]) -> None:
        box = found.box
        for back, earlier in enumerate(reversed(recent), 1):
            face = detector.look(earlier.rgb_HWC, [self._place.to_pane(box)])[0]
            before = self._place.to_picture(face.box)
            known = any(one.box.iou(before) > SAME_IOU for one in earlier.seen.values())
            if face.score < self._config.keep_score or before.iou(box) < SAME_IOU or known or self._hidden(before):
                break
            box, found.track.first_frame = before, earlier.frame
            earlier.seen[found.track.number] = _Seen(found.track, box, face.score, TRACKED)
            if back % self._step == 0:
                found.track.convinced_by(face.score, self._config.min_score)

    def _search(self, rgb_HWC: np.ndarray, fill: bool) -> list[Face]:
        """Faces in pixels of the pane's picture, from a search in a smaller one and a look in this one."""
        config = self._config
        shrink = min(1.0, config.search_px / np.sqrt(rgb_HWC.shape[0] * rgb_HWC.shape[1]))
        small = rgb_HWC
        if shrink < 1:
            small = cv2.resize(rgb_HWC, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        faces = detector.detect_faces(small, config.min_face_px, config.keep_score)
        if not faces and fill:
            faces = self._filled(small)
        grown = [replace(face, box=_grown(face.box, 1 / shrink)) for face in faces]
        return [face for face in grown if not self._hidden(self._place.to_picture(face.box))]

    def _filled(self, small_HWC: np.ndarray) -> list[Face]:
        """What dlib finds where MTCNN finds nothing, unless MTCNN's last network flatly denies it."""
        faces = detector.detect_faces_hog(small_HWC)
        looks = detector.look(small_HWC, [face.box for face in faces]) if faces else []
        return [
            replace(face, score=max(face.score, look.score))
            for face, look in zip(faces, looks, strict=True)
            if look.score >= self._config.keep_score / 2
        ]

    def _hidden(self, box: Box) -> bool:
        pane = self._place.pane
        if pane.shape == "round":  # its corners show something else
            x, y = np.subtract(box.centre, pane.box.centre) / (pane.w / 2, pane.h / 2)
            if x * x + y * y > 1:
                return True
        return any(box.intersection(area) > 0.5 * box.w * box.h for area in self._masked)


def _grown(box: Box, factor: float) -> Box:
    return Box(x=box.x * factor, y=box.y * factor, w=box.w * factor, h=box.h * factor)


COLOUR_ZONES = ((0.05, 0.1, 0.95, 1.0), (0.0, -0.3, 1.0, 0.1), (-0.4, 1.1, 1.4, 1.7))  # face, hair, clothes; in boxes
COLOUR_BINS = (4, 16, 16)
COLOUR_RANGE = (0, 256, 104, 168, 96, 176)  # Lab; skin, hair and cloth lie in the middle of the chroma plane


def describe_colours(rgb_HWC: np.ndarray, box: Box) -> np.ndarray:
    """What a person looks like from afar: the root of a histogram of colours a zone, zero where a zone is not seen."""
    height, width = rgb_HWC.shape[:2]
    roots = np.zeros((len(COLOUR_ZONES), *COLOUR_BINS), np.float32)
    for root, (x1, y1, x2, y2) in zip(roots, COLOUR_ZONES, strict=True):
        left, right = max(round(box.x + x1 * box.w), 0), min(round(box.x + x2 * box.w), width)
        top, bottom = max(round(box.y + y1 * box.h), 0), min(round(box.y + y2 * box.h), height)
        if right - left < 4 or bottom - top < max(4, (y2 - y1) * box.h / 4):
            continue
        step = max(1, (right - left) // 32)
        lab = cv2.cvtColor(np.ascontiguousarray(rgb_HWC[top:bottom:step, left:right:step]), cv2.COLOR_RGB2LAB)
        histogram = cv2.calcHist([lab], [0, 1, 2], None, list(COLOUR_BINS), list(COLOUR_RANGE))
        for axis in range(3):  # a colour at the edge of a bin belongs to both
            histogram = np.moveaxis(histogram, axis, 0)
            padded = np.concatenate([histogram[:1], histogram, histogram[-1:]])
            histogram = np.moveaxis(padded[:-2] / 4 + histogram / 2 + padded[2:] / 4, 0, axis)
        root[:] = np.sqrt(histogram / max(histogram.sum(), 1e-6))
    return roots.reshape(len(COLOUR_ZONES), -1)


def colour_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Hellinger distance of two descriptions, 0 to 1, over the two most alike zones: a hand may hide the third."""
    overlaps = sorted(float(x @ y) for x, y in zip(a, b, strict=True) if x.any() and y.any())[-2:]
    return math.sqrt(max(0.0, 1 - sum(overlaps) / len(overlaps))) if overlaps else 1.0


def match_people(
    known: Sequence[tuple[Box, np.ndarray, bool]], found: Sequence[tuple[Box, np.ndarray]]
) -> list[tuple[int, int]]:
    """Who is who: pairs (known, found), at most one each, from places and colours.

    Within a shot the place decides, and colours for one who has moved. For those of whom the flag says that they may be
    anywhere (after a cut) colours decide, the place breaks ties, and whoever looks like nobody known stays unpaired.
    """
    refused = 10.0
    costs = np.full((len(known), len(found)), refused)
    for i, (box, colours, anywhere) in enumerate(known):
        for k, (other, other_colours) in enumerate(found):
            apart = np.hypot(*np.subtract(box.centre, other.centre)) / max(box.h, other.h)
            distance = colour_distance(colours, other_colours)
            here = box.iou(other) >= SAME_IOU
            if here and not anywhere and distance < UNLIKE:
                costs[i, k] = 1 - box.iou(other)
            elif distance < (ALIKE_HERE if here else ALIKE) and (anywhere or apart < NEAR):
                costs[i, k] = 1 + distance + 0.1 * min(apart, 3.0)
    rows, columns = linear_sum_assignment(costs)
    return [(int(i), int(k)) for i, k in zip(rows, columns, strict=True) if costs[i, k] < refused]


def _fill_gaps(moments: Iterable[_Moment], config: Config, fps: float) -> Iterator[_Moment]:
    """Stage two: the frames between two sightings of one person."""
    step = max(1, round(config.follow_every_s * fps)) if config.tracker == "mtcnn" else 1
    ahead = max(config.max_gap + 1, round(LOOK_AHEAD_S * fps))
    waiting: deque[_Moment] = deque()
    for moment in moments:
        if waiting and moment.shot != waiting[-1].shot:
            _hold_to_the_end(waiting, step)
        for number, now in moment.seen.items():
            _fill_back(waiting, moment, number, now, step)
        waiting.append(moment)
        if moment.frame - waiting[0].frame > ahead:
            yield waiting.popleft()
    _hold_to_the_end(waiting, step)
    yield from waiting


def _fill_back(waiting: Sequence[_Moment], moment: _Moment, number: int, now: _Seen, step: int) -> None:
    """Put the person into the frames since she or he was seen last; where a cut has moved her, not in between."""
    between: list[_Moment] = []
    for earlier in reversed(waiting):
        if (before := earlier.seen.get(number)) is not None:
            break
        between.append(earlier)
    else:
        return
    gap = moment.frame - earlier.frame
    old, new = (np.array([box.x, box.y, box.w, box.h]) for box in (before.box, now.box))
    moved_by_cut = earlier.shot != moment.shot and before.box.iou(now.box) < SAME_IOU
    for there in between:
        share = (there.frame - earlier.frame) / gap
        if moved_by_cut:
            share = 0.0 if there.shot == earlier.shot else 1.0
        x, y, w, h = (old + share * (new - old)).tolist()
        source = TRACKED if gap <= step else INTERPOLATED
        score = min(before.score, now.score)
        there.seen[number] = _Seen(now.track, Box(x=x, y=y, w=w, h=h), score, source)


def _hold_to_the_end(waiting: Sequence[_Moment], step: int) -> None:
    """The last frames of a shot, after the last one in which the trackers were asked."""
    tail = [moment for moment in waiting if waiting[-1].frame - moment.frame < step and moment.shot == waiting[-1].shot]
    for earlier, later in pairwise(tail):
        for number, one in earlier.seen.items():
            later.seen.setdefault(number, replace(one, source=TRACKED))


def _drop_decoys(moments: Iterable[_Moment], pane: Pane, config: Config, fps: float) -> Iterator[_Moment]:
    """Stage three: only people remain. What the tracks have learnt since (the stage before looks ahead) counts.

    Prints on clothes do not convince MTCNN for long; pictures on walls convince it, but do not move. Somebody new who
    has not moved yet gets the benefit of the doubt, unless somebody who does move is there. In the rectangle around a
    person without a pane edge, which shows the stimulus as well, there is one person: who outlives its cuts.
    """
    still, at_first = round(config.still_s * fps), round(config.search_every_s * fps)
    chosen: _Track | None = None
    for moment in moments:
        tracks = [one.track for one in moment.seen.values() if one.track.believed]
        for track in tracks:
            age = moment.frame - track.first_frame
            moves = sum(frame > moment.frame - still for frame in track.moves)
            if moves >= (1 if age <= at_first else MOVES):
                track.lively = True
            elif age >= still:
                track.lively = False
        people = [track for track in tracks if track.lively]
        people = people or [track for track in tracks if moment.frame - track.first_frame < still]
        if pane.shape == "cutout" and people:
            most = max(track.num_cuts for track in people)
            if chosen not in people or chosen.num_cuts < most:
                chosen = max((t for t in people if t.num_cuts == most), key=lambda t: _prominence(t.box, pane))
            people = [chosen]
        yield replace(moment, seen={track.number: moment.seen[track.number] for track in people})


def _prominence(box: Box, pane: Pane) -> float:
    """Large and in the middle of the pane's width."""
    aside = abs(box.centre[0] - pane.box.centre[0]) / (pane.w / 2)
    return box.h * (1 - 0.7 * min(aside, 1.0))


def _smooth_boxes(moments: Iterable[_Moment], radius: int) -> Iterator[_Moment]:
    """Stage four: each box becomes a weighted mean of those around it, of the same person in the same shot."""
    for around, here in _windows(moments, radius):
        smooth = {}
        for number, one in here.seen.items():
            boxes = [
                (radius + 1 - abs(offset), moment.seen[number].box)
                for offset, moment in around
                if moment.shot == here.shot and number in moment.seen
            ]
            rows = [(box.x, box.y, box.w, box.h) for _, box in boxes]
            x, y, w, h = _weighed(rows, [weight for weight, _ in boxes]).tolist()
            smooth[number] = replace(one, box=_rounded(Box(x=x, y=y, w=w, h=h)))
        # the windows to come need the boxes as they were
        yield _Moment(here.frame, here.time_s, here.rgb_HWC, here.shot, smooth)


def _weighed(rows: Sequence, weights: Sequence[int]) -> np.ndarray:
    return np.asarray(weights, float) @ np.asarray(rows, float) / sum(weights)


def _windows(items: Iterable, radius: int) -> Iterator[tuple[list[tuple[int, Any]], Any]]:
    """Each item with its neighbours up to `radius` places away, as (offset, item)."""
    nobody = object()
    held: deque = deque([nobody] * (radius + 1), maxlen=2 * radius + 1)
    for item in chain(items, [nobody] * radius):
        held.append(item)
        if len(held) == held.maxlen and held[radius] is not nobody:
            yield [(k - radius, one) for k, one in enumerate(held) if one is not nobody], held[radius]


def _describe(moments, place: _Place, radius: int, crop_px: int) -> Iterator[tuple[_Moment, list[FollowedFace]]]:
    """Stage five: landmarks and pose on every frame, and a crop that does not tremble."""
    pane, scale = place.pane, place.scale

    def measured() -> Iterator[tuple[_Moment, dict]]:
        moments_left = iter(moments)
        while burst := list(islice(moments_left, BURST)):
            points = [
                {
                    number: landmarks.find_landmarks(moment.rgb_HWC, place.to_pane(one.box)) / scale + (pane.x, pane.y)
                    for number, one in moment.seen.items()
                }
                for moment in burst
            ]
            for moment, of_faces in zip(burst, points, strict=True):
                yield moment, {n: (points_68x2, landmarks.align(points_68x2)) for n, points_68x2 in of_faces.items()}

    into_picture = np.array([[1 / scale, 0, pane.x], [0, 1 / scale, pane.y], [0, 0, 1]])
    for around, (moment, measures) in _windows(measured(), radius):
        faces = []
        for number, one in moment.seen.items():
            same = [
                (radius + 1 - abs(offset), other[number][1])
                for offset, (there, other) in around
                if there.shot == moment.shot and number in other
            ]
            alignment = _weighed([row for _, row in same], [weight for weight, _ in same])
            matrix = landmarks.crop_matrix(alignment, crop_px)
            points_68x2 = measures[number][0].astype(np.float32)
            yaw, pitch, roll = head_pose(points_68x2)
            crop = landmarks.warp(moment.rgb_HWC, matrix @ into_picture, crop_px) if crop_px else None
            faces.append(
                FollowedFace(
                    track=number,
                    box=one.box,
                    source=one.source,
                    score=one.score,
                    landmarks_68x2=points_68x2,
                    yaw=yaw,
                    pitch=pitch,
                    roll=roll,
                    crop_matrix_2x3=matrix,
                    crop_HWC=crop,
                )
            )
        yield moment, faces
