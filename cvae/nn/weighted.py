"""Layers with weights, a bias and an activation: Y = act_fn(affine function of X)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels.program import Program
from cvae.nn.activated import ActivatedLayer
from cvae.nn.base import Retained, as_floats
from cvae.nn.initializers import WeightInitializer, calc_fan
from cvae.nn.protocol import Array, Arrays, Shape
from cvae.random import make_rng
from cvae.runtime.programs import run
from cvae.runtime.workspace import copy_of, zeros_like


class WeightedLayer(ActivatedLayer):
    """Base of the layers with weights W, a bias b and an activation, which differ in the affine function."""

    derived_names: tuple[str, ...] = ("Z",)

    def __init__(self, act_fn: Any, optimizer: Any, init: str, dtype: npt.DTypeLike, random_state: Any) -> None:
        super().__init__(act_fn, optimizer, dtype, random_state)
        WeightInitializer(str(self.act_fn), mode=init)
        self.init = init
        self.parameters = {"W": None, "b": None}

    @property
    def W(self) -> Array:
        """The weights, created by the first `forward`."""
        W = self.parameters["W"]
        assert W is not None
        return W

    @property
    def b(self) -> Array:
        """The bias as a view with one axis."""
        b = self.parameters["b"]
        assert b is not None
        return b.reshape(-1)

    @abstractmethod
    def record_affine(self, program: Program, x: Array, z: Array, *, relu: bool, training: bool) -> None:
        """Record z = the affine function of x, or its maximum with 0 if `relu`."""

    @abstractmethod
    def record_affine_backward(
        self, program: Program, dx: Array | None, dz: Array, x: Array, grads: Arrays | None
    ) -> None:
        """Record the gradients of input and parameters from that of the pre-activation; None means not needed."""

    @abstractmethod
    def _weight_shape(self, in_shape: Shape) -> Shape:
        """Return the shape of W for an input of shape `in_shape`; raise ValueError if that does not fit the layer."""

    def _bias_shape(self, W_shape: Shape) -> Shape:
        """Return the shape of b, whose axes are those of the output."""
        return (*(1,) * (len(W_shape) - 1), W_shape[-1])

    def _fan(self, W_shape: Shape) -> tuple[float, float]:
        """Return the number of inputs and outputs of one unit, by which starting weights are scaled."""
        return calc_fan(W_shape)

    @abstractmethod
    def _take_sizes(self, W_shape: Shape) -> None:
        """Set the layer's sizes from the shape of W; raise ValueError if it does not fit."""

    # ------------------------------------------------------------ the protocol

    def multiplications(self, in_shape: Shape) -> int:
        # Each weight is used once for each row, or pixel, of the output.
        return math.prod(self._weight_shape(in_shape)) * math.prod(self.output_shape(in_shape)[:-1])

    def n_parameters(self, in_shape: Shape) -> int:
        shape = self._weight_shape(in_shape)
        return math.prod(shape) + math.prod(self._bias_shape(shape))

    def initialize(self, in_shape: Shape) -> None:
        shape = self._weight_shape(in_shape)
        if not self.is_initialized:
            rng = self.rng if self.rng is not None else make_rng(None)
            initializer = WeightInitializer(str(self.act_fn), mode=self.init)
            W = initializer(shape, rng=rng, dtype=self.dtype, fan=self._fan(shape))
            self._set_parameters({"W": W})

    def record_preactivation(
        self, program: Program, x: Array, z: Array, saved: Arrays, *, relu: bool, training: bool
    ) -> None:
        self.record_affine(program, x, z, relu=relu, training=training)

    def record_preactivation_backward(
        self, program: Program, dx: Array | None, dz: Array, x: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        if dx is not None or grads is not None:
            self.record_affine_backward(program, dx, dz, x, grads)

    # --------------------------------------------------- numpy-ml's interface

    def _set_parameters(self, parameters: Mapping[str, npt.ArrayLike]) -> None:
        arrays = {name: copy_of(as_floats(value, name, self.dtype), self.dtype) for name, value in parameters.items()}
        W = arrays.get("W", self.parameters["W"])
        if W is None:
            raise ValueError("parameters must hold W, got only b")
        self._take_sizes(W.shape)
        b, b_shape = arrays.get("b", self.parameters["b"]), self._bias_shape(W.shape)
        if b is None:
            b = copy_of(np.zeros(b_shape), self.dtype)
        if b.shape != b_shape:
            raise ValueError(f"b must have the shape {b_shape}, got {b.shape}")
        self.parameters = {"W": W, "b": b}
        self.gradients = {"W": zeros_like(W), "b": zeros_like(b)}
        self._retained = []
        self.is_initialized = True

    def _check_sizes(self) -> None:
        WeightInitializer(str(self.act_fn), mode=self.init)
        if self.is_initialized:
            self._take_sizes(self.W.shape)

    def _derive(self, retained: Retained) -> dict[str, Any]:
        Z = retained.saved.get("Z")
        if Z is None:  # cannot be recovered from the output of ReLU
            Z = np.empty_like(retained.Y)
            run(self.record_affine, retained.X, Z, relu=False, training=True)
        return {"Z": Z}
