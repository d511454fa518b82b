"""Reading parts of records: what the json and the arrays of a chunk say, and runs of its pictures.

The small members of a chunk are parsed once and kept, as arrays, in a bounded cache, because random single frames come
back to the same chunk a hundred times. Pictures are never kept. Every member that is read is checked against the tar's
own header, so that an index of another shard, or members that were swapped, are an error and not another face.
Letters: T frames of the chunk, N landmarks.
"""

import io
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from reactionnet_datasets.arrays import from_npy
from reactionnet_datasets.catalog import Catalog, ShardIndex
from reactionnet_datasets.pictures import picture_size
from reactionnet_datasets.rules import Rule, Values
from reactionnet_datasets.sample import SCHEMA
from reactionnet_datasets.shards import BLOCK
from reactionnet_datasets.storage import ShardError

CACHE_BYTES = 64 << 20
SOUND_RATE = 16000
_META = ("dataset", "video_id", "clip_id", "subject_id", "track", "license", "credit", "stimulus", "fps")


@dataclass(kw_only=True)
class Pictures:
    """Where the pictures of one role lie in the tar, one entry a frame: from the header's start to the data's end.

    -1 where a frame has none. Lists, because single frames are looked up more often than whole runs. `size` is the
    pictures' height and width once one was looked at; whoever decodes checks that the others agree.
    """

    starts: list[int]
    ends: list[int]
    names: list[bytes]
    size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """What a chunk says without its pictures, of the fields that were asked for."""

    key: str
    stem: str
    chunk: int
    shard: int
    num: int
    t_s: np.ndarray
    frames: np.ndarray
    pictures: Mapping[str, Pictures]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    labels: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    captions: Sequence[Mapping[str, Any]] = ()
    sound: np.ndarray | None = None
    sound_start_s: float = 0.0
    meta: Mapping[str, Any] = field(default_factory=dict)
    num_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which parts of a record to parse."""

    rules: tuple[Rule, ...] = ()
    arrays: tuple[str, ...] = ()
    boxes: bool = False
    sound: bool = False
    captions: bool = False
    meta: bool = False


class Run(NamedTuple):
    """One read of a shard, and the members in it: begin of the header, end of the data, name; from the read's start."""

    path: str
    start: int
    num_bytes: int
    members: list[tuple[int, int, bytes]]


class Records:
    """Chunks of a catalog by number, for any number of threads."""

    def __init__(self, catalog: Catalog, wanted: Wanted, cache_bytes: int = CACHE_BYTES):
        self.catalog, self.wanted = catalog, wanted
        self._cache_bytes = cache_bytes
        self._classes: dict[str, tuple[str, str]] = {}
        self._reset()

    def _reset(self) -> None:
        self._kept: OrderedDict[int, Parsed] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("catalog", "wanted", "_cache_bytes", "_classes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def parsed(self, chunk: int) -> Parsed:
        """A chunk's parts. ShardError where the record is not what its index and the tables say."""
        found = self._kept.get(chunk)
        if found is not None:
            return found
        found = self._parse(chunk)
        with self._lock:
            if chunk not in self._kept:
                self._kept[chunk] = found
                self._kept_bytes += found.num_bytes
            while self._kept_bytes > self._cache_bytes and len(self._kept) > 1:
                self._kept_bytes -= self._kept.popitem(last=False)[1].num_bytes
        return found

    def runs(self, parsed: Parsed, role: str, places: slice | Sequence[int] | np.ndarray) -> list[Run]:
        """The reads that bring the pictures of these frames (a slice, or numbers ascending), few.

        ShardError where a picture is missing.
        """
        where, path = parsed.pictures[role], self.catalog.shards[parsed.shard].path
        if isinstance(places, slice):
            starts, ends, names = where.starts[places], where.ends[places], where.names[places]
        else:
            starts, ends = [where.starts[at] for at in places], [where.ends[at] for at in places]
            names = [where.names[at] for at in places]
        if min(starts) < 0:
            place = np.arange(parsed.num)[places][starts.index(-1)]
            raise _missing(path, parsed, role, int(place))
        if len(starts) == 1:
            num_bytes = ends[0] - starts[0]
            return [Run(path, starts[0], num_bytes, [(0, num_bytes, names[0])])]
        most = self.catalog.storage.joins(path)
        breaks = [n for n in range(1, len(starts)) if not 0 <= starts[n] - ends[n - 1] <= most]
        runs = []
        for first, last in pairwise([0, *breaks, len(starts)]):
            at = starts[first]
            members = [(starts[n] - at, ends[n] - at, names[n]) for n in range(first, last)]
            runs.append(Run(path, at, ends[last - 1] - at, members))
        return runs

    def member(self, parsed: Parsed, role: str, place: int) -> tuple[str, int, int, bytes]:
        """Where the picture of one frame lies: path, begin of its header, bytes from there to its end, name.

        ShardError where it is missing.
        """
        where, path = parsed.pictures[role], self.catalog.shards[parsed.shard].path
        start = where.starts[place]
        if start < 0:
            raise _missing(path, parsed, role, place)
        return path, start, where.ends[place] - start, where.names[place]

    def picture_size(
        self, parsed: Parsed, role: str, path: str, start: int, num_bytes: int, name: bytes
    ) -> tuple[int, int]:
        """Height and width of the pictures of a chunk, looked at once, in the member that is named."""
        pictures = parsed.pictures[role]
        if pictures.size is None:
            data = self.catalog.storage.read(path, start, num_bytes)
            check_name(data, 0, name, path)
            pictures.size = picture_size(data[BLOCK:], name)
        return pictures.size

    def _parse(self, chunk: int) -> Parsed:
        catalog = self.catalog
        key, shard = catalog.keys[chunk], int(catalog.chunk_shard[chunk])
        index = catalog.index_of(shard)
        if key not in index.rows:
            raise ShardError(f"{index.path} has no record {key}, which tables/windows lists")
        first, last = index.rows[key]
        suffixes = index.suffix[first:last].to_pylist()
        members = {suffix: first + at for at, suffix in enumerate(suffixes)}
        if len(members) != last - first:
            raise ShardError(f"{index.path}: record {key} has a member twice")
        small = [suffix for suffix in members if self._is_wanted(suffix)]
        data = self._members(key, index, {suffix: members[suffix] for suffix in small})
        content = _json(data.pop("json", None), key, index.path)
        num = len(content["frames"])
        if num != catalog.chunk_frames[chunk]:
            raise ShardError(
                f"{index.path}: record {key} has {num} frames, tables/windows says {catalog.chunk_frames[chunk]}"
            )
        arrays = {
            suffix.removesuffix(".npy"): _array(data[suffix], key, suffix) for suffix in data if suffix != "audio.flac"
        }
        for name, array in arrays.items():
            if array.shape[:1] != (num,):
                raise ShardError(
                    f"{index.path}: {name} of {key} has shape {array.shape}; expected {num} rows, one a frame"
                )
        if self.wanted.boxes:
            arrays["boxes"] = _boxes(content, num)
        sound, start_s = None, 0.0
        if "audio.flac" in data:
            sound, start_s = _sound(data["audio.flac"], content, key)
        parsed = Parsed(
            key=key,
            stem=key.rpartition("-")[0],
            chunk=chunk,
            shard=shard,
            num=num,
            t_s=np.array(content["t_s"], np.float64),
            frames=np.array(content["frames"], np.int64),
            pictures={role: _pictures(members, index, key, num, role) for role in ("reaction", "stimulus")},
            arrays=arrays,
            labels={rule.target: self._label(rule, content["labels"], num, key) for rule in self.wanted.rules},
            captions=content["captions"] if self.wanted.captions else (),
            sound=sound,
            sound_start_s=start_s,
            meta={name: content[name] for name in _META} if self.wanted.meta else {},
            num_bytes=2000 + num * (32 + 2 * 170) + sum(a.nbytes for a in arrays.values())
            + (sound.nbytes if sound is not None else 0) + 16 * num * len(self.wanted.rules),
        )  # fmt: skip
        return parsed

    def _is_wanted(self, suffix: str) -> bool:
        if suffix == "audio.flac":
            return self.wanted.sound
        return suffix == "json" or (suffix.endswith(".npy") and suffix.removesuffix(".npy") in self.wanted.arrays)

    def _members(self, key: str, index: ShardIndex, rows: Mapping[str, int]) -> dict[str, bytes]:
        """Small members; they lie before the pictures, so that one read is enough."""
        if not rows:
            return {}
        start = min(int(index.offset[row]) for row in rows.values()) - BLOCK
        end = max(int(index.offset[row] + index.size[row]) for row in rows.values())
        data = self.catalog.storage.read(index.path, start, end - start)
        found = {}
        for suffix, row in rows.items():
            at = int(index.offset[row]) - start
            check_name(data, at - BLOCK, f"{key}.{suffix}".encode(), index.path)
            found[suffix] = bytes(data[at : at + int(index.size[row])])
        return found

    def _label(self, rule: Rule, labels: Mapping[str, Any], num: int, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Targets and whether they are valid, one a frame; of a clip-wide label the same for each."""
        columns = {}
        for source in rule.sources:
            label = labels.get(source)
            if label is None:
                return rule.missing(num)
            values = label["value"] if isinstance(label["mask"], list) else [label["value"]] * num
            if len(values) != num:
                raise ShardError(f"label {source} of {key} has {len(values)} values for {num} frames")
            columns[source] = Values(values=values, space=label["space"])
        if (
            rule.classes is None
            and columns[rule.target].space
            != self._classes.setdefault(rule.target, (columns[rule.target].space, key))[0]
        ):
            space, other = self._classes[rule.target]
            raise ValueError(
                f"{rule.target} is in {columns[rule.target].space} in {key}, in {space} in {other}: their indexes differ. "
                f"Name one, such as classes:{space}"
            )
        try:
            return rule.derive(columns)
        except (TypeError, AttributeError) as error:
            raise ShardError(f"label {rule.target} of {key} holds what no rule reads: {error}") from error


def _missing(path: str, parsed: Parsed, role: str, place: int) -> ShardError:
    return ShardError(f"{path}: record {parsed.key} has no {role} picture for its frame {place}")


def check_name(data: bytes | memoryview, at: int, name: bytes, path: str) -> None:
    """The tar's own header must name the member that the index promises."""
    expected = (name + b"\0")[:100]
    if data[at : at + len(expected)] != expected:
        found = bytes(data[at : at + 100]).split(b"\0")[0]
        raise ShardError(
            f"{path} has {found!r} where its index expects {name.decode()!r}: members were moved or damaged"
        )


def _json(data: bytes | None, key: str, path: str) -> dict[str, Any]:
    if data is None:
        raise ShardError(f"{path}: record {key} has no json")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{path}: the json of {key} is damaged: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or content.get("key") != key:
        raise ShardError(f"{path}: the json of {key} is of another record or schema")
    missing = [name for name in ("frames", "t_s", "labels", "captions", *_META) if name not in content]
    if missing or len(content["frames"]) != len(content["t_s"]):
        raise ShardError(f"{path}: the json of {key} lacks {', '.join(missing) or 'a time for every frame'}")
    return content


def _array(data: bytes, key: str, suffix: str) -> np.ndarray:
    try:
        return from_npy(data)
    except ValueError as error:
        raise ShardError(f"{suffix} of {key} is damaged: {error}") from error


def _pictures(members: Mapping[str, int], index: ShardIndex, key: str, num: int, role: str) -> Pictures:
    starts, ends, names = [-1] * num, [-1] * num, [b""] * num
    part = f".{role}."
    for suffix, row in members.items():
        if part in suffix:
            digits = suffix[:3]
            if not digits.isdecimal() or int(digits) >= num or starts[int(digits)] >= 0:
                raise ShardError(f"{index.path}: record {key} of {num} frames has a picture {suffix!r}, one too many")
            place = int(digits)
            starts[place] = int(index.offset[row]) - BLOCK
            ends[place] = int(index.offset[row] + index.size[row])
            names[place] = f"{key}.{suffix}".encode()
    return Pictures(starts=starts, ends=ends, names=names)


def _boxes(content: Mapping[str, Any], num: int) -> np.ndarray:
    """Face boxes (T, 4) x, y, w, h in pixels of the reaction picture; NaN where the record has none.

    The json holds them in the upright source picture; `crop` is a similarity, whose turn a box does not follow: the
    box keeps its centre and is scaled.
    """
    if content.get("face_boxes") is None:
        return np.full((num, 4), np.nan, np.float32)
    boxes = np.array([[np.nan] * 4 if box is None else box for box in content["face_boxes"]], np.float64)
    if content.get("crop") is None:
        return boxes.astype(np.float32)
    matrix = np.array(content["crop"], np.float64).reshape(num, 2, 3)
    centre = np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, np.ones((num, 1))], axis=1)
    moved = np.einsum("tij,tj->ti", matrix, centre)
    size = boxes[:, 2:] * np.hypot(matrix[:, 0, 0], matrix[:, 1, 0])[:, None]
    return np.concatenate([moved - size / 2, size], axis=1).astype(np.float32)


def _sound(data: bytes, content: Mapping[str, Any], key: str) -> tuple[np.ndarray, float]:
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    except soundfile.LibsndfileError as error:
        raise ShardError(f"audio.flac of {key} is damaged: {error}") from error
    if rate != SOUND_RATE or samples.ndim != 1:
        raise ShardError(f"audio.flac of {key} is no {SOUND_RATE} Hz mono: {rate} Hz, shape {samples.shape}")
    return samples, float((content.get("audio") or {}).get("start_s", content["t_s"][0]))
