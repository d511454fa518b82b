"""`reactionnet-validate DATASET`: is every byte what the manifest says, and does everything fit together?

Looked at, for every shard and record: sha256 of tars and indexes; index against the tar's own headers; that json, arrays,
sound and every picture can be decoded; names, numbers and ranges of labels; times; pairs of reaction and stimulus; that
clips are whole and in order; that the tables say what the shards do; and, over the whole data set, that no subject is in
two splits, nor in two parts of a protocol. Every fault is one line: where, and what is wrong in words.
"""

import io
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import simplejpeg
import typer
from PIL import Image

from reactionnet_datasets.arrays import from_npy
from reactionnet_datasets.command import (
    EXIT_FAILED,
    LogLevel,
    Quiet,
    Version,
    console,
    errors,
    make_app,
    refusals,
    set_log_level,
)
from reactionnet_datasets.labels import fault_of
from reactionnet_datasets.protocols import load_protocol, protocol_names
from reactionnet_datasets.sample import CHUNK_FRAMES, Chunk
from reactionnet_datasets.shards import MANIFEST, ShardInfo, file_sha256, read_index, read_manifest, scan_tar
from reactionnet_datasets.splits import LOCK, hash_of, read_lock
from reactionnet_datasets.storage import ShardError, inside
from reactionnet_datasets.stores import Place, as_place, local
from reactionnet_datasets.tables import read_part

SHAPES = {"landmarks": (68, 2), "pose": (3,)}
SOUND_RATE = 16000


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something wrong: the file, the record in it where there is one, and what it is."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(kw_only=True)
class Report:
    """What was looked at, and what was found."""

    shards: int = 0
    records: int = 0
    frames: int = 0
    pictures: int = 0
    faults: list[Fault] = field(default_factory=list)


@dataclass(kw_only=True)
class _Seen:
    """What is gathered over all records, to find contradictions between them."""

    splits: dict[tuple[str, str], dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    parts: dict[tuple[str, str], dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    keys: dict[str, str] = field(default_factory=dict)
    clips: dict[str, list[tuple[str, str, Chunk]]] = field(default_factory=lambda: defaultdict(list))
    videos: dict[str, str] = field(default_factory=dict)


def validate(root: Place, *, decode: bool = True) -> Report:
    """Look at a whole data set in a folder or a store. Faults are reported, never raised.

    Without `decode`, pictures and sound are only checked by their hashes. ValueError or FileNotFoundError where there is
    no `dataset.json` that this version reads.
    """
    manifest = read_manifest(root)
    report, seen = Report(), _Seen()
    for split, entry in manifest["splits"].items():
        shards = []
        for content in entry.get("shards", []):
            try:
                info = ShardInfo(**{name: content[name] for name in ShardInfo.__dataclass_fields__})
                inside(info.path), inside(info.index)
            except (KeyError, TypeError, ShardError) as error:
                report.faults.append(Fault(where=MANIFEST, what=f"describes a shard of {split} badly: {error}"))
                continue
            shards.append(info)
            _check_shard(root, split, info, report, seen, decode=decode)
        _check_tables(root, split, entry.get("tables", {}), seen, report)
    report.faults += _leaks(seen)
    report.faults += _parts(seen)
    report.faults += _clips(seen)
    report.faults += _lock(root, seen)
    return report


def _check_shard(root: Place, split: str, info: ShardInfo, report: Report, seen: _Seen, *, decode: bool) -> None:
    report.shards += 1
    missing = [name for name in (info.path, info.index) if not (root / name).is_file()]
    if missing:
        report.faults += [Fault(where=name, what=f"is missing, but {MANIFEST} lists it") for name in missing]
        return
    with local(root / info.path) as tar, local(root / info.index) as index:
        _check_files(tar, index, split, info, report, seen, decode=decode)


def _check_files(
    path: Path, index_path: Path, split: str, info: ShardInfo, report: Report, seen: _Seen, *, decode: bool
) -> None:
    size = path.stat().st_size
    if size != info.num_bytes:
        report.faults.append(
            Fault(where=info.path, what=f"has {size} bytes, {MANIFEST} says {info.num_bytes}: cut off or changed")
        )
    elif file_sha256(path) != info.sha256:
        report.faults.append(Fault(where=info.path, what=f"sha256 differs from {MANIFEST}: its content was changed"))
    if file_sha256(index_path) != info.index_sha256:
        report.faults.append(Fault(where=info.index, what=f"sha256 differs from {MANIFEST}"))
    try:
        scanned = scan_tar(path)
    except (tarfile.TarError, EOFError, OSError) as error:
        report.faults.append(Fault(where=info.path, what=f"is no whole tar: {error}"))
        return
    try:
        index = read_index(index_path)
    except ValueError as error:
        report.faults.append(Fault(where=info.index, what=str(error)))
    else:
        if not index.equals(scanned):
            report.faults.append(Fault(where=info.index, what=_index_fault(index, scanned)))
    records = _records(scanned)
    if len(records) != info.records:
        report.faults.append(
            Fault(where=info.path, what=f"holds {len(records)} records, {MANIFEST} says {info.records}")
        )
    with path.open("rb") as tar, ThreadPoolExecutor() as pool:
        for key, members in records.items():
            where = f"{info.path}, record {key}"
            data = {}
            for suffix, offset, num_bytes in members:
                tar.seek(offset)
                data[suffix] = tar.read(num_bytes)
            if len(data) < len(members):
                report.faults.append(Fault(where=where, what="has a member twice"))
            if key in seen.keys:
                report.faults.append(Fault(where=where, what=f"its key is also in {seen.keys[key]}"))
            seen.keys[key] = info.path
            report.records += 1
            try:
                chunk = Chunk.from_json(data["json"])
            except KeyError as error:
                report.faults.append(Fault(where=where, what=f"its json is missing or lacks {error}"))
                continue
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                report.faults.append(Fault(where=where, what=f"its json is damaged: {error}"))
                continue
            report.frames += len(chunk.frames)
            whats = [*_chunk_faults(key, chunk), *_member_faults(chunk, data, decode=decode)]
            pictures = [(suffix, content) for suffix, content in data.items() if _is_picture(suffix)]
            report.pictures += len(pictures)
            if decode:
                whats += [what for what in pool.map(_picture_fault, pictures) if what]
            report.faults += [Fault(where=where, what=what) for what in whats]
            _note(seen, split, info.path, chunk)


def _index_fault(index: pa.Table, scanned: pa.Table) -> str:
    for name in ("key", "suffix", "offset", "size"):
        if len(index) == len(scanned) and not index[name].equals(scanned[name]):
            pairs = zip(index[name].to_pylist(), scanned[name].to_pylist(), strict=True)
            row, (says, real) = next((n, pair) for n, pair in enumerate(pairs) if pair[0] != pair[1])
            return f"disagrees with its tar: {name} of member {row} is {says!r}, the tar has {real!r}"
    return f"disagrees with its tar: {len(index)} members, the tar has {len(scanned)}"


def _records(scanned: pa.Table) -> dict[str, list[tuple[str, int, int]]]:
    records: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for key, suffix, offset, size in zip(*(scanned[name].to_pylist() for name in scanned.column_names), strict=True):
        records[key].append((suffix, offset, size))
    return records


def _chunk_faults(key: str, chunk: Chunk) -> Iterator[str]:
    """What a record's json contradicts in itself."""
    if chunk.key != key:
        yield f"its json belongs to record {chunk.key}: members were swapped"
    if any(not np.isfinite(t) for t in chunk.t_s) or any(b <= a for a, b in pairwise(chunk.t_s)):
        yield "its times do not increase"
    if any(b <= a for a, b in pairwise(chunk.frames)):
        yield "its frame numbers do not increase"
    for name, label in chunk.labels.items():
        num = None if isinstance(label.mask, str) else len(label.mask)
        if num is not None and num != len(chunk.frames):
            yield f"label {name} has {num} values for {len(chunk.frames)} frames"
        try:
            fault = fault_of(name, label)
        except ValueError as error:
            fault = str(error)
        if fault:
            yield f"label {fault}"


def _member_faults(chunk: Chunk, data: Mapping[str, bytes], *, decode: bool) -> Iterator[str]:
    """Which members are missing, too many, or no arrays and sounds."""
    num = len(chunk.frames)
    roles: dict[str, set[int]] = {"reaction": set(), "stimulus": set()}
    for suffix in data:
        if _is_picture(suffix):
            place, role, _ = suffix.split(".", 2)
            if not place.isdecimal() or int(place) >= num or int(place) in roles[role]:
                yield f"picture {suffix} belongs to none of its {num} frames"
            else:
                roles[role].add(int(place))
        elif suffix.endswith(".npy"):
            if fault := _array_fault(suffix, data[suffix], num):
                yield fault
        elif suffix == "audio.flac":
            if decode and (fault := _sound_fault(data[suffix])):
                yield fault
        elif suffix != "json":
            yield f"member {suffix} is of no kind that a record holds"
    every = set(range(num))
    bare = chunk.provenance.get("without_pictures") is True and not roles["reaction"]  # a release of features alone
    if roles["reaction"] != every and not bare:
        yield f"has no reaction picture for frames {_spelled(every - roles['reaction'])}"
    if roles["stimulus"] and roles["stimulus"] != every:
        yield f"pairs are broken: no stimulus picture for frames {_spelled(every - roles['stimulus'])}"
    if chunk.audio is not None and "audio.flac" not in data:
        yield "its json speaks of sound, but there is no audio.flac"


def _is_picture(suffix: str) -> bool:
    parts = suffix.split(".")
    return len(parts) == 3 and parts[1] in ("reaction", "stimulus")


def _array_fault(suffix: str, data: bytes, num: int) -> str | None:
    try:
        array = from_npy(data)
    except ValueError as error:
        return f"{suffix} is no array: {error}"
    shape = SHAPES.get(suffix.removesuffix(".npy"))
    if shape is not None and array.shape != (num, *shape):
        return f"{suffix} has shape {array.shape}; expected {(num, *shape)}"
    return None


def _sound_fault(data: bytes) -> str | None:
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    except soundfile.LibsndfileError as error:
        return f"audio.flac cannot be decoded: {error}"
    if rate != SOUND_RATE or samples.ndim != 1:
        return f"audio.flac has {rate} Hz and shape {samples.shape}; expected {SOUND_RATE} Hz mono"
    return None


def _picture_fault(picture: tuple[str, bytes]) -> str | None:
    suffix, data = picture
    try:
        if suffix.endswith((".jpg", ".jpeg")) and simplejpeg.decode_jpeg_header(data)[2] not in ("CMYK", "YCCK"):
            simplejpeg.decode_jpeg(data)
        else:
            Image.open(io.BytesIO(data)).load()
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        return f"picture {suffix} cannot be decoded: {error}"
    return None


def _note(seen: _Seen, split: str, path: str, chunk: Chunk) -> None:
    person = f"subject {chunk.subject_id}" if chunk.subject_id is not None else f"video {chunk.video_id}"
    where = f"{path}, record {chunk.key}"
    if split != "all":
        seen.splits["all", person].setdefault(split, where)
    for task, name in chunk.splits.items():
        seen.splits[task, person].setdefault(name, where)
    for protocol, part in chunk.folds.items():
        seen.parts[protocol, person].setdefault(part, where)
    seen.clips[chunk.clip_id].append((split, path, chunk))
    if "all" in chunk.splits:
        seen.videos[chunk.video_id] = chunk.splits["all"]
    if split != "all" and chunk.splits.get("all", split) != split:
        seen.splits["all", f"record {chunk.key}"] = {split: path, chunk.splits["all"]: "its json"}


def _leaks(seen: _Seen) -> Iterator[Fault]:
    for (task, person), splits in seen.splits.items():
        if len(splits) > 1:
            first, second, *_ = sorted(splits)
            what = f"{person} is in {' and '.join(sorted(splits))} of task {task!r}; also in {splits[second]}"
            yield Fault(where=splits[first], what=f"split leak: {what}")


def _parts(seen: _Seen) -> Iterator[Fault]:
    known = protocol_names()
    for (name, person), parts in seen.parts.items():
        where = next(iter(parts.values()))
        if len(parts) > 1:
            yield Fault(where=where, what=f"split leak: {person} is in parts {_spelled(parts)} of {name}")
        if name in known and person.startswith("subject "):
            stated = load_protocol(name).part_of(person.removeprefix("subject "))
            if stated not in parts:
                yield Fault(
                    where=where, what=f"{person} is in part {_spelled(parts)} of {name}, whose list says {stated}"
                )


def _clips(seen: _Seen) -> Iterator[Fault]:
    for clip, found in seen.clips.items():
        where = f"{found[0][1]}, clip {clip}"
        if len({path for _, path, _ in found}) > 1:
            yield Fault(
                where=where, what=f"lies in several shards: {', '.join(sorted({path for _, path, _ in found}))}"
            )
        chunks = [chunk for _, _, chunk in found]
        frames = [frame for chunk in chunks for frame in chunk.frames]
        if any(b <= a for a, b in pairwise(frames)):
            yield Fault(where=where, what="its records do not follow one another in time")
        for name, stated in (("clip_num_frames", len(frames)), ("clip_first_frame", min(frames))):
            values = {getattr(chunk, name) for chunk in chunks}
            if values != {stated}:
                yield Fault(where=where, what=f"{name} is {_spelled(values)}, its records make it {stated}")
        if any(len(chunk.frames) != CHUNK_FRAMES for chunk in chunks[:-1]):
            yield Fault(where=where, what=f"a record before its last holds other than {CHUNK_FRAMES} frames")


def _lock(root: Place, seen: _Seen) -> Iterator[Fault]:
    if not (root / LOCK).is_file():
        return
    try:
        lock = read_lock((root / LOCK).read_bytes())
    except ValueError as error:
        yield Fault(where=LOCK, what=str(error))
        return
    for video, split in seen.videos.items():
        locked = lock.get(hash_of(f"video:{video}"))
        if locked is not None and locked != split:
            yield Fault(where=LOCK, what=f"has video {video} in {locked}, its records are in {split}")


def _check_tables(root: Place, split: str, tables: Mapping[str, Sequence[str]], seen: _Seen, report: Report) -> None:
    """The frames and windows of a split against its records."""
    chunks = {c.key: (path, c) for found in seen.clips.values() for s, path, c in found if s == split}
    for table, count in (("windows", 1), ("frames", None)):
        rows: Counter[tuple[str, str]] = Counter()
        broken = False
        for part in tables.get(table, []):
            try:
                content = read_part(root, inside(part), ["key", "shard"])
            except (OSError, pa.ArrowInvalid, ShardError) as error:
                report.faults.append(Fault(where=str(part), what=f"cannot be read: {error}"))
                broken = True
                continue
            keys, shards = (content[name].cast(pa.string()).to_pylist() for name in ("key", "shard"))
            rows.update(zip(keys, shards, strict=True))
        expected = {(key, path): count or len(chunk.frames) for key, (path, chunk) in chunks.items()}
        if rows != expected and not broken:
            wrong = sorted({key for key, _ in (rows - Counter(expected)) + (Counter(expected) - rows)})
            what = f"tables/{table} of {split} and the shards disagree about record {', '.join(wrong[:3])}"
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            report.faults.append(Fault(where=f"tables/{table}.parquet", what=what + more))


def _spelled(values: Iterable[Any]) -> str:
    ordered = sorted(values)
    return ", ".join(map(str, ordered[:5])) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")


app = make_app()


@app.command()
def check(
    dataset: Annotated[str, typer.Argument(help="Folder or URL of the data set.")],
    no_decode: Annotated[bool, typer.Option("--no-decode", help="Check pictures and sound by hash alone.")] = False,
    max_faults: Annotated[int, typer.Option(help="Print at most so many faults.", min=1)] = 50,
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
    version_: Version = False,
) -> None:
    """Check that a data set is whole: hashes, indexes, pictures, labels, pairs, splits.

    Exit code 0 where nothing is wrong, 1 where something is, 2 where there is no data set.
    """
    set_log_level(log_level)
    with refusals():
        report = validate(as_place(dataset), decode=not no_decode)
    for fault in report.faults[:max_faults]:
        errors.print(str(fault))
    if len(report.faults) > max_faults:
        errors.print(f"... and {len(report.faults) - max_faults} more")
    if not quiet:
        counts = f"{report.shards} shards, {report.records} records, {report.frames} frames, {report.pictures} pictures"
        console.print(f"{counts}: {len(report.faults) or 'no'} fault{'' if len(report.faults) == 1 else 's'}")
    if report.faults:
        raise typer.Exit(EXIT_FAILED)


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
