"""Arrays whose parts are made when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def n_bytes(shape: Sequence[int], dtype: npt.DTypeLike) -> int:
    """Return the bytes of an array of any size."""
    return math.prod(map(int, shape)) * np.dtype(dtype).itemsize


class Shaped:
    """What follows from the shape and dtype of images that are not in memory."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return n_bytes(self.shape, self.dtype)


class Lazy(Shaped):
    """Images that are read when a slice is taken.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    read : callable
        Returns the images from one number to before another, which are in range.
    chunks : tuple of int, optional
        In which the images are stored.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        read: Callable[[int, int], Array],
        chunks: tuple[int, ...] | None = None,
    ) -> None:
        self.shape, self.dtype, self.chunks = tuple(map(int, shape)), np.dtype(dtype), chunks
        self._read = read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Array:
        """Return the image of a number, or the images of a slice, as an array."""
        numbers = range(self.shape[0])[index]
        if isinstance(numbers, int):
            image: Array = self._read(numbers, numbers + 1)[0]
            return image
        if numbers.step == 1 and len(numbers):
            return self._read(numbers.start, numbers.stop)
        parts = [self._read(number, number + 1) for number in numbers] or [self._read(0, 1)[:0]]
        return np.concatenate(parts)

    def mapped(self, convert: Callable[[Array], Array]) -> Lazy:
        """Return the same images after a conversion, which keeps their number."""
        first = convert(self[:1])
        shape = (self.shape[0], *first.shape[1:])
        return Lazy(shape, first.dtype, _Converted(self, convert), self.chunks)


class _Converted:
    def __init__(self, images: Lazy, convert: Callable[[Array], Array]) -> None:
        self._images, self._convert = images, convert

    def __call__(self, start: int, stop: int) -> Array:
        return self._convert(self._images[start:stop])
