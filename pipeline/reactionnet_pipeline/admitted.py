"""What the launcher hands to all workers on file: the admitted manifest rows, found by video id."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from reactionnet_datasets.sample import canonical_json
from reactionnet_datasets.shards import atomic_file, write_atomic
from reactionnet_datasets.splits import Member
from reactionnet_datasets.stores import Place, as_place, local, version_of
from reactionnet_pipeline.manifest import Row
from reactionnet_pipeline.records import Layout, Pane, Source

ROWS = "plan/rows.arrow"
SETTLED = "plan/settled.arrow"
MEMBERS = "plan/members.json"
TOMBSTONES = "plan/tombstones.json"
SCHEMA = pa.schema([("video_id", pa.string()), ("row", pa.string())])
BATCH = 4096


def write_rows(work: Place, rows: Iterable[Row], split_of: Mapping[str, str]) -> None:
    """Keep the rows for the stages that need more of them than a `Source` carries."""
    batch: list[dict[str, str]] = []
    with atomic_file((work / ROWS).parent) as (file, naming), pa.ipc.new_file(file, SCHEMA) as writer:
        for row in rows:
            content = {**asdict(row), "split": split_of[row.video_id]}
            batch.append({"video_id": row.video_id, "row": canonical_json(content).decode()})
            if len(batch) == BATCH:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
                batch.clear()
        writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
        naming.name = Path(ROWS).name


def write_members(
    work: Place, members: Sequence[Member], ratio: tuple[float, float, float], lock: Mapping[str, str]
) -> None:
    """Keep what a barrier needs of the plan to split anew: ties that the manifest gives, and the lock as it was."""
    content = {"members": [asdict(member) for member in members], "ratio": ratio, "lock": dict(lock)}
    write_atomic(work / MEMBERS, canonical_json(content))


def read_sources(work: str, splits: Sequence[str]) -> Iterator[Source]:
    """The admitted sources of these splits, in manifest order."""
    with local(as_place(work) / ROWS) as file, pa.memory_map(str(file)) as source:
        for batch in pa.ipc.open_file(source).read_all().to_batches(BATCH):
            for row in map(json.loads, batch["row"].to_pylist()):
                if row["split"] in splits:
                    yield _source(row)


def splits_of(work: Place) -> dict[str, str]:
    """The split of every admitted row, settled where a barrier has settled it."""
    with local(work / ROWS) as file, pa.memory_map(str(file)) as source:
        batches = pa.ipc.open_file(source).read_all().to_batches(BATCH)
        found = {
            row["video_id"]: row["split"] for batch in batches for row in map(json.loads, batch["row"].to_pylist())
        }
    if (work / SETTLED).exists():
        table, place = _opened(work / SETTLED, version_of(work / SETTLED))
        # a video that the barrier refused is still accounted for where it was planned
        found |= {video: json.loads(table["row"][n].as_py())["split"] or found[video] for video, n in place.items()}
    return found


def write_settled(work: Place, rows: Mapping[str, Mapping[str, Any]]) -> Place:
    """Keep what the barrier decided, by video."""
    with atomic_file((work / SETTLED).parent) as (file, naming):
        with pa.ipc.new_file(file, SCHEMA) as writer:
            content = [{"video_id": name, "row": canonical_json(rows[name]).decode()} for name in sorted(rows)]
            writer.write_table(pa.Table.from_pylist(content, schema=SCHEMA), max_chunksize=BATCH)
        naming.name = Path(SETTLED).name
    return work / SETTLED


def settled_row(work: Place, video_id: str) -> dict[str, Any]:
    """What the barrier decided about a video. KeyError where it did not know it."""
    table, place = _opened(work / SETTLED, version_of(work / SETTLED))
    return json.loads(table["row"][place[video_id]].as_py())


def _source(row: Mapping[str, Any]) -> Source:
    layout = row["layout"]
    if layout is not None:
        layout = Layout(panes=tuple(Pane(**pane) for pane in layout["panes"]), origin=layout["origin"])
    return Source(
        video_id=row["video_id"],
        line=row["line"],
        uri=row["location"],
        split=row["split"],
        sha256=row["sha256"],
        subject_ids=tuple(row["subject_ids"]),
        start_s=row["start_s"],
        end_s=row["end_s"],
        layout=layout,
    )


def find_row(work: Place, video_id: str) -> dict[str, Any]:
    """The manifest row of a source, with its split, settled where a barrier has settled it."""
    path = work / ROWS
    table, place = _opened(path, version_of(path))
    row = json.loads(table["row"][place[video_id]].as_py())
    if (work / SETTLED).exists():
        row["split"] = settled_row(work, video_id)["split"] or row["split"]
    return row


def write_tombstones(work: Place, tombstones: Iterable[str]) -> None:
    """Keep the ids and hashes that were taken down: too many, now and then, to travel with a function."""
    write_atomic(work / TOMBSTONES, canonical_json(sorted(tombstones)))


def tombstones_of(work: Place) -> frozenset[str]:
    """What was taken down."""
    return _tombstones(work / TOMBSTONES, version_of(work / TOMBSTONES))


@lru_cache(maxsize=2)
def _tombstones(path: Place, version: str) -> frozenset[str]:
    return frozenset(json.loads(path.read_bytes()))


@lru_cache(maxsize=2)
def _opened(path: Place, version: str) -> tuple[pa.Table, dict[str, int]]:
    with local(path) as file, pa.memory_map(str(file)) as source:
        table = pa.ipc.open_file(source).read_all()
    return table, {video_id: number for number, video_id in enumerate(table["video_id"].to_pylist())}
