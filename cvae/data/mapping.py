"""Pixels in the units of a model: an offset and a scale for each channel, given or learnt from images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_BLOCK_VALUES = 1 << 16  # values that are summed at a time, so that they stay in cache
_MANY_TIMES = 10  # the white of pixels from 0 to 1, which hardly any of those exceed so far
_PERIOD = 64  # offsets and scales, at least, that kernels go through one after another
# Of 255, for bytes: looked up faster than divided for a single image.
_FRACTIONS = {char: np.divide(np.arange(256), 255, dtype=char) for char in "fd"}


class PixelMapping:
    """The mapping of pixels to ``(pixel - offset) / scale`` within a model, in double, and back.

    Parameters
    ----------
    offset, scale : arrays, shape (channels,)
        Finite; the scales are positive.
    ends : (low, high)
        The range of the pixels that this is meant for.
    divides_bytes : bool
        Whether the pixels of uint8 images are divided by 255 before, so that they mean 0..1.

    Attributes
    ----------
    offset, scale : arrays, shape (channels,), float64
    tiled_offset, tiled_scale : arrays, float64
        The same several times, for kernels.
    is_identity : bool
        Whether pixels stay as they are, but for bytes that are divided by 255.
    """

    def __init__(
        self, offset: npt.ArrayLike, scale: npt.ArrayLike, ends: Sequence[float], *, divides_bytes: bool
    ) -> None:
        self.offset, self.scale = (np.array(values, np.float64) for values in (offset, scale))
        low, high = map(float, ends)
        self.ends, self.divides_bytes = (low, high), divides_bytes
        channels = self.offset.shape[0] if self.offset.ndim == 1 else 0
        if channels < 1 or self.scale.shape != (channels,):
            raise ValueError(
                f"offset and scale must have the shape (channels,), got {self.offset.shape} and {self.scale.shape}"
            )
        if not (np.isfinite(self.offset).all() and np.isfinite(self.scale).all() and self.scale.min() > 0):
            raise ValueError(f"offset and scale must be finite, and scale positive, got {self.offset} and {self.scale}")
        repeats = -(-_PERIOD // channels)
        self.tiled_offset, self.tiled_scale = np.tile(self.offset, repeats), np.tile(self.scale, repeats)
        self.is_identity = divides_bytes and not self.offset.any() and bool((self.scale == 1).all())

    def copied(self, images: Array, out: Array) -> None:
        """Write the mapped images to `out`, float32 or float64: the plain form of what a kernel does in training."""
        divides = self.divides_bytes and images.dtype.char == "B"
        if divides:
            _FRACTIONS[out.dtype.char].take(images, out=out, mode="clip")
        if self.is_identity:
            if not divides:
                np.copyto(out, images, casting="same_kind")
            return
        mapped = np.subtract(out if divides else images, self.offset, dtype=np.float64)
        np.divide(mapped, self.scale, out=out, casting="same_kind")


def identity(channels: int) -> PixelMapping:
    """Return the mapping that leaves pixels as they are, and divides bytes by 255."""
    return PixelMapping(np.zeros(channels), np.ones(channels), (0, 1), divides_bytes=True)


def of_range(low: float, high: float, channels: int) -> PixelMapping:
    """Return the mapping of numbers from low to high to [0, 1]."""
    return PixelMapping(np.full(channels, low), np.full(channels, high - low), (low, high), divides_bytes=False)


def of_all(parts: Iterable[Array], name: str) -> PixelMapping:
    """Return the mapping of the range of all pixels of these sets of images to [0, 1].

    Raises
    ------
    ValueError
        If all pixels are the same; `name` is that of the images.
    """
    ends: list[float] = []
    for images in parts:
        low, high = extremes(images)
        ends += [float(low.min()), float(high.max())]
        ends, channels = [min(ends), max(ends)], images.shape[-1]
    if ends[0] == ends[1]:
        raise ValueError(f"{name} must hold different values for value_range='data', got only {ends[0]}")
    return of_range(ends[0], ends[1], channels)


def standardization(images: Array, *, one_scale: bool) -> PixelMapping:
    """Return the mapping that gives each channel the mean 0 and, unless it is constant, the standard deviation 1.

    With `one_scale` all channels are divided by the same number, the root of their mean variance.
    """
    low, high = extremes(images)
    width = np.where(high > low, high - low, 1.0)
    sums, squares = np.zeros_like(low), np.zeros_like(low)
    for block in _blocks(images):
        # From 0 to 1 and reaching both, so that the difference of moments keeps its digits.
        units = (block - low) / width
        sums += units.sum(0)
        squares += np.square(units, out=units).sum(0)
    n = images.size / images.shape[-1]
    mean, variance = sums / n, squares / n - (sums / n) ** 2
    is_bytes = images.dtype == np.uint8
    unit = 255.0 if is_bytes else 1.0
    deviation = np.where(high > low, width * np.sqrt(np.maximum(variance, 0)), 0.0) / unit
    if one_scale:
        largest = deviation.max()  # which keeps the squares of tiny deviations from vanishing
        deviation[:] = largest and largest * np.sqrt(np.square(deviation / largest).mean())
    scale, ends = np.where(deviation > 0, deviation, 1.0), (low.min() / unit, high.max() / unit)
    divides_bytes = is_bytes or not are_like_bytes(*ends)
    return PixelMapping((low + width * mean) / unit, scale, ends, divides_bytes=divides_bytes)


def are_like_bytes(low: float, high: float) -> bool:
    """Return whether numbers from low to high are probably pixels from 0 to 255, rather than from 0 to 1."""
    return low >= 0 and _MANY_TIMES < high <= 255


def extremes(images: Array) -> tuple[Array, Array]:
    """Return the smallest and the largest pixel of each channel, float64."""
    low = np.full(images.shape[-1], np.inf)
    high = -low
    for block in _blocks(images):
        np.minimum(low, block.min(0), out=low)
        np.maximum(high, block.max(0), out=high)
    return low, high


def _blocks(images: Array) -> Iterator[Array]:
    """Yield the pixels of some images at a time, (pixels, channels) in float64."""
    step = max(1, _BLOCK_VALUES // images[0].size)
    for start in range(0, len(images), step):
        yield images[start : start + step].astype(np.float64).reshape(-1, images.shape[-1])
