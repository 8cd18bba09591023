"""Activation functions with their first and second derivatives.

The names, arguments and values at kinks are numpy-ml's. The formulas are written so that large
arguments neither overflow nor lose the small values that a float can hold.

Sources: Clevert et al. 2016 (ELU), Klambauer et al. 2017 (SELU), Hendrycks and Gimpel 2016 (GELU).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cvae.checking import check_bool, check_number
from cvae.nn.special_functions import logistic, logistic_grad, logistic_grad2, normal_cdf, normal_density
from cvae.parsable import Constant

__all__ = [
    "ACTIVATIONS", "ELU", "GELU", "SELU", "ActivationBase", "Affine", "Exponential", "HardSigmoid", "Identity",
    "LeakyReLU", "ReLU", "Sigmoid", "SoftPlus", "Tanh",
]  # fmt: skip

Array = npt.NDArray[np.floating]

Compiled = tuple[str, tuple[float, ...]]
"""A name in `cvae._kernels.elementwise.activations` and as many constants as it says there."""


class ActivationBase(Constant, ABC):
    """Base of the activations.

    ``fn``, ``grad`` and ``grad2`` take a number, a list or an array of any shape and return an
    array of the same shape (a NumPy scalar for a number). A float array keeps its dtype; integers
    and bool are computed in float64. A subclass gives the three formulas for float arrays.

    Examples
    --------
    >>> relu = ReLU()
    >>> relu.fn([-1, 2])
    array([0., 2.])
    >>> relu([-1, 2])
    array([[0., 2.]])
    """

    def __call__(self, z: npt.ArrayLike) -> Array:
        """Return ``fn(z)``; a 1-D input of length n counts as one row, (1, n)."""
        z = _as_float(z)
        return self.fn(z.reshape(1, -1) if z.ndim == 1 else z)

    def fn(self, z: npt.ArrayLike) -> Array:
        """Return the activation of the pre-activations `z`.

        Raises
        ------
        TypeError
            If `z` does not hold real numbers.
        """
        return _evaluate(self._fn, z)

    def grad(self, x: npt.ArrayLike) -> Array:
        """Return the first derivative at the pre-activations `x`; errors as in `fn`."""
        return _evaluate(self._grad, x)

    def grad2(self, x: npt.ArrayLike) -> Array:
        """Return the second derivative at the pre-activations `x`; errors as in `fn`."""
        return _evaluate(self._grad2, x)

    @property
    def compiled(self) -> Compiled | None:
        """The compiled function that layers run, and its constants; None: they call `fn` and `grad`."""
        # A subclass may have other formulas than the class whose function this is.
        return self._compiled() if "_compiled" in vars(type(self)) else None

    def _compiled(self) -> Compiled | None:
        return None

    def __hash__(self) -> int:
        return hash((type(self), *self.arguments.values()))

    @abstractmethod
    def _fn(self, x: Array) -> Array: ...

    @abstractmethod
    def _grad(self, x: Array) -> Array: ...

    @abstractmethod
    def _grad2(self, x: Array) -> Array: ...


def _evaluate(formula: Callable[[Array], Array], x: npt.ArrayLike) -> Array:
    # The formulas overflow only where the true value does: the infinity is the answer.
    with np.errstate(over="ignore"):
        result: Array = formula(_as_float(x))[()]
    return result


def _as_float(x: npt.ArrayLike) -> Array:
    array = np.asarray(x)
    if array.dtype.kind == "f":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind in "biu":
        return array.astype(np.float64)
    raise TypeError(f"activations take real numbers, got an array of dtype {array.dtype}")


class _PiecewiseLinear(ActivationBase):
    def _grad2(self, x: Array) -> Array:
        return np.zeros_like(x)


class Sigmoid(ActivationBase):
    """Logistic sigmoid, 1 / (1 + exp(-z)).

    Examples
    --------
    >>> float(Sigmoid().fn(0))
    0.5
    """

    def _compiled(self) -> Compiled:
        return "sigmoid", ()

    def _fn(self, x: Array) -> Array:
        return logistic(x)

    def _grad(self, x: Array) -> Array:
        return logistic_grad(x)

    def _grad2(self, x: Array) -> Array:
        return logistic_grad2(x)


class ReLU(_PiecewiseLinear):
    """Rectified linear unit, max(z, 0); the derivative at 0 is 0.

    Examples
    --------
    >>> ReLU().grad([-1.0, 0.0, 1.0])
    array([0., 0., 1.])
    """

    def _fn(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def _grad(self, x: Array) -> Array:
        return (x > 0).astype(x.dtype)


class LeakyReLU(_PiecewiseLinear):
    """Leaky rectified linear unit: z, or alpha * z for z < 0; the derivative at 0 is 1.

    Parameters
    ----------
    alpha : float
        Slope for negative arguments.

    Examples
    --------
    >>> LeakyReLU()
    Leaky ReLU(alpha=0.3)
    """

    label = "Leaky ReLU"

    def __init__(self, alpha: float = 0.3) -> None:
        self.alpha = check_number("alpha", alpha)

    def _compiled(self) -> Compiled:
        return "leaky_relu", (self.alpha,)

    def _fn(self, x: Array) -> Array:
        return np.where(x < 0, self.alpha * x, x)

    def _grad(self, x: Array) -> Array:
        return np.where(x < 0, self.alpha, np.ones_like(x))


class GELU(ActivationBase):
    """Gaussian error linear unit, z * Phi(z), Phi the standard normal distribution function.

    Parameters
    ----------
    approximate : bool
        True: Phi(z) is approximated by (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) / 2, and the
        derivatives are those of the approximation. False: the exact Phi, slower here.

    Examples
    --------
    >>> round(float(GELU(approximate=False).fn(1)), 6)
    0.841345
    """

    def __init__(self, approximate: bool = True) -> None:
        self.approximate = check_bool("approximate", approximate)

    def _compiled(self) -> Compiled:
        return ("gelu" if self.approximate else "gelu_exact"), ()

    def _fn(self, x: Array) -> Array:
        phi = logistic(_gelu_argument(x)[0]) if self.approximate else normal_cdf(x)
        return np.maximum(x, -40) * phi  # phi is 0 there, and -inf * 0 would be NaN

    def _grad(self, x: Array) -> Array:
        x = _central(x)
        if self.approximate:
            u, du, _ = _gelu_argument(x)
            return logistic(u) + x * logistic_grad(u) * du
        return normal_cdf(x) + x * normal_density(x)

    def _grad2(self, x: Array) -> Array:
        x = _central(x)
        if self.approximate:
            u, du, d2u = _gelu_argument(x)
            return logistic_grad(u) * (2 * du + x * d2u) + logistic_grad2(u) * du * du * x
        return normal_density(x) * (2 - x**2)


def _central(x: Array) -> Array:
    """Move `x` into [-40, 40]: beyond, Phi(x) is 0 or 1 to the last bit, but powers overflow."""
    return np.clip(x, -40, 40)


def _gelu_argument(x: Array) -> tuple[Array, Array, Array]:
    """Return u, u' and u'', where (1 + tanh(u / 2)) / 2 = logistic(u) approximates Phi(x)."""
    x = _central(x)
    scale = 2 * math.sqrt(2 / math.pi)
    u = scale * x * (1 + 0.044715 * x**2)
    du = scale * (1 + 3 * 0.044715 * x**2)
    d2u = scale * 6 * 0.044715 * x
    return u, du, d2u


class Tanh(ActivationBase):
    """Hyperbolic tangent.

    Examples
    --------
    >>> float(Tanh().grad(0))
    1.0
    """

    def _compiled(self) -> Compiled:
        return "tanh", ()

    def _fn(self, x: Array) -> Array:
        return np.tanh(x)

    def _grad(self, x: Array) -> Array:
        return 4 * logistic_grad(2 * x)

    def _grad2(self, x: Array) -> Array:
        return -2 * np.tanh(x) * self._grad(x)


class Affine(_PiecewiseLinear):
    """Affine function, slope * z + intercept.

    Parameters
    ----------
    slope, intercept : float

    Examples
    --------
    >>> Affine(slope=2, intercept=1).fn([0.0, 1.0])
    array([1., 3.])
    """

    def __init__(self, slope: float = 1, intercept: float = 0) -> None:
        self.slope = check_number("slope", slope)
        self.intercept = check_number("intercept", intercept)

    def _compiled(self) -> Compiled:
        return "affine", (self.slope, self.intercept)

    def _fn(self, x: Array) -> Array:
        return self.slope * x + self.intercept

    def _grad(self, x: Array) -> Array:
        return np.full_like(x, self.slope)


class Identity(Affine):
    """The identity, z.

    Examples
    --------
    >>> Identity().fn([-1.5, 2.0])
    array([-1.5,  2. ])
    """

    def __init__(self) -> None:
        super().__init__(slope=1, intercept=0)


def _elu(z: Array, alpha: float) -> Array:
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


class ELU(ActivationBase):
    """Exponential linear unit: z, or alpha * (exp(z) - 1) for z <= 0.

    At 0 the first derivative is alpha and the second 0, as in numpy-ml.

    Parameters
    ----------
    alpha : float
        Minus the limit for large negative arguments.

    Examples
    --------
    >>> float(ELU(alpha=0.7).grad(0))
    0.7
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = check_number("alpha", alpha)

    def _compiled(self) -> Compiled:
        return "elu", (self.alpha,)

    def _fn(self, x: Array) -> Array:
        return _elu(x, self.alpha)

    def _grad(self, x: Array) -> Array:
        return np.where(x > 0, 1, self.alpha * np.exp(np.minimum(x, 0)))

    def _grad2(self, x: Array) -> Array:
        return np.where(x >= 0, 0, self.alpha * np.exp(np.minimum(x, 0)))


class Exponential(ActivationBase):
    """Exponential function, exp(z).

    Examples
    --------
    >>> float(Exponential().grad2(0))
    1.0
    """

    def _compiled(self) -> Compiled:
        return "exponential", ()

    def _fn(self, x: Array) -> Array:
        return np.exp(x)

    _grad = _grad2 = _fn


class SELU(ActivationBase):
    """Scaled exponential linear unit, 1.0507 * ELU(alpha=1.6733).

    The constants keep mean 0 and variance 1 from layer to layer. At 0 the first derivative is
    1.0507 (the right one) and the second 1.7581 (the left one), as in numpy-ml.

    Examples
    --------
    >>> float(SELU().fn(1))
    1.0507009873554805
    """

    _scale = 1.0507009873554805
    _alpha = 1.6732632423543772

    def _compiled(self) -> Compiled:
        return "selu", (self._scale * self._alpha, self._scale)

    def _fn(self, x: Array) -> Array:
        return self._scale * _elu(x, self._alpha)

    def _grad(self, x: Array) -> Array:
        return self._scale * np.where(x >= 0, 1, self._alpha * np.exp(np.minimum(x, 0)))

    def _grad2(self, x: Array) -> Array:
        return self._scale * np.where(x > 0, 0, self._alpha * np.exp(np.minimum(x, 0)))


class HardSigmoid(_PiecewiseLinear):
    """Piecewise linear sigmoid, 0.2 z + 0.5 cut off at 0 and 1; the derivative at +-2.5 is 0.2.

    Examples
    --------
    >>> HardSigmoid().fn([-3.0, 0.0, 3.0])
    array([0. , 0.5, 1. ])
    """

    label = "Hard Sigmoid"

    def _compiled(self) -> Compiled:
        return "hard_sigmoid", ()

    def _fn(self, x: Array) -> Array:
        line: Array = 0.2 * x + 0.5
        return np.clip(line, 0, 1)

    def _grad(self, x: Array) -> Array:
        return np.where(np.abs(x) <= 2.5, 0.2, np.zeros_like(x))


class SoftPlus(ActivationBase):
    """Smooth rectifier, log(1 + exp(z)).

    Examples
    --------
    >>> float(SoftPlus().fn(1000))
    1000.0
    """

    def _compiled(self) -> Compiled:
        return "softplus", ()

    def _fn(self, x: Array) -> Array:
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))

    def _grad(self, x: Array) -> Array:
        return logistic(x)

    def _grad2(self, x: Array) -> Array:
        return logistic_grad(x)


ACTIVATIONS: dict[str, type[ActivationBase]] = {
    cls.__name__: cls
    for cls in (
        Sigmoid, ReLU, LeakyReLU, GELU, Tanh, Affine, Identity, ELU, Exponential, SELU, HardSigmoid,
        SoftPlus,
    )
}  # fmt: skip
