"""Pictures that say what they are: a text's hash as an 8 x 8 grid of black and white squares, which survives coding."""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

SQUARES = 8


def bits(text: str) -> np.ndarray:
    """64 bits of a text's hash, (8, 8) of 0 and 1."""
    digest = hashlib.sha256(text.encode()).digest()[:8]
    return np.unpackbits(np.frombuffer(digest, np.uint8)).reshape(SQUARES, SQUARES)


def draw(text: str, width: int = 64, height: int = 64) -> np.ndarray:
    """The grid, grey (height, width) uint8."""
    rows, columns = np.arange(height) * SQUARES // height, np.arange(width) * SQUARES // width
    return (bits(text)[rows][:, columns] * 190 + 32).astype(np.uint8)


def picture(text: str, kind: str = "JPEG", width: int = 64, height: int = 64) -> bytes:
    """An encoded picture of the text."""
    file = io.BytesIO()
    image = Image.fromarray(draw(text, width, height))
    (image.convert("RGB") if kind != "GIF" else image).save(file, kind)
    return file.getvalue()


def says(data: bytes, text: str) -> bool:
    """Whether an encoded picture shows the text's grid."""
    grey_HW = np.asarray(Image.open(io.BytesIO(data)).convert("L")).astype(int)
    height, width = grey_HW.shape
    y = (np.arange(SQUARES) * 2 + 1) * height // (2 * SQUARES)
    x = (np.arange(SQUARES) * 2 + 1) * width // (2 * SQUARES)
    return bool(((grey_HW[y][:, x] > 127) == bits(text)).all())


def video(path: Path, texts: list[str], fps: int = 25, width: int = 64, height: int = 64, codec: str = "mpeg4") -> None:
    """A video whose pictures show the texts in turn."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.bit_rate = width, height, 4_000_000
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.thread_count = 1
        for text in texts:
            grey_HW = draw(text, width, height)
            frame = av.VideoFrame.from_ndarray(np.stack([grey_HW] * 3, axis=-1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write(path: Path, data: bytes | str) -> None:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
