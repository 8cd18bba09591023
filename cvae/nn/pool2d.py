"""Max and average pooling."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import pool2d
from cvae._kernels.program import Program
from cvae.nn.base import LayerBase, Retained
from cvae.nn.geometry import IntOrPair, Pad, Pad4, conv_output_shape, resolve_kernel_shape, resolve_pad, resolve_stride
from cvae.nn.protocol import Array, Arrays, Shape


class Pool2D(LayerBase):
    """The maximum or mean of each window of an image, channel by channel.

    Parameters
    ----------
    kernel_shape : int or (rows, cols)
        The window.
    stride : int
    pad : int, "same", "valid", (rows, cols) or (top, bottom, left, right)
        As for `Conv2D`.  The zeros are part of the data: they enter the maximum, and the mean, whose divisor is always
        the window's size (PyTorch pads with minus infinity for the maximum).
    mode : {"max", "average"}
        Among equal maxima the first in row-major order counts; a window that contains NaN gives NaN.
    optimizer : str, dict, optimizer or None
        Unused: the layer has no parameters.
    dtype : {"float32", "float64"}

    Examples
    --------
    >>> import numpy as np
    >>> Pool2D(kernel_shape=(2, 2), stride=2).forward(np.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """

    size_names = ("act_fn", "in_ch", "out_ch")
    input_ndim = 4
    needs_output = False
    overwrites_input = True
    derived_names = ("out_rows", "out_cols")

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
        self.kernel_shape: Any = kernel_shape
        self.stride: Any = stride
        self.pad, self.mode = pad, mode
        self._check_sizes()
        self.in_ch: int | None = None
        self.out_ch: int | None = None

    def _check_sizes(self) -> None:
        if self.mode not in ("max", "average"):
            raise ValueError(f"mode must be 'max' or 'average', got {self.mode!r}")
        self.kernel_shape = resolve_kernel_shape(self.kernel_shape)
        self.stride = resolve_stride(self.stride)
        resolve_pad(self.pad, (1, 1), self.kernel_shape, self.stride)

    def initialize(self, in_shape: Shape) -> None:
        if not self.is_initialized:
            self.in_ch = self.out_ch = in_shape[3]
            self.is_initialized = True
        elif self.in_ch != in_shape[3]:
            raise ValueError(f"X must have {self.in_ch} channels, got {in_shape[3]}")

    def _pad4(self, in_shape: Shape) -> Pad4:
        return resolve_pad(self.pad, (in_shape[1], in_shape[2]), self.kernel_shape, self.stride)

    def output_shape(self, in_shape: Shape) -> Shape:
        n, rows, cols, channels = in_shape
        pad4 = self._pad4(in_shape)
        size = conv_output_shape((rows, cols), self.kernel_shape, self.stride, pad4, operation="pooling")
        return n, *size, channels

    def window(self, in_shape: Shape) -> dict[str, Any]:
        """Return the windows' geometry in an input of this shape, as arguments of the kernels."""
        top, _, left, _ = self._pad4(in_shape)
        return {"kernel_shape": self.kernel_shape, "stride": self.stride, "pad_top": top, "pad_left": left}

    def saved(self, in_shape: Shape) -> dict[str, tuple[Shape, npt.DTypeLike]]:
        return {"argmax": (self.output_shape(in_shape), np.int32)} if self.mode == "max" else {}

    def record_forward(self, program: Program, x: Array, y: Array, saved: Arrays, *, training: bool) -> None:
        if self.mode == "max":
            pool2d.max_forward(program, y, saved["argmax"], x, **self.window(x.shape))
        else:
            pool2d.average_forward(program, y, x, **self.window(x.shape))

    def record_backward(
        self, program: Program, dx: Array | None, dy: Array, x: Array, y: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        if dx is None:
            return
        if self.mode == "max":
            pool2d.max_backward(program, dx, dy, saved["argmax"], **self.window(dx.shape))
        else:
            pool2d.average_backward(program, dx, dy, **self.window(dx.shape))

    def _derive(self, retained: Retained) -> dict[str, Any]:
        _, rows, cols, _ = retained.Y.shape
        return {"out_rows": rows, "out_cols": cols}
