"""The fused block: a convolution with ReLU and the max pooling above it, as one."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import conv_pool
from cvae._kernels.program import Program
from cvae.nn.activations import ReLU
from cvae.nn.conv2d import Conv2D
from cvae.nn.pool2d import Pool2D

Array = npt.NDArray[Any]

LARGEST_OUTPUT = 1 << 20  # bytes of the convolution's output for an image: two of them are to fit a core's cache


class ConvPool:
    """A convolution and the pooling above it; the numbers are those of the two layers, one after the other.

    Parameters
    ----------
    conv, pool : layers
        For which `fuses` is true; initialised.
    in_shape : (n, rows, cols, channels)
        Of the convolution's input; n does not matter.
    """

    def __init__(self, conv: Conv2D, pool: Pool2D, in_shape: tuple[int, ...]) -> None:
        self.conv, self.pool = conv, pool
        middle = conv.output_shape(in_shape)
        self.out_shape = pool.output_shape(middle)
        steps = {"out_shape": middle[1:3], "stride": conv.stride, "dilation": conv.dilation}
        self._how: dict[str, Any] = {
            "conv": steps | conv.padding(in_shape),
            "pool": pool.window(middle),
        }
        self._winograd_forward = conv.uses_winograd(in_shape, forward=True)
        self._winograd_backward = conv.uses_winograd(in_shape, forward=False)

    @staticmethod
    def fuses(conv: Conv2D, pool: Pool2D, in_shape: tuple[int, ...]) -> bool:
        """Whether two layers that follow one another can be a block."""
        _, rows, cols, channels = conv.output_shape(in_shape)
        fits = rows * cols * channels * conv.dtype.itemsize <= LARGEST_OUTPUT
        fits = fits and math.prod(pool.kernel_shape) <= conv_pool.LARGEST_WINDOW
        return fits and isinstance(conv.act_fn, ReLU) and pool.mode == "max"

    def record_forward(self, program: Program, X: Array, Y: Array, argmax: Array, *, keep_weights: bool) -> None:
        """Y = the pooled output, argmax its active places; as for layers, arrays are C-contiguous, of their dtype.

        keep_weights keeps what is computed from the weights for as long as they stay the same.
        """
        how = self._how | {"winograd": self._winograd_forward, "keep_weights": keep_weights}
        conv_pool.forward(program, Y, argmax, X, self.conv.W, self.conv.b, **how)

    def record_backward(
        self, program: Program, dX: Array | None, dW: Array, db: Array, X: Array, argmax: Array, dY: Array
    ) -> None:
        """dX (unless None), dW, db = the gradients from that of the output, dY."""
        how = self._how | {"winograd": self._winograd_backward}
        conv_pool.backward(program, dX, dW, db, X, argmax, dY, self.conv.W, **how)


def active_places(argmax: Array, Y: Array) -> npt.NDArray[np.uint8]:
    """The places of a pooling's maxima Y, INACTIVE_PLACE where a maximum is not positive and hands on no gradient."""
    return np.where(Y > 0, argmax, conv_pool.INACTIVE_PLACE).astype(np.uint8)


def gradients_of(conv: Conv2D) -> tuple[Array, Array]:
    """Where the gradients of weights and bias go: nowhere that matters if the layer is frozen."""
    if conv.trainable:
        return conv.gradients["W"], conv.gradients["b"].reshape(-1)
    return np.empty_like(conv.W), np.empty_like(conv.b)
