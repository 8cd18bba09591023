"""Layers that follow one another, at work on batches: buffers allocated once, the work recorded in programs.

The kernels are those of the layers' own `forward` and `backward`; here they keep no more than they need.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels.program import Program
from cvae.engine.updates import Updates
from cvae.nn.activations import ReLU
from cvae.nn.base import LayerBase, WeightedLayer, is_identity, record_activation_backward
from cvae.nn.conv2d import Conv2D
from cvae.nn.conv_pool import ConvPool, gradients_of
from cvae.nn.flatten import Flatten
from cvae.nn.fully_connected import FullyConnected
from cvae.nn.pool2d import Pool2D
from cvae.runtime.workspace import empty

Array = npt.NDArray[Any]


class Chain:
    """Layers that follow one another, with room for the outputs of a batch and, if training, for their gradients.

    The last layer stops before its activation: its output is a code or logits, and its gradient takes their place.
    """

    def __init__(self, layers: Sequence[LayerBase], in_shape: tuple[int, ...], *, training: bool) -> None:
        self.steps: list[Step] = []
        shape = in_shape
        left = list(layers)
        while left:
            self.steps.append(self._next_step(left, shape))
            shape = self.steps[-1].output.shape
        if training:
            self._allocate_gradients()

    def _allocate_gradients(self) -> None:
        """A gradient takes the place of the output where nothing needs that any more."""
        is_overwritten = True  # codes and logits by what computes their gradients
        for step in reversed(self.steps):
            if not isinstance(step, FlattenStep):
                takes_its_place = is_overwritten and not step.needs_output
                step.grad = step.output if takes_its_place else empty(step.output.shape, step.output.dtype)
                is_overwritten = step.overwrites_input
        for below, step in pairwise(self.steps):
            if isinstance(step, FlattenStep):
                step.grad = below.grad.reshape(step.output.shape)

    def _next_step(self, left: list[LayerBase], in_shape: tuple[int, ...]) -> Step:
        """Take the next layer, or the next two that run as one, from those that are left."""
        layer = left.pop(0)
        layer.initialize(in_shape)  # it has its parameters; do they fit this shape?
        above = left[0] if left else None
        if isinstance(layer, Conv2D) and isinstance(above, Pool2D) and ConvPool.fuses(layer, above, in_shape):
            left.pop(0)
            above.initialize(layer.output_shape(in_shape))
            return ConvPoolStep(ConvPool(layer, above, in_shape), in_shape[0])
        if isinstance(layer, Flatten):
            return FlattenStep(layer, self.steps[-1])
        if isinstance(layer, Pool2D):
            return PoolStep(layer, in_shape)
        if isinstance(layer, WeightedLayer):
            return WeightedStep(layer, in_shape, last=not left)
        raise TypeError(f"layers must be of known types, got {type(layer).__name__}")

    def record_forward(self, program: Program, X: Array) -> Array:
        """Record the way from a batch X up; returns the array in which the last layer's output will be."""
        for step in self.steps:
            step.record_forward(program, X)
            X = step.output[: len(X)]
        return X

    def record_descent(self, program: Program, X: Array, updates: Updates, dX: Array | None = None) -> None:
        """Record the way back from the gradient of the output, `grad` of the last step, and the layers' updates.

        dX, if given, becomes the gradient with respect to X.
        """
        n = len(X)
        for step, below in zip(reversed(self.steps), [*reversed(self.steps[:-1]), None], strict=True):
            if below is None:
                step.record_descent(program, X, dX, updates)
            else:
                step.record_descent(program, below.output[:n], below.grad[:n], updates)

    def grad(self, n: int) -> Array:
        """The place for the gradient of the output for a batch of n."""
        return self.steps[-1].grad[:n]


class Step(ABC):
    """A layer with its output for a batch and, if training, the gradient with respect to it.

    Attributes
    ----------
    needs_output : bool
        Whether the way back needs the output, so that its gradient has to lie elsewhere.
    overwrites_input : bool
        Whether the gradient with respect to the input may be written over the input.
    """

    needs_output: bool
    overwrites_input: bool

    def __init__(self, output: Array) -> None:
        self.output = output
        self.grad = output[:0]

    @abstractmethod
    def record_forward(self, program: Program, X: Array) -> None:
        """Record the computation of the output for X."""

    @abstractmethod
    def record_descent(self, program: Program, X: Array, dX: Array | None, updates: Updates) -> None:
        """Record the computation of the gradient with respect to X, unless dX is None, and the update of the
        parameters, unless the layer is frozen; `grad` is lost."""


class FlattenStep(Step):
    """A view of the output below, and of its gradient."""

    needs_output, overwrites_input = False, True

    def __init__(self, layer: Flatten, below: Step) -> None:
        super().__init__(below.output.reshape(layer.output_shape(below.output.shape)))

    def record_forward(self, program: Program, X: Array) -> None:
        pass

    def record_descent(self, program: Program, X: Array, dX: Array | None, updates: Updates) -> None:
        pass


class PoolStep(Step):
    """A pooling, with the places of its maxima."""

    needs_output, overwrites_input = False, True

    def __init__(self, layer: Pool2D, in_shape: tuple[int, ...]) -> None:
        self.layer = layer
        super().__init__(empty(layer.output_shape(in_shape), layer.dtype))
        self.argmax = empty(self.output.shape, np.int32) if layer.mode == "max" else None

    def _argmax(self, n: int) -> Array | None:
        return None if self.argmax is None else self.argmax[:n]

    def record_forward(self, program: Program, X: Array) -> None:
        self.layer.record_forward(program, X, self.output[: len(X)], self._argmax(len(X)))

    def record_descent(self, program: Program, X: Array, dX: Array | None, updates: Updates) -> None:
        if dX is not None:
            self.layer.record_backward(program, dX, self.grad[: len(X)], self._argmax(len(X)))


class ConvPoolStep(Step):
    """A convolution, its ReLU and the max pooling above it, with the places of the maxima."""

    needs_output, overwrites_input = False, True

    def __init__(self, block: ConvPool, n: int) -> None:
        self.block = block
        super().__init__(empty((n, *block.out_shape[1:]), block.conv.dtype))
        self.argmax = empty(self.output.shape, np.uint8)

    def record_forward(self, program: Program, X: Array) -> None:
        n = len(X)
        self.block.record_forward(program, X, self.output[:n], self.argmax[:n], keep_weights=self.grad.size == 0)

    def record_descent(self, program: Program, X: Array, dX: Array | None, updates: Updates) -> None:
        n, conv = len(X), self.block.conv
        if dX is not None or conv.trainable:
            dW, db = gradients_of(conv)
            self.block.record_backward(program, dX, dW, db, X, self.argmax[:n], self.grad[:n])
        if conv.trainable:
            updates.record(program, conv)


class WeightedStep(Step):
    """A convolution or dense layer with its activation, unless it is the last of its chain."""

    def __init__(self, layer: WeightedLayer, in_shape: tuple[int, ...], *, last: bool) -> None:
        self.layer = layer
        self.overwrites_input = isinstance(layer, FullyConnected)
        super().__init__(empty(layer.output_shape(in_shape), layer.dtype))
        self.is_linear = last or is_identity(layer.act_fn)
        # ReLU can be undone from its output.
        keeps_input = not self.is_linear and not isinstance(layer.act_fn, ReLU)
        self.needs_output = not self.is_linear and not keeps_input
        self.preactivation = empty(self.output.shape, layer.dtype) if keeps_input else self.output

    def record_forward(self, program: Program, X: Array) -> None:
        Z, Y, act_fn = self.preactivation[: len(X)], self.output[: len(X)], self.layer.act_fn
        self.layer.record_affine(program, X, Z, not self.is_linear and isinstance(act_fn, ReLU))
        if self.preactivation is not self.output:
            program.call(lambda: np.copyto(Y, act_fn.fn(Z)))

    def record_descent(self, program: Program, X: Array, dX: Array | None, updates: Updates) -> None:
        dZ = self.grad[: len(X)]
        if not self.is_linear:
            record_activation_backward(program, self.layer.act_fn, dZ, dZ, self.preactivation[: len(X)])
        if self.layer.trainable:
            self.layer.record_descent(program, dX, X, dZ, updates)
        elif dX is not None:
            self.layer.record_grads(program, dX, None, None, X, dZ)
