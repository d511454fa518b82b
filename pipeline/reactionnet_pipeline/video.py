"""Opening, probing and reading video files with PyAV. One thread, and no way to open anything but the named file.

Frames are numbered by display order over the whole file, from the time stamps of the packets, so that a reader that
starts in the middle counts the same numbers and a variable frame rate needs no special case.

Letters: T frames, H height, W width, C colour (RGB).
"""

import bisect
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from reactionnet_pipeline.errors import Code, SourceError

# Demuxers of files that hold their own pictures. Playlists (hls, dash, concat, image sequences, sdp) are not among
# them, and only the local file protocol is: a manifest can make us read the file that it names and nothing else.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,ivf,mxf,gif,rm,nut"
MAX_PIXELS = 8192 * 8192
MAX_FRAMES = 5_000_000
# PyAV ends with an IndexError where damage, or a broadcast, lets another stream begin in mid-file.
DEMUX_ERRORS = (av.error.FFmpegError, IndexError)


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a look at the packets tells, without decoding. `times_s` has one entry a frame, in display order."""

    width: int
    height: int
    rotation: int  # degrees that the stored picture is turned clockwise to stand upright: 0, 90, 180, 270
    times_s: np.ndarray
    keyframes: np.ndarray  # frame numbers at which decoding can start
    duration_s: float  # what the file's header promises, which a truncated file does not hold
    has_audio: bool
    start_s: float  # the container's own first time stamp, subtracted everywhere
    codec: str

    @property
    def num_frames(self) -> int:
        return len(self.times_s)

    @property
    def fps(self) -> float:
        """Median rate, frames per second."""
        if self.num_frames < 2:
            return 25.0
        return float(1 / max(np.median(np.diff(self.times_s)), 1e-3))

    @property
    def end_s(self) -> float:
        """When the last frame that the file really holds stops being shown."""
        return float(self.times_s[-1] + 1 / self.fps) if self.num_frames else 0.0

    def frame_at(self, time_s: float) -> int:
        """Number of the first frame shown at `time_s` or later."""
        return int(np.searchsorted(self.times_s, time_s - 1e-6))


@contextmanager
def open_video(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a local file for reading. Raises SourceError: EMPTY_FILE, NOT_A_VIDEO, TRUNCATED, UNREADABLE, NO_VIDEO."""
    if not path.is_file():
        raise SourceError(Code.FETCH_FAILED, f"no regular file at {path.name}")
    if path.stat().st_size == 0:
        raise SourceError(Code.EMPTY_FILE, f"{path.name} has no bytes")
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "enable_drefs": "0", "use_absolute_path": "0"}
    try:
        container = av.open(f"file:{path.resolve()}", options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise _unopened(path, str(error.strerror)) from error
    with container:
        if not container.streams:
            raise _unopened(path, "no streams")
        if not _moving(container):
            raise SourceError(Code.NO_VIDEO, f"{path.name} has no video stream ({container.format.name})")
        if video_stream(container).codec_context is None:
            raise SourceError(Code.UNREADABLE, f"{path.name}: no decoder reads its video stream")
        yield container


def _moving(container: av.container.InputContainer) -> list[av.VideoStream]:
    return [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The first stream of moving pictures: a cover picture in a file of music or film is none."""
    return _moving(container)[0]


def _unopened(path: Path, why: str) -> SourceError:
    with path.open("rb") as file:
        head = file.read(189)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return SourceError(Code.TRUNCATED, f"{path.name}: an MP4 file whose index (moov) is missing or broken")
    transport = len(head) > 188 and head[0] == head[188] == ord("G")
    if head[:4] in (b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS") or head[8:12] == b"AVI " or transport:
        return SourceError(Code.UNREADABLE, f"{path.name}: damaged beyond opening ({why})")
    return SourceError(Code.NOT_A_VIDEO, f"{path.name} is no video format that is read here ({why})")


def probe(path: Path) -> VideoInfo:
    """Read all packet headers of the first video stream. Raises what `open_video` raises, and TOO_LARGE, UNREADABLE."""
    with open_video(path) as container:
        stream = video_stream(container)
        start_s = (container.start_time or 0) / av.time_base
        ticks, keys = [], []
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                pts = packet.pts if packet.pts is not None else packet.dts
                if pts is None:
                    raise SourceError(
                        Code.UNREADABLE, f"{path.name}: packets without time stamps ({stream.codec.name})"
                    )
                ticks.append(pts)
                if packet.is_keyframe:
                    keys.append(pts)
                if len(ticks) > MAX_FRAMES:
                    raise SourceError(Code.TOO_LARGE, f"{path.name}: more than {MAX_FRAMES:,} frames")
        except DEMUX_ERRORS:
            pass  # a truncated file: what was read up to here is what there is
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise SourceError(Code.TOO_LARGE, f"{path.name}: {width}x{height} pixels, at most {MAX_PIXELS:,}")
        if not ticks or not width:
            raise SourceError(Code.UNREADABLE, f"{path.name}: the video stream holds no packet that can be read")
        order = np.unique(np.asarray(ticks, np.int64))
        step = stream.time_base
        if step is None:
            raise SourceError(Code.UNREADABLE, f"{path.name}: the video stream has no time base")
        return VideoInfo(
            rotation=(rotation := _rotation(path)),
            width=height if rotation in (90, 270) else width,
            height=width if rotation in (90, 270) else height,
            times_s=order * float(step) - start_s,
            keyframes=np.searchsorted(order, np.unique(np.asarray(keys, np.int64))),
            duration_s=_promised_s(container, stream, start_s),
            has_audio=bool(container.streams.audio),
            start_s=start_s,
            codec=stream.codec.name,
        )


def _promised_s(container: av.container.InputContainer, stream: av.VideoStream, start_s: float) -> float:
    """The length that the header gives for the pictures; Matroska and FLV count it from 0, not from the first frame."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if match := re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, match.groups())
        return hours * 3600 + minutes * 60 + seconds - start_s
    return container.duration / av.time_base - start_s if container.duration else 0.0


def _rotation(path: Path) -> int:
    """The display matrix, which PyAV hands out with decoded frames only."""
    with open_video(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        try:
            for packet in container.demux(stream):
                try:
                    for frame in packet.decode():
                        return round(-frame.rotation / 90) % 4 * 90
                except av.error.FFmpegError:
                    continue
        except DEMUX_ERRORS:
            pass
    raise SourceError(Code.UNREADABLE, f"{path.name}: not one frame can be decoded")


@dataclass(frozen=True, kw_only=True)
class View:
    """A part of the upright picture, scaled: crop `x, y, w, h`, then resize to `out_w, out_h`; RGB or grey."""

    x: int
    y: int
    w: int
    h: int
    out_w: int
    out_h: int
    grey: bool = False


def whole(info: VideoInfo, max_side: int | None = None, grey: bool = False) -> View:
    """The whole picture, made smaller so that no side exceeds `max_side`."""
    scale = min(1.0, (max_side or max(info.width, info.height)) / max(info.width, info.height))
    out_w, out_h = max(2, round(info.width * scale)), max(2, round(info.height * scale))
    return View(x=0, y=0, w=info.width, h=info.height, out_w=out_w, out_h=out_h, grey=grey)


TURNS: dict[int, list[tuple[str, str | None]]] = {
    0: [],
    90: [("transpose", "clock")],
    180: [("hflip", None), ("vflip", None)],
    270: [("transpose", "cclock")],
}


class _Views:
    """A filter graph that cuts and scales views out of decoded frames: swscale touches only the pixels asked for."""

    def __init__(self, stream: av.VideoStream, info: VideoInfo, views: Sequence[View]):
        self.graph = av.filter.Graph()
        self.graph.threads = 1
        node = self.graph.add_buffer(template=stream)
        for name, arguments in TURNS[info.rotation]:
            node = self._after(node, name, arguments)
        split = self._after(node, "split", str(len(views)))
        self.sinks, self.rows = [], []
        for pad, view in enumerate(views):
            scaled = (view.out_w, view.out_h) != (view.w, view.h)
            y, h = (view.y, view.h) if scaled else _even_height(view, info.height)
            self.rows.append(slice(view.y - y, view.y - y + view.out_h))
            node = self._after(split, "crop", f"{view.w}:{h}:{view.x}:{y}:exact=1", pad)
            if scaled:
                kernel = "area" if view.out_w < view.w else "bicubic"
                node = self._after(node, "scale", f"{view.out_w}:{view.out_h}:flags={kernel}")
            node = self._after(node, "format", "gray" if view.grey else "rgb24")
            self.sinks.append(self._after(node, "buffersink", None))
        self.graph.configure()

    def _after(self, node, name: str, arguments: str | None, pad: int = 0):
        new = self.graph.add(name, arguments) if arguments else self.graph.add(name)
        node.link_to(new, pad, 0)
        return new

    def cut(self, frame: av.VideoFrame) -> list[np.ndarray]:
        self.graph.push(frame)
        return [sink.pull().to_ndarray()[rows] for sink, rows in zip(self.sinks, self.rows, strict=True)]


def _even_height(view: View, height: int) -> tuple[int, int]:
    """First row and rows to convert: swscale's fast path wants an even number, ten times faster than an odd one."""
    if view.h % 2 == 0 or view.h == height:
        return view.y, view.h
    return (view.y, view.h + 1) if view.y + view.h < height else (view.y - 1, view.h + 1)


ViewsAt = Callable[[int], Sequence[View]]


def read_frames(
    path: Path, info: VideoInfo, start: int, stop: int, views_at: ViewsAt
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Decode frames `start` to `stop - 1` in order and yield (frame number, one array a view).

    `views_at(frame)` says what to cut out; a change of its answer costs one new filter graph. Frames that cannot be
    decoded are missing from the sequence: compare the numbers. Arrays are (H, W, 3) uint8 RGB, or (H, W) grey.
    """
    with open_video(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        current: tuple[View, ...] = ()
        for frame, picture in _decode(container, stream, info, start):
            if frame >= stop:
                return
            if frame < start:
                continue
            views = tuple(views_at(frame))
            if not views:
                yield frame, []
                continue
            if (picture.width, picture.height) != _stored_size(info):
                continue  # a stream that changes its size in mid-file: reported as damaged by its missing numbers
            if views != current:
                current, cutter = views, _Views(stream, info, views)
            yield frame, cutter.cut(picture)


def sample_frames(path: Path, info: VideoInfo, frames: Sequence[int], view: View) -> Iterator[tuple[int, np.ndarray]]:
    """Decode only the frames with the given numbers (ascending), skipping from key frame to key frame where it pays."""
    wanted = sorted(set(frames))
    with open_video(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        cutter = _Views(stream, info, [view])
        while wanted:
            for frame, picture in _decode(container, stream, info, wanted[0]):
                while wanted and frame > wanted[0]:
                    wanted.pop(0)  # this one cannot be decoded
                if not wanted:
                    return
                if frame == wanted[0]:
                    wanted.pop(0)
                    if (picture.width, picture.height) == _stored_size(info):
                        yield frame, cutter.cut(picture)[0]
                    if wanted and _keyframe_before(info, wanted[0]) > frame:
                        break  # a seek is shorter than decoding up to there
            else:
                return


def _stored_size(info: VideoInfo) -> tuple[int, int]:
    return (info.height, info.width) if info.rotation in (90, 270) else (info.width, info.height)


def _keyframe_before(info: VideoInfo, frame: int) -> int:
    place = bisect.bisect_right(info.keyframes, frame) - 1
    return int(info.keyframes[place]) if place >= 0 else 0


def _decode(container, stream, info: VideoInfo, start: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """(frame number, decoded picture) from the key frame before `start`; what does not decode is left out."""
    step: Fraction = stream.time_base
    packets = _packets_from(container, stream, info, start)
    half_a_frame, last = 0.5 / info.fps, -1
    for picture in _pictures(packets, stream):
        if picture.pts is None or picture.is_corrupt:
            continue
        seconds = float(picture.pts * step) - info.start_s
        place = _nearest(info.times_s, seconds)
        # a second picture with one time stamp has no number of its own: `probe` counts time stamps
        if place > last and abs(info.times_s[place] - seconds) < half_a_frame:
            last = place
            yield place, picture


def _packets_from(container, stream, info: VideoInfo, start: int) -> Iterator[av.Packet]:
    """Packets from a key frame at or before `start`.

    Some formats (MPEG-TS) seek by decoding time and may land behind the key frame asked for: then the one before it is
    tried, and the beginning of the file last.
    """
    step: Fraction = stream.time_base
    frame = _keyframe_before(info, start)
    while frame > 0:
        ticks = round((info.times_s[frame] + info.start_s) / step)
        try:
            container.seek(ticks, stream=stream, backward=True)
            packets = container.demux(stream)
            first = next(packets)
        except (*DEMUX_ERRORS, StopIteration):
            break  # a stream without an index
        if first.pts is not None and first.pts <= ticks:
            return itertools.chain([first], packets)
        frame = _keyframe_before(info, frame - 1)
    with suppress(av.error.FFmpegError):  # a damaged index; a container just opened stands at its beginning
        container.seek(0)
    return container.demux(stream)


def _pictures(packets: Iterator[av.Packet], stream) -> Iterator[av.VideoFrame]:
    """All pictures that decode; where the file is cut off, also those that the decoder still holds back."""
    ended = False
    while not ended:
        try:
            packet = next(packets, None)
        except DEMUX_ERRORS:
            packet = None
        ended = packet is None
        try:
            yield from packet.decode() if packet is not None else stream.codec_context.decode(None)
        except av.error.EOFError:
            return  # flushed before
        except av.error.FFmpegError:
            continue


def _nearest(times_s: np.ndarray, seconds: float) -> int:
    after = min(int(np.searchsorted(times_s, seconds)), len(times_s) - 1)
    return after - 1 if after > 0 and seconds - times_s[after - 1] < times_s[after] - seconds else after
