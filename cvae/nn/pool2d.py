"""Max and average pooling."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import pool2d
from cvae._kernels.program import Program
from cvae.nn.base import Array, LayerBase
from cvae.nn.geometry import (
    IntOrPair,
    Pad,
    Pad4,
    conv_output_shape,
    resolve_kernel_shape,
    resolve_pad,
    resolve_stride,
)
from cvae.runtime.programs import run


class Pool2D(LayerBase):
    """The maximum or mean of each window of an image, channel by channel.

    Parameters
    ----------
    kernel_shape : int or (rows, cols)
        The window.
    stride : int
    pad : int, "same", "valid", (rows, cols) or (top, bottom, left, right)
        As for `Conv2D`.  The zeros are part of the data: they take part in the maximum, and in the mean, whose
        divisor is the window's size (PyTorch pads with minus infinity for the maximum).
    mode : {"max", "average"}
        Of several equal maxima the first in row-major order is taken; a window that holds NaN gives NaN.
    optimizer : str, dict, optimizer or None
        Without use: the layer has no parameters.
    dtype : {"float32", "float64"}

    Examples
    --------
    >>> import numpy as np
    >>> Pool2D(kernel_shape=(2, 2), stride=2).forward(np.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """

    input_ndim = 4

    def __init__(
        self,
        kernel_shape: IntOrPair,
        stride: IntOrPair = 1,
        pad: Pad = 0,
        mode: str = "max",
        optimizer: Any = None,
        *,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        super().__init__(optimizer, dtype=dtype)
        self.mode = mode
        self.kernel_shape: Any = kernel_shape
        self.stride: Any = stride
        self.pad = pad
        self._check_sizes()
        self.in_ch: int | None = None
        self.out_ch: int | None = None
        self.argmax: list[Array | None] = []

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return {
            "layer": "Pool2D",
            "act_fn": None,
            "pad": self.pad,
            "mode": self.mode,
            "in_ch": self.in_ch,
            "out_ch": self.out_ch,
            "stride": self.stride,
            "kernel_shape": self.kernel_shape,
            "dtype": self.dtype.name,
            "optimizer": self._optimizer_summary(),
        }

    def _check_sizes(self) -> None:
        if self.mode not in ("max", "average"):
            raise ValueError(f"mode must be 'max' or 'average', got {self.mode!r}")
        self.kernel_shape = resolve_kernel_shape(self.kernel_shape)
        self.stride = resolve_stride(self.stride)
        resolve_pad(self.pad, (1, 1), self.kernel_shape, self.stride)

    def initialize(self, in_shape: tuple[int, ...]) -> None:
        if not self.is_initialized:
            self.in_ch = self.out_ch = in_shape[3]
            self.derived_variables = {"out_rows": [], "out_cols": []}
            self.is_initialized = True
        elif self.in_ch != in_shape[3]:
            raise ValueError(f"X must have {self.in_ch} channels, got {in_shape[3]}")

    def _pad4(self, in_shape: tuple[int, ...]) -> Pad4:
        return resolve_pad(self.pad, (in_shape[1], in_shape[2]), self.kernel_shape, self.stride)

    def output_shape(self, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        rows_cols = conv_output_shape(
            (in_shape[1], in_shape[2]), self.kernel_shape, self.stride, self._pad4(in_shape), operation="pooling"
        )
        return in_shape[0], *rows_cols, in_shape[3]

    def window(self, in_shape: tuple[int, ...]) -> dict[str, Any]:
        """Where the windows lie in an input of this shape, as the kernels take it."""
        top, _, left, _ = self._pad4(in_shape)
        return {"kernel_shape": self.kernel_shape, "stride": self.stride, "pad_top": top, "pad_left": left}

    def record_forward(self, program: Program, X: Array, Y: Array, argmax: Array | None) -> None:
        """Y = the output, and for the maximum its places; arrays are C-contiguous, argmax int32 of Y's shape."""
        if argmax is not None:
            pool2d.max_forward(program, Y, argmax, X, **self.window(X.shape))
        else:
            pool2d.average_forward(program, Y, X, **self.window(X.shape))

    def record_backward(self, program: Program, dX: Array, dY: Array, argmax: Array | None) -> None:
        """dX = the gradient with respect to the input, from that of the output."""
        if argmax is not None:
            pool2d.max_backward(program, dX, dY, argmax, **self.window(dX.shape))
        else:
            pool2d.average_backward(program, dX, dY, **self.window(dX.shape))

    def _forward_one(self, X: Array, retain_derived: bool) -> Array:
        Y = np.empty(self.output_shape(X.shape), self.dtype)
        argmax = np.empty(Y.shape, np.int32) if self.mode == "max" else None
        run(self.record_forward, X, Y, argmax)
        if retain_derived:
            self.derived_variables["out_rows"].append(Y.shape[1])
            self.derived_variables["out_cols"].append(Y.shape[2])
            self.argmax.append(argmax)
        return Y

    def _backward_one(self, dLdy: Array, index: int, retain_grads: bool) -> Array:
        dX = np.empty_like(self.X[index])
        run(self.record_backward, dX, dLdy, self.argmax[index])
        return dX

    def flush_gradients(self) -> None:
        super().flush_gradients()
        self.argmax = []
