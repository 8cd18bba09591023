"""Normalization of channels: by the statistics of a batch, or by those of groups of each image's channels."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import normalization
from cvae._kernels.program import Program
from cvae.checking import check_number, check_size
from cvae.nn.activated import ActivatedLayer
from cvae.nn.protocol import Array, Arrays, Shape
from cvae.runtime.workspace import copy_of, empty, zeros_like

STARTS = {"scaler": 1.0, "intercept": 0.0, "running_mean": 0.0, "running_var": 1.0}


class NormalizationBase(ActivatedLayer):
    """Base of the layers that subtract means, divide by standard deviations, and learn a scaler and an intercept.

    Attributes
    ----------
    parameter_names : tuple of str
        Those with a number for each channel.
    channels_are : str
        What the last axis is called in messages.
    """

    overwrites_input = True
    parameter_names: tuple[str, ...] = ("scaler", "intercept")
    channels_are = "channels"

    def __init__(self, epsilon: float, act_fn: Any, optimizer: Any, dtype: npt.DTypeLike) -> None:
        super().__init__(act_fn, optimizer, dtype)
        self.epsilon = epsilon
        setattr(self, self.size_names[0], None)
        self.parameters = dict.fromkeys(self.parameter_names)

    @property
    def _channels(self) -> int | None:
        """The number of channels, None before the first input."""
        channels: int | None = getattr(self, self.size_names[0])
        return channels

    @abstractmethod
    def _by_image(self, array: Array) -> Array:
        """Return a view (B, M, C) of inputs or outputs, of which each of the B has its own statistics."""

    @property
    @abstractmethod
    def _groups(self) -> int:
        """The number of groups of channels with common statistics."""

    # ------------------------------------------------------------ the protocol

    def output_shape(self, in_shape: Shape) -> Shape:
        if self._channels not in (None, in_shape[-1]):
            raise ValueError(f"X must have {self._channels} {self.channels_are}, got {in_shape[-1]}")
        return in_shape

    def initialize(self, in_shape: Shape) -> None:
        channels = self.output_shape(in_shape)[-1]
        if not self.is_initialized:
            self._set_parameters({"scaler": np.full(channels, STARTS["scaler"])})

    def record_preactivation(
        self, program: Program, x: Array, z: Array, saved: Arrays, *, relu: bool, training: bool
    ) -> None:
        scaler, intercept, epsilon = self._array("scaler"), self._array("intercept"), self.epsilon
        x, z = self._by_image(x), self._by_image(z)
        given = self._given_statistics(training=training)
        if given is not None:
            normalization.apply(program, z, x, *given, scaler, intercept, epsilon=epsilon, relu=relu)
            return
        mean, variance, groups = saved["mean"], saved["variance"], self._groups
        normalization.forward(
            program, z, mean, variance, x, scaler, intercept, groups=groups, epsilon=epsilon, relu=relu
        )

    def record_preactivation_backward(
        self, program: Program, dx: Array | None, dz: Array, x: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        given = None if "mean" in saved else self._given_statistics(training=False)
        mean, variance = given or (saved["mean"], saved["variance"])
        d_scaler, d_intercept = (None, None) if grads is None else (grads["scaler"], grads["intercept"])
        dx = None if dx is None else self._by_image(dx)
        if dx is not None or grads is not None:
            dz, x = self._by_image(dz), self._by_image(x)
            normalization.backward(
                program, dx, d_scaler, d_intercept, dz, x, mean, variance, self._array("scaler"),
                groups=self._groups, epsilon=self.epsilon, measured=given is None,
            )  # fmt: skip

    def _given_statistics(self, *, training: bool) -> tuple[Array, Array] | None:
        """Return mean and variance (1, C) that do not depend on the input, or None."""
        return None

    # --------------------------------------------------- numpy-ml's interface

    def _array(self, name: str) -> Array:
        """Return a parameter, which must have been created."""
        array = self.parameters[name]
        assert array is not None
        return array

    def _check_sizes(self) -> None:
        self.epsilon = check_number("epsilon", self.epsilon, "(0, inf)")
        channels = self.parameters["scaler"]
        if channels is not None and self._channels != len(channels):
            raise ValueError(f"{self.size_names[0]} must stay {len(channels)}, got {self._channels}")

    def _set_parameters(self, parameters: Mapping[str, npt.ArrayLike]) -> None:
        arrays = self.parameters | {name: copy_of(value, self.dtype) for name, value in parameters.items()}
        first = next(array for array in arrays.values() if array is not None)
        channels = self._channels or first.size
        for name, start in STARTS.items():
            if name in arrays and arrays[name] is None:
                arrays[name] = copy_of(np.full(channels, start), self.dtype)
        for name, array in arrays.items():
            if array is not None and array.shape != (channels,):
                raise ValueError(f"{name} must have the shape {(channels,)}, got {array.shape}")
        setattr(self, self.size_names[0], channels)
        self.parameters = arrays
        self.gradients = {name: zeros_like(array) for name, array in arrays.items() if name in ("scaler", "intercept")}
        self._retained = []
        self.is_initialized = True


class _BatchNorm(NormalizationBase):
    """Base of the layers that normalize with the statistics of the batch in training, and with running ones otherwise.

    Attributes
    ----------
    parameters : dict of arrays, shape (C,)
        scaler and intercept, which the optimizer updates; running_mean and running_var, which every training step
        moves towards the statistics of its batch. Those that count are of the last `backward` before an `update`.
    """

    overwrites_input = True
    parameter_names = (*NormalizationBase.parameter_names, "running_mean", "running_var")

    def __init__(
        self,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        act_fn: Any = None,
        optimizer: Any = None,
        *,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        super().__init__(epsilon, act_fn, optimizer, dtype)
        self.momentum = momentum
        self._check_sizes()

    def _check_sizes(self) -> None:
        self.momentum = check_number("momentum", self.momentum, "[0, 1]")
        super()._check_sizes()

    def _by_image(self, array: Array) -> Array:
        return array.reshape(1, -1, array.shape[-1])

    @property
    def _groups(self) -> int:
        assert self._channels is not None
        return self._channels

    def saved(self, in_shape: Shape) -> dict[str, tuple[Shape, npt.DTypeLike]]:
        statistics = (1, in_shape[-1]), self.dtype
        return super().saved(in_shape) | ({"mean": statistics, "variance": statistics} if self.trainable else {})

    def _given_statistics(self, *, training: bool) -> tuple[Array, Array] | None:
        if training and self.trainable:
            return None
        return self._array("running_mean").reshape(1, -1), self._array("running_var").reshape(1, -1)

    def record_preactivation_backward(
        self, program: Program, dx: Array | None, dz: Array, x: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        super().record_preactivation_backward(program, dx, dz, x, saved, grads)
        if grads is not None and "mean" in saved:
            normalization.keep_statistics(program, self._kept, self._is_kept, saved["mean"][0], saved["variance"][0])

    def record_statistics(self, program: Program) -> None:
        if self.is_initialized:
            mean, variance = self._array("running_mean"), self._array("running_var")
            normalization.move_running(program, mean, variance, self._kept, self._is_kept, self.momentum)

    def batch_statistics(self) -> list[Array]:
        return [self._kept, self._is_kept]

    def flush_gradients(self) -> None:
        super().flush_gradients()
        if self.is_initialized:
            self._is_kept.fill(0)

    def reset_running_stats(self) -> None:
        """Set the running means to 0 and the running variances to 1, as at the beginning."""
        for name, array in self.parameters.items():
            if array is not None and name.startswith("running"):
                array.fill(STARTS[name])

    def _set_parameters(self, parameters: Mapping[str, npt.ArrayLike]) -> None:
        if np.any(np.asarray(parameters.get("running_var", 0.0)) < 0):
            raise ValueError(f"running_var must be >= 0, got {parameters['running_var']!r}")
        super()._set_parameters(parameters)
        # Mean and variance of the last batch, and whether there was one since the last step.
        self._kept, self._is_kept = empty((2, self._groups), self.dtype), np.zeros(1)


class BatchNorm1D(_BatchNorm):
    """Normalization of each column of rows (n, n_in) over a batch, then a scaler, an intercept and the activation.

    ``Y = act_fn((X - mean) / sqrt(variance + epsilon) * scaler + intercept)`` (Ioffe & Szegedy 2015)

    Parameters
    ----------
    momentum : float
        From 0 to 1. A training step sets the running statistics to ``momentum * running + (1 - momentum) * batch``.
    epsilon : float
        Above 0, added to the variances.
    act_fn : str, activation or None
        None means the identity.
    optimizer : str, dict, optimizer or None
    dtype : {"float32", "float64"}

    Notes
    -----
    In training, mean and variance (divided by n) are those of the batch. Without training, and in a frozen layer, they
    are the running ones, which then do not change. The parameters scaler, intercept, running_mean and running_var
    (n_in,) are created by the first `forward`, which sets n_in. A training batch of one row puts out the intercepts,
    for nothing is left of a row that is its own mean.

    Examples
    --------
    >>> import numpy as np
    >>> BatchNorm1D().forward(np.array([[1.0, 5.0], [3.0, 5.0]])).round(3)
    array([[-1.,  0.],
           [ 1.,  0.]], dtype=float32)
    """

    input_ndim = 2
    size_names = ("n_in",)
    channels_are = "columns"


class BatchNorm2D(_BatchNorm):
    """Normalization of each channel of images (n, rows, cols, in_ch) over all pixels of a batch.

    Otherwise the same as `BatchNorm1D`, with in_ch in the place of n_in.

    Parameters
    ----------
    momentum : float
        From 0 to 1. A training step sets the running statistics to ``momentum * running + (1 - momentum) * batch``.
    epsilon : float
        Above 0, added to the variances.
    act_fn : str, activation or None
        None means the identity.
    optimizer : str, dict, optimizer or None
    dtype : {"float32", "float64"}

    Examples
    --------
    >>> import numpy as np
    >>> BatchNorm2D(act_fn="ReLU").forward(np.arange(4.0).reshape(1, 2, 2, 1))[0, :, :, 0].round(3)
    array([[0.   , 0.   ],
           [0.447, 1.342]], dtype=float32)
    """

    input_ndim = 4
    size_names = ("in_ch",)


class GroupNorm(NormalizationBase):
    """Normalization of groups of neighbouring channels of each image, the same in training and without.

    ``Y = act_fn((X - mean) / sqrt(variance + epsilon) * scaler + intercept)``, mean and variance being those of all
    pixels of an image and all channels of a group (Wu & He 2018).

    Parameters
    ----------
    groups : int
        At least 1, of which the number of channels must be a multiple. 1 is layer normalization, as many as there are
        channels is instance normalization.
    epsilon : float
        Above 0, added to the variances.
    act_fn : str, activation or None
        None means the identity.
    optimizer : str, dict, optimizer or None
    dtype : {"float32", "float64"}

    Notes
    -----
    The parameters scaler and intercept (in_ch,) are created by the first `forward`, which sets in_ch.

    Examples
    --------
    >>> import numpy as np
    >>> GroupNorm(groups=1).forward(np.array([1.0, 3.0, 10.0, 30.0]).reshape(2, 1, 1, 2))[:, 0, 0].round(3)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """

    input_ndim = 4
    size_names = ("in_ch",)

    def __init__(
        self,
        groups: int,
        epsilon: float = 1e-5,
        act_fn: Any = None,
        optimizer: Any = None,
        *,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        super().__init__(epsilon, act_fn, optimizer, dtype)
        self.groups = groups
        self._check_sizes()

    def _check_sizes(self) -> None:
        self.groups = check_size("groups", self.groups)
        super()._check_sizes()
        if self._channels is not None:
            self.output_shape((1, 1, 1, self._channels))

    def output_shape(self, in_shape: Shape) -> Shape:
        shape = super().output_shape(in_shape)
        if shape[-1] % self.groups:
            raise ValueError(f"X must have a multiple of groups={self.groups} channels, got {shape[-1]}")
        return shape

    def _by_image(self, array: Array) -> Array:
        return array.reshape(len(array), math.prod(array.shape[1:-1]), array.shape[-1])

    @property
    def _groups(self) -> int:
        return self.groups

    def saved(self, in_shape: Shape) -> dict[str, tuple[Shape, npt.DTypeLike]]:
        statistics = (in_shape[0], in_shape[-1]), self.dtype
        return super().saved(in_shape) | {"mean": statistics, "variance": statistics}
