"""The first step of an import: read all labels of a release, and plan which clip goes into which shard.

An importer's clips are laid down on disk as lines, in 256 files by the salted hash of their video; memory holds one clip.
A `Job` is one shard: its lines are found again by their place, and jobs know nothing of one another.

Clips whose splits have the task `all` go to the group of that name (train, val, test), everything else to `all`: where
tasks split differently, the tables' `split_<task>` say so.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from reactionnet_datasets.about import About
from reactionnet_datasets.clip import Clip, GreyPixels, Media, Pictures, Video, files_of, present, to_line
from reactionnet_datasets.labels import fault_of
from reactionnet_datasets.release import MissingMediaError, Release, ReleaseError, missing_media
from reactionnet_datasets.release_root import check_root, what_else
from reactionnet_datasets.shards import (
    place_of,
    shards_for,
)

VERSION = 1  # of what an import writes; part of the plan, so that a newer version writes anew
GROUPS = ("train", "val", "test", "all")
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
class Plan:
    """What is to be written, and what was found while reading."""

    jobs: tuple[Job, ...]
    num_clips: int
    num_frames: int
    facts: Mapping[str, Any]


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
    check_root(release, module, options)
    spool = _Spool(work / "plan")
    labels, tasks, frames, clips = set(), set(), 0, 0
    for whole in _read(release, module, options):
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
    for archive in release.packed():  # but those that were read as they are
        release.note("archives that were not unpacked", archive)
    if release.missing and not allow_missing:
        raise missing_media(sorted(release.missing), release.packed(levels=2), release.empty(levels=2))
    if not clips:
        raise ReleaseError(f"{about.name}: every picture is missing, so that there is nothing to write")
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


def _read(release: Release, module: ModuleType, options: Any) -> Iterator[Clip]:
    """What the importer reads, at least one clip. An error says what else ROOT looks like, if anything."""
    found = False
    try:
        for clip in module.read(release, options):
            found = True
            yield clip
        if not found and not release.missing:
            raise release.not_here(f"{module.ABOUT.name}: not one clip with pictures and labels was found below")
    except ReleaseError as error:
        if isinstance(error, MissingMediaError) or not (other := what_else(release, module.ABOUT.name)):
            raise
        raise ReleaseError(f"{error}{other}") from error


def _by_number(name: str) -> tuple[str, int]:
    stem, _, last = name.rpartition("_")
    return (stem, int(last)) if last.isdigit() else (name, 0)


def _check(clip: Clip) -> None:
    for name, label in clip.labels.items():
        if fault := fault_of(name, label):
            raise ReleaseError(f"{clip.video}: {fault}")


def _num_bytes(clip: Clip) -> int:
    pictures = sum(_picture_bytes(media) for media in (clip.media, clip.stimulus) if media is not None)
    return pictures + 100 * len(clip.frames) * (1 + len(clip.labels))


def _picture_bytes(media: Media) -> int:
    match media:
        case Pictures():
            return sum(file.size for file in files_of(media))
        case Video():
            return _VIDEO_FRAME_BYTES * len(media.places)
        case GreyPixels():  # the file holds everybody's
            return media.width * media.height * len(media.pixels)
    return 0


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
