"""From a release to shards: read the labels, plan which clip goes where, write shards in any number of processes.

Three steps. `plan` lets an importer read all labels and lays its clips down on disk as lines, in 256 files by the salted
hash of their video; memory holds one clip. `write_job` writes one shard from its lines, tables included; jobs know
nothing of one another, so that processes or a Beam job may do them in any order. `publish` lists what was written.
Same release, same options: same bytes, whatever the number of workers or how often it was killed. A shard that is
finished is not written again.

Clips whose splits have the task `all` go to the group of that name (train, val, test), everything else to `all`: where
tasks split differently, the tables' `split_<task>` say so.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import soundfile

from reactionnet_datasets.about import About, Finding
from reactionnet_datasets.clip import Clip, Media, files_of, from_line, label_at, present, source_of, to_line
from reactionnet_datasets.labels import column_of, fault_of
from reactionnet_datasets.media import MediaError, Picture, find_landmarks, read_pictures, read_sound, read_stream
from reactionnet_datasets.release import Release, ReleaseError, missing_media
from reactionnet_datasets.sample import (
    MAX_ESCAPED_ID,
    MAX_KEY,
    Chunk,
    canonical_json,
    chunk_spans,
    escape,
    make_key,
    picture_suffix,
)
from reactionnet_datasets.shards import (
    Record,
    ShardInfo,
    file_sha256,
    place_of,
    read_manifest,
    shards_for,
    write_atomic,
    write_manifest,
    write_shard,
)
from reactionnet_datasets.tables import make_table, schema_of, write_part
from reactionnet_datasets.tabulate import TableParts, tabulate

VERSION = 1  # of what an import writes; part of the plan, so that a newer version writes anew
GROUPS = ("train", "val", "test", "all")
REPORT = "import_report.json"
RATE = 16_000
_BUCKETS = 256
_HELD_LINES = 2000  # lines, of all buckets together, that wait in memory
_VIDEO_FRAME_BYTES = 40_000  # a guess, for the number of shards only


@dataclass(frozen=True, kw_only=True)
class Job:
    """One shard to write. Folders are absolute; the plan's lines lie in `work`."""

    root: str
    out: str
    work: str
    dataset: str
    license: str
    importer: str
    group: str
    number: int
    num_shards: int
    labels: tuple[str, ...]
    tasks: tuple[str, ...]
    allow_missing: bool = False
    landmarks: str = "none"


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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be written, and what was found while reading."""

    jobs: tuple[Job, ...]
    num_clips: int
    num_frames: int
    facts: Mapping[str, Any]


# -- 1: plan ---------------------------------------------------------------------------------------------------------


def check_markers(release: Release, about: About) -> None:
    """ReleaseError where ROOT does not look like the data set: what was expected and found, and where it may lie."""
    lacking = [marker for marker in about.markers if not _has(release, marker)]
    if not lacking:
        return
    names = " and ".join(marker.replace("|", " or ") for marker in about.markers)
    message = str(release.not_here(f"{about.name}: {names}"))
    for place in (release.root.parent, *(p for p in release.listing(release.root) if p.is_dir())):
        with suppress(OSError):
            if all(_has(Release(place), marker) for marker in about.markers):
                message += f"; {place} has them: is that the ROOT you mean?"
                break
    else:
        message += _another(release, about)
    raise ReleaseError(message)


def _has(release: Release, marker: str) -> bool:
    return any(_matches(release, release.root, pattern.split("/")) for pattern in marker.split("|"))


def _matches(release: Release, place: Path, patterns: Sequence[str]) -> bool:
    entries = release.listing(place, patterns[0])
    if len(patterns) == 1:
        return bool(entries)
    return any(_matches(release, entry, patterns[1:]) for entry in entries if entry.is_dir())


def _another(release: Release, about: About) -> str:
    from reactionnet_datasets.about import all_about

    fits = [
        other.name
        for other in all_about()
        if other.markers and other.name != about.name and all(_has(release, marker) for marker in other.markers)
    ]
    return f"; it looks like {' or '.join(fits)}" if fits else ""


class _Spool:
    """Lines in 256 files a group; the first hexadecimal digits of a line are its place, by which it is sorted."""

    def __init__(self, folder: Path):
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.lines"):
            left.unlink()
        self._held: dict[str, list[str]] = {}
        self._num = 0
        self.num_bytes: Counter[str] = Counter()

    def add(self, group: str, video: str, line: str, num_bytes: int) -> None:
        place = place_of(video)
        self._held.setdefault(_bucket_name(group, place * _BUCKETS >> 64), []).append(f"{place:016x} {line}\n")
        self.num_bytes[group] += num_bytes
        self._num += 1
        if self._num % _HELD_LINES == 0:
            self.flush()

    def flush(self) -> None:
        for name, lines in self._held.items():
            with (self._folder / name).open("a", encoding="utf-8") as file:
                file.writelines(lines)
        self._held.clear()


def _bucket_name(group: str, bucket: int) -> str:
    return f"{group}-{bucket:03d}.lines"


def plan(
    release: Release, module: ModuleType, options: Any, out: Path, work: Path, *, target_bytes: int,
    allow_missing: bool = False, landmarks: str = "none", on_clip=None,
) -> Plan:  # fmt: skip
    """Read all labels of a release and lay its clips down in `work`.

    ReleaseError for a wrong or incomplete release; MissingMediaError lists the first 20 files that are not there.
    """
    about: About = module.ABOUT
    check_markers(release, about)
    spool = _Spool(work / "plan")
    labels, tasks, frames, clips = set(), set(), 0, 0
    for whole in module.read(release, options):
        clip = present(whole)
        if clip is None:
            continue
        _check(clip)
        group = clip.splits.get("all", "all")
        spool.add(group, clip.video, to_line(clip), _num_bytes(clip))
        labels |= set(clip.labels)
        tasks |= set(clip.splits)
        clips += 1
        frames += len(clip.frames)
        if on_clip:
            on_clip(clip)
    spool.flush()
    if release.missing and not allow_missing:
        raise missing_media(sorted(release.missing))
    if not clips:
        raise release.not_here(f"{about.name}: not one clip with pictures and labels was found below")
    jobs = []
    for group in GROUPS:
        if group in spool.num_bytes:
            num_shards = shards_for(spool.num_bytes[group], target_bytes)
            for number in range(num_shards):
                jobs.append(
                    Job(
                        root=str(release.root.resolve()), out=str(out.resolve()), work=str(work.resolve()),
                        dataset=about.name, license=about.license, importer=f"{about.name}/{VERSION}",
                        group=group, number=number, num_shards=num_shards, labels=tuple(sorted(labels, key=_by_number)),
                        tasks=tuple(sorted(tasks)), allow_missing=allow_missing, landmarks=landmarks,
                    )
                )  # fmt: skip
    facts = {
        "options": {
            # a path says nothing on another machine
            name: value.name if isinstance(value, Path) else str(value)
            for name, value in asdict(options).items()
        },
        "missing": sorted(release.missing),
        "notes": {kind: asdict(noted) for kind, noted in sorted(release.notes.items())},
        "refused": sorted(release.refused),
    }
    return Plan(jobs=tuple(jobs), num_clips=clips, num_frames=frames, facts=facts)


def _by_number(name: str) -> tuple[str, int]:
    stem, _, last = name.rpartition("_")
    return (stem, int(last)) if last.isdigit() else (name, 0)


def _check(clip: Clip) -> None:
    for name, label in clip.labels.items():
        if fault := fault_of(name, label):
            raise ReleaseError(f"{clip.video}: {fault}")


def _num_bytes(clip: Clip) -> int:
    total = 0
    for media in (clip.media, clip.stimulus):
        if media is not None:
            files = files_of(media)
            total += sum(file.size for file in files) if len(files) > 1 or len(clip.frames) == 1 else 0
            total += _VIDEO_FRAME_BYTES * len(clip.frames) if len(files) == 1 < len(clip.frames) else 0
    return total + 100 * len(clip.frames) * (1 + len(clip.labels))


# -- 2: write --------------------------------------------------------------------------------------------------------


def lines_of(job: Job) -> list[str]:
    """The lines of a job's clips in the order of the shard. Empty where no clip falls into it."""
    lines = []
    for bucket in range(_BUCKETS):
        low, high = bucket << 56, (bucket + 1 << 56) - 1
        if low * job.num_shards >> 64 <= job.number <= high * job.num_shards >> 64:
            path = Path(job.work) / "plan" / _bucket_name(job.group, bucket)
            if path.exists():
                with path.open(encoding="utf-8") as file:
                    lines += [line for line in file if int(line[:16], 16) * job.num_shards >> 64 == job.number]
    lines.sort()
    return lines


def write_job(job: Job, on_frames=None) -> Written:
    """Write one shard and its tables, or find them written. Pictures that do not decode are returned as faults."""
    lines = lines_of(job)
    if not lines:
        return Written(group=job.group, number=job.number)
    marker = Path(job.work) / "done" / f"{job.group}-{job.number:05d}-{_digest(job, lines)[:16]}.json"
    if (done := _found(marker, Path(job.out))) is not None:
        return done
    writing = _Writing(job, on_frames)
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


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Frames of a clip without a gap: places in the clip, first to before last."""

    places: tuple[int, ...]
    first_frame: int


class _Writing:
    """The records of a shard, and what is counted while they pass."""

    def __init__(self, job: Job, on_frames=None):
        self._job, self._root, self._on_frames = job, Path(job.root), on_frames
        self.faults: list[str] = []
        self.skipped: list[str] = []
        self.without_landmarks = 0
        self._subjects: dict[str, tuple[set[str], Counter[str]]] = {}
        self._sources: dict[str, dict[str, Any]] = {}
        self._captions: list[dict[str, Any]] = []

    def records(self, lines: Iterable[str]) -> Iterator[Record]:
        for line in lines:
            clip = from_line(line[17:])
            try:
                yield from self._records_of(clip)
            except MediaError as error:
                (self.skipped if self._job.allow_missing else self.faults).append(str(error))

    def _records_of(self, clip: Clip) -> Iterator[Record]:
        bad = self._undecodable(clip) if self._job.allow_missing else frozenset()
        stream = _together(self._root, clip)
        sound = read_sound(self._root, clip.sound) if clip.sound else None
        fault = False
        for run in _runs(clip, bad):
            for first, stop in chunk_spans(len(run.places)):
                places = run.places[first:stop]
                pictures = []
                for place, reaction, stimulus in stream:
                    if place in bad:
                        continue
                    for picture in (reaction, stimulus):
                        if isinstance(picture, MediaError):
                            self.faults.append(str(picture))
                            fault = True
                    pictures.append((reaction, stimulus))
                    if len(pictures) == len(places):
                        break
                if not fault:
                    yield self._record(clip, run, places, pictures, sound)
                if self._on_frames:
                    self._on_frames(len(places))
        for _ in stream:
            pass  # a decoder's answer is read to its end, or it would have to be started anew

    def _undecodable(self, clip: Clip) -> frozenset[int]:
        """Places whose pictures do not decode: found in a pass of its own, since a record says how long its clip is."""
        bad = {}
        for place, reaction, stimulus in _together(self._root, clip):
            for picture in (reaction, stimulus):
                if isinstance(picture, MediaError):
                    bad[place] = str(picture)
        self.skipped += bad.values()
        return frozenset(bad)

    def _record(self, clip: Clip, run: _Run, places: Sequence[int], pictures: Sequence, sound) -> Record:
        frames = [int(clip.frames[place]) for place in places]
        t_s = _times(clip, places, [reaction for reaction, _ in pictures])
        members: list[tuple[str, bytes]] = []
        for name, stream in sorted(clip.streams.items()):
            members.append((f"{name}.npy", _npy(_take(self._root, stream, places))))
        if self._job.landmarks == "dlib" and "landmarks" not in clip.streams:
            members.append(("landmarks.npy", _npy(self._landmarks([picture for picture, _ in pictures]))))
        audio = None
        if sound is not None and len(sound):
            flac, audio = _flac(sound, t_s, clip.fps)
            members.append(("audio.flac", flac))
        members.sort(key=lambda member: _ORDER.get(member[0], 1))
        for role in (0, 1):
            for number, pair in enumerate(pictures):
                if pair[role] is not None:
                    suffix = picture_suffix(number, ("reaction", "stimulus")[role], pair[role].extension)
                    members.append((suffix, pair[role].data))
        clip_id = key_of(clip.video, clip.track, run.first_frame)
        chunk = Chunk(
            key=key_of(clip.video, clip.track, frames[0]),
            dataset=self._job.dataset, video_id=clip.video, clip_id=clip_id, subject_id=clip.subject, track=clip.track,
            frames=frames, t_s=t_s, clip_first_frame=run.first_frame, clip_num_frames=len(run.places),
            splits=dict(clip.splits), folds=dict(clip.folds), fps=clip.fps,
            face_boxes=[list(clip.boxes[place]) for place in places] if clip.boxes is not None else None,
            face_sources=["release"] * len(places) if clip.boxes is not None else None,
            audio=audio, stimulus=clip.stimulus_facts, captions=list(clip.captions),
            labels={name: label_at(label, places) for name, label in clip.labels.items()},
            license=self._job.license,
            provenance={"importer": self._job.importer, **clip.facts, "source_paths": _sources(clip.media, places)},
        )  # fmt: skip
        self._count(clip, clip_id, chunk)
        return Record(key=chunk.key, members=(("json", chunk.to_json()), *members))

    def _landmarks(self, pictures: Sequence[Picture]) -> np.ndarray:
        found = [find_landmarks(picture.data) for picture in pictures]
        self.without_landmarks += sum(points is None for points in found)
        blank = np.full((68, 2), np.nan, np.float32)
        return np.stack([blank if points is None else points for points in found])

    def _count(self, clip: Clip, clip_id: str, chunk: Chunk) -> None:
        num, new = len(chunk.frames), chunk.frames[0] == chunk.clip_first_frame
        if clip.subject is not None:
            videos, counts = self._subjects.setdefault(clip.subject, (set(), Counter()))
            videos.add(clip.video)
            counts.update(clips=int(new), frames=num)
        source = self._sources.setdefault(
            clip.video,
            {
                "video_id": clip.video, "dataset": self._job.dataset, "split": clip.splits.get("all"),
                "uri": source_of(clip.media, 0), "license": self._job.license, "fps": clip.fps,
                "has_audio": clip.sound is not None, "clips": 0, "frames": 0,
                "stimulus_id": (clip.stimulus_facts or {}).get("stimulus_id"),
                "subject_ids": [],
            },
        )  # fmt: skip
        source["clips"] += int(new)
        source["frames"] += num
        if clip.subject is not None and clip.subject not in source["subject_ids"]:
            source["subject_ids"].append(clip.subject)
        if new:
            self._captions += [{"video_id": clip.video, "clip_id": clip_id, **caption} for caption in clip.captions]

    def subjects(self) -> dict[str, list[int]]:
        return {
            name: [len(videos), counts["clips"], counts["frames"]]
            for name, (videos, counts) in sorted(self._subjects.items())
        }

    def other_tables(self, stem: str) -> dict[str, str]:
        out = Path(self._job.out)
        rows = {"sources": list(self._sources.values()), "captions": self._captions}
        rows = {name: found for name, found in rows.items() if found}
        return {name: write_part(out, name, stem, make_table(found, schema_of(name))) for name, found in rows.items()}


_ORDER = {"landmarks.npy": 0, "audio.flac": 2}


def key_of(video: str, track: str, frame: int) -> str:
    """The key of a chunk; a name that is too long for a tar header is shortened to its end and a hash of it all."""
    tail = len(escape(track)) + 8
    if len(escape(video)) <= min(MAX_ESCAPED_ID, MAX_KEY - tail):
        return make_key(video, track, frame)
    digest = hashlib.sha256(video.encode()).hexdigest()[:16]
    end = "".join(char if char.isascii() and char.isalnum() else "-" for char in video)[-(40 - min(tail, 20)) :]
    return make_key(f"{end.lstrip('-')}-{digest}", track, frame)


def _runs(clip: Clip, bad: frozenset[int]) -> Iterator[_Run]:
    places = [place for place in range(len(clip.frames)) if place not in bad]
    start = 0
    for number in range(1, len(places) + 1):
        ended = number == len(places)
        if ended or (clip.cut_at_gaps and clip.frames[places[number]] != clip.frames[places[number - 1]] + 1):
            if places[start:number]:
                yield _Run(places=tuple(places[start:number]), first_frame=int(clip.frames[places[start]]))
            start = number


def _together(root: Path, clip: Clip) -> Iterator[tuple[int, Any, Any]]:
    """(place, reaction picture, stimulus picture or None) of every frame."""
    reactions = read_pictures(root, clip.media, "reaction")
    if clip.stimulus is None:
        for place, picture in enumerate(reactions):
            yield place, picture, None
    else:
        stimuli = read_pictures(root, clip.stimulus, "stimulus")
        for place, (reaction, stimulus) in enumerate(zip(reactions, stimuli, strict=True)):
            yield place, reaction, stimulus


def _times(clip: Clip, places: Sequence[int], pictures: Sequence[Picture]) -> list[float]:
    if clip.t_s is not None:
        return [round(float(clip.t_s[place]), 6) for place in places]
    if all(picture.t_s is not None for picture in pictures):
        return [round(float(picture.t_s or 0.0), 6) for picture in pictures]
    return [round((clip.frames[place] - clip.first_frame_number) / (clip.fps or 1.0), 6) for place in places]


def _sources(media: Media, places: Sequence[int]) -> list[str]:
    return [source_of(media, place) for place in places]


def _take(root: Path, stream, places: Sequence[int]) -> np.ndarray:
    first, stop = places[0], places[-1] + 1
    return read_stream(root, stream, first, stop)[np.asarray(places) - first]


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    return file.getvalue()


def _flac(sound: np.ndarray, t_s: Sequence[float], fps: float | None) -> tuple[bytes, dict[str, Any]]:
    first, stop = round(t_s[0] * RATE), round((t_s[-1] + 1 / (fps or 25.0)) * RATE)
    piece = sound[first:stop] if first < len(sound) else sound[:0]
    piece = np.pad(piece, (0, stop - first - len(piece)))  # the sound may end before the pictures do
    file = io.BytesIO()
    soundfile.write(file, piece, RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue(), {"start_s": round(first / RATE, 6), "rate": RATE}


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


# -- 3: publish ------------------------------------------------------------------------------------------------------


def publish(
    out: Path, about: About, planned: Plan, written: Sequence[Written], findings: Sequence[Finding] = ()
) -> None:
    """List what was written in `dataset.json`, last of all. MissingMediaError where pictures did not decode."""
    faults = sorted(fault for one in written for fault in one.faults)
    if faults:
        raise missing_media(faults)
    done = sorted((one for one in written if one.shard), key=lambda one: (GROUPS.index(one.group), one.number))
    if not done:
        raise ReleaseError(f"{about.name}: every picture was missing or damaged, so nothing was written")
    splits = {group: entry for group in GROUPS if (entry := _entry(out, about, group, done))}
    jobs = planned.jobs[0]
    skipped = sorted(fault for one in written for fault in one.skipped)
    content = {
        "dataset": about.name,
        "splits": splits,
        "labels": _label_totals(done),
        "tasks": list(jobs.tasks),
        "importer": {
            "name": jobs.importer, "options": planned.facts["options"], "format": about.status,
            "landmarks": jobs.landmarks, "reactionnet": version("reactionnet"),
        },
        "license": about.license,
        "terms": about.terms,
        "synthetic": about.synthetic,
    }  # fmt: skip
    report = {
        "dataset": about.name,
        "format": about.status,
        "importer": content["importer"],
        "clips": sum(entry["clips"] for entry in splits.values()),
        "frames": sum(entry["frames"] for entry in splits.values()),
        "skipped": {
            "count": len(planned.facts["missing"]) + len(skipped),
            "missing": planned.facts["missing"],
            "damaged": skipped,
        },
        "notes": planned.facts["notes"],
        "refused": planned.facts["refused"],
        "frames_without_landmarks": sum(one.without_landmarks for one in done),
        "doctor": [asdict(finding) for finding in findings],
    }
    write_atomic(out / REPORT, (json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())
    before = _listed(out)
    write_manifest(out, content)
    _remove_unlisted(out, before | _files(content))


def _entry(out: Path, about: About, group: str, done: Sequence[Written]) -> dict[str, Any] | None:
    here = [one for one in done if one.group == group]
    shards: list[dict[str, Any]] = []
    tables: dict[str, list[str]] = {"frames": [], "windows": [], "sources": [], "captions": []}
    for one in here:
        if one.shard is None or one.tables is None:
            continue
        shards.append({**asdict(one.shard), "frames": one.tables.num_frames, "clips": one.tables.num_clips})
        tables["frames"].append(one.tables.frames)
        tables["windows"].append(one.tables.windows)
        for name, part in one.other_tables.items():
            tables[name].append(part)
    if not shards:
        return None
    split = None if group == "all" else group
    people: dict[str, np.ndarray] = {}
    for one in here:
        for subject, counts in one.subjects.items():
            people[subject] = people.get(subject, np.zeros(3, int)) + np.asarray(counts)
    rows = [
        {
            "subject_id": subject, "dataset": about.name, "split": split, "id_origin": "release",
            "num_videos": int(counts[0]), "num_clips": int(counts[1]), "num_frames": int(counts[2]),
        }
        for subject, counts in sorted(people.items())
    ]  # fmt: skip
    subjects = write_part(out, "subjects", group, make_table(rows, schema_of("subjects")))
    return {
        "shards": shards,
        "tables": {**tables, "subjects": [subjects], "layouts": []},
        "sources": sum(pq.read_metadata(out / part).num_rows for part in tables["sources"]),
        "clips": sum(shard["clips"] for shard in shards),
        "frames": sum(shard["frames"] for shard in shards),
        "records": sum(shard["records"] for shard in shards),
        "subjects": len(rows),
    }


def _label_totals(done: Sequence[Written]) -> dict[str, Any]:
    totals: dict[str, dict[str, Counter[str]]] = {}
    for one in done:
        for label, kinds in one.label_counts.items():
            for kind, counts in kinds.items():
                totals.setdefault(label, {}).setdefault(kind, Counter()).update(counts)
    return {label: {kind: dict(sorted(c.items())) for kind, c in kinds.items()} for label, kinds in totals.items()}


def _files(content: Mapping[str, Any]) -> set[str]:
    files: set[str] = set()
    for entry in content.get("splits", {}).values():
        files |= {shard[name] for shard in entry["shards"] for name in ("path", "index")}
        files |= {part for parts in entry["tables"].values() for part in parts}
    return files


def _listed(out: Path) -> set[str]:
    try:
        return _files(read_manifest(out))
    except (FileNotFoundError, ValueError):
        return set()


def _remove_unlisted(out: Path, listed: set[str]) -> None:
    for folder in ("shards", "tables"):
        for path in (out / folder).rglob("*"):
            if path.is_file() and path.relative_to(out).as_posix() not in listed:
                path.unlink()
