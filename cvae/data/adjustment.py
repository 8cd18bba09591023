"""Bringing images to one size and to grey or colour: what `load` is asked for by name."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cvae.data.pillow import image_module

Array = npt.NDArray[Any]

# ITU-R BT.601, in units of 1/65536: sums of 16-bit values fit 32 bits.
_LUMA = np.array([19595, 38470, 7471], np.uint32)


@dataclass(frozen=True)
class Adjustment:
    """How images are cut, scaled and made grey or coloured, in this order.

    Attributes
    ----------
    crop : (rows, cols), "fit" or None
        The middle of each image that is kept; "fit" keeps all that has the proportions of `resize`.
    resize : (rows, cols) or None
        The size to which images are scaled.
    grey : bool or None
        True for one channel, False for three, None for those that there are.
    """

    crop: tuple[int, int] | Literal["fit"] | None = None
    resize: tuple[int, int] | None = None
    grey: bool | None = None

    @property
    def changes_nothing(self) -> bool:
        return self == Adjustment()

    def size(self, rows: int, cols: int) -> tuple[int, int]:
        """Return the size that an image of this size gets."""
        return self.resize or self._cropped(rows, cols)

    def apply(self, image: Array) -> Array:
        """Return an image (rows, cols) or (rows, cols, channels) with its size changed, in its dtype."""
        rows, cols = image.shape[:2]
        kept_rows, kept_cols = self._cropped(rows, cols)
        top, left = (rows - kept_rows) // 2, (cols - kept_cols) // 2
        return _scaled(image[top : top + kept_rows, left : left + kept_cols], self.resize)

    def channels(self, channels: int) -> int:
        """Return the number of channels that images with this many get."""
        if self.grey is None or (channels, self.grey) in ((1, True), (3, False)):
            return channels
        if channels not in (1, 3):
            raise ValueError(f"grey must be left out for images of {channels} channels, got {self.grey}")
        return 1 if self.grey else 3

    def apply_to_all(self, images: Array, name: str) -> Array:
        """Return a new array of images (n, rows, cols, channels), or the same array if nothing changes."""
        size = self.size(*images.shape[1:3])
        try:
            channels = self.channels(images.shape[3])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if (*size, channels) == images.shape[1:] and self.crop is None:
            return images
        adjusted = np.empty((len(images), *size, channels), images.dtype)
        for i, image in enumerate(images):
            if channels < images.shape[3]:
                image = to_grey(image)[..., np.newaxis]
            adjusted[i] = self.apply(image)  # one channel is repeated for three
        return adjusted

    def _cropped(self, rows: int, cols: int) -> tuple[int, int]:
        if self.crop is None:
            return rows, cols
        if self.crop == "fit":
            assert self.resize is not None
            scale = min(rows / self.resize[0], cols / self.resize[1])
            return max(1, round(self.resize[0] * scale)), max(1, round(self.resize[1] * scale))
        if self.crop[0] > rows or self.crop[1] > cols:
            raise ValueError(f"crop must fit into images of {rows}x{cols} pixels, got {self.crop}")
        return self.crop


def adjustment(crop: Any, resize: Any, grey: Any) -> Adjustment:
    """Return what the arguments of `load` ask for; raise TypeError or ValueError that names the argument."""
    if grey is not None and not isinstance(grey, bool | np.bool_):
        raise TypeError(f"grey must be True, False or None, got {grey!r}")
    size = None if resize is None else _size(resize, "resize", "rows, cols")
    if isinstance(crop, str):
        if crop != "fit":
            raise ValueError(f"crop must be 'fit' or (rows, cols), got {crop!r}")
        if size is None:
            raise ValueError("crop='fit' needs resize, whose proportions it keeps")
        return Adjustment("fit", size, None if grey is None else bool(grey))
    kept = None if crop is None else _size(crop, "crop", "'fit' or rows, cols")
    return Adjustment(kept, size, None if grey is None else bool(grey))


def _size(value: int | Sequence[int], name: str, expected: str) -> tuple[int, int]:
    """Return (rows, cols) of a number or a pair; numbers beyond 2^16 are no sizes of images."""
    message = f"{name} must be {expected}, or one int for squares, all from 1 to 65536, got {value!r}"
    if isinstance(value, bool | str):
        raise TypeError(message)
    try:
        sizes = [operator.index(value)] * 2  # type: ignore[arg-type]
    except TypeError:
        try:
            sizes = [operator.index(number) for number in value]  # type: ignore[union-attr]
        except TypeError:
            raise TypeError(message) from None
    if len(sizes) != 2 or not all(1 <= number <= 65536 for number in sizes):
        raise ValueError(message)
    return sizes[0], sizes[1]


def to_grey(image: Array) -> Array:
    """Return the luma (...) of an image (..., 3), in its dtype, by ITU-R BT.601."""
    if image.dtype in (np.uint8, np.uint16):
        grey = (image.astype(np.uint32) * _LUMA).sum(-1, dtype=np.uint32) + np.uint32(1 << 15) >> np.uint32(16)
    else:
        grey = image.astype(np.float64) @ (_LUMA / 65536)
        grey = grey if image.dtype.kind == "f" else np.rint(grey)
    result: Array = grey.astype(image.dtype)
    return result


def _scaled(image: Array, size: tuple[int, int] | None) -> Array:
    """Return an image scaled to (rows, cols) by a triangle filter as wide as a new pixel, in its dtype."""
    if size is None or image.shape[:2] == size:
        return image
    module = image_module("scaling images")
    if image.ndim == 3 and (image.dtype != np.uint8 or image.shape[2] != 3):
        return np.stack([_scaled(image[..., channel], size) for channel in range(image.shape[2])], axis=-1)
    pixels = image if image.dtype == np.uint8 else image.astype(np.float32)
    picture = module.fromarray(np.ascontiguousarray(pixels))
    scaled = np.asarray(picture.resize(size[::-1], module.Resampling.BILINEAR))
    return (scaled if image.dtype.kind == "f" else np.rint(scaled)).astype(image.dtype)
