"""Arrays as members of a record: the bytes of a `.npy` file, version 1.0, rows first, as `numpy.save` writes it.

`numpy.load` hands the header to Python's own parser, whose state all threads of CPython 3.11 share: where two threads parse
at once, either fails now and then with "SystemError: AST constructor recursion depth mismatch", and the other may be a
training loop's that compiles its model. Readers decode in threads, so headers are matched here instead.
"""

import io
import re

import numpy as np

_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00[\x00-\xff]{2}"
    rb"\{'descr': '([<|][biuf][1-8])', 'fortran_order': False, 'shape': \(((?:[0-9]+, ?)*(?:[0-9]+)?)\), \} *\n"
)


def to_npy(array: np.ndarray) -> bytes:
    """The bytes of an array, rows first."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def from_npy(data: bytes) -> np.ndarray:
    """The array that `to_npy` wrote, of numbers or truth values. ValueError for anything else, a pickle among it."""
    header = _HEADER.match(data)
    if header is None:
        raise ValueError("expected a .npy of numbers, version 1.0, little-endian, rows first")
    dtype, shape = np.dtype(header[1].decode()), tuple(int(part) for part in header[2].split(b",") if part.strip())
    expected, found = dtype.itemsize * int(np.prod(shape, dtype=object)), len(data) - header.end()
    if found != expected:
        raise ValueError(f"an array of {shape} {dtype} takes {expected} bytes, {found} are there")
    return np.frombuffer(data, dtype, offset=header.end()).reshape(shape).copy()
