"""Holding an imported data set against what is known of it: OK, DIFFERS (by how much) or UNKNOWN."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reactionnet_datasets.about import Finding, Known
from reactionnet_datasets.importing import Written
from reactionnet_datasets.protocols import Protocol
from reactionnet_datasets.shards import read_manifest
from reactionnet_datasets.tables import read_table

OK, DIFFERS, UNKNOWN = "OK", "DIFFERS", "UNKNOWN"
_COLUMN = {"clips": "clip_id", "videos": "video_id", "subjects": "subject_id"}


def compare(what: str, expected: int, found: int, recalled: bool = False) -> Finding:
    """One count. What is only recalled never differs: the memory may be what is wrong."""
    verdict = OK if expected == found else UNKNOWN if recalled else f"{DIFFERS} by {found - expected:+,}"
    return Finding(
        what=what, expected=f"{expected:,}" + (" (recalled)" * recalled), found=f"{found:,}", verdict=verdict
    )


def examine(frames: pa.Table, module: ModuleType) -> list[Finding]:
    """All findings of an importer on a frames table."""
    known: Sequence[Known] = module.ABOUT.known
    findings = [_held_against(frames, one) for one in known]
    if hasattr(module, "doctor"):
        findings += module.doctor(frames)
    if not findings:
        found = f"{frames.num_rows:,}"
        findings.append(Finding(what="frames", expected="no count is known", found=found, verdict=UNKNOWN))
    return findings


def _held_against(frames: pa.Table, known: Known) -> Finding:
    if lacking := [column for column in known.where if column not in frames.column_names]:
        found = f"no column {', '.join(lacking)}"
        return Finding(what=known.what, expected=f"{known.count:,}", found=found, verdict=UNKNOWN)
    return compare(known.what, known.count, count(frames, known), known.recalled)


def count(frames: pa.Table, known: Known) -> int:
    """What a `Known` counts."""
    for column, value in known.where.items():
        frames = frames.filter(pc.equal(_plain(frames[column]), value))
    if known.of == "frames":
        return frames.num_rows
    return len(pc.unique(_plain(frames[_COLUMN[known.of]]).drop_null()))


def by_part(frames: pa.Table, protocol: Protocol, counts: Mapping[int, int]) -> list[Finding]:
    """Frames of each part of a published protocol, by their subjects."""
    found: Counter[int | None] = Counter()
    for one in pc.value_counts(_plain(frames["subject_id"])).to_pylist():
        found[protocol.part_of(one["values"])] += one["counts"]
    return [compare(f"frames of {protocol.name}, part {part}", num, found[part]) for part, num in counts.items()]


def _plain(column: pa.ChunkedArray) -> Any:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def frames_of(out: Path, written: Sequence[Written]) -> pa.Table:
    """The frames table of what was just written."""
    return read_table(out, "frames", [one.tables.frames for one in written if one.tables])


def published_frames(out: Path) -> pa.Table:
    """The frames table of an imported data set."""
    entries = read_manifest(out)["splits"].values()
    return read_table(out, "frames", [part for entry in entries for part in entry["tables"]["frames"]])
