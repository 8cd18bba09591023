"""What pixels a model takes, how they are mapped to those that its likelihood sees, and the likelihood of all that."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import losses, pixelwise
from cvae._kernels.program import Program
from cvae.checking import check_number
from cvae.data import mapping
from cvae.data.checks import WrongPixel, check_finite, check_range, clipped, warn_of_ones, warn_of_transposed
from cvae.data.mapping import PixelMapping
from cvae.likelihoods import Likelihood
from cvae.nn.activations import ActivationBase
from cvae.warning import warn

Array = npt.NDArray[Any]
_OVERSHOOT = 0.25  # of pixels from 0 to 1 that have been resized with sharp kernels
_NARROW, _WIDE = 1 / 200, 50  # times the range of the pixels of training: others are hardly in the same units
ValueRange = tuple[float, float] | str | None


def resolve_value_range(value_range: Any, likelihood: Likelihood) -> ValueRange:
    """Return the argument `value_range` of a model as None, "data" or (low, high).

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If low is not less than high, or the likelihood takes bytes only.
    """
    if value_range is None:
        return None
    if likelihood.pixels == "bytes":
        raise ValueError(
            f"value_range must be None for {likelihood}, which takes pixels of 8 bits, got {value_range!r}"
        )
    expected = f"value_range must be None, 'data' or two numbers (low, high), got {value_range!r}"
    if isinstance(value_range, str):
        if value_range != "data":
            raise ValueError(expected)
        return value_range
    try:
        low, high = value_range
    except (TypeError, ValueError):
        raise TypeError(expected) from None
    low, high = (check_number("value_range", end, "[-3.4e38, 3.4e38]") for end in (low, high))
    if not low < high:
        raise ValueError(f"value_range must be (low, high) with low < high, got {value_range!r}")
    return float(low), float(high)


def checked_pixels(
    images: Array,
    name: str,
    likelihood: Likelihood,
    value_range: ValueRange,
    known: PixelMapping | None,
    *,
    binarized: bool,
    first: int | None = None,
) -> Array:
    """Return images with values that the model takes: the given ones, or a copy if some miss the range by rounding.

    `known` is the model's mapping, once it has one; pixels that are `binarized` must be mapped to [0, 1]. `first` is
    the number of the first image in a set of which these are a block, whose values alone are no reason for a warning.

    Raises
    ------
    ValueError
        If a value is another one.
    """
    ends: tuple[float, float] | None = None
    if value_range is None:
        if binarized and known is not None and not known.is_identity:
            raise ValueError("binarize must be None for a model that has learnt to standardize its pixels")
        if first is None:
            warn_of_ones(images, name=name)
        if known is not None and likelihood.standardizes and not binarized:
            _check_units(images, name, known, warns=not first)
    elif likelihood.pixels == "unit" or binarized:
        learnt = None if known is None else known.ends
        ends = learnt if isinstance(value_range, str) else value_range
    try:
        _check(images, name, likelihood, value_range, ends, binarized)
        return images
    except ValueError as error:
        if isinstance(error, WrongPixel):
            error.first = first or 0
        within = clipped(images, ends or (0.0, 1.0))
        if within is images:
            is_about_unit = value_range is None and (likelihood.pixels == "unit" or binarized)
            raise ValueError(f"{error}{_hint(images, name, known) if is_about_unit else ''}") from None
    _check(within, name, likelihood, value_range, ends, binarized)
    return within


def _check(
    images: Array,
    name: str,
    likelihood: Likelihood,
    value_range: ValueRange,
    ends: tuple[float, float] | None,
    binarized: bool,
) -> None:
    """Raise ValueError if a pixel is outside `ends`; without them, if it is none that the likelihood takes."""
    if ends is not None:
        check_range(images, name=name, value_range=ends)
    elif value_range is not None:
        check_finite(images, name=name)
    else:
        likelihood.check(images, name)
        if binarized:
            check_range(images, name=name)


def _check_units(images: Array, name: str, known: PixelMapping, *, warns: bool) -> None:
    """Raise ValueError for images of 0..255 where the first ones were of 0..1, or of bytes where they were of others.

    Any number is a valid pixel to a likelihood that standardizes, so that a factor of 255 would not be noticed. What
    may be right is a warning, unless not `warns`.
    """
    learnt_low, learnt_high = known.ends
    has_small = learnt_low >= -1 - _OVERSHOOT and learnt_high <= 1 + _OVERSHOOT
    is_of_bytes = images.dtype == np.uint8
    trained = f"the model was trained on pixels from {learnt_low:.6g} to {learnt_high:.6g}"
    if is_of_bytes and known.divides_bytes and not (has_small and learnt_low >= -_OVERSHOOT):
        raise ValueError(
            f"{name} must have the units of the images of training: {trained}, got uint8, which means 0..1: pass "
            f"{name}.astype('float32'), mapped to them"
        )
    if not images.size or images.dtype == bool or (is_of_bytes and known.divides_bytes):
        return
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        return  # which is checked next
    if has_small and mapping.are_like_bytes(low, high):
        remedy = f"divide by 255, or pass {name}.astype('uint8')" if learnt_low >= -_OVERSHOOT else "map them to these"
        raise ValueError(
            f"{name} must have the units of the images of training: {trained}, got {images.dtype} up to {high:.6g}: "
            f"{remedy}"
        )
    width = learnt_high - learnt_low or 1.0
    is_apart = low > learnt_high + width or high < learnt_low - width
    if warns and (is_apart or (high > low and not _NARROW < (high - low) / width < _WIDE)):
        warn(
            f"{name} holds pixels from {low:.6g} to {high:.6g}, but {trained}: are they in the same units?",
        )


def _hint(images: Array, name: str, known: PixelMapping | None) -> str:
    """Return how a model takes images of other values than those in [0, 1], if these are finite."""
    low, high = (float(end.reshape(-1)[0]) for end in mapping.extremes(images[..., np.newaxis]))
    if not np.isfinite([low, high]).all():
        return ""
    ends = f"(0, {np.iinfo(images.dtype).max})" if images.dtype.kind == "u" else "(low, high)"
    is_like_bytes, remedy = low >= 0 and 1 < high <= 255 and images.dtype.itemsize > 1, ""
    if is_like_bytes and images.dtype.kind in "iu":
        ends, remedy = "(0, 255)", f"; if they mean 0..255, pass {name}.astype('uint8')"
    elif is_like_bytes and high > 100:
        ends, remedy = "(0, 255)", "; if they mean 0..255, divide by 255 first"
    elif known is not None and images.dtype.kind == "f":
        remedy = "; a MinMaxScaler(clip=True) keeps new images within the range of those of training"
    any_range = "likelihood=\"Gaussian('optimal')\""
    return (
        f"{remedy}; cvae.VAE maps others with value_range='data' or {ends} (--value-range on the command line), and "
        f"takes any with {any_range} (--likelihood)"
    )


def learn_mapping(
    images: Array,
    name: str,
    likelihood: Likelihood,
    value_range: ValueRange,
    *,
    binarized: bool,
    parts: Iterable[Array] | None = None,
) -> PixelMapping:
    """Return the mapping of pixels to those that the likelihood sees, learnt from checked images where needed.

    Where `images` are only some, `parts` are all, for what has to be learnt from these.
    """
    channels = images.shape[-1]
    warn_of_transposed(images, name=name)
    if value_range is None:
        if binarized or not likelihood.standardizes:
            return mapping.identity(channels)
        return mapping.standardization(images, one_scale=likelihood.has_unit)
    if isinstance(value_range, str):
        return mapping.of_all([images] if parts is None else parts, name)
    return mapping.of_range(*value_range, channels)


def in_given_units(
    likelihood: Likelihood, value_range: ValueRange, known: PixelMapping, image_shape: tuple[int, int, int]
) -> Likelihood:
    """Return the likelihood of images as they are given, which is computed from mapped ones."""
    if known.is_identity:
        return likelihood
    # A number has the unit of the given pixels or, with a range, of those in [0, 1].
    return _Mapped(likelihood.in_unit(float(known.scale[0])) if value_range is None else likelihood, known, image_shape)


def of_mapped_pixels(likelihood: Likelihood) -> Likelihood:
    """Return the likelihood that sees mapped pixels, from which that of images as they are given is computed."""
    return likelihood.likelihood if isinstance(likelihood, _Mapped) else likelihood


class _Mapped(Likelihood):
    """A likelihood of mapped pixels as that of pixels as they are given: its means, and its density.

    With y = (x - offset) / scale the density of x is that of y divided by the product of the scales of all pixels.
    """

    def __init__(self, likelihood: Likelihood, known: PixelMapping, image_shape: tuple[int, int, int]) -> None:
        self.likelihood, self.known, self.image_shape = likelihood, known, image_shape
        rows, cols, _ = image_shape
        self._log_scales = rows * cols * math.fsum(np.log(known.scale)) if likelihood.is_density else 0.0

    @property
    def activation(self) -> ActivationBase:  # type: ignore[override]
        """That of the likelihood."""
        return self.likelihood.activation

    def n_outputs(self, image_shape: tuple[int, int, int]) -> int:
        return self.likelihood.n_outputs(image_shape)

    def check(self, images: Array, name: str) -> None:
        self.likelihood.check(images, name)

    def record_loss(
        self,
        program: Program,
        loss: Array,
        doutputs: Array | None,
        outputs: Array,
        images: Array,
        weights: Array | None,
    ) -> None:
        self.likelihood.record_loss(program, loss, doutputs, outputs, images, weights)
        if self._log_scales:
            losses.add_constant(program, loss, self._log_scales)

    def record_mean(self, program: Program, mean: Array, outputs: Array) -> None:
        self.likelihood.record_mean(program, mean, outputs)
        pixelwise.unmap(program, mean, self.known.tiled_offset, self.known.tiled_scale)
