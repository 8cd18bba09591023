"""What all exporters need of a trained model: its layers with their shapes, pixels, labels and likelihood."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cvae.conditions import Classes
from cvae.core import Core
from cvae.data.mapping import PixelMapping
from cvae.likelihoods import MAX_LOG_SCALE, Gaussian, Laplace, Likelihood
from cvae.nn.appended_number import AppendedNumber
from cvae.nn.protocol import Layer, Shape
from cvae.scaling import in_given_units
from cvae.warning import warn

Array = npt.NDArray[Any]


class Step(NamedTuple):
    """A layer with the shapes of one example of its input and its output."""

    layer: Layer
    in_shape: Shape
    out_shape: Shape


@dataclass(frozen=True)
class Parts:
    """A model with parameters, taken apart.

    Attributes
    ----------
    encoder, decoder : lists of Step
        The layers that compute the code's 2T numbers, and those that compute the outputs that the likelihood takes: the
        last one stops before its activation, which belongs to the likelihood.
    likelihood : Likelihood
        Of mapped pixels, with a number for a scale that all pixels share.
    mapping : PixelMapping
        From the pixels that a model is given to those of the likelihood.
    log_unit : float
        What the mapping adds to the negative log density of an image.
    threshold : float or None
        Mapped pixels above it count as 1, the others as 0; None leaves them as they are.
    image_shape : (rows, cols, channels)
    T : int
    n_labels : int
        Numbers of a label; 0 for a model without condition.
    classes : array or None
        Of which a label is one, given by its index; None where labels are numbers, or there are none.
    dtype : numpy.dtype
        Of the parameters.
    """

    encoder: list[Step]
    decoder: list[Step]
    likelihood: Likelihood
    mapping: PixelMapping
    log_unit: float
    threshold: float | None
    image_shape: tuple[int, int, int]
    T: int
    n_labels: int
    classes: Array | None
    dtype: np.dtype[Any]

    @property
    def pixels(self) -> int:
        """The number of pixels and channels of an image."""
        return math.prod(self.image_shape)


def check_model(model: Any) -> None:
    """Raise TypeError unless this is a model; bring arrays that a user has assigned to its form."""
    if not isinstance(model, Core):
        hint = "; cvae.load reads one" if isinstance(model, str | os.PathLike) else ""
        hint = "; its vae_ is one" if hasattr(model, "vae_") else hint
        raise TypeError(f"model must be a VAE, got an object of type {type(model).__name__}{hint}")
    model._adopt_parameters()


def take_apart(model: Core) -> Parts:
    """Return the parts of a model.

    Raises
    ------
    NotFittedError
        If it has no parameters yet.

    Warns
    -----
    UserWarning
        If the model draws pixels black and white, which exported networks do not.
    """
    check_model(model)
    image_shape = model._require_fitted()
    assert model._mapping is not None
    threshold = model._binarization.how
    if isinstance(threshold, str):
        warn(
            f"the exported network takes pixels as they come: black and white ones must be drawn before, which the "
            f"model does itself with binarize={threshold!r}",
        )
        threshold = None
    layers = list(model.decoder_.values())
    appended = layers.pop() if isinstance(layers[-1], AppendedNumber) else None
    given = in_given_units(model._likelihood, model._value_range, model._mapping, image_shape)
    kind = model._label_kind
    return Parts(
        encoder=_without_last_activation(steps(model.encoder_.values(), image_shape)),
        decoder=_without_last_activation(steps(layers, (model.T,))),
        likelihood=_with_number(getattr(given, "likelihood", given), appended),
        mapping=model._mapping,
        log_unit=getattr(given, "_log_scales", 0.0),
        threshold=threshold,
        image_shape=image_shape,
        T=model.T,
        n_labels=0 if kind is None else kind.n_labels,
        classes=kind.classes if isinstance(kind, Classes) else None,
        dtype=np.dtype(model.dtype),
    )


def steps(layers: Iterable[Layer], shape: Shape) -> list[Step]:
    """Return layers in a row, of which the first gets examples of this shape."""
    found = []
    for layer in layers:
        out_shape = layer.output_shape((1, *shape))[1:]
        found.append(Step(layer, shape, out_shape))
        shape = out_shape
    return found


def array_of(layer: Layer, name: str) -> Array:
    """Return a parameter of a layer, which must have been created."""
    array: Array | None = layer.parameters[name]
    assert array is not None
    return array


def translation_of(table: Mapping[type, Any], thing: Any, target: str, what: str) -> Any:
    """Return the translation of a layer, an activation or a likelihood; ValueError if there is none.

    Classes count exactly, because a subclass may compute something else.
    """
    if type(thing) not in table:
        known = ", ".join(sorted(each.__name__ for each in table))
        raise ValueError(f"{what} must be one of {known} to be exported to {target}, got {thing!r}")
    return table[type(thing)]


def _without_last_activation(row: list[Step]) -> list[Step]:
    """Return the layers, of which the last one stops before its activation."""
    last = row[-1]
    return [*row[:-1], last._replace(layer=last.layer.without_activation() or last.layer)]


def _with_number(likelihood: Likelihood, appended: Layer | None) -> Likelihood:
    """Return the likelihood with the number, in the place of "shared" or "optimal", that its scale is by now."""
    if appended is None or not isinstance(likelihood, (Gaussian, Laplace)):
        return likelihood
    number = float(array_of(appended, "number")[0])
    if likelihood.scale == "shared":
        scale = math.exp(MAX_LOG_SCALE * math.tanh(number / MAX_LOG_SCALE))
    else:
        spread = math.sqrt(number) if type(likelihood) is Gaussian else number
        scale = max(spread, math.exp(-MAX_LOG_SCALE))
    return type(likelihood)(scale)
