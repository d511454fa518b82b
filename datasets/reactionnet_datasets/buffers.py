"""Memory for pictures that is used again once nobody looks at it: a fresh page costs more than writing to it.

A batch of pictures is tens of megabytes, which the C library gives back to the system when the batch is freed; the next
one then takes a page fault every 4 KiB, up to half the time that decoding takes. A tensor made here keeps a lease alive
through all its views; when the last is gone, the memory returns to the pool.
"""

import math
from collections import deque
from typing import Any

import numpy as np
import torch


class Pool:
    """Buffers by size; at most `keep` that nobody uses. Any number of threads."""

    def __init__(self, keep: int):
        self.keep = keep
        self._free: deque[np.ndarray] = deque()

    def __getstate__(self) -> dict[str, Any]:
        return {"keep": self.keep, "_free": deque()}

    def empty(self, shape: tuple[int, ...]) -> torch.Tensor:
        """A uint8 tensor of any content."""
        size = math.prod(shape)
        lease = _Lease(self, self._memory(size))
        array = np.asarray(lease)[:size]
        return torch.from_numpy(array).view(shape)

    def _memory(self, size: int) -> np.ndarray:
        for _ in range(len(self._free)):
            try:
                memory = self._free.pop()  # the one used last, which may still lie in the processor's caches
            except IndexError:
                break  # another thread took it
            if size <= memory.size <= 16 * size:
                return memory
            self._free.appendleft(memory)
        # Powers of two, so that clips of any length share a few sizes; what is not touched takes no memory.
        return np.empty(1 << max(size - 1, 4095).bit_length(), np.uint8)

    def take_back(self, memory: np.ndarray) -> None:
        """Called by a lease that ends."""
        self._free.append(memory)
        while len(self._free) > self.keep:
            try:
                self._free.popleft()  # the one that has waited longest fits least
            except IndexError:
                return


class _Lease:
    """Owns a buffer as long as an array or tensor is a view of it."""

    def __init__(self, pool: Pool, memory: np.ndarray):
        self._pool, self._memory = pool, memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        self._pool.take_back(self._memory)
