"""The second step of an import: write one shard from its lines, tables included, in whatever process.

Same release, same options: same bytes, whatever the number of workers or how often the import was killed. A shard that is
finished leaves a marker, and is not written again. `write_jobs` and `do_written_job` are for workers elsewhere.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reactionnet_datasets.import_plan import VERSION, Job, lines_of
from reactionnet_datasets.import_records import Writing
from reactionnet_datasets.labels import column_of
from reactionnet_datasets.sample import (
    canonical_json,
)
from reactionnet_datasets.shards import (
    ShardInfo,
    file_sha256,
    write_atomic,
    write_shard,
)
from reactionnet_datasets.tabulate import TableParts, tabulate


@dataclass(frozen=True, kw_only=True)
class Written:
    """A shard as written, or what kept it from being written."""

    group: str
    number: int
    shard: ShardInfo | None = None
    tables: TableParts | None = None
    other_tables: Mapping[str, str] = field(default_factory=dict)
    subjects: Mapping[str, Sequence[int]] = field(default_factory=dict)  # name -> videos, clips, frames
    label_counts: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    without_landmarks: int = 0


def write_job(job: Job, on_frames=None) -> Written:
    """Write one shard and its tables, or find them written. Pictures that do not decode are returned as faults."""
    lines = lines_of(job)
    if not lines:
        return Written(group=job.group, number=job.number)
    marker = Path(job.work) / "done" / f"{job.group}-{job.number:05d}-{_digest(job, lines)[:16]}.json"
    if (done := _found(marker, Path(job.out))) is not None:
        return done
    writing = Writing(job, on_frames)
    out = Path(job.out)
    info = write_shard(out, f"{job.group}-{job.number:05d}", writing.records(lines))
    if writing.faults or not info.records:
        (out / info.path).unlink()
        (out / info.index).unlink()
        return Written(group=job.group, number=job.number, faults=tuple(writing.faults), skipped=tuple(writing.skipped))
    parts = tabulate(out, info, job.labels, job.tasks)
    written = Written(
        group=job.group, number=job.number, shard=info, tables=parts, skipped=tuple(writing.skipped),
        other_tables=writing.other_tables(Path(info.path).stem), subjects=writing.subjects(),
        label_counts=count_labels(pq.read_table(out / parts.frames), job.labels),
        without_landmarks=writing.without_landmarks,
    )  # fmt: skip
    write_atomic(marker, canonical_json(asdict(written)))
    return written


def write_jobs(work: Path, jobs: Sequence[Job]) -> None:
    """Lay jobs down as `work/jobs/NNNNN.json`, for whoever does them elsewhere."""
    folder = work / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    for left in [*folder.glob("*.json"), *folder.glob("*.done")]:
        left.unlink()
    for number, job in enumerate(jobs):
        write_atomic(folder / f"{number:05d}.json", canonical_json(asdict(job)))


def do_written_job(path: Path) -> None:
    """Do the job that `write_jobs` laid down at `path`; its result lies beside it as `NNNNN.done`."""
    content = json.loads(path.read_bytes())
    job = Job(**{**content, "labels": tuple(content["labels"]), "tasks": tuple(content["tasks"])})
    write_atomic(path.with_suffix(".done"), canonical_json(asdict(write_job(job))))


def read_results(work: Path, num_jobs: int) -> list[Written]:
    """What the jobs left. FileNotFoundError where one was not done."""
    return [_written(json.loads((work / "jobs" / f"{number:05d}.done").read_bytes())) for number in range(num_jobs)]


def _written(content: dict[str, Any]) -> Written:
    content["shard"] = ShardInfo(**content["shard"]) if content["shard"] else None
    content["tables"] = TableParts(**content["tables"]) if content["tables"] else None
    return Written(**{**content, "skipped": tuple(content["skipped"]), "faults": tuple(content["faults"])})


def _digest(job: Job, lines: Iterable[str]) -> str:
    settings = (VERSION, version("reactionnet"), job.labels, job.tasks, job.allow_missing, job.landmarks, job.license)
    digest = hashlib.sha256(repr(settings).encode())
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()


def _found(marker: Path, out: Path) -> Written | None:
    try:
        found = _written(json.loads(marker.read_bytes()))
    except FileNotFoundError:
        return None
    if found.shard is None or found.tables is None:
        return None
    names = [
        found.shard.path,
        found.shard.index,
        found.tables.frames,
        found.tables.windows,
        *found.other_tables.values(),
    ]
    whole = all((out / name).is_file() for name in names) and file_sha256(out / found.shard.path) == found.shard.sha256
    return found if whole else None


def count_labels(frames: pa.Table, labels: Iterable[str]) -> dict[str, dict[str, dict[str, int]]]:
    """For each label, frames by mask, and by value where values are words or whole numbers."""
    counts = {}
    for name in labels:
        masks, values = _counts(frames[f"{name}_mask"]), {}
        column = frames[name].drop_null()
        if column_of(name).words or _whole(column):
            values = _counts(column)
        counts[name] = {"masks": masks, "values": values}
    return counts


def _whole(column: pa.ChunkedArray) -> bool:
    return len(column) > 0 and bool(pc.all(pc.equal(column, pc.floor(column))).as_py())


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    counted = ((row["values"], row["counts"]) for row in column.value_counts().to_pylist())
    return dict(sorted((f"{value:g}" if isinstance(value, float) else value, count) for value, count in counted))
