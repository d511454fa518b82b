"""How well a built data set agrees with a ground truth: outcomes, panes, layout changes, faces, subjects.

`measure(read_truth(videos), read_built(dataset))` gives one `VideoAccuracy` a video, `summary` the totals, `table` both
for the terminal. The truth has the form "reaction-video-ground-truth/1". Truth role "face" is the tables' "reaction".

- Panes are matched one to one, by the largest sum of IoUs, in each span of the true layout; a missing pane has IoU 0.
- Faces: each row of `frames` within half a frame of a truth sample is held against the reactors' boxes of that sample.
  Coverage is the share of the followed person's samples (at least half visible) that have a row with IoU >= 0.5.
- A row is on nobody when its IoU with every reactor is below 0.2, or when a face of the stimulus fits it better.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from reactionnet_pipeline.errors import Code
from reactionnet_pipeline.records import REACTION, STIMULUS, Box, Pane

FITTING = {  # the codes that say what a truth's plain reason says; a reason that is a code in small letters fits itself
    "no_stimulus": {Code.NO_LAYOUT},
    "no_face": {Code.NO_FACE},
    "corrupt_or_truncated": {Code.TRUNCATED, Code.UNREADABLE, Code.DAMAGED, Code.NOT_A_VIDEO},
    "empty_file": {Code.EMPTY_FILE},
    "static_video": {Code.STATIC_PICTURE},
    "not_a_video": {Code.NOT_A_VIDEO, Code.UNREADABLE, Code.NO_VIDEO},
    "audio_only": {Code.NO_VIDEO},
}
SAME_FACE, NOBODY = 0.5, 0.2  # IoU
VISIBLE = 0.5  # a face hidden by more than this is not asked for
CHANGE_LIMIT_S = 0.3
MATCH = 0.1  # IoU below which two panes are not the same pane


@dataclass(frozen=True, kw_only=True)
class FaceRow:
    """What `frames` says about the face at one time."""

    subject_id: str
    clip_id: str
    t_s: float
    box: Box


@dataclass(frozen=True, kw_only=True)
class Built:
    """The parts of a built data set that the truth speaks of, by video."""

    panes: Mapping[str, Sequence[Pane]]
    faces: Mapping[str, Sequence[FaceRow]]
    refusals: Mapping[str, Sequence[Code]]  # of what was lost altogether


@dataclass(frozen=True, kw_only=True)
class Panes:
    """`ious` has one entry a true pane and span, 0 where it was not found."""

    ious: tuple[float, ...] = ()
    roles_right: int = 0
    missing: int = 0
    spare: int = 0
    change_errors_s: tuple[float, ...] = ()  # inf for a change that was not found
    spare_changes: int = 0


@dataclass(frozen=True, kw_only=True)
class Faces:
    required: int = 0  # samples of the followed person
    covered: int = 0
    required_with_stimulus: int = 0  # of these, at times when a stimulus is shown
    covered_with_stimulus: int = 0
    rows: int = 0  # rows beside a truth sample
    rows_on_nobody: int = 0
    switches: int = 0  # subjects and clips whose rows are on more than one person
    subjects: frozenset[tuple[str, str]] = frozenset()  # (subject_id, person that its rows are on)


@dataclass(frozen=True, kw_only=True)
class VideoAccuracy:
    video_id: str
    layout: str
    expected: str  # ok, or the reason for refusal
    outcome: str  # built, absent, or the codes of the refusal
    right: bool
    panes: Panes = Panes()
    faces: Faces = Faces()

    @property
    def measured(self) -> bool:
        """Whether there are panes and faces to compare."""
        return self.expected == "ok"


# Reading ------------------------------------------------------------------------------------------------------------


def read_truth(folder: Path) -> list[dict]:
    """The records of `ground_truth.json`, one a video."""
    return json.loads((folder / "ground_truth.json").read_text())["videos"]


def read_built(folder: Path) -> Built:
    """Layouts, faces and refusals of a data set. Raises FileNotFoundError where no data set was published."""
    (folder / "dataset.json").stat()
    panes, faces, refusals = defaultdict(list), defaultdict(list), defaultdict(list)
    for row in _rows(folder, "layouts", ["role", "x", "y", "w", "h", "start_s", "end_s", "confidence", "shape", "z"]):
        panes[row.pop("video_id")].append(Pane(**row))
    for row in _rows(folder, "frames", ["subject_id", "clip_id", "t_s", "face_x", "face_y", "face_w", "face_h"]):
        if row["face_x"] is None:
            continue
        box = Box(x=row["face_x"], y=row["face_y"], w=row["face_w"], h=row["face_h"])
        faces[row["video_id"]].append(
            FaceRow(subject_id=row["subject_id"], clip_id=row["clip_id"], t_s=row["t_s"], box=box)
        )
    for letter in map(json.loads, (folder / "dead_letters.jsonl").read_text().splitlines()):
        if not letter["kept"]:
            refusals[letter["video_id"]].append(Code(letter["code"]))
    return Built(panes=panes, faces=faces, refusals=refusals)


def _rows(folder: Path, table: str, columns: list[str]) -> list[dict]:
    return pq.read_table(folder / "tables" / f"{table}.parquet", columns=["video_id", *columns]).to_pylist()


# Outcomes -----------------------------------------------------------------------------------------------------------


def fitting(reason: str) -> set[Code]:
    """Codes that say the same as a truth's reason for refusal. Raises ValueError for a reason that nobody knows."""
    if reason in FITTING:
        return FITTING[reason]
    if reason.upper() in Code.__members__:
        return {Code(reason.upper())}
    raise ValueError(f'no code is known to say "{reason}": add it to FITTING')


def measure(truths: Iterable[dict], built: Built) -> list[VideoAccuracy]:
    """One entry a true video, in the truth's order."""
    return [measure_video(truth, built) for truth in truths]


def measure_video(truth: dict, built: Built) -> VideoAccuracy:
    """Compare one video with what was built of it."""
    video_id, rows = truth["video_id"], built.faces.get(truth["video_id"], [])
    codes = built.refusals.get(video_id, [])
    expected = "ok" if truth["expected"] == "ok" else truth["expected_failure_reason"]
    refused = not rows and bool(codes) and set(codes) <= fitting(expected) if expected != "ok" else False
    right = refused or (expected == "ok" and bool(rows) and not codes)
    outcome = ", ".join(sorted(codes)) or ("built" if rows else "absent")
    panes, faces = Panes(), Faces()
    if expected == "ok":
        panes, faces = compare_panes(truth, built.panes.get(video_id, [])), compare_faces(truth, rows)
    return VideoAccuracy(
        video_id=video_id,
        layout=truth["layout_class"],
        expected=expected,
        outcome=outcome,
        right=right,
        panes=panes,
        faces=faces,
    )


# Panes --------------------------------------------------------------------------------------------------------------


def compare_panes(truth: dict, found: Sequence[Pane]) -> Panes:
    """Panes of each true span, one to one, and the times at which the layout changes."""
    ious, roles_right, missing, spare = [], 0, 0, 0
    spans = _true_spans(truth)
    for start_s, end_s, panes in spans:
        shown = [pane for pane in found if _shown(pane, start_s, end_s)]
        table = np.array([[_pane_box(true).iou(pane.box) for pane in shown] for true in panes]).reshape(len(panes), -1)
        pairs = [(r, c) for r, c in zip(*linear_sum_assignment(-table), strict=True) if table[r, c] >= MATCH]
        ious += [float(table[pair]) for pair in pairs] + [0.0] * (len(panes) - len(pairs))
        roles_right += sum(_role(panes[row]["role"]) == shown[column].role for row, column in pairs)
        missing += len(panes) - len(pairs)
        spare += len(shown) - len(pairs)
    changes = [start_s for start_s, _, _ in spans[1:]]
    ends = [time for pane in found for time in (pane.start_s, pane.end_s)]
    found_changes = sorted({time for time in ends if min(ends) < time < max(ends)})
    return Panes(
        ious=tuple(ious),
        roles_right=roles_right,
        missing=missing,
        spare=spare,
        change_errors_s=tuple(_nearest(change, found_changes) for change in changes),
        spare_changes=sum(_nearest(change, changes) > CHANGE_LIMIT_S for change in found_changes),
    )


def _true_spans(truth: dict) -> list[tuple[float, float, list[dict]]]:
    times = sorted({time for pane in truth["panes"] for time in (pane["start"], pane["end"])})
    spans = []
    for start, end in pairwise(times):
        panes = [pane for pane in truth["panes"] if pane["start"] <= start and pane["end"] >= end]
        if panes:
            spans.append((start, end, panes))
    return spans


def _shown(pane: Pane, start_s: float, end_s: float) -> bool:
    """Whether a pane is there for more than half of a span, apart from the span's uncertain ends."""
    rim = min(CHANGE_LIMIT_S, (end_s - start_s) / 4)
    start_s, end_s = start_s + rim, end_s - rim
    return min(pane.end_s, end_s) - max(pane.start_s, start_s) > (end_s - start_s) / 2


def _pane_box(true: dict) -> Box:
    return Box(x=true["x"], y=true["y"], w=true["w"], h=true["h"])


def _role(true: str) -> str:
    return REACTION if true == "face" else STIMULUS


def _nearest(time_s: float, others: Sequence[float]) -> float:
    return min((abs(time_s - other) for other in others), default=math.inf)


# Faces --------------------------------------------------------------------------------------------------------------


def compare_faces(truth: dict, rows: Sequence[FaceRow]) -> Faces:
    """Rows against truth samples; the followed person is the one that most rows are on."""
    samples = truth["face_boxes"]
    beside = _beside(samples, rows, 0.5 / truth["fps"] + 0.001)  # the truth's times are rounded
    persons: dict[tuple[str, str], set[str]] = defaultdict(set)
    on: Counter[str] = Counter()
    nobody = 0
    for sample, near in zip(samples, beside, strict=True):
        for row in near:
            person = _person_under(row.box, sample["faces"])
            if person is None:
                nobody += 1
                continue
            on[person] += 1
            persons["subject", row.subject_id].add(person)
            persons["clip", row.clip_id].add(person)
    followed = max(on, key=lambda person: (on[person], person)) if on else truth["major_subject_id"]
    required, covered = [], []
    for sample, near in zip(samples, beside, strict=True):
        for face in sample["faces"]:
            if face["role"] == "reactor" and face["subject_id"] == followed and face["visible_fraction"] >= VISIBLE:
                required.append(_stimulus_shown(truth, sample["t"]))
                covered.append(any(_face_box(face).iou(row.box) >= SAME_FACE for row in near))
                break  # a person shown twice need be found once
    return Faces(
        required=len(required),
        covered=sum(covered),
        required_with_stimulus=sum(required),
        covered_with_stimulus=sum(found and shown for found, shown in zip(covered, required, strict=True)),
        rows=sum(map(len, beside)),
        rows_on_nobody=nobody,
        switches=sum(len(under) > 1 for under in persons.values()),
        subjects=frozenset(
            (key, person) for (kind, key), under in persons.items() if kind == "subject" for person in under
        ),
    )


def _beside(samples: Sequence[dict], rows: Sequence[FaceRow], tolerance_s: float) -> list[list[FaceRow]]:
    """The rows next to each sample; a row belongs to its nearest sample."""
    beside: list[list[FaceRow]] = [[] for _ in samples]
    times = np.array([sample["t"] for sample in samples])
    for row in rows:
        nearest = int(np.abs(times - row.t_s).argmin()) if len(times) else -1
        if nearest >= 0 and abs(times[nearest] - row.t_s) <= tolerance_s:
            beside[nearest].append(row)
    return beside


def _face_box(face: dict) -> Box:
    return Box(**dict(zip("xywh", face["box"], strict=True)))


def _person_under(box: Box, faces: Sequence[dict]) -> str | None:
    """The reactor that a box is on, or None."""
    best = max(faces, key=lambda face: _face_box(face).iou(box), default=None)
    if best is None or best["role"] != "reactor" or _face_box(best).iou(box) < NOBODY:
        return None
    return best["subject_id"]


def _stimulus_shown(truth: dict, time_s: float) -> bool:
    return any(_role(pane["role"]) == STIMULUS and pane["start"] <= time_s < pane["end"] for pane in truth["panes"])


# Totals -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A total with what it should reach; `higher` says in which direction good lies. NaN where nothing was measured."""

    name: str
    value: float
    target: float
    higher: bool = True

    @property
    def met(self) -> bool:
        return math.isnan(self.value) or (self.value >= self.target if self.higher else self.value <= self.target)


def summary(videos: Sequence[VideoAccuracy]) -> list[Measure]:
    """The totals over all videos that should have been built (outcomes: over all)."""
    panes, faces = [v.panes for v in videos if v.measured], [v.faces for v in videos if v.measured]
    ious = [iou for pane in panes for iou in pane.ious]
    changes = [error for pane in panes for error in pane.change_errors_s]
    pairs = {pair for face in faces for pair in face.subjects}
    coverage = [f.covered / f.required for f in faces if f.required]
    timely = sum(error <= CHANGE_LIMIT_S for error in changes)
    return [
        Measure(name="outcomes right", value=_share(sum(v.right for v in videos), len(videos)), target=1.0),
        Measure(name="mean pane IoU", value=float(np.mean(ious)) if ious else math.nan, target=0.95),
        Measure(name="smallest pane IoU", value=min(ious, default=math.nan), target=0.85),
        Measure(name="roles right", value=_share(sum(p.roles_right for p in panes), len(ious)), target=1.0),
        Measure(name="panes missing", value=sum(p.missing for p in panes), target=0, higher=False),
        Measure(name="panes spare", value=sum(p.spare for p in panes), target=0, higher=False),
        Measure(name=f"layout changes within {CHANGE_LIMIT_S} s", value=_share(timely, len(changes)), target=1.0),
        Measure(name="layout changes spare", value=sum(p.spare_changes for p in panes), target=0, higher=False),
        Measure(
            name="faces covered (stimulus shown)",
            value=_share(sum(f.covered_with_stimulus for f in faces), sum(f.required_with_stimulus for f in faces)),
            target=0.98,
        ),
        Measure(
            name="faces covered (all times)",
            value=_share(sum(f.covered for f in faces), sum(f.required for f in faces)),
            target=0.98,
        ),
        Measure(name="faces covered, worst video", value=min(coverage, default=math.nan), target=0.98),
        Measure(
            name="rows on nobody",
            value=_share(sum(f.rows_on_nobody for f in faces), sum(f.rows for f in faces)),
            target=0,
            higher=False,
        ),
        Measure(name="subject switches", value=sum(f.switches for f in faces), target=0, higher=False),
        Measure(name="ids of several persons", value=_shared(pairs, 0), target=0, higher=False),
        Measure(name="persons of several ids", value=_shared(pairs, 1), target=0, higher=False),
    ]


def _shared(pairs: Iterable[tuple[str, str]], side: int) -> int:
    """How many entries of one side stand beside several of the other, over all videos."""
    return sum(count > 1 for count in Counter(pair[side] for pair in pairs).values())


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def by_layout(videos: Sequence[VideoAccuracy]) -> dict[str, list[VideoAccuracy]]:
    """Videos of each kind of layout, in alphabetical order."""
    kinds = sorted({video.layout for video in videos})
    return {kind: [video for video in videos if video.layout == kind] for kind in kinds}


def video_table(videos: Sequence[VideoAccuracy], title: str = "Accuracy by video") -> Table:
    """One line a video."""
    table = Table(title=title)
    for heading in ("video", "layout", "outcome"):
        table.add_column(heading)
    for heading in ("pane IoU", "min", "roles", "-/+ panes", "change s", "faces", "on nobody", "switches"):
        table.add_column(heading, justify="right")
    for video in videos:
        mark = "[green]ok[/]" if video.right else "[red]wrong[/]"
        expected = "" if video.measured or video.right else f" (expected {video.expected})"
        cells = _cells(video.panes, video.faces) if video.measured else [""] * 8
        table.add_row(video.video_id, video.layout, f"{mark} {video.outcome}{expected}", *cells)
    return table


def _cells(panes: Panes, faces: Faces) -> list[str]:
    worst = max(panes.change_errors_s, default=None)
    return [
        f"{np.mean(panes.ious):.3f}" if panes.ious else "",
        f"{min(panes.ious):.3f}" if panes.ious else "",
        f"{panes.roles_right}/{len(panes.ious)}",
        f"{panes.missing}/{panes.spare}",
        "" if worst is None else f"{worst:.2f}",
        f"{faces.covered_with_stimulus}/{faces.required_with_stimulus}",
        f"{faces.rows_on_nobody}/{faces.rows}",
        str(faces.switches),
    ]


def summary_table(measures: Sequence[Measure], title: str = "Accuracy") -> Table:
    """Totals with the targets beside them."""
    table = Table(title=title)
    table.add_column("measure")
    for heading in ("value", "target"):
        table.add_column(heading, justify="right")
    for total in measures:
        table.add_row(total.name, cell(total), f"{'>=' if total.higher else '<='} {total.target:g}")
    return table


def cell(total: Measure) -> str:
    """The value for a table: green where it meets its target, red where not."""
    value = "-" if math.isnan(total.value) else f"{total.value:.3f}".removesuffix(".000")
    return f"[{'green' if total.met else 'red'}]{value}[/]"
