"""Layers that end with an activation: Y = act_fn(Z) of a pre-activation Z."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae._kernels import elementwise
from cvae._kernels.program import Program
from cvae.nn.activations import ActivationBase, Affine, Identity, ReLU
from cvae.nn.base import LayerBase
from cvae.nn.initializers import ActivationInitializer
from cvae.nn.protocol import Array, Arrays, Shape


class ActivatedLayer(LayerBase):
    """Base of the layers with an activation, which differ in how they compute what it is applied to."""

    act_fn: ActivationBase

    def __init__(self, act_fn: Any, optimizer: Any, dtype: npt.DTypeLike, random_state: Any = None) -> None:
        super().__init__(optimizer, dtype=dtype, random_state=random_state)
        self.act_fn = ActivationInitializer(act_fn)()

    @property
    def needs_output(self) -> bool:  # type: ignore[override]
        """Whether the derivative of the activation is computed from the output, as it is for ReLU."""
        return isinstance(self.act_fn, ReLU)

    @abstractmethod
    def record_preactivation(
        self, program: Program, x: Array, z: Array, saved: Arrays, *, relu: bool, training: bool
    ) -> None:
        """Record the computation of z from x, or of its maximum with 0 if `relu`."""

    @abstractmethod
    def record_preactivation_backward(
        self, program: Program, dx: Array | None, dz: Array, x: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        """Record the gradients of input and parameters from that of the pre-activation; None means not needed."""

    def saved(self, in_shape: Shape) -> dict[str, tuple[Shape, npt.DTypeLike]]:
        # ReLU's derivative follows from the output.
        if isinstance(self.act_fn, ReLU) or is_identity(self.act_fn):
            return {}
        return {"Z": (self.output_shape(in_shape), self.dtype)}

    def record_forward(self, program: Program, x: Array, y: Array, saved: Arrays, *, training: bool) -> None:
        act_fn, Z = self.act_fn, saved.get("Z")
        relu = isinstance(act_fn, ReLU)
        self.record_preactivation(program, x, y if Z is None else Z, saved, relu=relu, training=training)
        if Z is not None and act_fn.compiled is not None:
            elementwise.activation_forward(program, y.reshape(-1), Z.reshape(-1), *act_fn.compiled)
        elif Z is not None:
            program.call(lambda: np.copyto(y, act_fn.fn(Z)))

    def record_backward(
        self, program: Program, dx: Array | None, dy: Array, x: Array, y: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        self._record_activation_backward(program, dy, y, saved)
        self.record_preactivation_backward(program, dx, dy, x, saved, grads)

    def without_activation(self) -> Self:
        linear = copy.copy(self)
        linear._retained = self._retained
        linear.act_fn = Identity()
        return linear

    def _record_activation_backward(self, program: Program, dy: Array, y: Array, saved: Arrays) -> None:
        """Record the multiplication of dy by the derivative of the activation."""
        act_fn, Z = self.act_fn, saved.get("Z")

        def multiply(Z: Array) -> None:
            with np.errstate(over="ignore", invalid="ignore"):  # Exponential's derivative may be infinite
                np.multiply(dy, act_fn.grad(Z), out=dy)

        if isinstance(act_fn, ReLU):
            elementwise.relu_backward(program, dy.reshape(-1), dy.reshape(-1), y.reshape(-1))
        elif Z is not None and act_fn.compiled is not None:
            elementwise.activation_backward(program, dy.reshape(-1), dy.reshape(-1), Z.reshape(-1), *act_fn.compiled)
        elif Z is not None:
            program.call(multiply, Z)


def is_identity(act_fn: ActivationBase) -> bool:
    """Return whether an activation is the identity."""
    return isinstance(act_fn, Affine) and act_fn.slope == 1 and act_fn.intercept == 0
