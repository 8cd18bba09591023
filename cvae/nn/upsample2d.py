"""Enlarging images by whole factors."""

from typing import Any

import numpy.typing as npt

from cvae._kernels import upsample2d
from cvae._kernels.program import Program
from cvae.nn.base import LayerBase
from cvae.nn.geometry import IntOrPair, resolve_kernel_shape
from cvae.nn.protocol import Array, Arrays, Shape


class Upsample2D(LayerBase):
    """Images (n, rows, cols, channels) enlarged by whole factors, channel by channel.

    Parameters
    ----------
    factor : int or (rows, cols)
        Rows and cols of output for each one of the input.
    mode : {"nearest", "bilinear"}
        "nearest" repeats pixels. "bilinear" interpolates between the centres of pixels, and beyond those of the
        outermost ones takes their values, as PyTorch does with align_corners=False.
    optimizer : str, dict, optimizer or None
        Without use: the layer has no parameters.
    dtype : {"float32", "float64"}

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([0.0, 4.0]).reshape(1, 1, 2, 1)
    >>> Upsample2D((1, 2)).forward(X)[0, :, :, 0]
    array([[0., 0., 4., 4.]], dtype=float32)
    >>> Upsample2D((1, 2), mode="bilinear").forward(X)[0, :, :, 0]
    array([[0., 1., 3., 4.]], dtype=float32)
    """

    input_ndim = 4
    needs_output = False
    overwrites_input = True

    def __init__(
        self,
        factor: IntOrPair = 2,
        mode: str = "nearest",
        optimizer: Any = None,
        *,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        super().__init__(optimizer, dtype=dtype)
        self.factor: Any = factor
        self.mode = mode
        self._check_sizes()
        self.is_initialized = True

    def _check_sizes(self) -> None:
        self.factor = resolve_kernel_shape(self.factor, "factor")
        if self.mode not in ("nearest", "bilinear"):
            raise ValueError(f"mode must be 'nearest' or 'bilinear', got {self.mode!r}")

    def output_shape(self, in_shape: Shape) -> Shape:
        n, rows, cols, channels = in_shape
        return n, rows * self.factor[0], cols * self.factor[1], channels

    def record_forward(self, program: Program, x: Array, y: Array, saved: Arrays, *, training: bool) -> None:
        """Record y = x enlarged."""
        upsample2d.forward(program, y, x, factor=self.factor, bilinear=self.mode == "bilinear")

    def record_backward(
        self, program: Program, dx: Array | None, dy: Array, x: Array, y: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        """Record the gradient with respect to the input."""
        if dx is not None:
            upsample2d.backward(program, dx, dy, factor=self.factor, bilinear=self.mode == "bilinear")
