"""Barrier 1: the segments of a video become clips of one major subject each, staged chunk by chunk for the shards."""

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import soundfile

from reactionnet_datasets.arrays import to_npy
from reactionnet_datasets.sample import Chunk, Label, canonical_json, chunk_spans, make_key, picture_suffix
from reactionnet_datasets.scenes import scene_labels
from reactionnet_datasets.shards import atomic_file, write_atomic
from reactionnet_datasets.stores import Place, as_place, local
from reactionnet_pipeline import admitted, annotations, highlights, preview, sound, voice
from reactionnet_pipeline.cache import cached, fingerprint
from reactionnet_pipeline.captions import captions_of
from reactionnet_pipeline.decode import read_cuts, read_rows, stimulus_of
from reactionnet_pipeline.errors import Code, DeadLetter, SourceError
from reactionnet_pipeline.highlights import Config as HighlightsConfig
from reactionnet_pipeline.identity import Known
from reactionnet_pipeline.ingest import load_info, source_file
from reactionnet_pipeline.layout_files import load_layout
from reactionnet_pipeline.parts import Member, Part, write_part_index
from reactionnet_pipeline.records import REACTION, STIMULUS, Layout, SegmentPart, Source, VideoDone
from reactionnet_pipeline.subjects import (
    MAJOR_RULE,
    Person,
    Track,
    choose_major,
    name_subjects,
    people,
    regrouped,
    runs,
    stitch,
)
from reactionnet_pipeline.video import VideoInfo

VERSION = 3
VERSIONS = [VERSION, *(module.VERSION for module in (highlights, voice))]


@dataclass(frozen=True, kw_only=True)
class Config:
    """`dataset` names the data set in keys' company; a clip below `min_clip_s` is counted and left out.

    `select` is all, or highlights: then clips are the windows in which the face reacts most, the rest is left out.
    """

    dataset: str = "reactionnet"
    min_clip_s: float = 0.5
    select: str = "all"
    highlights: HighlightsConfig = field(default_factory=HighlightsConfig)

    def __post_init__(self) -> None:
        if self.select not in ("all", "highlights"):
            raise ValueError(f"clips {self.select!r}: expected all or highlights")


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """What became of one video: its clips as parts, its summary on file, and letters for what it lost on the way."""

    done: VideoDone
    parts: tuple[Part, ...]
    letters: tuple[DeadLetter, ...]


def assemble(
    video_id: str,
    parts: Iterable[SegmentPart],
    config: Config,
    work: Place,
    known: Known | None = None,
    split: str | None = None,
) -> Assembled:
    """Stitch, choose, cut into clips and chunks, and stage. Raises SourceError(NO_FACE) where no clip comes of it.

    `known` says who is who by their faces; without it place and time decide. `split` is the source's if not given.
    """
    segments = sorted(parts, key=lambda part: (part.span, part.number))
    source = segments[0].laid_out.ingested.source
    source = replace(source, split=split or source.split)
    key = fingerprint(
        stage="clips", version=VERSIONS, config=config, subjects=source.subject_ids, split=source.split, known=known,
        parts=[part.table for part in segments], layout=as_place(segments[0].laid_out.layout).name,
        sound=segments[0].laid_out.sound and as_place(segments[0].laid_out.sound).name,
    )  # fmt: skip
    found = cached(work, "clips", video_id, key, lambda stem: _built(segments, source, config, work, stem, known))
    done = VideoDone(video_id=video_id, split=source.split, summary=f"clips/{found['summary']}")
    letters = tuple(
        DeadLetter(**{**letter, "line": source.line, "code": Code(letter["code"])}) for letter in found["letters"]
    )
    return Assembled(done=done, parts=tuple(Part(folder=str(work), **part) for part in found["parts"]), letters=letters)


@dataclass(frozen=True, kw_only=True, eq=False)
class People:
    """Who is seen in a video, going by place and time, and the face tables of its segments, in order."""

    persons: tuple[Person, ...]
    tables: tuple[pa.Table, ...]


def _built(
    segments: list[SegmentPart], source: Source, config: Config, work: Place, stem: Place, known: Known | None
) -> dict[str, Any]:
    sound_file = segments[0].laid_out.sound
    with ExitStack() as stack:
        samples = stack.enter_context(local(as_place(sound_file))) if sound_file else None
        return _Video(segments, source, config, work, stem, known, samples).build()


def people_of(segments: Sequence[SegmentPart], work: Place) -> People:
    """Stitch the tracks of a video's segments (ordered) and put them together as people."""
    spans = load_layout(as_place(segments[0].laid_out.layout)).spans()
    tables = tuple(read_rows(work / part.table) for part in segments)
    panes = {number: [p for p in span[2] if p.role == REACTION] for number, span in enumerate(spans)}
    tracks = []
    for part, table in zip(segments, tables, strict=True):
        pane, track = table["pane"].to_numpy(), table["track"].to_numpy()
        frames, own = table["frame"].to_numpy(), table["own"].to_numpy()
        boxes = _matrix(table["box"], 4)
        for one in np.unique(np.stack([pane, track], 1), axis=0):
            rows = np.nonzero((pane == one[0]) & (track == one[1]))[0]
            tracks.append(
                Track(
                    span=part.span,
                    pane=int(one[0]),
                    part=part.number,
                    frames=frames[rows],
                    boxes=boxes[rows],
                    own=own[rows],
                    rows=rows,
                )
            )
    return People(persons=tuple(people(stitch(tracks), panes)), tables=tables)


class _Video:
    """One video at the barrier: its tables open, its people known."""

    def __init__(
        self, segments: list[SegmentPart], source: Source, config: Config, work: Place, stem: Place,
        known: Known | None, samples: Path | None,
    ):  # fmt: skip
        self.source, self.known, self.samples = source, known, samples
        self.segments, self.config, self.work, self.stem = segments, config, work, stem
        self.laid_out = segments[0].laid_out
        self.info: VideoInfo = load_info(self.laid_out.ingested.probe)
        self.layout: Layout = load_layout(as_place(self.laid_out.layout))
        self.spans = self.layout.spans()
        self.people = people_of(segments, work)
        self.tables = self.people.tables
        self.cuts = [read_cuts(part, work) for part in segments]
        self.stimuli = self._stimulus_places()
        self.voice = None
        if self.laid_out.sound:
            self.voice = voice.find_voice(self.source.video_id, self.laid_out.sound, work)

    def build(self) -> dict[str, Any]:
        """Stage all clips; the marker's content."""
        persons: Sequence[Person] = self.people.persons
        names = name_subjects(persons, self.source.video_id, self.source.subject_ids)
        if self.known is not None:
            persons, names = regrouped(persons, self.known.chains), list(self.known.subjects)
        order = choose_major(names, persons, self.source.video_id)
        parts, clips, short, calm = [], [], 0, 0
        seen_in = {
            span: [n for n in order if any(chain[0].span == span for chain in persons[n].chains)]
            for span in range(len(self.spans))
        }
        majors = {span: seen[0] for span, seen in seen_in.items() if seen}
        moments = {number: self._score(persons[number]) for number in set(majors.values())}
        chosen = self._highlights(majors, moments) if self.config.select == "highlights" else None
        for span, number in majors.items():
            for faces in self._clips_of(persons[number], span):
                least = self.config.min_clip_s * self.info.fps
                if len(faces) < least or not len(self._pictured(faces)):
                    short += len(faces)
                    continue
                for run in _cut_to(faces, chosen):
                    if len(run) >= least and len(kept := self._pictured(run)):
                        calm -= len(run)
                        part, facts = self._stage(
                            kept, span, str(number), names[number], len(seen_in[span]), moments[number]
                        )
                        parts.append(part)
                        clips.append({**facts, "num_bytes": part.num_bytes})
                calm += len(faces)
        if not clips:
            raise SourceError(
                Code.NO_FACE,
                f"no face was followed for {self.config.min_clip_s} s in any of the {len(self.layout.panes)} panes"
                f" ({len(persons)} people, {short} frames in shorter pieces)",
            )
        letters = self._letters()
        summary = self.stem.name + ".summary.json"
        write_atomic(self.stem.with_name(summary), canonical_json(self._summary(clips, names, persons, short, calm)))
        return {
            "summary": summary,
            "letters": [asdict(letter) for letter in letters],
            "parts": [{n: v for n, v in asdict(part).items() if n not in ("folder", "late")} for part in parts],
        }

    def _clips_of(self, person: Person, span: int) -> Iterator[pa.Table]:
        """Rows of the person's faces in a span, one table a run of consecutive frames.

        Tables, not lists: the faces of an hour are 60 MB in Arrow's columns and a gigabyte as Python's numbers.
        """
        number_of = {(part.span, part.number): place for place, part in enumerate(self.segments)}
        for chain in person.chains:
            if chain[0].span != span:
                continue
            pieces = []
            for track in chain:
                place = number_of[track.span, track.part]
                piece = self.tables[place].take(track.rows[track.own])
                blob = pa.repeat(self.segments[place].blob, len(piece)).dictionary_encode()
                pieces.append(piece.append_column("blob", blob))
            faces = pa.concat_tables(pieces).unify_dictionaries()  # a chain's tracks stand in order
            for run in runs(faces["frame"].to_numpy()):
                yield faces.slice(run.start, run.stop - run.start)

    def _score(self, person: Person) -> highlights.Moments:
        """Frames, times and scores of a person's followed face over the whole video, and in which span each lies."""
        number_of = {(part.span, part.number): place for place, part in enumerate(self.segments)}
        pieces = []
        for track in (track for chain in person.chains for track in chain):
            table = self.tables[number_of[track.span, track.part]].take(track.rows[track.own])
            points = _matrix(table["landmarks"], 136).reshape(-1, 68, 2)
            frames, t_s = table["frame"].to_numpy(), table["t_s"].to_numpy()
            pieces.append((frames, t_s, points, np.full(len(frames), track.span)))
        frames, t_s, points, span = (np.concatenate(column) for column in zip(*pieces, strict=True))
        order = np.argsort(frames, kind="stable")
        frames, t_s, points, span = frames[order], t_s[order], points[order], span[order]
        cut_frames = sorted({f for part in self.segments for f in read_cuts(part, self.work).get(STIMULUS, ())})
        cuts_s = self.info.times_s[cut_frames].tolist()
        # ear to ear; a face turned aside is narrower, which an aligned crop knows nothing of
        face_px = float(np.median(np.ptp(points[:, [0, 16], 0], axis=1)))
        return highlights.Moments(
            frames=frames,
            t_s=t_s,
            score=highlights.score_frames(points, t_s, frames, max(face_px, 1.0), cuts_s),
            span=span,
        )

    def _highlights(
        self, majors: Mapping[int, int], moments: Mapping[int, highlights.Moments]
    ) -> list[highlights.Highlight]:
        """The video's highlights among the runs of each span's major subject that are long enough for a clip."""
        found = []
        for span, number in majors.items():
            mine = moments[number]
            here = mine.span == span
            frames, t_s, score = mine.frames[here], mine.t_s[here], mine.score[here]
            found += [(frames[run], t_s[run], score[run]) for run in runs(frames)]
        least = self.config.min_clip_s * self.info.fps
        return highlights.choose_highlights(
            [run for run in found if len(run[0]) >= least], self.config.highlights, self.source.video_id
        )

    def _pictured(self, faces: pa.Table) -> pa.Table:
        """The frames that are written, where the rate is lowered."""
        return faces.filter(pa.compute.is_valid(faces["offset"]))

    def _stimulus_places(self) -> dict[int, tuple[str, int, int]]:
        places = {}
        for part in self.segments:
            table = read_rows((self.work / part.table).with_suffix(".stimuli"))
            for frame, offset, size in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
                places[frame] = (part.blob, offset, size)
        return places

    def _stage(
        self, faces: pa.Table, span: int, track: str, subject: str, num_seen: int, moments: highlights.Moments
    ) -> tuple[Part, dict[str, Any]]:
        """Stage the extras of a clip's chunks, and list where all members lie."""
        frames, t_s = faces["frame"].to_pylist(), faces["t_s"].to_pylist()
        video_id, first, face_pane = self.source.video_id, frames[0], faces["pane"][0].as_py()
        clip_id = make_key(video_id, track, first)
        panes = self.spans[span][2]
        stimulus = stimulus_of(panes)
        name = f"{self.stem.name}-{track}-{first:06d}"
        chunks: dict[str, Any] = {}
        rows: list[Member] = []
        with atomic_file(self.work / "clips") as (blob, naming):
            naming.name = f"{name}.blob"
            for chunk, after_s in self._chunks(faces, t_s):
                key, content = self._stage_chunk(chunk, after_s, span, track, moments, blob, f"clips/{name}.blob", rows)
                chunks[key] = content
        pane = [p for p in panes if p.role == REACTION][face_pane]
        facts = {
            "clip_id": clip_id,
            "video_id": video_id,
            "subject_id": subject,
            "track": track,
            "clip_first_frame": first,
            "clip_num_frames": len(faces),
            "fps": round(self.info.fps, 4),
            "panes": {"reaction": [pane.x, pane.y, pane.w, pane.h]}
            | ({"stimulus": [stimulus.x, stimulus.y, stimulus.w, stimulus.h]} if stimulus else {}),
            "major": {"rule": MAJOR_RULE, "seen": num_seen},
        }
        found = {"clip": facts, "chunks": chunks, "sha256": self.laid_out.ingested.sha256}
        write_atomic(self.work / "clips" / f"{name}.facts.json", canonical_json(found))
        part = write_part_index(self.work, f"clips/{name}.part", clip_id, self.source.split, rows)
        sources = Counter(faces["source"].to_pylist())
        return part, {
            "clip_id": clip_id,
            "subject_id": subject,
            "chunks": len(chunks),
            "frames": len(faces),
            "start_s": t_s[0],
            "end_s": t_s[-1],
            "face_px": float(np.median(_matrix(faces["box"], 4)[:, 2])),
            "sources": dict(sorted(sources.items())),
        }

    def _chunks(self, faces: pa.Table, t_s: Sequence[float]) -> Iterator[tuple[list[dict[str, Any]], float]]:
        """Rows of each chunk, and when the next one begins."""
        for low, high in chunk_spans(len(faces)):
            after_s = t_s[high] if high < len(faces) else t_s[-1] + self._frame_s()
            yield faces.slice(low, high - low).to_pylist(), after_s

    def _stage_chunk(
        self, chunk: list[dict[str, Any]], after_s: float, span: int, track: str, moments: highlights.Moments,
        blob: BinaryIO, blob_name: str, rows: list[Member],
    ) -> tuple[str, dict[str, Any]]:  # fmt: skip
        """Write a chunk's arrays and sound, note where all its members lie; its key and what its json will hold."""
        key = make_key(self.source.video_id, track, chunk[0]["frame"])
        sound_start_s, samples = self._sound(chunk[0]["t_s"], after_s)
        members = [
            ("landmarks.npy", to_npy(np.array([row["landmarks"] for row in chunk], np.float32).reshape(-1, 68, 2))),
            ("pose.npy", to_npy(np.array([row["pose"] for row in chunk], np.float32))),
            ("gaze.npy", to_npy(np.array([row["gaze"] for row in chunk], np.float32))),
            ("highlight.npy", to_npy(moments.at([row["frame"] for row in chunk]))),
        ]
        if samples is not None:
            members.append(("audio.flac", _flac(samples)))
        for suffix, data in members:
            rows.append((key, suffix, blob_name, blob.tell(), len(data)))
            blob.write(data)
        for number, row in enumerate(chunk):
            rows.append((key, picture_suffix(number, "reaction"), row["blob"], row["offset"], row["size"]))
        for number, row in enumerate(chunk):
            if row["frame"] in self.stimuli:
                rows.append((key, picture_suffix(number, "stimulus"), *self.stimuli[row["frame"]]))
        return key, {
            "frames": [row["frame"] for row in chunk],
            "t_s": [round(row["t_s"], 6) for row in chunk],
            "face_boxes": [row["box"] for row in chunk],
            "face_sources": [row["source"] for row in chunk],
            "crop": [[round(number, 5) for number in row["crop"]] for row in chunk],
            "cuts": self._cuts(span, chunk),
            "labels": {"speaking": self._speaking([row["t_s"] for row in chunk])},
            "audio": None
            if samples is None
            else {"rate": sound.RATE, "start_s": sound_start_s, "samples": len(samples)},
        }

    def _speaking(self, t_s: list[float]) -> dict[str, Any]:
        if self.voice is None or self.samples is None:
            return asdict(voice.unheard())
        end_s = self.samples.stat().st_size / 2 / sound.RATE
        return voice.speaking_label(t_s, self._frame_s(), self.voice, end_s)

    def _frame_s(self) -> float:
        return 1 / self.info.fps

    def _sound(self, start_s: float, end_s: float) -> tuple[float, np.ndarray | None]:
        if self.samples is None:
            return start_s, None
        first = round(start_s * sound.RATE)
        samples = sound.read_sound(self.samples, start_s, end_s)
        return round(first / sound.RATE, 6), samples if samples.size else None

    def _cuts(self, span: int, chunk: list[dict]) -> dict[str, list[int]]:
        frames, pane = {row["frame"] for row in chunk}, chunk[0]["pane"]
        found: dict[str, list[int]] = {}
        for part, cuts_of in zip(self.segments, self.cuts, strict=True):
            if part.span == span:
                for name, cuts in cuts_of.items():
                    if name in ("stimulus", f"reaction{pane}"):
                        here = [frame for frame in cuts if frame in frames]
                        found.setdefault("stimulus" if name == "stimulus" else "reaction", []).extend(here)
        return {name: sorted(frames) for name, frames in found.items() if frames}

    def _letters(self) -> list[DeadLetter]:
        """What could not be decoded: spans inside, and an end that the header promises and the file lacks."""
        lost = sorted(span for part in self.segments for span in part.lost)
        common: dict[str, Any] = {
            "video_id": self.source.video_id,
            "line": None,
            "stage": "decode",
            "retryable": False,
            "kept": True,
        }
        letters = [
            DeadLetter(
                code=Code.DAMAGED,
                message=f"frames from {start:.3f} to {end:.3f} s cannot be decoded",
                lost_start_s=start,
                lost_end_s=end,
                **common,
            )
            for start, end in lost
        ]
        wanted = self.source.end_s is None or self.source.end_s > self.info.end_s
        if wanted and (letter := truncation(self.info)) is not None:
            letters.append(
                DeadLetter(code=Code.TRUNCATED, message=letter, lost_start_s=self.info.end_s,
                           lost_end_s=self.info.duration_s, **common)
            )  # fmt: skip
        return letters

    def _summary(
        self, clips: list[dict], names: list[str], persons: Sequence[Person], short: int, calm: int
    ) -> dict[str, Any]:
        ingested = self.laid_out.ingested
        with source_file(ingested) as file:
            picture = preview.draw(file, self.info, self.layout, self._preview_faces(clips), self.stem)
        return {
            "video_id": self.source.video_id,
            "sha256": ingested.sha256,
            "width": self.info.width,
            "height": self.info.height,
            "fps": round(self.info.fps, 4),
            "num_frames": self.info.num_frames,
            "duration_s": round(self.info.end_s, 3),
            "has_audio": self.laid_out.sound is not None,
            "origin": self.layout.origin,
            "panes": [asdict(pane) for pane in self.layout.panes],
            "clips": clips,
            "people": {name: person.num_frames for name, person in zip(names, persons, strict=True)},
            "frames_in_short_clips": short,
            "frames_outside_highlights": calm,
            "preview": picture,
        }

    def _preview_faces(self, clips: list[dict]) -> dict[int, list[dict]]:
        """Face rows near the middle of the longest clip, for the report's overlay."""
        longest = max(clips, key=lambda clip: clip["frames"])
        middle = self.info.frame_at((longest["start_s"] + longest["end_s"]) / 2)
        for table in self.tables:
            rows = table.filter(pa.compute.equal(table["frame"], middle)).to_pylist()
            if rows and any(row["own"] for row in rows):
                return {middle: rows}
        return {middle: []}


def truncation(info: VideoInfo) -> str | None:
    """Why a file counts as cut off: the header promises clearly more than there are packets for."""
    if info.duration_s - info.end_s > max(0.5, 0.01 * info.duration_s):
        return f"the header promises {info.duration_s:.2f} s, the file holds {info.end_s:.2f} s"
    return None


def _cut_to(faces: pa.Table, chosen: list[highlights.Highlight] | None) -> Iterator[pa.Table]:
    """The run as it is, or the highlights that lie in it."""
    if chosen is None:
        yield faces
        return
    frames = faces["frame"].to_numpy()
    for window in chosen:
        low, high = np.searchsorted(frames, (window.first, window.last + 1))
        if high > low:
            yield faces.slice(low, high - low)


def _matrix(column: pa.ChunkedArray, width: int) -> np.ndarray:
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)


def _flac(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, sound.RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


@dataclass(frozen=True)
class ChunkJson:
    """The late member of a record: what stage 3 knew of a chunk, joined with manifest row, captions and annotations."""

    work: str
    dataset: str
    versions: tuple[tuple[str, str], ...]

    def __call__(self, part: Part) -> dict[str, list[tuple[str, bytes]]]:
        facts = json.loads((as_place(part.folder) / part.index).with_suffix(".facts.json").read_bytes())
        clip, chunks = facts["clip"], facts["chunks"]
        row = admitted.find_row(as_place(self.work), clip["video_id"])
        times = [t_s for chunk in chunks.values() for t_s in chunk["t_s"]]
        coded = annotations.on_clip(
            annotations.annotations_of(as_place(self.work), clip["video_id"]), times, clip["fps"], clip["subject_id"],
            facts["sha256"],
        )  # fmt: skip
        said = [*annotations.human_captions(coded), *captions_of(part)]  # a person's word stands before a model's
        return {
            key: [("json", chunk_of(key, clip, chunk, row, self.dataset, dict(self.versions), coded, said).to_json())]
            for key, chunk in chunks.items()
        }


def chunk_of(
    key: str,
    clip: Mapping[str, Any],
    chunk: Mapping[str, Any],
    row: Mapping[str, Any],
    dataset: str,
    versions: Mapping,
    coded: Sequence[annotations.Annotation],
    captions: Sequence[Mapping[str, Any]],
) -> Chunk:
    """The json member of one record."""
    facts = {name: value for name, value in chunk.items() if name != "labels"}
    heard = {name: Label(**label) for name, label in chunk["labels"].items()}
    return Chunk(
        key=key,
        dataset=dataset,
        splits={"all": row["split"]},
        labels=scene_labels(row.get("stimulus_scene"), row.get("sub_scene"))
        | heard
        | annotations.labels_of(coded, chunk["t_s"]),
        captions=captions,
        license=row["license"],
        credit={name: row[name] for name in ("creator", "title") if row.get(name)},
        stimulus={"id": row["stimulus_id"]} if row.get("stimulus_id") else None,
        provenance={"versions": dict(versions)},
        **clip,
        **facts,
    )
