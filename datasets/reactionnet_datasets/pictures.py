"""Decoding pictures into memory that is there already, without holding Python's lock.

JPEG goes through simplejpeg (libjpeg-turbo), which lets other threads run meanwhile; other formats through Pillow. A
picture that will be shown at half its size or less is decoded at a half, a quarter or an eighth straight from its
coefficients. Letters: H, W, 3, uint8, RGB.
"""

import io
import threading

import numpy as np
import simplejpeg
from PIL import Image

from reactionnet_datasets.augment import View
from reactionnet_datasets.jpeg import decode_jpeg
from reactionnet_datasets.storage import ShardError

MAX_SIDE = 16384
_JPEG = (b".jpg", b".jpeg", b".JPG", b".JPEG")
_scratch = threading.local()


def picture_size(data: bytes | memoryview, name: bytes) -> tuple[int, int]:
    """Height and width, from the header alone. ShardError where it is no picture or larger than `MAX_SIDE`."""
    try:
        if name.endswith(_JPEG):
            height, width = simplejpeg.decode_jpeg_header(data)[:2]
        else:
            width, height = Image.open(io.BytesIO(data)).size
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        raise ShardError(f"{name.decode()} is no picture: {error}") from error
    if not 0 < max(height, width) <= MAX_SIDE:
        raise ShardError(f"{name.decode()} has {width} x {height} pixels; at most {MAX_SIDE} a side are read")
    return height, width


def decode(data: bytes | memoryview, name: bytes, size: tuple[int, int], view: View, out: np.ndarray) -> None:
    """Decode a picture of a known size (height, width) and write what `view` shows of it to `out`.

    ShardError, with the member's name, where it is damaged; ValueError where it has another size than its neighbours.
    """
    if not name.endswith(_JPEG):
        view.show(_by_pillow(data, name, size), out)
        return
    if view.is_whole and size == (view.out_h, view.out_w):  # a crop may begin in the corner too
        _decode_jpeg(data, name, size, 1, out)
        return
    factor = 1
    while factor < 8 and 2 * factor * view.out_w <= view.w and 2 * factor * view.out_h <= view.h:
        factor *= 2
    view.scaled(factor).show(_decode_jpeg(data, name, size, factor, _buffer(size)), out)


def _decode_jpeg(
    data: bytes | memoryview, name: bytes, size: tuple[int, int], factor: int, buffer: np.ndarray | bytearray
) -> np.ndarray:
    """Decode to `buffer` at 1/factor of the size."""
    expected = size if factor == 1 else (-(-size[0] // factor), -(-size[1] // factor))
    try:
        if factor == 1:
            picture = decode_jpeg(data, "RGB", buffer=buffer)
        else:
            picture = decode_jpeg(data, "RGB", False, False, *expected, factor, buffer=buffer)
    except ValueError as error:
        found = picture_size(data, name)
        if found != size:
            raise _differs(name, found, size) from error
        if simplejpeg.decode_jpeg_header(data)[2] not in ("CMYK", "YCCK"):
            raise ShardError(f"{name.decode()} is damaged: {error}") from error
        picture = np.frombuffer(buffer, np.uint8, size[0] * size[1] * 3).reshape(*size, 3)
        picture[...] = _by_pillow(data, name, size)
        return picture[::factor, ::factor]
    if picture.shape[:2] != expected:
        raise _differs(name, picture_size(data, name), size)
    return picture


def _differs(name: bytes, found: tuple[int, int], size: tuple[int, int]) -> ValueError:
    return ValueError(
        f"{name.decode()} has {found[1]} x {found[0]} pixels, others of its batch {size[1]} x {size[0]}: bring them to one "
        "size by augment=Augment(resize=..., crop=...), or read with batch_size=None"
    )


def _buffer(size: tuple[int, int]) -> bytearray:
    """Memory of this thread for one whole picture."""
    needed = size[0] * size[1] * 3
    buffer = getattr(_scratch, "buffer", None)
    if buffer is None or len(buffer) < needed:
        buffer = _scratch.buffer = bytearray(needed)
    return buffer


def _by_pillow(data: bytes | memoryview, name: bytes, size: tuple[int, int]) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.size != size[::-1]:
                raise _differs(name, image.size[::-1], size)
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ShardError(f"{name.decode()} is damaged: {error}") from error
