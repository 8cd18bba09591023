"""Likelihoods in C: each class's mean image and loss are functions of `kernels.c`, named in the table below."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from cvae.likelihoods import (
    MAX_LOG_SCALE,
    Bernoulli,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Laplace,
)


class Formulas(NamedTuple):
    """What a C file needs of a likelihood.

    Attributes
    ----------
    mean : callable
        Returns the function of `kernels.c` that turns outputs into pixels, and its constants.
    loss : callable
        Returns the function for -log p, without `constant`, and its constants.
    constant : callable
        Returns what is added for each pixel.
    """

    mean: Callable[[Any], tuple[Any, ...]]
    loss: Callable[[Any], tuple[Any, ...]]
    constant: Callable[[Any], float] = lambda likelihood: 0.0


def _location_scale(name: str, bound: float, constant: float) -> Formulas:
    return Formulas(
        lambda each: ("first_of_pairs", -math.inf, math.inf) if each.scale == "pixel" else ("copy_outputs",),
        lambda each: (f"{name}_pixel_loss", bound) if each.scale == "pixel" else (f"{name}_loss", each.scale),
        lambda each: constant + (0.0 if each.scale == "pixel" else math.log(each.scale)),
    )


LIKELIHOODS: dict[type, Formulas] = {
    Bernoulli: Formulas(lambda each: ("sigmoid_mean",), lambda each: ("bernoulli_loss",)),
    ContinuousBernoulli: Formulas(
        lambda each: ("continuous_bernoulli_mean",), lambda each: ("continuous_bernoulli_loss",)
    ),
    Gaussian: _location_scale("gaussian", 2 * MAX_LOG_SCALE, 0.5 * math.log(2 * math.pi)),
    Laplace: _location_scale("laplace", MAX_LOG_SCALE, math.log(2)),
    DiscretizedLogistic: Formulas(
        lambda each: ("first_of_pairs", 0.0, 1.0), lambda each: ("discretized_logistic_loss", MAX_LOG_SCALE)
    ),
}
