"""Barrier 1, for one video: tracks of its segments become people, people become subjects, one of them the major one.

Pure functions on `Track`s; what reads and writes files is in `clips`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from reactionnet_pipeline.records import Box, Pane

MIN_OVERLAP_IOU = 0.5  # mean over the frames that two segments share
MAJOR_RULE = "sha256 among those seen at least half as long as the longest seen"


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """One face followed without a break. `rows` point into the part's table; boxes (N, 4) are x, y, w, h.

    `span` and `pane` say where in the layout; `own` marks frames that its segment writes, the others are padding.
    """

    span: int
    pane: int
    part: int
    frames: np.ndarray
    boxes: np.ndarray
    own: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Person:
    """All stitched chains of tracks of one person, in time order; a chain is a run without a break."""

    chains: tuple[tuple[Track, ...], ...]

    @property
    def num_frames(self) -> int:
        return sum(int(track.own.sum()) for chain in self.chains for track in chain)


def stitch(tracks: Sequence[Track]) -> list[tuple[Track, ...]]:
    """Chains of tracks that go on across segment borders, matched by the frames that both segments decoded."""
    by_part: dict[tuple[int, int, int], list[Track]] = defaultdict(list)
    for track in tracks:
        by_part[track.span, track.pane, track.part].append(track)
    chains: list[list[Track]] = []
    for span, pane, part in sorted(by_part):
        before = [
            chain for chain in chains if (chain[-1].span, chain[-1].pane, chain[-1].part) == (span, pane, part - 1)
        ]
        here = by_part[span, pane, part]
        match = _matches(before, here)
        for number, track in enumerate(here):
            if number in match:
                before[match[number]].append(track)
            else:
                chains.append([track])
    # a track that lies in the padding alone was written by the neighbour
    written = [tuple(track for track in chain if track.own.any()) for chain in chains]
    return sorted((chain for chain in written if chain), key=_start)


def chain_id(chain: Sequence[Track]) -> str:
    """Tells the chains of a video apart: span, pane, first frame, and the face's left edge there."""
    frame, span, pane, left = _start(chain)
    return f"{span}-{pane}-{frame}-{left:g}"


def _start(chain: Sequence[Track]) -> tuple:
    first = chain[0]
    frame = int(first.frames[first.own][0])
    return (frame, first.span, first.pane, float(first.boxes[first.own][0][0]))


def _matches(before: Sequence[Sequence[Track]], here: Sequence[Track]) -> dict[int, int]:
    if not before or not here:
        return {}
    overlap = np.array([[_mean_iou(chain[-1], track) for chain in before] for track in here])
    rows, columns = linear_sum_assignment(-overlap)
    return {int(r): int(c) for r, c in zip(rows, columns, strict=True) if overlap[r, c] >= MIN_OVERLAP_IOU}


def _mean_iou(a: Track, b: Track) -> float:
    _, in_a, in_b = np.intersect1d(a.frames, b.frames, return_indices=True)
    if not in_a.size:
        return 0.0
    return float(np.mean([as_box(p).iou(as_box(q)) for p, q in zip(a.boxes[in_a], b.boxes[in_b], strict=True)]))


def as_box(numbers: Sequence[float]) -> Box:
    """x, y, w, h as a `Box`."""
    x, y, w, h = (float(n) for n in numbers)
    return Box(x=x, y=y, w=w, h=h)


def people(chains: Sequence[tuple[Track, ...]], panes_of_span: Mapping[int, Sequence[Pane]]) -> list[Person]:
    """Who is who over the whole video, in reading order of the first span with the most people.

    Within a span, chains of one pane that never overlap in time and lie nearest together are one person. Across spans a
    lone person stays the same; several are matched by reading order where their numbers agree, else by their pane, and in
    one pane by reading order.
    """
    per_span = {
        span: _reading_order([p for pane in sorted({c[0].pane for c in found}) for p in _of_pane(found, pane)])
        for span in sorted({chain[0].span for chain in chains})
        for found in [[chain for chain in chains if chain[0].span == span]]
    }
    if not per_span:
        return []
    fullest = min(per_span, key=lambda span: (-len(per_span[span]), span))
    known = [list(person) for person in per_span[fullest]]
    panes = [_pane_box(person[0], panes_of_span) for person in per_span[fullest]]
    for span, persons in per_span.items():
        if span == fullest:
            continue
        taken: set[int] = set()  # two people of one span are never one
        for number, person in enumerate(persons):
            box = _pane_box(person[0], panes_of_span)
            same = number if len(persons) == len(per_span[fullest]) else _same_pane(box, panes, taken)
            if same is None:
                same = len(known)
                known.append([])
                panes.append(box)
            known[same] += person
            taken.add(same)
    return [Person(chains=tuple(sorted(chains, key=_start))) for chains in known]


def _of_pane(chains: Sequence[tuple[Track, ...]], pane: int) -> list[list[tuple[Track, ...]]]:
    """Chains of one pane grouped by person: the nearest earlier person who is not on screen at the same time."""
    persons: list[list[tuple[Track, ...]]] = []
    for chain in sorted((c for c in chains if c[0].pane == pane), key=_start):
        free = [person for person in persons if _last_frame(person[-1]) < _start(chain)[0]]
        if free:
            min(free, key=lambda person: _distance(person[-1], chain)).append(chain)
        else:
            persons.append([chain])
    return persons


def _last_frame(chain: Sequence[Track]) -> int:
    return int(chain[-1].frames[chain[-1].own][-1])


def _distance(before: Sequence[Track], after: Sequence[Track]) -> float:
    """Between the last box of one and the first of the other, in face widths."""
    a = as_box(before[-1].boxes[before[-1].own][-1])
    b = as_box(after[0].boxes[after[0].own][0])
    return float(np.hypot(a.centre[0] - b.centre[0], a.centre[1] - b.centre[1])) / max(a.w, b.w)


def _reading_order(persons: list[list[tuple[Track, ...]]]) -> list[list[tuple[Track, ...]]]:
    """Rows from the top, in each row from the left; a row is as high as a face."""
    middle = {id(p): np.median(np.concatenate([t.boxes for chain in p for t in chain]), axis=0) for p in persons}
    by_top = sorted(persons, key=lambda p: middle[id(p)][1])
    rows: list[list] = []
    for person in by_top:
        y, h = middle[id(person)][1], middle[id(person)][3]
        if rows and y - middle[id(rows[-1][0])][1] < max(h, middle[id(rows[-1][0])][3]):
            rows[-1].append(person)
        else:
            rows.append([person])
    return [person for row in rows for person in sorted(row, key=lambda p: middle[id(p)][0])]


def _pane_box(chain: Sequence[Track], panes_of_span: Mapping[int, Sequence[Pane]]) -> Box:
    return panes_of_span[chain[0].span][chain[0].pane].box


def _same_pane(box: Box, panes: Sequence[Box], taken: Collection[int]) -> int | None:
    overlap = [0.0 if number in taken else box.iou(other) for number, other in enumerate(panes)]
    best = int(np.argmax(overlap))
    return best if overlap[best] >= 0.8 else None


def name_subjects(persons: Sequence[Person], video_id: str, subject_ids: Sequence[str]) -> list[str]:
    """A subject id for each person. Ids of the manifest go by reading order where their number is that of the people.

    One id goes to the person seen longest. Where the numbers differ otherwise nobody is guessed: such people get ids that
    hold in this video only, `{video_id}#1`, ...
    """
    own = [f"{video_id}#{number}" for number in range(1, len(persons) + 1)]
    if not subject_ids or not persons:
        return own
    if len(subject_ids) == len(persons):
        return list(subject_ids)
    longest = sorted(range(len(persons)), key=lambda number: (-persons[number].num_frames, number))
    if len(persons) > len(subject_ids):
        named = sorted(longest[: len(subject_ids)])
        for number, subject in zip(named, subject_ids, strict=True):
            own[number] = subject
    return own


def regrouped(persons: Sequence[Person], chains_of: Sequence[Sequence[str]]) -> list[Person]:
    """The same chains, put together as `chains_of` (ids, one list a person) says."""
    by_id = {chain_id(chain): chain for person in persons for chain in person.chains}
    return [Person(chains=tuple(sorted((by_id[name] for name in names), key=_start))) for names in chains_of]


def choose_major(names: Sequence[str], persons: Sequence[Person], video_id: str) -> list[int]:
    """Persons in the order in which they are chosen as a clip's subject: seeded by the video, the long-seen first."""
    most = max((person.num_frames for person in persons), default=0)

    def rank(number: int) -> tuple:
        seeded = hashlib.sha256(f"{video_id}:{names[number]}".encode()).hexdigest()
        return (persons[number].num_frames * 2 < most, seeded)

    return sorted(range(len(persons)), key=rank)


def runs(frames: np.ndarray) -> list[slice]:
    """Slices of consecutive frame numbers."""
    edges = np.nonzero(np.diff(frames) != 1)[0] + 1
    return [slice(int(a), int(b)) for a, b in zip([0, *edges], [*edges, len(frames)], strict=True) if b > a]
