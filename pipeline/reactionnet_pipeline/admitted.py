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
from reactionnet_datasets.shards import atomic_file
from reactionnet_pipeline.manifest import Row
from reactionnet_pipeline.records import Layout, Pane, Source

ROWS = "plan/rows.arrow"
SCHEMA = pa.schema([("video_id", pa.string()), ("row", pa.string())])
BATCH = 4096


def write_rows(work: Path, rows: Iterable[Row], split_of: Mapping[str, str]) -> None:
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


def read_sources(work: str, splits: Sequence[str]) -> Iterator[Source]:
    """The admitted sources of these splits, in manifest order."""
    with pa.memory_map(str(Path(work) / ROWS)) as source:
        for batch in pa.ipc.open_file(source).read_all().to_batches(BATCH):
            for row in map(json.loads, batch["row"].to_pylist()):
                if row["split"] in splits:
                    yield _source(row)


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


def find_row(work: Path, video_id: str) -> dict[str, Any]:
    """The manifest row of a source, with its split."""
    path = work / ROWS
    table, place = _opened(path, path.stat().st_mtime_ns)
    return json.loads(table["row"][place[video_id]].as_py())


@lru_cache(maxsize=1)
def _opened(path: Path, changed: int) -> tuple[pa.Table, dict[str, int]]:
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    return table, {video_id: number for number, video_id in enumerate(table["video_id"].to_pylist())}
