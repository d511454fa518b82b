"""Shards on disk: tar bytes, the index beside them, and `dataset.json`, which says which shards there are.

A tar is a deterministic function of its records: USTAR headers, no clock, no owner. Its index is an Arrow IPC file with
one row a member (`key, suffix, offset, size`, offsets of the data, not of the header), so that one member or a run of
members can be read with one range request. Files are written under a `.tmp-` name and renamed to a name that holds the
first digits of the content's sha256: a reader that keeps to `dataset.json` never sees half a file. In an object store
(see `stores`) there is no rename: a file is made on this machine and put under its name in one request.
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
from reactionnet_datasets.stores import NO_VERSION, Place, StoreError, StorePath, local, scratch

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
def atomic_file(folder: Place) -> Iterator[tuple[BinaryIO, "Naming"]]:
    """A file that gets its name only when all is written: set `naming.name` before the block ends."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
    temporary = (folder if isinstance(folder, Path) else scratch()) / f"{TEMPORARY}{uuid.uuid4().hex}"
    naming = Naming()
    try:
        with temporary.open("wb") as file:
            yield file, naming
        if naming.name is None:
            raise ValueError("the file was written but not named")
        if isinstance(folder, StorePath):
            (folder / naming.name).put(temporary)
        else:
            temporary.replace(folder / naming.name)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass
class Naming:
    """The final name of an `atomic_file`."""

    name: str | None = None


def write_atomic(path: Place, data: bytes) -> str:
    """Write a whole file or nothing. Returns its sha256."""
    if isinstance(path, StorePath):
        path.write_bytes(data)
    else:
        with atomic_file(path.parent) as (file, naming):
            file.write(data)
            naming.name = path.name
    return hashlib.sha256(data).hexdigest()


def write_shard(root: Place, stem: str, records: Iterable[Record]) -> ShardInfo:
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


def read_index(path: Place) -> pa.Table:
    """One row a member, in tar order: key, suffix, offset, size. ValueError where it is no index of ours."""
    try:
        with local(path) as file, pa.memory_map(str(file)) as source:
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


def read_manifest(root: Place) -> dict[str, Any]:
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


def manifest_version(root: Place) -> str | None:
    """What `write_manifest` takes as `replacing`; None in a folder, where a lease has to be enough."""
    path = root / MANIFEST
    if isinstance(path, Path):
        return None
    try:
        return path.stat().version
    except FileNotFoundError:
        return NO_VERSION


def write_manifest(root: Place, content: Mapping[str, Any], replacing: str | None = None) -> str:
    """Replace `dataset.json` in one step, last of all. Returns its sha256.

    In a store only if it is still of the version `replacing` (see `StorePath.replace_version`); StoreError if it is not.
    """
    text = json.dumps({"schema": SCHEMA, **content}, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    path = root / MANIFEST
    if isinstance(path, Path) or replacing is None:
        return write_atomic(path, text.encode())
    if not path.replace_version(replacing, text.encode()):
        raise StoreError(f"{path} was replaced by somebody else since this build began; run the command again")
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Place) -> str:
    """sha256 of a file's bytes, read in pieces."""
    with local(path) as place, place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_temporaries(root: Place) -> int:
    """Delete what a killed writer left behind. Only for who holds the folder's lease; a store never has any."""
    if isinstance(root, StorePath):
        return 0
    left = [Path(folder) / name for folder, _, names in os.walk(root) for name in names if name.startswith(TEMPORARY)]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)
