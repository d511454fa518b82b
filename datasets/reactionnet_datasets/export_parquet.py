"""A data set as Parquet files that Hugging Face's `load_dataset` opens: pictures and all, byte for byte.

    data/frames/SPLIT-NNNNN-of-NNNNN.parquet    one row a frame: `tables/frames`, the pictures, the landmarks
    data/records/...                            one row a record: `tables/windows`, its json, its other members as bytes
    data/sources/..., data/subjects/..., data/captions/...   these tables

A shard of the WebDataset layout cannot be opened as it is: a record holds as many pictures as it has frames, and that
reader wants the same members in every record. Rows lie in the order of the tables; a row group is one record. Words are
plain text, maps are JSON text. `reaction` and `stimulus` are structs of `bytes` and `path`, declared as images.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reactionnet_datasets.arrays import from_npy
from reactionnet_datasets.catalog import ShardIndex
from reactionnet_datasets.records import check_name
from reactionnet_datasets.sample import canonical_json
from reactionnet_datasets.shards import BLOCK, ShardInfo
from reactionnet_datasets.storage import ShardError, Storage

ROLES = ("reaction", "stimulus")
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
POINTS = pa.list_(pa.list_(pa.float32()))
MEMBERS = pa.list_(pa.struct([("name", pa.string()), ("bytes", pa.binary())]))
CONFIGS = ("frames", "records", "sources", "subjects", "captions")
# The reader keeps this name for "all splits together".
_SPLIT_NAMES = {"all": "full"}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file that was written: its path below the export, what it holds, and its split as the reader calls it."""

    path: str
    config: str
    split: str
    rows: int
    schema: pa.Schema


def export_parquet(storage: Storage, manifest: Mapping[str, Any], out: Path) -> list[Part]:
    """Write all splits below `out`. ShardError where the bytes are not what manifest and indexes say.

    `manifest` is the content of `dataset.json`.
    """
    entries = manifest["splits"]
    parts: list[Part] = []
    for split in entries:
        if _split_name(split) in (_split_name(other) for other in entries if other != split):
            raise ValueError(f"splits {list(entries)} would share a name; rename one")
    for config in ("sources", "subjects", "captions"):
        tables = {split: _tables(storage, entry["tables"].get(config, ())) for split, entry in entries.items()}
        schema = _common([table.schema for found in tables.values() for table in found])
        for split, found in tables.items():
            rows = [pa.concat_tables([_as(table, schema) for table in found])] if any(map(len, found)) else []
            parts += _write(out, config, split, 0, 1, schema, rows)
    for config, make in (("frames", _frames), ("records", _records)):
        table = "windows" if config == "records" else config
        schemas = [
            _plain_schema(pq.read_schema(io.BytesIO(storage.whole(path))))
            for entry in entries.values()
            for path in entry["tables"][table]
        ]
        schema = _with_content(_common(schemas), config)
        for split, entry in entries.items():
            shards = {info["path"]: ShardInfo(**{n: info[n] for n in ShardInfo.__dataclass_fields__})
                      for info in entry["shards"]}  # fmt: skip
            paths = entry["tables"][table]
            for number, path in enumerate(paths):
                rows_of = make(storage, shards, _tables(storage, [path])[0], schema)
                parts += _write(out, config, split, number, len(paths), schema, rows_of)
    return parts


def _split_name(split: str) -> str:
    return _SPLIT_NAMES.get(split, split)


def _write(
    out: Path, config: str, split: str, number: int, of: int, schema: pa.Schema, tables: Iterable[pa.Table]
) -> list[Part]:
    """One file, a row group a table; nothing where there are no rows at all."""
    path = f"data/{config}/{_split_name(split)}-{number:05d}-of-{of:05d}.parquet"
    writer, rows = None, 0
    try:
        for table in tables:
            if writer is None:
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                # Pictures are compressed already.
                plain = [f"{role}.bytes" for role in ROLES]
                codec = {name: "none" if name in plain else "zstd" for name in _leaves(schema)}
                writer = pq.ParquetWriter(out / path, schema.with_metadata(_features(schema)), compression=codec)
            writer.write_table(table)
            rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return [Part(path=path, config=config, split=_split_name(split), rows=rows, schema=schema)] if rows else []


def _tables(storage: Storage, paths: Sequence[str]) -> list[pa.Table]:
    return [_plain(pq.ParquetFile(io.BytesIO(storage.whole(path))).read()) for path in paths]


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    return _plain(schema.empty_table()).schema


def _plain(table: pa.Table) -> pa.Table:
    """Words as text and maps as JSON text, which every reader of Parquet knows."""
    columns: dict[str, Any] = {}
    for field in table.schema:
        column = table[field.name]
        if pa.types.is_dictionary(field.type):
            column = column.cast(pa.string())
        elif pa.types.is_map(field.type):
            texts = [None if row is None else canonical_json(dict(row)).decode() for row in column.to_pylist()]
            column = pa.array(texts, pa.string())
        columns[field.name] = column
    return pa.table(columns) if columns else table


def _common(schemas: Sequence[pa.Schema]) -> pa.Schema:
    return pa.unify_schemas([schema.remove_metadata() for schema in schemas]) if schemas else pa.schema([])


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The same rows with all columns of a schema; null where the table lacks one."""
    missing = {
        field.name: pa.nulls(table.num_rows, field.type) for field in schema if field.name not in table.schema.names
    }
    return pa.table(
        [table[field.name] if field.name not in missing else missing[field.name] for field in schema], schema=schema
    )


def _with_content(schema: pa.Schema, config: str) -> pa.Schema:
    kept = [field for field in schema if field.name != "shard"]  # a path that the export does not have
    if config == "frames":
        more = [pa.field(role, PICTURE) for role in ROLES] + [pa.field("landmarks", POINTS)]
    else:
        more = [pa.field("json", pa.string()), pa.field("members", MEMBERS)]
    return pa.schema([*kept, *more])


def _frames(
    storage: Storage, shards: Mapping[str, ShardInfo], table: pa.Table, schema: pa.Schema
) -> Iterator[pa.Table]:
    """Rows of one part of `tables/frames`, record by record, with what the shard holds of each frame."""
    for first, last, members in _by_record(storage, shards, table):
        rows, num = table.slice(first, last - first), last - first
        pictures = {role: _pictures(members, num, role) for role in ROLES}
        stated = rows["member"].to_pylist()
        found = [picture and picture["path"] for picture in pictures["reaction"]]
        if stated != found:
            wrong = next(n for n in range(num) if stated[n] != found[n])
            raise ShardError(f"tables/frames names {stated[wrong]!r} where the shard holds {found[wrong]!r}")
        points = _points(members, num)
        rows = rows.append_column("landmarks", pa.array(points, POINTS))
        for role in ROLES:
            rows = rows.append_column(role, pa.array(pictures[role], PICTURE))
        yield _as(rows, schema)


def _records(
    storage: Storage, shards: Mapping[str, ShardInfo], table: pa.Table, schema: pa.Schema
) -> Iterator[pa.Table]:
    """Rows of one part of `tables/windows`: the json as it stands, and every member that is no picture."""
    for first, last, members in _by_record(storage, shards, table):
        text = next(data for name, data in members.items() if name.endswith(".json"))
        others = [
            {"name": name, "bytes": data}
            for name, data in members.items()
            if not name.endswith(".json") and not any(f".{role}." in name for role in ROLES)
        ]
        rows = table.slice(first, last - first).append_column("json", pa.array([text.decode()], pa.string()))
        yield _as(rows.append_column("members", pa.array([others], MEMBERS)), schema)


def _by_record(
    storage: Storage, shards: Mapping[str, ShardInfo], table: pa.Table
) -> Iterator[tuple[int, int, dict[str, bytes]]]:
    """First row and the row after the last of each record, and its members by name."""
    indexes: dict[str, ShardIndex] = {}
    keys, paths = table["key"].to_pylist(), table["shard"].to_pylist()
    for key, group in groupby(range(table.num_rows), key=keys.__getitem__):
        rows = list(group)
        path = paths[rows[0]]
        if path not in shards:
            raise ShardError(f"record {key} lies in {path}, which dataset.json does not list")
        if path not in indexes:
            indexes[path] = ShardIndex.read(storage, shards[path])
        yield rows[0], rows[-1] + 1, _members(storage, indexes[path], key)


def _members(storage: Storage, index: ShardIndex, key: str) -> dict[str, bytes]:
    if key not in index.rows:
        raise ShardError(f"{index.path} has no record {key}, which the tables list")
    first, last = index.rows[key]
    start = int(index.offset[first]) - BLOCK
    data = storage.read(index.path, start, int(index.offset[last - 1] + index.size[last - 1]) - start)
    found = {}
    for row, suffix in enumerate(index.suffix[first:last].to_pylist(), start=first):
        at, name = int(index.offset[row]) - start, f"{key}.{suffix}"
        check_name(data, at - BLOCK, name.encode(), index.path)
        found[name] = bytes(data[at : at + int(index.size[row])])
    if f"{key}.json" not in found:
        raise ShardError(f"{index.path}: record {key} has no json")
    return found


def _pictures(members: Mapping[str, bytes], num: int, role: str) -> list[dict[str, Any] | None]:
    """The picture of each frame; null where it has none."""
    pictures: list[dict[str, Any] | None] = [None] * num
    for name, data in members.items():
        suffix = name.partition(".")[2]
        if suffix[3:].startswith(f".{role}."):
            pictures[int(suffix[:3])] = {"bytes": data, "path": name}
    return pictures


def _points(members: Mapping[str, bytes], num: int) -> list[Any]:
    """Landmarks of each frame; null where the record has none."""
    data = next((data for name, data in members.items() if name.endswith(".landmarks.npy")), None)
    if data is None:
        return [None] * num
    points = from_npy(data)
    return points.astype(np.float32).tolist()


def _leaves(schema: pa.Schema) -> list[str]:
    """Column paths as Parquet counts them."""
    file = io.BytesIO()
    pq.write_table(schema.empty_table(), file)
    names = pq.ParquetFile(file).schema
    return [names.column(n).path for n in range(len(names))]


def _features(schema: pa.Schema) -> dict[str, str]:
    """The reader's own note of what a column is; without it a picture would be a struct."""
    features = {field.name: _feature(field.type) for field in schema}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def _feature(kind: pa.DataType) -> Any:
    if kind == PICTURE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    if pa.types.is_struct(kind):
        return {kind.field(n).name: _feature(kind.field(n).type) for n in range(kind.num_fields)}
    names = {"float": "float32", "double": "float64"}
    return {"dtype": names.get(str(kind), str(kind)), "_type": "Value"}
