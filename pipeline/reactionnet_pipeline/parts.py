"""Clips on their way into shards: their members lie in files, and a `Part` says where."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.ipc

from reactionnet_datasets.shards import BLOCK, Record, ShardInfo, atomic_file, write_atomic
from reactionnet_datasets.stores import Place, as_place, local

# `blob` is a file relative to the folder of the part's work
PART_SCHEMA = pa.schema(
    [("key", pa.string()), ("suffix", pa.string()), ("blob", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]
)

ROWS_AT_ONCE = 4096
Member = tuple[str, str, str, int, int]  # key, suffix, blob, offset, size


@dataclass(frozen=True, kw_only=True)
class Part:
    """A clip whose members lie staged: `index` is an Arrow file of where they are, relative to `folder`.

    `late` are files, relative to `folder`, with what later stages found out and the json member will hold.
    """

    clip_id: str
    split: str
    folder: str
    index: str
    num_bytes: int
    late: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ShardRef:
    """A finished shard."""

    split: str
    number: int
    info: ShardInfo


Late = Callable[[Part], dict[str, list[tuple[str, bytes]]]]


def stage_part(folder: Place, name: str, clip_id: str, split: str, records: Iterable[Record]) -> Part:
    """Put the members of a clip's records into `folder/name-{sha12}.blob` and `folder/name.part`."""
    rows: list[tuple[str, str, int, int]] = []
    place, digest = 0, hashlib.sha256()
    with atomic_file(folder) as (file, naming):
        for record in records:
            for suffix, data in record.members:
                rows.append((record.key, suffix, place, len(data)))
                file.write(data)
                digest.update(data)
                place += len(data)
        naming.name = f"{name}-{digest.hexdigest()[:12]}.blob"  # so that the index of another content is another
    members = [(key, suffix, naming.name, at, size) for key, suffix, at, size in rows]
    return write_part_index(folder, f"{name}.part", clip_id, split, members)


def write_part_index(folder: Place, index: str, clip_id: str, split: str, rows: Sequence[Member]) -> Part:
    """A part from its members: those of one record stand together, in tar order."""
    sink = pa.BufferOutputStream()
    columns = list(zip(*rows, strict=True))
    with pa.ipc.new_file(sink, PART_SCHEMA) as writer:
        writer.write_table(pa.table(columns, schema=PART_SCHEMA), max_chunksize=ROWS_AT_ONCE)
    write_atomic(folder / index, sink.getvalue().to_pybytes())
    num_bytes = sum(BLOCK + size + -size % BLOCK for *_, size in rows)
    return Part(clip_id=clip_id, split=split, folder=str(folder), index=index, num_bytes=num_bytes)


def part_rows(part: Part) -> Iterator[dict]:
    """Where a part's members lie: key, suffix, blob, offset, size, in tar order."""
    with local(as_place(part.folder) / part.index) as file, pa.memory_map(str(file)) as source:
        for batch in pa.ipc.open_file(source).read_all().to_batches():
            yield from batch.to_pylist()


class StagedFiles:
    """Reads staged members by their rows (`blob`, `offset`, `size`), each file of the folder opened once.

    OSError where a file is shorter than its row says.
    """

    def __init__(self, folder: Place):
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Callable[[Mapping[str, Any]], bytes]:
        return self._read

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _read(self, row: Mapping[str, Any]) -> bytes:
        if row["blob"] not in self._files:
            file = self._stack.enter_context(local(self._folder / row["blob"]))
            self._files[row["blob"]] = self._stack.enter_context(file.open("rb"))
        self._files[row["blob"]].seek(row["offset"])
        data = self._files[row["blob"]].read(row["size"])
        if len(data) != row["size"]:
            raise OSError(f"{row['blob']} is shorter than its index says: the work folder is damaged, delete it")
        return data


def read_records(parts: Sequence[Part], late: Late | None) -> Iterator[Record]:
    """The parts' records in order; what comes late (labels, captions, ids) stands first in each."""
    for part in parts:
        extra = late(part) if late else {}
        with StagedFiles(as_place(part.folder)) as read:
            key, members = None, []
            for row in part_rows(part):
                if row["key"] != key:
                    if key is not None:
                        yield Record(key=key, members=tuple(members))
                    key, members = row["key"], list(extra.get(row["key"], ()))
                members.append((row["suffix"], read(row)))
            if key is not None:
                yield Record(key=key, members=tuple(members))
