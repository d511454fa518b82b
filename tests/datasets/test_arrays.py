"""Arrays of records: what `numpy.save` writes, read without Python's parser."""

import io
import sys
import threading

import numpy as np
import pytest

from reactionnet_datasets.arrays import from_npy, to_npy


@pytest.mark.parametrize(
    "array",
    [
        np.arange(5 * 68 * 2, dtype=np.float32).reshape(5, 68, 2),
        np.array([0.5, np.nan, -np.inf], np.float32),
        np.arange(7),
        np.zeros((0, 3), np.float32),
        np.array([[True], [False]]),
        np.array([[200, 3]], np.uint8),
        np.arange(6.0).reshape(2, 3).T,
    ],
)
def test_what_numpy_reads_and_writes(array):
    data = to_npy(array)
    for found in (from_npy(data), np.load(io.BytesIO(data))):
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    assert from_npy(data).flags.writeable and from_npy(data).flags.c_contiguous


def saved(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


WHOLE = saved(np.zeros((5, 3), np.float32))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (WHOLE[:-1], r"an array of \(5, 3\) float32 takes 60 bytes, 59 are there"),
        (WHOLE + b"\0", "61 are there"),
        (WHOLE.replace(b"(5, 3)", b"(5000000000000000000000, 3)"), "60000000000000000000000 bytes"),
        (WHOLE.replace(b"(5, 3)", b"(-5, -3)"), "expected a .npy of numbers"),
        (saved(np.zeros((5, 3), ">f4")), "little-endian"),
        (saved(np.asfortranarray(np.zeros((5, 3)))), "rows first"),
        (saved(np.array([{}], object), allow_pickle=True), "expected a .npy of numbers"),
        (saved(np.array(["text"])), "expected a .npy of numbers"),
        (b"", "expected a .npy of numbers"),
    ],
)
def test_anything_else_is_refused(data, reason):
    with pytest.raises(ValueError, match=reason):
        from_npy(data)


def test_many_threads_read_at_once():
    """`numpy.load` fails here some fifty times with "AST constructor recursion depth mismatch" on Python 3.11."""
    faults = []

    class Slow:
        """Its end, in the midst of whatever runs when garbage is collected, lets another thread run."""

        def __del__(self):
            sum(range(200))

    def read():
        for _ in range(10_000):
            ring = Slow()
            ring.ring = ring
            try:
                from_npy(WHOLE)
            except (SystemError, ValueError) as error:
                faults.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not faults
