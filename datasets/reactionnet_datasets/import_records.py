"""The records of an imported shard: pictures, arrays, sound and labels of each clip's chunks, and what is counted.

A clip is cut where its frame numbers have a gap; each run is a clip of its own in the shard, and is cut into chunks.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from reactionnet_datasets.arrays import to_npy
from reactionnet_datasets.clip import Clip, Media, NoPictures, from_line, label_at, source_of
from reactionnet_datasets.import_plan import Job
from reactionnet_datasets.media import MediaError, Picture, find_landmarks, read_pictures, read_sound, read_stream
from reactionnet_datasets.sample import (
    MAX_ESCAPED_ID,
    MAX_KEY,
    Chunk,
    chunk_spans,
    escape,
    make_key,
    picture_suffix,
)
from reactionnet_datasets.shards import (
    Record,
)
from reactionnet_datasets.tables import make_table, schema_of, write_part

RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class Run:
    """Frames of a clip without a gap: places in the clip, first to before last."""

    places: tuple[int, ...]
    first_frame: int


class Writing:
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
        sound = self._sound(clip)
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

    def _sound(self, clip: Clip) -> np.ndarray | None:
        """A clip's sound; none where it cannot be decoded and may lack, as the pictures are good without it."""
        try:
            return read_sound(self._root, clip.sound) if clip.sound else None
        except MediaError as error:
            if not self._job.allow_missing:
                raise
            self.skipped.append(f"the sound of {clip.video}: {error}")
            return None

    def _undecodable(self, clip: Clip) -> frozenset[int]:
        """Places whose pictures do not decode: found in a pass of its own, since a record says how long its clip is."""
        bad = {}
        for place, reaction, stimulus in _together(self._root, clip):
            for picture in (reaction, stimulus):
                if isinstance(picture, MediaError):
                    bad[place] = str(picture)
        self.skipped += bad.values()
        return frozenset(bad)

    def _record(self, clip: Clip, run: Run, places: Sequence[int], pictures: Sequence, sound) -> Record:
        frames = [int(clip.frames[place]) for place in places]
        t_s = _times(clip, places, [reaction for reaction, _ in pictures])
        members: list[tuple[str, bytes]] = []
        for name, stream in sorted(clip.streams.items()):
            faults = self.skipped if self._job.allow_missing else self.faults
            members.append((f"{name}.npy", to_npy(_take(self._root, stream, places, faults))))
        bare = isinstance(clip.media, NoPictures)
        if self._job.landmarks == "dlib" and "landmarks" not in clip.streams and not bare:
            members.append(("landmarks.npy", to_npy(self._landmarks([picture for picture, _ in pictures]))))
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
            provenance={
                "importer": self._job.importer, **clip.facts, "source_paths": _sources(clip.media, places),
                **({"without_pictures": True} if bare else {}),
            },
        )  # fmt: skip
        self._count(clip, clip_id, chunk)
        return Record(key=chunk.key, members=(("json", chunk.to_json()), *members))

    def _landmarks(self, pictures: Sequence[Picture]) -> np.ndarray:
        found = [find_landmarks(picture.data) for picture in pictures]
        self.without_landmarks += sum(points is None for points in found)
        blank = np.full((68, 2), np.nan, np.float32)
        return np.stack([blank if points is None else np.asarray(points, np.float32) for points in found])

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


def _runs(clip: Clip, bad: frozenset[int]) -> Iterator[Run]:
    places = [place for place in range(len(clip.frames)) if place not in bad]
    start = 0
    for number in range(1, len(places) + 1):
        ended = number == len(places)
        if ended or (clip.cut_at_gaps and clip.frames[places[number]] != clip.frames[places[number - 1]] + 1):
            if places[start:number]:
                yield Run(places=tuple(places[start:number]), first_frame=int(clip.frames[places[start]]))
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


def _take(root: Path, stream, places: Sequence[int], faults: list[str]) -> np.ndarray:
    first, stop = places[0], places[-1] + 1
    return read_stream(root, stream, first, stop, faults)[np.asarray(places) - first]


def _flac(sound: np.ndarray, t_s: Sequence[float], fps: float | None) -> tuple[bytes, dict[str, Any]]:
    first, stop = round(t_s[0] * RATE), round((t_s[-1] + 1 / (fps or 25.0)) * RATE)
    piece = sound[first:stop] if first < len(sound) else sound[:0]
    piece = np.pad(piece, (0, stop - first - len(piece)))  # the sound may end before the pictures do
    file = io.BytesIO()
    soundfile.write(file, piece, RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue(), {"start_s": round(first / RATE, 6), "rate": RATE}
