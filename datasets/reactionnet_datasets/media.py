"""Bytes of the pictures, arrays and sound that a clip refers to.

Picture files are copied as they are, after one decoding that shows that they can be (JPEGs at an eighth of their size,
which costs about as much as reading them). Videos are decoded by a process of the pipeline package, one a worker and
role, that answers with JPEGs of 4:2:0; this package itself holds no video decoder.
"""

import atexit
import base64
import importlib.util
import io
import json
import os
import select
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import IO, Any

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from reactionnet_datasets.clip import ArrayFiles, File, GreyPixels, Media, NoPictures, Numbers, Pictures, Stream, Video
from reactionnet_datasets.jpeg import decode_jpeg
from reactionnet_datasets.release import ReleaseError, load_npy

QUALITY = 92
SILENCE_S = 120.0  # a decoder that says nothing for so long is ended
# each frame of an answer: place in the video (or what `_END`, `_FAULT` say), seconds, bytes that follow
HEADER = struct.Struct("<qdq")
END, FAULT = -1, -2
_MAGIC = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"BM", "bmp"),
    (b"GIF8", "gif"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)


class MediaError(ReleaseError):
    """A picture or sound that the release has, but that cannot be decoded; `place` is its frame within the clip."""

    def __init__(self, message: str, place: int | None = None):
        super().__init__(message)
        self.place = place


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Encoded bytes, what they are (`jpg`, `png`, ...) and, for a frame of a video, when it is shown."""

    data: bytes
    extension: str
    t_s: float | None = None


def extension_of(data: bytes, name: str) -> str:
    """What a picture is by its first bytes: names lie. MediaError where it is none that is known."""
    for magic, extension in _MAGIC:
        if data.startswith(magic):
            return extension
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    raise MediaError(f"{name} is no picture that is read here (begins with {data[:8]!r})")


def check_picture(data: bytes, name: str) -> str:
    """Decode once; returns what it is. MediaError where it does not decode to the end."""
    extension = extension_of(data, name)
    try:
        # what readers of shards refuse is refused here: Pillow alone would pass over damage within a JPEG
        if extension == "jpg" and simplejpeg.decode_jpeg_header(data)[2] not in ("CMYK", "YCCK"):
            # a grey eighth: every coefficient of every colour is read, and next to nothing is done with them
            decode_jpeg(data, "GRAY", True, True, min_height=1, min_width=1, min_factor=1)
        else:
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
    except (ValueError, OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise MediaError(f"{name} does not decode: {error}") from error
    return extension


def read_file(root: Path, file: File) -> bytes:
    """All bytes of a file of the release. MediaError where they are fewer than when it was listed."""
    try:
        data = _archive(str(root / file.path)).read(file.member) if file.member else (root / file.path).read_bytes()
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise MediaError(f"{file.name} cannot be read: {error}") from error
    if len(data) != file.size:
        raise MediaError(f"{file.name} has {len(data)} bytes; {file.size} when it was listed")
    return data


@lru_cache(maxsize=4)
def _archive(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def read_pictures(root: Path, media: Media, role: str) -> Iterator[Picture | MediaError | None]:
    """One picture a frame, in order; a `MediaError` stands for one that does not decode, None for none at all."""
    match media:
        case Pictures():
            for file in media.files:
                if file is None:
                    raise ValueError("a frame without a picture was not left out")
                try:
                    data = read_file(root, file)
                    yield Picture(data=data, extension=check_picture(data, file.name))
                except MediaError as error:
                    yield error
        case GreyPixels():
            shape = (media.height, media.width)
            for text in media.pixels:
                grey_HW = np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)
                yield Picture(data=png_of(grey_HW), extension="png")
        case Video():
            yield from _read_video(root, media, role)
        case NoPictures():
            yield from repeat(None, media.num)


def png_of(grey_HW: np.ndarray) -> bytes:
    """A grey picture without loss."""
    file = io.BytesIO()
    Image.fromarray(grey_HW).save(file, "PNG", optimize=False, compress_level=6)
    return file.getvalue()


def _read_video(root: Path, video: Video, role: str) -> Iterator[Picture | MediaError]:
    request = {
        "video": str(root / video.file.path), "places": list(video.places), "quality": QUALITY,
        "crop": video.crop, "turn": video.turn,
    }  # fmt: skip
    wanted = iter(enumerate(video.places))
    for place, t_s, data in decoder(role).ask(request, video.file.name):
        for _, expected in wanted:
            if expected == place:
                yield Picture(data=data, extension="jpg", t_s=t_s)
                break
            yield MediaError(f"{video.file.name}: picture {expected} (from 0) cannot be decoded")
    for _, expected in wanted:
        yield MediaError(
            f"{video.file.name}: picture {expected} (from 0) cannot be decoded, or the video ends before it"
        )


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """What the packets of a video say. `t_s` has one entry a picture."""

    num_frames: int
    fps: float
    width: int
    height: int
    has_sound: bool
    t_s: tuple[float, ...] = field(repr=False)


def video_facts(root: Path, file: File) -> VideoFacts:
    """Look at a video without decoding it. MediaError where it is none."""
    answer = list(decoder("probe").ask({"video": str(root / file.path), "facts": True}, file.name))
    content = json.loads(answer[0][2])
    return VideoFacts(**{**content, "t_s": tuple(content["t_s"])})


def read_sound(root: Path, file: File) -> np.ndarray:
    """The sound of a file as int16 at 16 kHz, mono; empty where it has none."""
    pieces = [data for _, _, data in decoder("sound").ask({"video": str(root / file.path), "sound": True}, file.name)]
    return np.frombuffer(b"".join(pieces), "<i2")


def find_landmarks(picture: bytes) -> np.ndarray | None:
    """68 landmarks (68, 2) of the largest face in a picture, by the pipeline's command; None where there is no face."""
    data = base64.b64encode(picture).decode()
    answer = list(decoder("landmarks").ask({"picture": data}, "a picture"))
    return np.frombuffer(answer[0][2], "<f4").reshape(68, 2) if answer else None


# -- the decoding process ------------------------------------------------------------------------------------------


def has_decoder() -> bool:
    """Whether the pipeline package, which decodes videos, is installed with what it needs."""
    return all(importlib.util.find_spec(name) is not None for name in ("reactionnet_pipeline", "av"))


def has_landmarks() -> bool:
    """Whether the pipeline can find landmarks."""
    return has_decoder() and all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models"))


_decoders: dict[str, "Decoder"] = {}


def decoder(role: str) -> "Decoder":
    """This process's decoder for a role: two roles may be read in turns."""
    if not has_decoder():
        raise ReleaseError(
            'this data set ships videos, which the pipeline decodes: install it with pip install "reactionnet[pipeline]"'
        )
    if role not in _decoders:
        _decoders[role] = Decoder()
    return _decoders[role]


def close_decoders() -> None:
    """End this process's decoders."""
    for child in _decoders.values():
        child.close()


class Decoder:
    """A child process that decodes what it is asked for; started anew when a video was its end."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._held = bytearray()  # came with an answer before
        atexit.register(self.close)

    def ask(self, request: dict[str, Any], name: str) -> Iterator[tuple[int, float, bytes]]:
        """(place, seconds, bytes) of each answer. MediaError where the file cannot be read or ends the decoder."""
        stdin, stdout = self._pipes()
        done = False
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            while True:
                place, t_s, size = HEADER.unpack(self._read(stdout, HEADER.size))
                data = self._read(stdout, size)
                if place == END:
                    done = True
                    return
                if place == FAULT:
                    done = True
                    raise MediaError(data.decode())
                yield place, t_s, data
        except (BrokenPipeError, EOFError, TimeoutError) as error:
            raise MediaError(f"{name} ended the decoder: {error or 'it crashed'}") from error
        finally:
            if not done:
                self.close()  # half an answer lies in the pipe

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._child is None or self._child.poll() is not None:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
            self._child = subprocess.Popen(
                [sys.executable, "-m", "reactionnet_pipeline.frames"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0,
            )  # fmt: skip
            self._held.clear()
        if self._child.stdin is None or self._child.stdout is None:
            raise RuntimeError("the decoder was started without pipes")
        return self._child.stdin, self._child.stdout

    def _read(self, pipe: IO[bytes], size: int) -> bytes:
        while len(self._held) < size:
            ready, _, _ = select.select([pipe], [], [], SILENCE_S)
            if not ready:
                raise TimeoutError(f"nothing for {SILENCE_S:.0f} s")
            piece = os.read(pipe.fileno(), 1 << 20)
            if not piece:
                raise EOFError
            self._held += piece
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # of what was not yet sent
                        pipe.close()
            self._child = None


# -- arrays ----------------------------------------------------------------------------------------------------------


def read_stream(root: Path, stream: Stream, first: int, stop: int, faults: list[str]) -> np.ndarray:
    """Frames `first` to `stop - 1` of a feature stream as float32; NaN where a frame has none.

    A file that cannot be read is NaN too, and a line in `faults`.
    """
    if isinstance(stream, Numbers):
        return _stacked(list(stream.values[first:stop]), _shape_of(stream.values))
    arrays = []
    for file in stream.files[first:stop]:
        try:
            arrays.append(None if file is None else _small_array(read_file(root, file), file, stream))
        except MediaError as error:
            faults.append(str(error))
            arrays.append(None)
    return _stacked(arrays, tuple(stream.shape))


def _shape_of(values: Sequence[Any]) -> tuple[int, ...]:
    return next((np.shape(value) for value in values if value is not None), ())


def _stacked(arrays: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    blank = np.full(shape, np.nan, np.float32)
    return np.stack([blank if array is None else np.asarray(array, np.float32) for array in arrays])


def _small_array(data: bytes, file: File, stream: ArrayFiles) -> np.ndarray:
    if stream.variable:
        content = load_mat(data, file.name)
        if stream.variable not in content:
            names = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
            raise MediaError(f"{file.name} holds {names}; expected {stream.variable}")
        array = np.asarray(content[stream.variable])
    else:
        try:
            array = load_npy(data, file.name)
        except ReleaseError as error:
            raise MediaError(str(error)) from error
    if array.shape != tuple(stream.shape) or array.dtype.kind not in "iuf":
        raise MediaError(
            f"{file.name} has shape {array.shape} of {array.dtype}; expected {tuple(stream.shape)} numbers"
        )
    return array.astype(np.float32)


def load_mat(data: bytes, name: str) -> dict[str, Any]:
    """Variables of a MATLAB file, structs as objects, one-element cells squeezed. MediaError where it is none."""
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped]
        from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]
    except ImportError:
        raise ReleaseError(f'{name} is a MATLAB file: pip install "reactionnet[importers]" reads it') from None
    try:
        return loadmat(io.BytesIO(data), struct_as_record=False, squeeze_me=True)
    except NotImplementedError as error:
        raise MediaError(f"{name} is a MATLAB 7.3 file (HDF5): save it with -v7") from error
    except (ValueError, TypeError, MatReadError, OSError, IndexError, zlib.error) as error:
        raise MediaError(f"{name} is no MATLAB file: {error}") from error
