"""A convolution with ReLU and the max pooling above it, fused into one layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import conv_pool
from cvae._kernels.program import Program
from cvae.nn.activations import ReLU
from cvae.nn.protocol import Array, Arrays, Layer, Shape

if TYPE_CHECKING:
    from cvae.nn.conv2d import Conv2D
    from cvae.nn.pool2d import Pool2D

LARGEST_OUTPUT = 1 << 20  # bytes of the convolution's output per image, so that two of them fit into a core's cache


class ConvPool(Layer):
    """A fused convolution and pooling, with the same results as the two layers in sequence.

    Parameters
    ----------
    conv, pool : layers
        For which `suits` is true. The block shares the convolution's parameters.
    """

    needs_output = False
    overwrites_input = True

    def __init__(self, conv: Conv2D, pool: Pool2D) -> None:
        self.conv, self.pool = conv, pool
        self.parameters, self.gradients, self.optimizer = conv.parameters, conv.gradients, conv.optimizer
        self.trainable, self.dtype = conv.trainable, conv.dtype

    @staticmethod
    def suits(conv: Conv2D, pool: Pool2D, in_shape: Shape) -> bool:
        """Return whether two consecutive layers can be fused."""
        _, rows, cols, channels = conv.output_shape(in_shape)
        fits = rows * cols * channels * conv.dtype.itemsize <= LARGEST_OUTPUT
        fits = fits and math.prod(pool.kernel_shape) <= conv_pool.LARGEST_WINDOW
        return fits and isinstance(conv.act_fn, ReLU) and pool.mode == "max"

    def output_shape(self, in_shape: Shape) -> Shape:
        return self.pool.output_shape(self.conv.output_shape(in_shape))

    def initialize(self, in_shape: Shape) -> None:
        self.conv.initialize(in_shape)
        self.pool.initialize(self.conv.output_shape(in_shape))

    def saved(self, in_shape: Shape) -> dict[str, tuple[Shape, npt.DTypeLike]]:
        return {"argmax": (self.output_shape(in_shape), np.uint8)}

    def record_forward(self, program: Program, x: Array, y: Array, saved: Arrays, *, training: bool) -> None:
        how = self._geometry(x.shape, forward=True)
        conv_pool.forward(program, y, saved["argmax"], x, self.conv.W, self.conv.b, keep_weights=not training, **how)

    def record_backward(
        self, program: Program, dx: Array | None, dy: Array, x: Array, y: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        # The summation order of the weights' gradients depends on whether dx is needed.
        if dx is None and grads is None:
            return
        if grads is None:
            grads = {name: np.empty_like(array) for name, array in self.gradients.items()}
        dW, db = grads["W"], grads["b"].reshape(-1)
        how = self._geometry(x.shape, forward=False)
        conv_pool.backward(program, dx, dW, db, x, saved["argmax"], dy, self.conv.W, **how)

    def _geometry(self, in_shape: Shape, *, forward: bool) -> dict[str, Any]:
        """Return the windows' geometry and the choice of algorithm, as arguments of the kernels."""
        conv, middle = self.conv, self.conv.output_shape(in_shape)
        spacing = {"out_shape": middle[1:3], "stride": conv.stride, "dilation": conv.dilation}
        return {
            "conv": spacing | conv.padding(in_shape),
            "pool": self.pool.window(middle),
            "winograd": conv.uses_winograd(in_shape, forward=forward),
        }
