"""Annotations in: FACS codes, expressions and corrected captions, joined to frames by video and time.

`--annotations FILE` (JSONL, CSV or Parquet) has one row a coder and moment:

    video_id, t_s                  required; the frame within half a frame of `t_s` is meant
    coder                          who annotated; several coders of one moment are several rows
    subject_id, sha256, dataset    guards: the face's subject, the source file, the data set that were annotated
    au_occ_N                       occurrence of action unit N, 0 or 1; or `uncodable`
    au_int_N                       its intensity, 0 to 5 or A to E; or `uncodable`
    expression                     one of the seven primary expressions, or contempt
    caption                        a corrected description of what is being watched then

The 17 action units are those that ReactionNet codes. What is annotated is a late fact: it enters the shards with the json
member, so that editing the file re-assembles the shards concerned and decodes nothing. Coders who disagree are settled by
a named rule (majority; median for intensities), and every coder's value is kept beside it.
"""

import difflib
import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from reactionnet_datasets.labels import REACTIONNET_AUS, class_name, classes_of
from reactionnet_datasets.sample import Label, canonical_json
from reactionnet_datasets.shards import atomic_file
from reactionnet_datasets.stores import Place, local, version_of
from reactionnet_pipeline.manifest import CONTROL, ManifestError, raw_rows

ROWS = "plan/annotations.arrow"
SCHEMA = pa.schema([("video_id", pa.string()), ("rows", pa.string())])
NEEDED = ("video_id", "t_s")
TEXTS = ("coder", "subject_id", "sha256", "dataset", "caption")
EXPRESSIONS = "affectnet8"  # the seven primary expressions and contempt
UNCODABLE = "uncodable"
AUS = tuple(f"au_{kind}_{au}" for kind in ("occ", "int") for au in REACTIONNET_AUS)
COLUMNS = (*NEEDED, *TEXTS, "expression", *AUS)
MAX_CAPTION = 1000
MAX_FAULTS = 20
INTENSITIES = {letter: value for value, letter in enumerate("ABCDE", 1)}
MAJORITY, MEDIAN = "coders:majority", "coders:median"


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """One row: `values` holds codes by label column; None stands for `uncodable`."""

    line: int
    video_id: str
    t_s: float
    coder: str = ""
    subject_id: str | None = None
    sha256: str | None = None
    caption: str | None = None
    values: Mapping[str, float | str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Unmatched:
    """A row that says something about nothing that was written."""

    line: int
    video_id: str
    t_s: float
    reason: str


def read_annotations(path: Place, dataset: str, video_ids: Iterable[str]) -> tuple[Annotation, ...]:
    """All rows, in file order. ManifestError names the lines that are wrong, or says that the file is for another build."""
    rows: list[Annotation] = []
    faults: list[str] = []
    seen: dict[tuple, int] = {}
    for line, fields in raw_rows(path, NEEDED):
        try:
            if isinstance(fields, str):
                raise ValueError(fields)
            row = _checked(fields, line, dataset)
            twin = seen.setdefault((row.video_id, round(row.t_s, 4), row.coder, row.subject_id), line)
            if twin != line:
                raise ValueError(f"line {twin} is by the same coder on the same moment of {row.video_id}")
        except ValueError as error:
            faults.append(f"line {line}: {error}")
            continue
        rows.append(row)
    if faults:
        more = f"\n... and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
        raise ManifestError(f"{path} has {len(faults)} bad rows:\n" + "\n".join(faults[:MAX_FAULTS]) + more)
    known = set(video_ids)
    if rows and not any(row.video_id in known for row in rows):
        raise ManifestError(
            f"{path}: not one of its {len(rows)} rows names a video of this manifest (the first: {rows[0].video_id!r});"
            " is it for another build?"
        )
    return tuple(rows)


def _checked(fields: Mapping[str, Any], line: int, dataset: str) -> Annotation:
    fields = {name: value for name, value in fields.items() if value is not None and value != ""}
    for name in fields:
        if name not in COLUMNS:
            raise ValueError(_no_column(str(name)))
    texts = {name: _text(fields, name) for name in ("video_id", *TEXTS)}
    if texts["video_id"] is None:
        raise ValueError("video_id is missing")
    if texts["dataset"] not in (None, dataset):
        raise ValueError(f"annotates the data set {texts['dataset']!r}, this build makes {dataset!r}")
    return Annotation(
        line=line,
        video_id=texts["video_id"],
        t_s=_time(fields),
        coder=texts["coder"] or "",
        subject_id=texts["subject_id"],
        sha256=texts["sha256"].lower() if texts["sha256"] else None,
        caption=texts["caption"],
        values={name: _value(name, fields[name]) for name in ("expression", *AUS) if name in fields},
    )


def _no_column(name: str) -> str:
    if match := re.fullmatch(r"(?:au_(?:occ|int)_?|AU_?)(\d+)", name):
        if int(match[1]) not in REACTIONNET_AUS:
            return f"{name}: no action unit {match[1]} here; coded are {', '.join(map(str, REACTIONNET_AUS))}"
        return f"{name}: write au_occ_{match[1]} for occurrence, au_int_{match[1]} for intensity"
    near = difflib.get_close_matches(name, COLUMNS, n=1)
    return f"no column {name[:80]!r} is known" + (f"; did you mean {near[0]}?" if near else "")


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_CAPTION or CONTROL.search(value):
        raise ValueError(f"{name} {str(value)[:80]!r} is no text of 1 to {MAX_CAPTION} characters on one line")
    return value.strip()


def _time(fields: Mapping[str, Any]) -> float:
    try:
        t_s = float(fields["t_s"])
    except KeyError:
        raise ValueError("t_s is missing") from None
    except (TypeError, ValueError):
        raise ValueError(f"t_s {fields['t_s']!r} is not a number of seconds") from None
    if not 0 <= t_s < math.inf:
        raise ValueError(f"t_s {t_s} is not a time from 0 on")
    return t_s


def _value(name: str, value: Any) -> float | str | None:
    if isinstance(value, str) and value.strip().lower() == UNCODABLE:
        return None
    if name == "expression":
        word = class_name(str(value))
        if word not in classes_of(EXPRESSIONS):
            raise ValueError(f"expression {value!r} is none of {', '.join(classes_of(EXPRESSIONS))}")
        return word
    if name.startswith("au_int") and isinstance(value, str) and value.strip().upper() in INTENSITIES:
        return INTENSITIES[value.strip().upper()]
    highest = 1 if name.startswith("au_occ") else 5
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if number not in range(highest + 1):
        raise ValueError(f"{name} is {value!r}; expected a whole number from 0 to {highest}, or {UNCODABLE}")
    return int(number)


def label_columns(rows: Iterable[Annotation]) -> tuple[str, ...]:
    """The label columns that a set of annotations fills, in order."""
    return tuple(sorted({name for row in rows for name in row.values}))


# Joining ------------------------------------------------------------------------------------------------------------


def nearest(t_s: float, frames_t_s: Sequence[float], fps: float) -> int | None:
    """The place of the frame within half a frame of a time; None where there is none."""
    times_T = np.asarray(frames_t_s)
    if not times_T.size:
        return None
    place = int(np.abs(times_T - t_s).argmin())
    return place if abs(times_T[place] - t_s) <= 0.5 / fps + 1e-6 else None


def on_clip(
    rows: Iterable[Annotation], t_s: Sequence[float], fps: float, subject_id: str | None, sha256: str
) -> list[Annotation]:
    """The rows that are about a clip, each moved to the time of the frame that it means."""
    found = []
    for row in rows:
        if row.sha256 in (None, sha256) and row.subject_id in (None, subject_id):
            place = nearest(row.t_s, t_s, fps)
            if place is not None:
                found.append(replace(row, t_s=t_s[place]))
    return found


def labels_of(rows: Iterable[Annotation], t_s: Sequence[float]) -> dict[str, Label]:
    """Labels of a run of frames, one entry a frame, for each column that is annotated in it; rows are `on_clip`'s."""
    places = {time: place for place, time in enumerate(t_s)}
    found: dict[str, dict[int, dict[str, float | str | None]]] = {}
    for row in rows:
        if row.t_s in places:
            for name, value in row.values.items():
                found.setdefault(name, {}).setdefault(places[row.t_s], {})[row.coder] = value
    return {name: _label(name, by_place, len(t_s)) for name, by_place in sorted(found.items())}


def _label(name: str, by_place: Mapping[int, Mapping[str, float | str | None]], num_frames: int) -> Label:
    values: list[float | str | None] = [None] * num_frames
    masks = ["not_annotated"] * num_frames
    raw: list[dict | None] = [None] * num_frames
    for place, codes in by_place.items():
        values[place], masks[place] = agreed(name, list(codes.values()))
        raw[place] = dict(sorted(codes.items()))
    several = any(len(codes) > 1 for codes in by_place.values())
    rule = MEDIAN if name.startswith("au_int") else MAJORITY
    space = EXPRESSIONS if name == "expression" else name.rpartition("_")[0]
    return Label(space=space, value=values, mask=masks, raw=raw if several else None, rule=rule if several else None)


def agreed(name: str, codes: Sequence[float | str | None]) -> tuple[float | str | None, str]:
    """(value, mask) of one moment: the median of intensities, else what more than half of the coders say."""
    known = [code for code in codes if code is not None]
    if not known:
        return None, "uncodable"
    if name.startswith("au_int"):
        middle = statistics.median(known)  # type: ignore[type-var]
        return (int(middle) if middle == int(middle) else middle), "valid"
    code, votes = Counter(known).most_common(1)[0]
    return (code, "valid") if votes * 2 > len(known) else (None, "rule_gave_none")


def human_captions(rows: Iterable[Annotation]) -> list[dict[str, Any]]:
    """Corrected captions among the rows, in time order, as a record holds captions."""
    return [
        {"t_s": row.t_s, "decoding": "human", "text": row.caption, "score": None, "model": None}
        for row in sorted(rows, key=lambda row: (row.t_s, row.coder))
        if row.caption is not None
    ]


def unmatched(
    rows: Sequence[Annotation],
    frames: Mapping[str, Sequence[tuple[float, str | None]]],
    fps: Mapping[str, float],
    sha256: Mapping[str, str],
    not_built: Mapping[str, str],
) -> list[Unmatched]:
    """Rows that match no written frame, and why: frames are (t_s, subject) by video; `not_built` says why one has none."""
    lost = []
    for row in rows:
        if row.video_id not in frames:
            reason = not_built.get(row.video_id, "the manifest has no such video")
        elif row.sha256 not in (None, sha256[row.video_id]):
            reason = f"made for a file with sha256 {row.sha256[:12]}..., this one has {sha256[row.video_id][:12]}..."  # type: ignore[index]
        else:
            here = [t_s for t_s, subject in frames[row.video_id] if row.subject_id in (None, subject)]
            if nearest(row.t_s, here, fps[row.video_id]) is not None:
                continue
            of = f" of {row.subject_id}" if row.subject_id else ""
            reason = f"no frame{of} within half a frame of {row.t_s:g} s was written"
        lost.append(Unmatched(line=row.line, video_id=row.video_id, t_s=row.t_s, reason=reason))
    return lost


# On file, for the workers -------------------------------------------------------------------------------------------


def write_annotations(work: Place, rows: Iterable[Annotation]) -> None:
    """Keep the rows for the writers of shards, by video; an empty table where there are none."""
    by_video: dict[str, list[dict]] = {}
    for row in rows:
        by_video.setdefault(row.video_id, []).append(asdict(row))
    content = [{"video_id": name, "rows": canonical_json(found).decode()} for name, found in sorted(by_video.items())]
    with atomic_file((work / ROWS).parent) as (file, naming), pa.ipc.new_file(file, SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(content, schema=SCHEMA))
        naming.name = Path(ROWS).name


def annotations_of(work: Place, video_id: str) -> list[Annotation]:
    """The rows on one video."""
    path = work / ROWS
    text = _opened(path, version_of(path)).get(video_id)
    return [Annotation(**row) for row in json.loads(text)] if text else []


@lru_cache(maxsize=1)
def _opened(path: Place, version: str) -> dict[str, str]:
    with local(path) as file, pa.memory_map(str(file)) as source:
        table = pa.ipc.open_file(source).read_all()
    return dict(zip(table["video_id"].to_pylist(), table["rows"].to_pylist(), strict=True))
