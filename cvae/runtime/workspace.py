"""Memory that starts at a cache line, from which vectors are read fastest, and scratch memory for the kernels.

Kernels accept any memory: arrays allocated by NumPy, also in pickle and `copy.deepcopy`, may start anywhere.
"""

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64  # bytes, a cache line


def aligned_empty(nbytes: int) -> npt.NDArray[np.uint8]:
    """Return uninitialized bytes that start at a cache line.

    Raises
    ------
    MemoryError
        If there is not enough memory.
    """
    memory = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + nbytes]


def empty(shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an uninitialized array that starts at a cache line."""
    dtype = np.dtype(dtype)
    return aligned_empty(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


def zeros_like(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return zeros with the shape and dtype of an array, in C order, that start at a cache line."""
    zeros = empty(array.shape, array.dtype)
    zeros.fill(0)
    return zeros


def copy_of(values: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return a copy of the values in C order that starts at a cache line."""
    array = np.asarray(values, dtype)
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy


class Workspace(threading.local):
    """A buffer that grows to the largest requested size, separate for each Python thread."""

    def __init__(self) -> None:
        self.buffer = aligned_empty(0)

    def reserve(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return at least `nbytes` bytes with unspecified contents, valid until the next call."""
        if self.buffer.size < nbytes:
            self.buffer = aligned_empty(0)  # free the old buffer before allocating the new one
            self.buffer = aligned_empty(nbytes)
        return self.buffer


workspace = Workspace()
