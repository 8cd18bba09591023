"""Likelihoods in ONNX, in double: each class's mean image and loss are functions in the table below.

The formulas are those of `cvae.likelihoods`, whose classes name their sources.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from cvae.export.onnx_graph import Term
from cvae.likelihoods import (
    MAX_LOG_SCALE,
    Bernoulli,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Laplace,
)


class Formulas(NamedTuple):
    """What an ONNX graph needs of a likelihood.

    Attributes
    ----------
    mean : callable
        Returns the mean images (n, m) of outputs, (n, m) or, for two outputs a pixel, (n, 2m).
    loss : callable
        Returns -log p of the pixels x (n, m), pixel by pixel, from the outputs, without `constant`.
    constant : callable
        Returns what is added for each pixel.
    """

    mean: Callable[[Any, Term], Term]
    loss: Callable[[Any, Term, Term], Term]
    constant: Callable[[Any], float] = lambda likelihood: 0.0


def _pairs(outputs: Term) -> tuple[Term, Term]:
    """Return both numbers of each pixel, (n, m)."""
    by_pixel = outputs.node("Flatten", axis=1).node("Reshape", outputs.graph.constant([0, -1, 2], "int64"))
    first, second = (by_pixel.columns(i, i + 1, axis=2) for i in range(2))
    return first.node("Flatten", axis=1), second.node("Flatten", axis=1)


def _soft_clip(x: Term, bound: float) -> Term:
    return (x / bound).tanh() * bound


# ----------------------------------------------------------------- Bernoulli


def _bernoulli_loss(likelihood: Bernoulli, z: Term, x: Term) -> Term:
    return z.softplus() - z * x


SMALL = 0.05  # logits below it go through a series, whose next term is of the order of SMALL^6


def _continuous_bernoulli_mean(likelihood: ContinuousBernoulli, z: Term) -> Term:
    size = abs(z).at_least(SMALL)
    from_end = 1 / size - 1 / (size.exp() - 1)
    far = (z < 0).choose(from_end, 1 - from_end)
    square = z * z
    near = z * (square * (square / 30240 - 1 / 720) + 1 / 12) + 0.5
    return (abs(z) < SMALL).choose(near, far)


def _continuous_bernoulli_loss(likelihood: ContinuousBernoulli, z: Term, x: Term) -> Term:
    size = abs(z).at_least(SMALL)
    far = size * (z < 0).choose(x, 1 - x) + ((1 - (-size).exp()) / size).log()
    square = z * z
    near = z * (0.5 - x) + square * (1 / 24 - square * (1 / 2880))
    return (abs(z) < SMALL).choose(near, far)


# -------------------------------------------------------- location and scale


def _location(likelihood: Gaussian | Laplace, outputs: Term) -> Term:
    return _pairs(outputs)[0] if likelihood.scale == "pixel" else outputs


def _log_scale(likelihood: Gaussian | Laplace) -> float:
    return 0.0 if isinstance(likelihood.scale, str) else math.log(likelihood.scale)


def _gaussian_loss(likelihood: Gaussian, outputs: Term, x: Term) -> Term:
    if likelihood.scale == "pixel":
        mean, s = _pairs(outputs)
        log_var, distance = _soft_clip(s, 2 * MAX_LOG_SCALE), mean - x
        return (distance * distance * (-log_var).exp() + log_var) * 0.5
    distance = (outputs - x) / likelihood.scale
    return distance * distance * 0.5


def _laplace_loss(likelihood: Laplace, outputs: Term, x: Term) -> Term:
    if likelihood.scale == "pixel":
        median, s = _pairs(outputs)
        log_scale = _soft_clip(s, MAX_LOG_SCALE)
        return abs(median - x) * (-log_scale).exp() + log_scale
    return abs(outputs - x) / likelihood.scale


# ------------------------------------------------------ discretized logistic


def _discretized_mean(likelihood: DiscretizedLogistic, outputs: Term) -> Term:
    return _pairs(outputs)[0].at_least(0).node("Min", 1)


def _discretized_loss(likelihood: DiscretizedLogistic, outputs: Term, x: Term) -> Term:
    mean, s = _pairs(outputs)
    k = (x * 255).node("Round")
    inverse = (-_soft_clip(s, MAX_LOG_SCALE)).exp()
    distance = k / 255 - mean
    upper, lower, width = (distance + 1 / 510) * inverse, (distance - 1 / 510) * inverse, inverse / 255
    below_top, above_bottom = ((condition).cast(x.dtype) for condition in (k < 254.5, -k < -0.5))
    inside = below_top * above_bottom
    narrow = -((1 - (-width).exp()).log())
    return below_top * (-upper).softplus() + above_bottom * lower.softplus() + inside * narrow


LIKELIHOODS: dict[type, Formulas] = {
    Bernoulli: Formulas(lambda likelihood, z: z.node("Sigmoid"), _bernoulli_loss),
    ContinuousBernoulli: Formulas(_continuous_bernoulli_mean, _continuous_bernoulli_loss),
    Gaussian: Formulas(_location, _gaussian_loss, lambda each: _log_scale(each) + 0.5 * math.log(2 * math.pi)),
    Laplace: Formulas(_location, _laplace_loss, lambda each: _log_scale(each) + math.log(2)),
    DiscretizedLogistic: Formulas(_discretized_mean, _discretized_loss),
}
