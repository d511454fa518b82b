"""The sound track of a source, resampled once: 16 kHz, mono, 16 bit, sample 0 at second 0 of the video."""

import itertools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import numpy as np

from reactionnet_datasets.shards import atomic_file
from reactionnet_datasets.stores import Place
from reactionnet_pipeline.cache import cached, fingerprint, library_versions
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.ingest import load_info, source_file
from reactionnet_pipeline.records import Ingested
from reactionnet_pipeline.video import DEMUX_ERRORS, FORMATS, open_video

VERSION = 1
RATE = 16_000
GAP_S = 0.1  # a longer hole between time stamps is a hole in the sound, filled with silence and recorded


def resample_sound(ingested: Ingested, work: Place) -> str | None:
    """File of raw little-endian int16 samples, or None where the source has no sound that decodes."""
    info = load_info(ingested.probe)
    if not info.has_audio:
        return None
    key = fingerprint(stage="sound", version=VERSION, content=ingested.sha256, av=library_versions()["av"])
    name = ingested.source.video_id
    found = cached(work, "sound", name, key, lambda stem: _resample(ingested, stem, info.end_s))
    return str(work / "sound" / found["file"]) if found["samples"] else None


def _resample(ingested: Ingested, stem: Place, end_s: float) -> dict:
    samples, gaps = 0, []
    with source_file(ingested) as path, open_video(path) as container, atomic_file(stem.parent) as (file, naming):
        start_s = (container.start_time or 0) / av.time_base
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        resampler, kind = _resampler(), None

        def write(frames: list[av.AudioFrame]) -> int:
            pieces = [frame.to_ndarray().reshape(-1).astype("<i2") for frame in frames]
            file.write(b"".join(piece.tobytes() for piece in pieces))
            return sum(len(piece) for piece in pieces)

        for frame in _decoded(container, stream):
            if frame.time is not None and frame.time - start_s < end_s + 1:  # a time far behind the pictures is damage
                behind = round((frame.time - start_s) * RATE) - samples
                if behind > GAP_S * RATE or (not samples and behind > 0):
                    gaps.append([samples / RATE, (samples + behind) / RATE])
                    file.write(bytes(2 * behind))
                    samples += behind
            if kind != (kind := (frame.format.name, frame.layout.name, frame.sample_rate)):
                samples += write(resampler.resample(None)) if samples else 0
                resampler = _resampler()
            frame.pts = None  # the resampler would fill holes by its own rule
            samples += write(resampler.resample(frame))
        samples += write(resampler.resample(None))
        naming.name = stem.name + ".pcm"
    return {"file": naming.name, "samples": samples, "gaps": gaps}


def _resampler() -> av.AudioResampler:
    return av.AudioResampler(format="s16", layout="mono", rate=RATE)


def _decoded(container, stream):
    """Audio frames; what does not decode is left out and shows as a gap."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except DEMUX_ERRORS:
            return
        if packet is None:
            return
        with suppress(av.error.FFmpegError):
            yield from packet.decode()


def sound_of_file(path: Path) -> Iterator[bytes]:
    """All sound of a local file, of sound or of film, in pieces of int16; nothing where there is none that decodes.

    Holes between time stamps are not filled: who needs them is `resample_sound`. Raises SourceError(UNREADABLE).
    """
    options = {"protocol_whitelist": "file", "format_whitelist": f"{FORMATS},wav,mp3,flac,aac"}
    try:
        container = av.open(f"file:{path.resolve()}", options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise SourceError(Code.UNREADABLE, f"{path.name}: {error.strerror}") from error
    with container:
        if not container.streams.audio:
            return
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        resampler = _resampler()
        for frame in itertools.chain(_decoded(container, stream), [None]):
            if frame is not None:
                frame.pts = None
            for piece in resampler.resample(frame):
                yield piece.to_ndarray().reshape(-1).astype("<i2").tobytes()


def read_sound(file: Path, start_s: float, end_s: float) -> np.ndarray:
    """Samples from `start_s` up to `end_s`, int16; fewer than asked for where the sound ends before."""
    first, stop = round(start_s * RATE), round(end_s * RATE)
    return np.fromfile(file, "<i2", count=max(stop - first, 0), offset=2 * first)
