"""Scratch memory for the kernels, allocated once and reused."""

import threading

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
