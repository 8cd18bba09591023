"""What pixels a model takes, how they are mapped to those that its likelihood sees, and the likelihood of all that."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import losses, pixelwise
from cvae._kernels.program import Program
from cvae.data import mapping
from cvae.data.images import check_finite, check_range
from cvae.data.mapping import PixelMapping
from cvae.likelihoods import Likelihood
from cvae.nn.activations import ActivationBase
from cvae.parsing import check_number

Array = npt.NDArray[Any]
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


def check_pixels(
    images: Array,
    name: str,
    likelihood: Likelihood,
    value_range: ValueRange,
    known: PixelMapping | None,
    *,
    binarized: bool,
) -> None:
    """Raise ValueError unless the images hold values that the model takes.

    `known` is its mapping, once it has one; pixels that are `binarized` must be mapped to [0, 1].
    """
    if value_range is None:
        if binarized and known is not None and not known.is_identity:
            raise ValueError("binarize must be None for a model that has learnt to standardize its pixels")
        try:
            likelihood.check(images, name)
            if binarized:
                check_range(images, name=name)
        except ValueError as error:
            raise ValueError(f"{error}{_hint(images) if likelihood.pixels == 'unit' else ''}") from None
    elif likelihood.pixels != "unit" and not binarized:
        check_finite(images, name=name)
    elif not isinstance(value_range, str):
        check_range(images, name=name, value_range=value_range)
    elif known is not None:
        check_range(images, name=name, value_range=known.ends)
    else:
        check_finite(images, name=name)


def _hint(images: Array) -> str:
    """Return how a model takes images of other values than those in [0, 1], if these are finite."""
    try:
        check_finite(images)
    except ValueError:
        return ""
    ends = f"(0, {np.iinfo(images.dtype).max})" if images.dtype.kind == "u" else "(low, high)"
    any_range = "likelihood=\"Gaussian('optimal')\""
    return f"; cvae.VAE maps others with value_range='data' or {ends}, and takes any with {any_range}"


def learn_mapping(
    images: Array, name: str, likelihood: Likelihood, value_range: ValueRange, *, binarized: bool
) -> PixelMapping:
    """Return the mapping of pixels to those that the likelihood sees, learnt from checked images where needed."""
    channels = images.shape[-1]
    if value_range is None:
        if binarized or not likelihood.standardizes:
            return mapping.identity(channels)
        return mapping.standardization(images, one_scale=likelihood.has_unit)
    if isinstance(value_range, str):
        return mapping.of_all(images, name)
    return mapping.of_range(*value_range, channels)


def in_given_units(
    likelihood: Likelihood, value_range: ValueRange, known: PixelMapping, image_shape: tuple[int, int, int]
) -> Likelihood:
    """Return the likelihood of images as they are given, which is computed from mapped ones."""
    if known.is_identity:
        return likelihood
    # A number has the unit of the given pixels or, with a range, of those in [0, 1].
    return _Mapped(likelihood.in_unit(float(known.scale[0])) if value_range is None else likelihood, known, image_shape)


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
