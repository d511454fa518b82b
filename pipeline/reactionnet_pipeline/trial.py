"""A short real run of the stages on one source, to learn what it costs on this machine: see `estimate`.

Everything that is bounded (fetch, layout, sound, voice) runs on the whole source; faces are followed in a few seconds of
it only. All goes to a folder of its own, which may be deleted after.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from reactionnet_datasets.splits import LOCK, write_lock
from reactionnet_datasets.stores import as_place
from reactionnet_datasets.tabulate import tabulate
from reactionnet_pipeline import admitted, clips, preview, voice
from reactionnet_pipeline.annotations import write_annotations
from reactionnet_pipeline.build import LABELS
from reactionnet_pipeline.captions import stimulus_frames
from reactionnet_pipeline.config import Config
from reactionnet_pipeline.decode import PADDING_S, decode_segment, padded
from reactionnet_pipeline.detector import detect_faces
from reactionnet_pipeline.embeddings import EmbedFaces
from reactionnet_pipeline.errors import SourceError
from reactionnet_pipeline.inference import Loaded
from reactionnet_pipeline.ingest import ingest, load_info, source_file
from reactionnet_pipeline.landmarks import find_landmarks
from reactionnet_pipeline.layout_files import lay_out, load_layout
from reactionnet_pipeline.manifest import Row
from reactionnet_pipeline.model_options import Weights
from reactionnet_pipeline.parts import Part
from reactionnet_pipeline.plan import all_versions
from reactionnet_pipeline.publish import DEAD_LETTERS, Arrival, Settings, Tabulated, publish
from reactionnet_pipeline.records import Box, LaidOut, Segment
from reactionnet_pipeline.segment import plan_segments
from reactionnet_pipeline.sink import write_parts
from reactionnet_pipeline.sound import resample_sound
from reactionnet_pipeline.video import VideoInfo, read_frames

SNIPPET_S = 8.0
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a source cost, taken to its whole length. `seconds` are processor seconds by stage.

    `code` is why the source would be lost, None where it would be built. Frames: `frames` that the file holds, `decoded`
    of them that a build decodes (padding counts twice), `written` that come out. `staged` are bytes in the work folder
    by stage, `fetch_s` seconds on the clock for what is not on this machine.
    """

    video_id: str
    code: str | None
    frames: int = 0
    pixels: int = 0
    duration_s: float = 0.0
    has_audio: bool = False
    num_bytes: int = 0
    fetch_s: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    decoded: float = 0.0
    written: float = 0.0
    clips: float = 0.0
    key_frames: float = 0.0
    staged: Mapping[str, float] = field(default_factory=dict)
    published: float = 0.0


def load_models() -> float:
    """Processor seconds to import and load what the stages of a build need, in a process that has none of it."""
    started = time.process_time()
    blank_HWC = np.zeros((64, 64, 3), np.uint8)
    detect_faces(blank_HWC)
    find_landmarks(blank_HWC, Box(x=16, y=16, w=32, h=32))
    voice.voice_probability(np.zeros(voice.STEP, np.int16))
    return time.process_time() - started


def try_source(row: Row, config: Config, folder: Path, weights: Weights | None = None) -> Trial:
    """Run all stages on a source. A source that a build would lose gives a `Trial` with its code, no error."""
    run = _Run(row, config, folder, weights)
    try:
        run.go()
        code = None
    except SourceError as error:
        code = str(error.code)
    return replace(run.found, code=code, seconds=run.seconds)


class _Run:
    """The stages in turn; `found` grows as they get on."""

    def __init__(self, row: Row, config: Config, folder: Path, weights: Weights | None):
        self.row, self.weights = row, weights
        self.config = replace(config, clips=replace(config.clips, select="all"))
        # where only highlights are written, the costs of writing are measured on everything and cut to these seconds
        chosen = config.clips.highlights
        self.most_s = chosen.most * chosen.length_s if config.clips.select == "highlights" else float("inf")
        self.work, self.root = folder / "work", folder / "out"
        self.seconds: dict[str, float] = {}
        self.found = Trial(video_id=row.video_id, code=None)

    def timed(self, stage: str, call: Callable[[], T]) -> T:
        started = time.process_time()
        try:
            return call()
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - started

    def go(self) -> None:
        work, config, video_id = self.work, self.config, self.row.video_id
        admitted.write_rows(work, [self.row], {video_id: "train"})
        (work / "plan" / LOCK).write_bytes(write_lock({}))
        (work / "plan" / DEAD_LETTERS).write_bytes(b"")
        write_annotations(work, ())
        (source,) = admitted.read_sources(str(work), ("train",))
        started = time.monotonic()
        ingested = self.timed("fetch", lambda: ingest(source, work))
        remote = "://" in self.row.location
        info = load_info(ingested.probe)
        self.found = replace(
            self.found,
            frames=info.num_frames,
            pixels=info.width * info.height,
            duration_s=info.end_s,
            has_audio=info.has_audio,
            num_bytes=as_place(ingested.path).stat().st_size,
            fetch_s=time.monotonic() - started if remote else 0.0,
        )
        layout = self.timed("layout", lambda: lay_out(ingested, config.layout, work))
        heard = self.timed("sound", lambda: resample_sound(ingested, work))
        if heard:
            self.timed("voice", lambda: voice.find_voice(video_id, heard, work))
        laid_out = LaidOut(ingested=ingested, layout=layout, sound=heard)
        segments = plan_segments(laid_out, config.segment.length_s)
        snippet = snippet_of(segments, info, video_id)
        if snippet:
            self._follow(segments, snippet, info, heard)

    def _follow(self, segments: list[Segment], snippet: list[Segment], info: VideoInfo, heard: str | None) -> None:
        work, config, video_id = self.work, self.config, self.row.video_id
        layout = load_layout(Path(segments[0].laid_out.layout))
        spans = layout.spans()
        reach = [padded(segment, spans[segment.span], info) for segment in snippet]
        with source_file(segments[0].laid_out.ingested) as path:
            # what is left of `decode` grows with the faces, this with the pixels
            self.timed("pictures", lambda: sum(_decoded(path, info, low, high) for low, high in reach))
        own, planned, decoded = _frames(snippet), planned_frames(segments, info), sum(b - a for a, b in reach)
        parts = self.timed("faces", lambda: [decode_segment(segment, config.decode, work) for segment in snippet])
        self.seconds["faces"] = max(self.seconds["faces"] - self.seconds["pictures"], 0.0)
        self.found = replace(self.found, decoded=planned)
        for stage in ("pictures", "faces"):
            self.seconds[stage] *= planned / max(decoded, 1)
        if self.weights:
            embed = EmbedFaces(weights=self.weights, config=replace(config.embeddings, device="cpu"), work=str(work))
            model = Loaded(embed.load)
            model()
            self.timed("embeddings", lambda: embed.run((video_id, parts), model))
        try:
            assembled = self.timed("clips", lambda: clips.assemble(video_id, parts, config.clips, work))
        except SourceError:
            if own == _frames(segments):
                raise
            return  # no face in these seconds does not mean that there is none in the others
        with source_file(segments[0].laid_out.ingested) as path:  # one picture a source, however long it is
            middle = {(snippet[0].first + snippet[-1].stop) // 2: ()}
            self.timed("preview", lambda: preview.draw(path, info, layout, middle, work / "trial"))
        self.seconds["clips"] = max(self.seconds["clips"] - self.seconds["preview"], 0.0)
        late = clips.ChunkJson(str(work), config.clips.dataset, tuple(all_versions().items()))
        shard = self.timed("write", lambda: write_parts((("train", 0), assembled.parts), self.root, late, None))
        tables = self.timed("tables", lambda: tabulate(self.root, shard.info, LABELS))
        settings = Settings(
            root=str(self.root), work=str(work), dataset=config.clips.dataset, splits=("train",), max_loss=1.0,
            facts=json.dumps({}),
        )  # fmt: skip
        arrivals: list[Arrival] = [Tabulated(shard=shard, parts=tables), assembled.done, *assembled.letters]
        self.timed("publish", lambda: publish(arrivals, settings))
        more = _frames(segments) / own
        self._measure(tables.num_frames, tables.num_clips, more, self.most_s * info.fps, assembled.parts, heard)

    def _measure(
        self, written: int, num_clips: int, more: float, most: float, parts: Sequence[Part], heard: str | None
    ) -> None:
        """Take what was measured on the snippet to the whole source, which is `more` times as long."""
        full = min(written * more, most)
        grow = full / max(written, 1)
        for stage in ("clips", "write", "tables"):
            self.seconds[stage] *= grow
        # a person is followed through a longer stretch as one clip, unless something breaks it
        breaks = 1 + (num_clips - 1) * more if num_clips else 0.0
        if "embeddings" in self.seconds:
            self.seconds["embeddings"] *= breaks / max(num_clips, 1)
        self.found = replace(
            self.found,
            written=full,
            clips=breaks,
            key_frames=self._key_frames(parts, more, breaks),
            staged={
                "sound": Path(heard).stat().st_size if heard else 0,
                "decode": _bytes_in(self.work / "decode") * more,
                "clips": _bytes_in(self.work / "clips") * grow,
            },
            published=_bytes_in(self.root) * grow,
        )

    def _key_frames(self, parts: Sequence[Part], more: float, breaks: float) -> float:
        """Stimulus pictures that would be described: at most so many a clip."""
        config = self.config.captions.key_frames
        chosen = sum(len(stimulus_frames(part, config)) for part in parts)
        return min(chosen * more, breaks * config.most)


def _decoded(path: Path, info: VideoInfo, low: int, high: int) -> int:
    """Decode frames and cut nothing out of them; how many can be."""
    return sum(1 for _ in read_frames(path, info, low, high, lambda _: ()))


def _frames(segments: list[Segment]) -> int:
    return sum(segment.stop - segment.first for segment in segments)


def planned_frames(segments: list[Segment], info: VideoInfo) -> float:
    """How many frames a build decodes for these segments: where two meet, both decode a second of the other."""
    meetings = sum(one.stop == two.first and one.span == two.span for one, two in pairwise(segments))
    return _frames(segments) + 2 * PADDING_S * info.fps * meetings


def snippet_of(segments: list[Segment], info: VideoInfo, seed: str) -> list[Segment]:
    """All segments of a short source; of a longer one `SNIPPET_S` seconds, the place drawn by the seed."""
    total, wanted = _frames(segments), max(1, round(SNIPPET_S * info.fps))
    if total <= wanted:
        return segments
    place = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") % total
    for segment in segments:
        length = segment.stop - segment.first
        if place < length:
            first = max(segment.first, min(segment.first + place, segment.stop - wanted))
            return [replace(segment, first=first, stop=min(first + wanted, segment.stop))]
        place -= length
    raise AssertionError("the place lies in one of the segments")


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
