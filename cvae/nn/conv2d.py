"""Two-dimensional convolution with a bias and an activation."""

from typing import Any

import numpy.typing as npt

from cvae._kernels import conv2d, winograd
from cvae._kernels.program import Program
from cvae.nn.conv_pool import ConvPool
from cvae.nn.convolution import ConvolutionBase
from cvae.nn.geometry import IntOrPair, Pad, Pad4, conv_output_shape, resolve_pad
from cvae.nn.pool2d import Pool2D
from cvae.nn.protocol import Array, Arrays, Layer, Shape


class Conv2D(ConvolutionBase):
    """Cross-correlation of images (n, rows, cols, in_ch) with out_ch kernels, plus a bias, then the activation.

    ``Z[m, i, j, o] = b[o] + sum over r, c, k of
    Xpad[m, i * stride + r * (dilation + 1), j * stride + c * (dilation + 1), k] * W[r, c, k, o]``

    Parameters
    ----------
    out_ch : int
        Number of output channels.
    kernel_shape : int or (rows, cols)
    pad : int, "same", "valid", (rows, cols) or (top, bottom, left, right)
        Zeros around the image; "same" keeps its size for any stride (see `cvae.nn.geometry.resolve_pad`).
    stride : int
    dilation : int
        Zeros between the kernel's elements; 0 is an ordinary convolution.
    act_fn : str, activation or None
        None means the identity.
    optimizer : str, dict, optimizer or None
    init : str
        Distribution of the starting weights (see `cvae.initializers.WeightInitializer`).
    algorithm : {"auto", "direct", "winograd"}
        Winograd's algorithm takes a fraction of the multiplications, for no dilation and kernels up to 5x5 for each
        one of `stride`, with a rounding error of about 3e-6 instead of 4e-7 in float32; "auto" chooses the faster one.
    dtype : {"float32", "float64"}
    random_state : int, numpy.random.Generator or None
        Source of the starting weights.

    Notes
    -----
    The parameters W (kernel_rows, kernel_cols, in_ch, out_ch) and b (1, 1, 1, out_ch) are created by the first
    `forward`, which sets in_ch.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Conv2D(out_ch=4, kernel_shape=(3, 3), pad="same", act_fn="ReLU", random_state=0)
    >>> layer.forward(np.ones((2, 8, 8, 1))).shape
    (2, 8, 8, 4)
    """

    in_axis = 2

    def __init__(
        self,
        out_ch: int,
        kernel_shape: IntOrPair,
        pad: Pad = 0,
        stride: IntOrPair = 1,
        dilation: int = 0,
        act_fn: Any = None,
        optimizer: Any = None,
        init: str = "glorot_uniform",
        *,
        algorithm: str = "auto",
        dtype: npt.DTypeLike = "float32",
        random_state: Any = None,
    ) -> None:
        super().__init__(
            out_ch, kernel_shape, pad, stride, dilation, act_fn, optimizer, init, algorithm, dtype, random_state
        )
        self._check_sizes()

    def _check_sizes(self) -> None:
        super()._check_sizes()
        resolve_pad(self.pad, (1, 1), self.kernel_shape, self.stride, self.dilation)

    def _pad4(self, in_shape: Shape) -> Pad4:
        return resolve_pad(self.pad, (in_shape[1], in_shape[2]), self.kernel_shape, self.stride, self.dilation)

    def output_shape(self, in_shape: Shape) -> Shape:
        n, rows, cols, _ = in_shape
        size = conv_output_shape((rows, cols), self.kernel_shape, self.stride, self._pad4(in_shape), self.dilation)
        return n, *size, self.out_ch

    def fuse(self, above: Layer, in_shape: Shape) -> Layer | None:
        # Exact types, since subclasses may compute something else.
        if type(self) is Conv2D and type(above) is Pool2D and ConvPool.suits(self, above, in_shape):
            return ConvPool(self, above)
        return None

    def uses_winograd(self, in_shape: Shape, *, forward: bool, training: bool = True) -> bool:
        """Return whether inputs of this shape go through Winograd's algorithm, forward or backward.

        Raise ValueError if it was requested but does not apply.
        """
        _, rows, cols, out_ch = self.output_shape(in_shape)
        if forward and self._has_few_outputs((*self.kernel_shape, in_shape[3], out_ch), transposed=False):
            return False
        return self._chooses_winograd((rows, cols), (in_shape[3], out_ch), forward=forward, training=training)

    def padding(self, in_shape: Shape) -> dict[str, int]:
        """Return the rows and columns of zeros before an input of this shape, as arguments of the kernels."""
        top, _, left, _ = self._pad4(in_shape)
        return {"pad_top": top, "pad_left": left}

    def record_affine(self, program: Program, x: Array, z: Array, *, relu: bool, training: bool) -> None:
        pad = self.padding(x.shape)
        if self.uses_winograd(x.shape, forward=True, training=training):
            winograd.forward(program, z, x, self.W, self.b, relu=relu, stride=self.stride, **pad)
        else:
            conv2d.conv2d_forward(program, z, x, self.W, self.b, relu=relu, **self._spacing, **pad)

    def record_affine_backward(
        self, program: Program, dx: Array | None, dz: Array, x: Array, grads: Arrays | None
    ) -> None:
        pad = self.padding(x.shape)
        dW, db = (None, None) if grads is None else (grads["W"], grads["b"].reshape(-1))
        if self.uses_winograd(x.shape, forward=False):
            winograd.backward(program, dx, dW, db, x, dz, self.W, stride=self.stride, **pad)
            return
        if dW is not None and db is not None:
            conv2d.conv2d_grad_weight(program, dW, db, x, dz, **self._spacing, **pad)
        if dx is not None:
            conv2d.conv2d_grad_input(program, dx, dz, self.W, **self._spacing, **pad)
