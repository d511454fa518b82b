"""Shards on disk: tar bytes, the index beside them, and `dataset.json`, which says which shards there are.

A tar is a deterministic function of its records: USTAR headers, no clock, no owner. Its index is an Arrow IPC file with
one row a member (`key, suffix, offset, size`, offsets of the data, not of the header), so that one member or a run of
members can be read with one range request. Files are written under a `.tmp-` name and renamed to a name that holds the
first digits of the content's sha256: a reader that keeps to `dataset.json` never sees half a file.
"""

import hashlib
import json
import os
import tarfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.ipc

from reactionnet_datasets.sample import MAX_KEY, SCHEMA, is_key

BLOCK = 512
MANIFEST = "dataset.json"
TEMPORARY = ".tmp-"
SALT = "reactionnet-1"
INDEX_SCHEMA = pa.schema([("key", pa.string()), ("suffix", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])


@dataclass(frozen=True, kw_only=True)
class Record:
    """One key and its members, in tar order: (suffix, bytes)."""

    key: str
    members: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """What `dataset.json` says of one shard. Paths are relative to the data set's folder."""

    path: str
    sha256: str
    num_bytes: int
    index: str
    index_sha256: str
    records: int


def member_header(name: str, size: int) -> bytes:
    """The 512 bytes before a member. ValueError where the name does not fit."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, 0, 0o444
    return info.tobuf(tarfile.USTAR_FORMAT)


def padding(size: int) -> bytes:
    """Zero bytes that fill a member's last block."""
    return b"\0" * (-size % BLOCK)


@contextmanager
def atomic_file(folder: Path) -> Iterator[tuple[BinaryIO, "Naming"]]:
    """A file that gets its name only when all is written: set `naming.name` before the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
    naming = Naming()
    try:
        with temporary.open("wb") as file:
            yield file, naming
        if naming.name is None:
            raise ValueError("the file was written but not named")
        temporary.replace(folder / naming.name)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass
class Naming:
    """The final name of an `atomic_file`."""

    name: str | None = None


def write_atomic(path: Path, data: bytes) -> str:
    """Write a whole file or nothing. Returns its sha256."""
    with atomic_file(path.parent) as (file, naming):
        file.write(data)
        naming.name = path.name
    return hashlib.sha256(data).hexdigest()


def write_shard(root: Path, stem: str, records: Iterable[Record]) -> ShardInfo:
    """Write `shards/{stem}-{sha12}.tar` and its index under `root`; records stream, memory holds one of them.

    Raises ValueError for a repeated key or a name that no tar header holds.
    """
    folder = root / "shards"
    digest, place, keys = hashlib.sha256(), 0, set()
    columns: dict[str, list] = {name: [] for name in INDEX_SCHEMA.names}
    with atomic_file(folder) as (file, naming):
        for record in records:
            if not is_key(record.key):
                raise ValueError(f"{record.key!r} is no key: expected 1 to {MAX_KEY} of [A-Za-z0-9_-]")
            if record.key in keys:
                raise ValueError(f"key {record.key!r} occurs twice in shard {stem}")
            keys.add(record.key)
            for suffix, data in record.members:
                for piece in (member_header(f"{record.key}.{suffix}", len(data)), data, padding(len(data))):
                    file.write(piece)
                    digest.update(piece)
                for name, value in zip(columns, (record.key, suffix, place + BLOCK, len(data)), strict=True):
                    columns[name].append(value)
                place += BLOCK + len(data) + len(padding(len(data)))
        end = b"\0" * (2 * BLOCK)
        file.write(end)
        digest.update(end)
        naming.name = f"{stem}-{digest.hexdigest()[:12]}.tar"
    index = _index_bytes(pa.table(columns, schema=INDEX_SCHEMA))
    index_path = folder / (naming.name.removesuffix(".tar") + ".idx")
    index_sha256 = write_atomic(index_path, index)
    return ShardInfo(
        path=f"shards/{naming.name}",
        sha256=digest.hexdigest(),
        num_bytes=place + 2 * BLOCK,
        index=f"shards/{index_path.name}",
        index_sha256=index_sha256,
        records=len(keys),
    )


def _index_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, INDEX_SCHEMA) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def read_index(path: Path) -> pa.Table:
    """One row a member, in tar order: key, suffix, offset, size. ValueError where it is no index of ours."""
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path.name} is no shard index: {error}") from error
    if table.schema != INDEX_SCHEMA:
        raise ValueError(f"{path.name} has columns {table.column_names}; expected {INDEX_SCHEMA.names}")
    return table


def scan_tar(path: Path) -> pa.Table:
    """What the index should say, from the tar's own headers."""
    rows = []
    with tarfile.open(path, "r:") as tar:
        for info in tar:
            key, _, suffix = info.name.partition(".")
            rows.append((key, suffix, info.offset_data, info.size))
    return pa.Table.from_pylist([dict(zip(INDEX_SCHEMA.names, row, strict=True)) for row in rows], schema=INDEX_SCHEMA)


def place_of(clip_id: str) -> int:
    """Where a clip stands among all: 64 bits of a salted sha256. Order and shard follow from it alone."""
    return int.from_bytes(hashlib.sha256(f"{SALT}:{clip_id}".encode()).digest()[:8], "big")


def bucket_of(clip_id: str, num_shards: int) -> int:
    """The shard of a clip. Range buckets: doubling the number of shards splits each in two and moves nothing else."""
    return place_of(clip_id) * num_shards >> 64


def shards_for(num_bytes: int, target_bytes: int) -> int:
    """The smallest power of two for which a shard holds no more than `target_bytes` on average; 1 at the least."""
    if target_bytes < 1:
        raise ValueError(f"target of {target_bytes} bytes a shard; expected 1 or more")
    num = 1
    while num * target_bytes < num_bytes:
        num *= 2
    return num


def read_manifest(root: Path) -> dict[str, Any]:
    """`dataset.json` as a dict. FileNotFoundError, or ValueError for another schema or a damaged file."""
    path = root / MANIFEST
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else content
        raise ValueError(f"{path} has schema {found!r}; this version reads {SCHEMA!r}")
    return content


def write_manifest(root: Path, content: Mapping[str, Any]) -> str:
    """Replace `dataset.json` in one step, last of all. Returns its sha256."""
    text = json.dumps({"schema": SCHEMA, **content}, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    return write_atomic(root / MANIFEST, text.encode())


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_temporaries(root: Path) -> int:
    """Delete what a killed writer left behind. Only for who holds the folder's lease."""
    left = [Path(folder) / name for folder, _, names in os.walk(root) for name in names if name.startswith(TEMPORARY)]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)
