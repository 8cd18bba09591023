"""Memory that starts at a cache line, which vectors are read from fastest, and scratch memory for the kernels.

Kernels read any memory. Copies that NumPy makes, as pickle and `copy.deepcopy` have it do, start anywhere.
"""

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64  # bytes, a cache line


def aligned_empty(nbytes: int) -> npt.NDArray[np.uint8]:
    """Uninitialised bytes that start at a cache line.

    Raises
    ------
    MemoryError
        If there is not enough memory.
    """
    memory = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + nbytes]


def empty(shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An uninitialised array that starts at a cache line."""
    dtype = np.dtype(dtype)
    return aligned_empty(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


def zeros_like(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Zeros of the shape and dtype of an array, in C order from a cache line on."""
    zeros = empty(array.shape, array.dtype)
    zeros.fill(0)
    return zeros


def copy_of(values: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The values in C order from a cache line on."""
    array = np.asarray(values, dtype)
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy


class Workspace(threading.local):
    """A buffer that grows to the largest size asked for; each Python thread has its own."""

    def __init__(self) -> None:
        self.buffer = aligned_empty(0)

    def reserve(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """At least `nbytes` bytes, valid until the next call; what they held before is lost."""
        if self.buffer.size < nbytes:
            self.buffer = aligned_empty(0)  # the old buffer goes before the new one comes
            self.buffer = aligned_empty(nbytes)
        return self.buffer


workspace = Workspace()
