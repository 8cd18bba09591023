"""Activations, schedulers, optimizers and starting weights by name.

Sources: Glorot and Bengio 2010 (glorot_*), He et al. 2015 (he_*, and the gain of leaky ReLU).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.checking import MAX_AXIS, check_size
from cvae.nn.activations import ACTIVATIONS, ActivationBase, Identity, LeakyReLU, ReLU, Tanh
from cvae.optim.base import OptimizerBase
from cvae.optim.optimizers import SGD, known_optimizers
from cvae.optim.schedulers import SchedulerBase, make_scheduler
from cvae.parsing import instance_of, object_from_call, object_from_hyperparameters

__all__ = ["ActivationInitializer", "OptimizerInitializer", "SchedulerInitializer", "WeightInitializer", "calc_fan"]

Array = npt.NDArray[np.floating]


class ActivationInitializer:
    """Factory of activations.

    Parameters
    ----------
    param : ActivationBase, str or None
        An activation (returned unchanged), a call string, or None for the identity. Case, spaces,
        ``_`` and ``-`` in the name do not matter.

    Raises
    ------
    TypeError
        When called, if `param` is none of these.
    ValueError
        When called, if a name or an argument is unknown or out of range.

    Examples
    --------
    >>> ActivationInitializer("leaky relu(alpha=0.1)")()
    Leaky ReLU(alpha=0.1)
    """

    def __init__(self, param: ActivationBase | str | None = None) -> None:
        self.param = param

    def __call__(self) -> ActivationBase:
        """Return the activation."""
        if self.param is None:
            return Identity()
        if isinstance(self.param, ActivationBase):
            return self.param
        if isinstance(self.param, str):
            return object_from_call(self.param, ACTIVATIONS, "activation")
        raise TypeError(f"act_fn must be an activation, str or None, got {self.param!r}")


class SchedulerInitializer:
    """Factory of schedulers.

    Parameters
    ----------
    param : SchedulerBase, str, mapping or None
        A scheduler (returned unchanged), a call string, a mapping with the scheduler's
        ``"hyperparameters"``, or None for a constant rate.
    lr : float, optional
        The constant rate, >= 0; used only if `param` is None.

    Raises
    ------
    TypeError
        When called, if `param` is none of these.
    ValueError
        When called, if a name or an argument is unknown or out of range, or both are None.

    Examples
    --------
    >>> SchedulerInitializer(lr=0.1)()
    ConstantScheduler(lr=0.1)
    """

    def __init__(self, param: SchedulerBase | str | Mapping[str, Any] | None = None, lr: float | None = None) -> None:
        self.param = param
        self.lr = lr

    def __call__(self) -> SchedulerBase:
        """Return the scheduler."""
        return make_scheduler(self.param, self.lr)


class OptimizerInitializer:
    """Factory of optimizers, a new one per call, so that no two layers share their state.

    Parameters
    ----------
    param : OptimizerBase, str, mapping or None
        An optimizer (copied, with its state), a call string, a mapping with the optimizer's
        ``"hyperparameters"`` and optionally its ``"cache"`` and ``"cur_step"``, the number of
        steps that it has taken, or None for the default SGD.

    Raises
    ------
    TypeError
        When called, if `param` is none of these, or what is in a mapping has the wrong type.
    ValueError
        When called, if a name or an argument is unknown or out of range.

    Examples
    --------
    >>> OptimizerInitializer({"hyperparameters": {"id": "Adam", "lr": 0.5}})().lr
    0.5
    """

    def __init__(self, param: OptimizerBase | str | Mapping[str, Any] | None = None) -> None:
        self.param = param

    def __call__(self) -> OptimizerBase:
        """Return a new optimizer."""
        param = self.param
        if param is None:
            return SGD()
        if isinstance(param, OptimizerBase):
            return param.copy()
        if isinstance(param, str):
            return object_from_call(param, known_optimizers(), "optimizer")
        if not isinstance(param, Mapping):
            raise TypeError(f"optimizer must be an optimizer, str, dict or None, got {param!r}{instance_of(param)}")
        if "hyperparameters" not in param:
            raise ValueError(f"an optimizer's dict must hold 'hyperparameters', got {param!r}")
        made = object_from_hyperparameters(param["hyperparameters"], known_optimizers(), "optimizer")
        made.set_params(cache_dict=param.get("cache"))
        made.cur_step = param.get("cur_step", 0)
        return made


def calc_fan(shape: Sequence[int]) -> tuple[int, int]:
    """Return the number of inputs and outputs of one unit, from the shape of its weights.

    Parameters
    ----------
    shape : 2 ints (n_in, n_out), or 3 or 4 ints (kernel dimensions, in_ch, out_ch)

    Returns
    -------
    (fan_in, fan_out) : tuple of 2 ints

    Raises
    ------
    ValueError
        If there are not 2 to 4 ints.

    Examples
    --------
    >>> calc_fan((5, 5, 32, 64))
    (800, 1600)
    """
    if len(shape) not in (2, 3, 4):
        raise ValueError(f"shape must be 2, 3 or 4 ints, got {shape!r}")
    *kernel, n_in, n_out = shape
    taps = math.prod(kernel)
    return n_in * taps, n_out * taps


class WeightInitializer:
    """Random starting weights.

    ==============  ==============================================================
    mode            distribution
    ==============  ==============================================================
    glorot_uniform  U(-a, a), a = gain * sqrt(6 / (fan_in + fan_out))
    glorot_normal   truncated normal, sigma = gain * sqrt(2 / (fan_in + fan_out))
    he_uniform      U(-a, a), a = sqrt(6 / fan_in)
    he_normal       truncated normal, sigma = sqrt(2 / fan_in)
    std_normal      normal, sigma = 1
    trunc_normal    truncated normal, sigma = 1
    ==============  ==============================================================

    All have mean 0. Truncated means redrawn until within 2 sigma, which leaves a standard
    deviation of 0.8796 sigma. The gain is 5/3 for tanh, sqrt(2) for ReLU,
    sqrt(2 / (1 + alpha^2)) for leaky ReLU and 1 for all others.

    Parameters
    ----------
    act_fn_str : str
        The layer's activation as a call string.
    mode : str
        See the table.

    Raises
    ------
    TypeError
        If `act_fn_str` is neither a string nor an activation.
    ValueError
        If the activation or the mode is unknown.

    Examples
    --------
    >>> initializer = WeightInitializer("ReLU", mode="he_uniform")
    >>> initializer((5, 5, 1, 32), rng=np.random.default_rng(0), dtype=np.float32).shape
    (5, 5, 1, 32)
    """

    def __init__(self, act_fn_str: str, mode: str = "glorot_uniform") -> None:
        if not isinstance(mode, str) or mode not in _MODES:
            raise ValueError(f"init must be one of {', '.join(_MODES)}, got {mode!r}")
        self.mode = mode
        self.gain = _gain(ActivationInitializer(act_fn_str)())

    def __call__(
        self,
        shape: Sequence[int],
        rng: np.random.Generator | None = None,
        dtype: npt.DTypeLike = np.float64,
        fan: tuple[float, float] | None = None,
    ) -> Array:
        """Draw an array of weights.

        Parameters
        ----------
        shape : 2 to 4 ints
            See `calc_fan`.
        rng : numpy.random.Generator, optional
            Source of the numbers; None means a new one with fresh entropy.
        dtype : float32 or float64
            The numbers are drawn in float64 and then rounded, so they are the same for both.
        fan : (fan_in, fan_out), optional
            Where they do not follow from the shape in the way of `calc_fan`.

        Returns
        -------
        array of `shape` and `dtype`

        Raises
        ------
        TypeError
            If `rng` is not a Generator, `dtype` not float32 or float64, or `shape` not a sequence of ints.
        ValueError
            If the shape does not have 2 to 4 dimensions, or one is less than 1.
        """
        if rng is None:
            rng = np.random.default_rng()
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator or None, got {rng!r}")
        with contextlib.suppress(TypeError, ValueError, SyntaxError):  # which are those of what is no dtype
            dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype must be float32 or float64, got {dtype!r}")
        if not isinstance(shape, Sequence):
            raise TypeError(f"shape must be 2, 3 or 4 ints, got {shape!r}")
        shape = [check_size("shape", size, MAX_AXIS) for size in shape]
        fan_in, fan_out = calc_fan(shape) if fan is None else fan
        sigma = 1.0
        if self.mode.startswith("glorot"):
            sigma = self.gain * math.sqrt(2 / (fan_in + fan_out))
        elif self.mode.startswith("he"):
            sigma = math.sqrt(2 / fan_in)
        return (sigma * _MODES[self.mode](rng, tuple(shape))).astype(dtype)


def _gain(act_fn: ActivationBase) -> float:
    if isinstance(act_fn, Tanh):
        return 5 / 3
    if isinstance(act_fn, ReLU):
        return math.sqrt(2)
    if isinstance(act_fn, LeakyReLU):
        return math.sqrt(2 / (1 + act_fn.alpha**2))
    return 1.0


def _uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(-math.sqrt(3), math.sqrt(3), shape)  # standard deviation 1


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def _truncated_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    values = rng.standard_normal(shape)
    while (outside := np.abs(values) >= 2).any():
        values[outside] = rng.standard_normal(np.count_nonzero(outside))
    return values


# For each mode, the distribution at sigma = 1.
_MODES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "glorot_uniform": _uniform,
    "glorot_normal": _truncated_normal,
    "he_uniform": _uniform,
    "he_normal": _truncated_normal,
    "std_normal": _normal,
    "trunc_normal": _truncated_normal,
}
