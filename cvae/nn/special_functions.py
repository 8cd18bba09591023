"""Building blocks of activations: the logistic function, its derivatives, and the normal distribution."""

import math

import numpy as np
import numpy.typing as npt

from cvae._kernels import elementwise
from cvae.runtime.programs import run

Array = npt.NDArray[np.floating]

_erfc = np.frompyfunc(math.erfc, 1, 1)


def logistic(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), computed in float32 or float64 by the same kernel as in training."""
    z: Array = np.ascontiguousarray(x, np.float32 if x.dtype == np.float32 else np.float64)
    out: Array = np.empty_like(z)
    run(elementwise.sigmoid, out.reshape(-1), z.reshape(-1))
    return out.reshape(x.shape).astype(x.dtype, copy=False)


def logistic_grad(x: Array) -> Array:
    """Return the first derivative of `logistic`."""
    e: Array = np.exp(-np.abs(x))
    return e / (1 + e) ** 2


def logistic_grad2(x: Array) -> Array:
    """Return the second derivative of `logistic`."""
    return -logistic_grad(x) * np.tanh(x / 2)


def normal_cdf(x: Array) -> Array:
    """Return the standard normal distribution function, computed in float64."""
    # 1 + erf would cancel in the left tail.
    erfc = _erfc(x.astype(np.float64) * -math.sqrt(0.5))
    return np.asarray(erfc, dtype=x.dtype) / 2


def normal_density(x: Array) -> Array:
    """Return the standard normal density."""
    return np.exp(x**2 / -2) / math.sqrt(2 * math.pi)
