"""Stage 3: one pass over a segment yields cuts, faces, landmarks and all pictures as JPEG.

What comes out lies on file: a table of stimulus pictures, a table of faces (one row a face and frame, also for the second
decoded on each side, by which segments are stitched), and one blob of JPEGs. Memory holds about a second of panes.
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import simplejpeg

from reactionnet_datasets.shards import atomic_file
from reactionnet_datasets.stores import Place, as_place, local
from reactionnet_pipeline import cuts, detector, follow, gaze, landmarks, pose, progress, tracker
from reactionnet_pipeline.cache import cached, fingerprint, library_versions
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.ingest import load_info, source_file
from reactionnet_pipeline.layout_files import load_layout
from reactionnet_pipeline.records import REACTION, STIMULUS, Pane, Segment, SegmentPart
from reactionnet_pipeline.video import VideoInfo, View, read_frames

VERSION = 2
VERSIONS = [VERSION, *(module.VERSION for module in (cuts, detector, follow, gaze, landmarks, pose, tracker))]
PADDING_S = 1.0
PROGRESS_EVERY = 32


@dataclass(frozen=True, kw_only=True)
class Config:
    """`stimulus_px` is the longer side of a stimulus picture; `fps` null keeps the source's rate."""

    stimulus_px: int = 256
    fps: float | None = None
    quality: int = 90
    max_pane_px: int = 1280  # a larger face pane is scaled down before faces are followed in it
    faces: follow.Config = field(default_factory=follow.Config)


FACES = pa.schema(
    [
        ("pane", pa.int32()),
        ("track", pa.int32()),
        ("frame", pa.int64()),
        ("t_s", pa.float64()),
        ("own", pa.bool_()),  # False in the second of padding
        ("box", pa.list_(pa.float64(), 4)),
        ("source", pa.string()),
        ("score", pa.float32()),
        ("landmarks", pa.list_(pa.float32(), 136)),  # pixels of the crop
        ("pose", pa.list_(pa.float32(), 3)),
        ("crop", pa.list_(pa.float64(), 6)),
        ("gaze", pa.list_(pa.float32(), 2)),  # yaw, pitch; null where no picture is kept
        ("offset", pa.int64()),  # of the JPEG in the blob; null where no picture is kept
        ("size", pa.int64()),
    ]
)
STIMULI = pa.schema([("frame", pa.int64()), ("offset", pa.int64()), ("size", pa.int64())])


def stimulus_of(panes: tuple[Pane, ...]) -> Pane | None:
    """What is being watched: the largest stimulus pane, None in an intro without one."""
    shown = [pane for pane in panes if pane.role == STIMULUS]
    return max(shown, key=lambda pane: (pane.w * pane.h, -pane.y, -pane.x), default=None)


def decode_segment(segment: Segment, config: Config, work: Place) -> SegmentPart:
    """Decode, follow, crop and encode one segment. Raises SourceError(DAMAGED) where not one frame can be decoded."""
    ingested = segment.laid_out.ingested
    panes = load_layout(as_place(segment.laid_out.layout)).spans()[segment.span]
    key = fingerprint(
        stage="decode", version=VERSIONS, content=ingested.sha256, config=config,
        span=[panes[0], panes[1], [vars(pane) for pane in panes[2]]], frames=[segment.first, segment.stop],
        libraries=library_versions(),
    )  # fmt: skip
    name = f"{ingested.source.video_id}-{segment.span}-{segment.number}"
    found = cached(work, "decode", name, key, lambda stem: _decode(segment, panes, config, work, stem))
    return SegmentPart(
        laid_out=segment.laid_out,
        span=segment.span,
        number=segment.number,
        first=segment.first,
        stop=segment.stop,
        table=f"decode/{found['stem']}.faces",
        blob=f"decode/{found['stem']}.jpegs",
        lost=tuple((a, b) for a, b in found["lost"]),
    )


def _decode(
    segment: Segment, span: tuple[float, float, tuple[Pane, ...]], config: Config, work: Place, stem: Place
) -> dict:
    info = load_info(segment.laid_out.ingested.probe)
    low, high = padded(segment, span, info)
    reactions = [pane for pane in span[2] if pane.role == REACTION]
    stimulus = stimulus_of(span[2])
    views = [_pane_view(pane, config.max_pane_px) for pane in reactions]
    if stimulus is not None:
        views.append(_pane_view(stimulus, config.stimulus_px))
    keep = sampled_frames(info, config.fps)
    decoded: list[int] = []
    found_cuts: list[set[int]] = [set() for _ in views]  # of each view, padding included
    with ExitStack() as stack:
        blob = _Blob(stack, stem.with_name(stem.name + ".jpegs"))
        faces = _Rows(stack, stem.with_name(stem.name + ".faces"), FACES)
        stimuli = _Rows(stack, stem.with_name(stem.name + ".stimuli"), STIMULI)
        detectors = [cuts.CutDetector() for _ in views]
        path = stack.enter_context(source_file(segment.laid_out.ingested))

        def feed() -> Iterator[tuple[int, float, list[np.ndarray]]]:
            for frame, pictures in read_frames(path, info, low, high, lambda _: views):
                own = segment.first <= frame < segment.stop
                for number, (detector, picture) in enumerate(zip(detectors, pictures, strict=True)):
                    if detector.is_cut(cuts.thumbnail(picture)):
                        found_cuts[number].add(frame)
                if own:
                    decoded.append(frame)
                    if len(decoded) % PROGRESS_EVERY == 0:
                        progress.report(work, "decode", PROGRESS_EVERY, more=True)
                    if stimulus is not None and keep[frame]:
                        offset, size = blob.add(_jpeg(pictures[-1], config.quality))
                        stimuli.add(frame=frame, offset=offset, size=size)
                yield frame, float(info.times_s[frame]), pictures

        streams = itertools.tee(feed(), len(reactions))
        followers = [
            follow.follow_faces(
                _one_pane(stream, number), pane, views[number].out_w / pane.w, config.faces, info.fps,
                cuts=found_cuts[number],
                masked=[other.box for other in span[2] if other.z > pane.z],
            )
            for number, (stream, pane) in enumerate(zip(streams, reactions, strict=True))
        ]  # fmt: skip
        for results in zip(*followers, strict=True):
            for number, (frame, t_s, found) in enumerate(results):
                own = segment.first <= frame < segment.stop
                for face in found:
                    offset = size = seen_gaze = None
                    in_crop_68x2 = _to_crop(face.landmarks_68x2, face.crop_matrix_2x3)
                    if own and keep[frame]:
                        offset, size = blob.add(_jpeg(face.crop_HWC, config.quality))
                        found_gaze = gaze.find_gaze(face.crop_HWC, in_crop_68x2, (face.yaw, face.pitch, face.roll))
                        seen_gaze = gaze.measured(found_gaze, face.crop_matrix_2x3, face.crop_HWC.shape[1])
                    faces.add(
                        pane=number, track=face.track, frame=frame, t_s=t_s, own=own,
                        box=[face.box.x, face.box.y, face.box.w, face.box.h], source=face.source, score=face.score,
                        landmarks=in_crop_68x2.ravel(), gaze=seen_gaze,
                        pose=[face.yaw, face.pitch, face.roll], crop=face.crop_matrix_2x3.ravel(),
                        offset=offset, size=size,
                    )  # fmt: skip
    progress.report(work, "decode", segment.stop - segment.first - len(decoded) // PROGRESS_EVERY * PROGRESS_EVERY)
    if not decoded:
        start_s, end_s = info.times_s[segment.first], info.times_s[segment.stop - 1]
        raise SourceError(Code.DAMAGED, f"not one of the frames from {start_s:.2f} to {end_s:.2f} s can be decoded")
    names = [f"reaction{number}" for number in range(len(reactions))] + [STIMULUS]
    return {
        "stem": stem.name,
        "lost": _lost_spans(info, segment.first, segment.stop, decoded),
        "cuts": {
            name: sorted(frame for frame in frames if segment.first <= frame < segment.stop)
            for name, frames in zip(names, found_cuts, strict=False)
        },
    }


def padded(segment: Segment, span: tuple[float, float, tuple[Pane, ...]], info: VideoInfo) -> tuple[int, int]:
    """The frames to decode: a second more on each side, but never across a layout change."""
    low = info.frame_at(info.times_s[segment.first] - PADDING_S)
    high = info.frame_at(info.times_s[segment.stop - 1] + PADDING_S) + 1
    return max(low, info.frame_at(span[0])), min(high, info.frame_at(span[1]))


def _pane_view(pane: Pane, max_side: int) -> View:
    scale = min(1.0, max_side / max(pane.w, pane.h))
    return View(
        x=pane.x, y=pane.y, w=pane.w, h=pane.h, out_w=max(2, round(pane.w * scale)), out_h=max(2, round(pane.h * scale))
    )


def _one_pane(stream, number: int) -> Iterator[tuple[int, float, np.ndarray]]:
    for frame, t_s, pictures in stream:
        yield frame, t_s, pictures[number]


def sampled_frames(info: VideoInfo, fps: float | None) -> np.ndarray:
    """Which frames are written: all, or the first in each 1/fps of the clock, wherever a segment begins."""
    if fps is None or fps >= info.fps:
        return np.ones(info.num_frames, bool)
    ticks = np.floor(info.times_s * fps + 1e-6).astype(np.int64)
    return np.concatenate([[True], ticks[1:] != ticks[:-1]])


def _jpeg(picture: np.ndarray, quality: int) -> bytes:
    # videos are 4:2:0 already: more colour would cost a third more time and bytes for nothing that was there
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(picture), quality=quality, colorspace="RGB", colorsubsampling="420", fastdct=False
    )


def _to_crop(points_N2: np.ndarray, matrix_2x3: np.ndarray) -> np.ndarray:
    return (points_N2 @ matrix_2x3[:, :2].T + matrix_2x3[:, 2]).astype(np.float32)


def _lost_spans(info: VideoInfo, first: int, stop: int, decoded: list[int]) -> list[list[float]]:
    """Seconds that the file has packets for but that cannot be decoded, as [start, end]."""
    missing = np.setdiff1d(np.arange(first, stop), decoded)
    runs = np.split(missing, np.nonzero(np.diff(missing) > 1)[0] + 1) if missing.size else []
    frame_s = 1 / info.fps
    return [[round(float(info.times_s[r[0]]), 3), round(float(info.times_s[r[-1]] + frame_s), 3)] for r in runs]


class _Blob:
    """Pictures one after another in a file that gets its name when the segment is done."""

    def __init__(self, stack: ExitStack, path: Place):
        self._file, naming = stack.enter_context(atomic_file(path.parent))
        naming.name = path.name
        self._place = 0

    def add(self, data: bytes) -> tuple[int, int]:
        self._file.write(data)
        self._place += len(data)
        return self._place - len(data), len(data)


class _Rows:
    """An Arrow table written in batches."""

    BATCH = 512

    def __init__(self, stack: ExitStack, path: Place, schema: pa.Schema):
        file, naming = stack.enter_context(atomic_file(path.parent))
        naming.name = path.name
        self._schema = schema
        self._rows: list[dict] = []
        self._writer = stack.enter_context(pa.ipc.new_file(file, schema))
        stack.callback(self._flush)

    def add(self, **row) -> None:
        self._rows.append(row)
        if len(self._rows) >= self.BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()


def read_rows(path: Place) -> pa.Table:
    """A table that a segment left on file."""
    with local(path) as file, pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).read_all()


def read_cuts(part: SegmentPart, work: Place) -> dict[str, list[int]]:
    """Frames at which a pane's picture is cut, by pane: `reaction0`, ..., `stimulus`."""
    marker = (work / part.table).with_suffix(".json")
    return json.loads(marker.read_bytes())["cuts"]
