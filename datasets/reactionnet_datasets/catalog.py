"""What a data set offers to read: its clips in order, the chunks of each, and where every member lies.

Opened from `dataset.json`, `tables/windows` and, where a selection asks for it, a few columns of `tables/frames`; the
index of a shard is read when the first of its records is. All of it is arrays of one entry a clip, chunk or member.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reactionnet_datasets.protocols import Protocol, load_protocol
from reactionnet_datasets.sample import SCHEMA, is_key
from reactionnet_datasets.shards import BLOCK, INDEX_SCHEMA, MANIFEST, ShardInfo
from reactionnet_datasets.storage import ShardError, Storage, inside

_WINDOWS = ("key", "dataset", "video_id", "subject_id", "clip_id", "first_frame", "num_frames", "clip_num_frames")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set and what to take of it.

    `split` alone names a split of `dataset.json` (None: all). With `task`, it is the split of that task (Aff-Wild2 has
    other ones for action units than for expressions). With `protocol` and `fold`, it is a role of that fold.
    """

    root: str | Path
    split: str | None = None
    task: str | None = None
    protocol: str | Path | None = None
    fold: int | None = None

    def __post_init__(self) -> None:
        if (self.protocol is None) != (self.fold is None):
            raise ValueError(f"protocol {self.protocol!r} and fold {self.fold!r} belong together; name both or neither")
        if self.split is None and (self.task or self.protocol):
            raise ValueError("a task or a fold needs a split: train, val or test")
        if self.task and self.protocol:
            raise ValueError(f"task {self.task!r} and protocol {self.protocol!r}: choose one")


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """Chunks in reading order (one entry each in `chunk_*` and `keys`) and the clips that they make up.

    `chunk_place` is a chunk's first frame counted from the start of its clip; `clip_first` has one entry more than there
    are clips: clip c is chunks `clip_first[c]` to `clip_first[c + 1]`. `labelled`, where it was asked for, has one entry
    a frame in the same order.
    """

    storage: Storage
    shards: tuple[ShardInfo, ...]
    keys: tuple[str, ...]
    clip_ids: tuple[str, ...]
    chunk_shard: np.ndarray
    chunk_frames: np.ndarray
    chunk_place: np.ndarray
    clip_first: np.ndarray
    clip_frames: np.ndarray
    labelled: np.ndarray | None = None
    digest: str = ""
    indexes: dict[int, "ShardIndex"] = field(default_factory=dict, repr=False, compare=False)

    def index_of(self, shard: int) -> "ShardIndex":
        """The index of a shard, read once. ShardError where it or the tar's length is not what `dataset.json` says."""
        if shard not in self.indexes:
            self.indexes[shard] = ShardIndex.read(self.storage, self.shards[shard])
        return self.indexes[shard]


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """Members of one tar: `offset` and `size` have one entry a member, `rows` gives the first and last of a key's."""

    path: str
    suffix: pa.ChunkedArray
    offset: np.ndarray
    size: np.ndarray
    rows: Mapping[str, tuple[int, int]]

    @classmethod
    def read(cls, storage: Storage, info: ShardInfo) -> "ShardIndex":
        data = storage.whole(info.index)
        if hashlib.sha256(data).hexdigest() != info.index_sha256:
            raise ShardError(f"{info.index} is not the index that {MANIFEST} lists: sha256 differs. Copy it again")
        if storage.size(info.path) != info.num_bytes:
            raise ShardError(
                f"{info.path} has {storage.size(info.path)} bytes, {MANIFEST} says {info.num_bytes}: it was cut off or "
                "changed. Copy or build it again"
            )
        return cls.parse(data, info)

    @classmethod
    def parse(cls, data: bytes, info: ShardInfo) -> "ShardIndex":
        """Bytes of an index. ShardError where members overlap, lie outside the tar, or a key comes twice."""
        try:
            table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        except pa.ArrowInvalid as error:
            raise ShardError(f"{info.index} is no shard index: {error}") from error
        if table.schema != INDEX_SCHEMA:
            raise ShardError(f"{info.index} has columns {table.column_names}; expected {INDEX_SCHEMA.names}")
        if any(column.null_count for column in table.columns):
            raise ShardError(f"{info.index} has empty cells")
        offset, size = table["offset"].to_numpy(), table["size"].to_numpy()
        # Sizes first, each against the tar: sums of what is left cannot overflow.
        if ((size < 0) | (size > info.num_bytes) | (offset < BLOCK) | (offset > info.num_bytes)).any() or (
            (len(offset) and (offset[1:] - BLOCK < (offset + size)[:-1]).any())
            or (offset + size > info.num_bytes).any()
        ):
            raise ShardError(f"{info.index} has members that overlap or lie outside {info.path}")
        ends = pc.run_end_encode(table["key"].combine_chunks()) if table.num_rows else None
        keys = ends.values.to_pylist() if ends is not None else []
        lasts = ends.run_ends.to_pylist() if ends is not None else []
        rows = dict(zip(keys, zip([0, *lasts[:-1]], lasts, strict=True), strict=True))
        if len(rows) != len(keys):
            raise ShardError(f"{info.index} has a key in more than one place")
        return cls(path=info.path, suffix=table["suffix"], offset=offset, size=size, rows=rows)


def open_catalog(source: Source, storage: Storage, labels: Iterable[str] = ()) -> Catalog:
    """Read what a source selects. `labels`: columns of which one must be valid for a frame to count as labelled.

    Raises ShardError where tables, shards and manifest contradict each other, ValueError where the selection is empty
    or names a split, task, protocol or label that the data set lacks.
    """
    manifest = manifest_of(storage)
    by_split = manifest["splits"]
    whole = source.split is None or source.task is not None or source.protocol is not None
    if not whole and source.split not in by_split:
        raise ValueError(f"{storage.name} has no split {source.split!r}; it has {', '.join(by_split)}")
    splits = list(by_split) if whole else [source.split]
    shards = tuple(_shard(entry) for split in splits for entry in by_split[split]["shards"])
    windows = _table(storage, [part for split in splits for part in by_split[split]["tables"]["windows"]], None)
    parts = [part for split in splits for part in by_split[split]["tables"]["frames"]]
    labels = tuple(labels)
    frames = None
    if labels or source.task or source.protocol:
        frames = _table(storage, parts, ["key", *_selecting(source), *(f"{name}_mask" for name in labels)])
    chosen = _chosen(source, storage, windows, frames)
    return _assemble(storage, shards, windows, frames, chosen, labels)


def manifest_of(storage: Storage) -> dict[str, Any]:
    """`dataset.json` of a data set, local or remote. ShardError where there is none, or none that can be read."""
    try:
        content = json.loads(storage.whole(MANIFEST))
    except ShardError as error:
        raise ShardError(f"{storage.name} is no data set: {error}") from error
    except ValueError as error:
        raise ShardError(f"{storage.name}/{MANIFEST} is damaged: {error}") from error
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        raise ShardError(f"{storage.name}/{MANIFEST} has schema {found!r}; this version reads {SCHEMA!r}")
    if not isinstance(content.get("splits"), dict):
        raise ShardError(f"{storage.name}/{MANIFEST} lists no splits")
    return content


def _shard(entry: Mapping[str, Any]) -> ShardInfo:
    try:
        info = ShardInfo(**{name: entry[name] for name in ShardInfo.__dataclass_fields__})
    except (KeyError, TypeError) as error:
        raise ShardError(f"{MANIFEST} describes a shard without {error}: {entry}") from error
    inside(info.path), inside(info.index)
    return info


def _table(storage: Storage, parts: Iterable[str], columns: list[str] | None) -> pa.Table:
    tables = []
    for part in parts:
        try:
            file = pq.ParquetFile(io.BytesIO(storage.whole(part)))
            known = set(file.schema_arrow.names)
            missing = [name for name in columns or () if name not in known]
            if missing:
                raise ValueError(
                    f"{part} has no column {missing[0]!r}; it has {', '.join(sorted(n for n in known if columns))}"
                )
            tables.append(file.read(columns=columns))
        except pa.ArrowInvalid as error:
            raise ShardError(f"{part} is no table: {error}") from error
    if not tables:
        raise ShardError(f"{storage.name} has no tables for these splits")
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def _selecting(source: Source) -> list[str]:
    return [f"split_{source.task}"] if source.task else ["folds"] if source.protocol else []


def _chosen(source: Source, storage: Storage, windows: pa.Table, frames: pa.Table | None) -> np.ndarray:
    """One truth a chunk: whether the source selects it."""
    if frames is None or not _selecting(source):
        return np.ones(windows.num_rows, bool)
    firsts = frames.take(_first_rows(storage, windows, frames))
    if source.task:
        return np.array([split == source.split for split in firsts[f"split_{source.task}"].to_pylist()], bool)
    protocol, fold, split = load_protocol(source.protocol or ""), source.fold or 0, source.split or ""
    wanted = set(protocol.parts_of(fold, split))
    folds = [dict(row or ()) for row in firsts["folds"].to_pylist()]
    if any(protocol.name in row for row in folds):
        return np.array([row.get(protocol.name) in wanted for row in folds], bool)
    return _by_subject(protocol, wanted, windows, storage)


def _by_subject(protocol: Protocol, wanted: set[int], windows: pa.Table, storage: Storage) -> np.ndarray:
    """Shards that were written before the protocol was: its subject lists still apply."""
    subjects = windows["subject_id"].to_pylist()
    parts = {subject: protocol.part_of(subject) for subject in set(subjects) if subject is not None}
    if all(part is None for part in parts.values()):
        raise ValueError(f"{storage.name} has no subject that {protocol.name} knows; is it {protocol.dataset}?")
    return np.array([parts.get(subject) in wanted for subject in subjects], bool)


def _first_rows(storage: Storage, windows: pa.Table, frames: pa.Table) -> np.ndarray:
    """Row of `frames` at which each chunk starts: both tables follow the shards' order."""
    lengths = windows["num_frames"].to_numpy()
    firsts = np.cumsum(lengths) - lengths
    if lengths.sum() != frames.num_rows or not frames["key"].take(firsts).equals(windows["key"]):
        raise ShardError(f"{storage.name}: tables/frames and tables/windows are not of the same shards")
    return firsts


def _assemble(
    storage: Storage,
    shards: tuple[ShardInfo, ...],
    windows: pa.Table,
    frames: pa.Table | None,
    chosen: np.ndarray,
    labels: tuple[str, ...],
) -> Catalog:
    rows = pa.table(
        {name: _plain(windows[name]) for name in (*_WINDOWS, "shard")} | {"row": np.arange(windows.num_rows)}
    ).filter(pa.array(chosen))
    if not rows.num_rows:
        raise ValueError(f"{storage.name}: nothing is left of this selection")
    shard_of = {info.path: number for number, info in enumerate(shards)}
    # Clips in the order in which they lie, the chunks of each by time.
    clips = rows["clip_id"].to_numpy(zero_copy_only=False)
    _, first_seen, number = np.unique(clips, return_index=True, return_inverse=True)
    order = np.lexsort((rows["first_frame"].to_numpy(), first_seen[number]))
    rows = rows.take(order)
    clip_of = first_seen[number][order]
    starts = np.flatnonzero(np.r_[True, clip_of[1:] != clip_of[:-1]])
    clip_first = np.r_[starts, rows.num_rows].astype(np.int32)
    chunk_frames = rows["num_frames"].to_numpy().astype(np.int64)
    ends = np.cumsum(chunk_frames)
    clip_frames = np.add.reduceat(chunk_frames, starts)
    chunk_place = ends - chunk_frames - np.repeat((ends - chunk_frames)[starts], np.diff(clip_first))
    keys = tuple(rows["key"].to_pylist())
    clip_ids = tuple(rows["clip_id"].take(starts).to_pylist())
    stated = rows["clip_num_frames"].take(starts).to_numpy()
    for wrong in np.flatnonzero(stated != clip_frames)[:1]:
        raise ShardError(
            f"clip {clip_ids[wrong]} has {stated[wrong]} frames, its chunks {clip_frames[wrong]}: a record is missing or "
            "comes twice"
        )
    paths = rows["shard"].to_pylist()
    for path, key in zip(paths, keys, strict=True):
        if path not in shard_of:
            raise ShardError(f"record {key} lies in {path}, which {MANIFEST} does not list")
        if not is_key(key):
            raise ShardError(f"tables/windows of {storage.name} has {key!r}, which is no key")
    labelled = None
    if labels and frames is not None:
        valid = np.zeros(frames.num_rows, bool)
        for name in labels:
            valid |= pc.equal(_plain(frames[f"{name}_mask"]), "valid").fill_null(False).to_numpy(zero_copy_only=False)
        firsts = _first_rows(storage, windows, frames)[rows["row"].to_numpy()]
        within = np.arange(ends[-1]) - np.repeat(ends - chunk_frames, chunk_frames)
        labelled = valid[np.repeat(firsts, chunk_frames) + within]
    digest = hashlib.sha256("".join(info.sha256 for info in shards).encode())
    digest.update(chosen.tobytes())
    return Catalog(
        storage=storage,
        shards=shards,
        keys=keys,
        clip_ids=clip_ids,
        chunk_shard=np.array([shard_of[path] for path in paths], np.int32),
        chunk_frames=chunk_frames,
        chunk_place=chunk_place,
        clip_first=clip_first,
        clip_frames=clip_frames,
        labelled=labelled,
        digest=digest.hexdigest(),
    )


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
