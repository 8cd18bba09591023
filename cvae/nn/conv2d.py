"""Two-dimensional convolution with a bias and an activation."""

import math
from typing import Any

import numpy.typing as npt

from cvae._kernels import conv2d, winograd
from cvae._kernels.program import Program
from cvae.nn.base import Retained
from cvae.nn.conv_pool import ConvPool
from cvae.nn.geometry import (
    IntOrPair,
    Pad,
    Pad4,
    conv_output_shape,
    resolve_dilation,
    resolve_kernel_shape,
    resolve_pad,
    resolve_stride,
)
from cvae.nn.pool2d import Pool2D
from cvae.nn.protocol import Array, Arrays, Layer, Shape
from cvae.nn.weighted import WeightedLayer
from cvae.parsing import check_size

ALGORITHMS = ("auto", "direct", "winograd")
WINOGRAD_TRANSFORM = 12
WINOGRAD_ROWS_TRANSFORM = 2
FEW_CHANNELS = winograd.FEW_CHANNELS


class Conv2D(WeightedLayer):
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
        Winograd's algorithm takes a fraction of the multiplications, for stride 1, no dilation and kernels up to 5x5,
        with a rounding error of about 3e-6 instead of 4e-7 in float32; "auto" chooses the faster one.
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

    size_names = ("in_ch",)
    input_ndim = 4
    derived_names = ("Z", "out_rows", "out_cols")

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
        super().__init__(act_fn, optimizer, init, dtype, random_state)
        self.in_ch: int | None = None
        self.out_ch: Any = out_ch
        self.kernel_shape: Any = kernel_shape
        self.stride: Any = stride
        self.dilation: Any = dilation
        self.pad = pad
        self.algorithm = algorithm
        self._check_sizes()

    def _check_sizes(self) -> None:
        self.out_ch = check_size(self.out_ch, "out_ch")
        self.kernel_shape = resolve_kernel_shape(self.kernel_shape)
        self.stride = resolve_stride(self.stride)
        self.dilation = resolve_dilation(self.dilation)
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be 'auto', 'direct' or 'winograd', got {self.algorithm!r}")
        resolve_pad(self.pad, (1, 1), self.kernel_shape, self.stride, self.dilation)
        super()._check_sizes()

    def _pad4(self, in_shape: Shape) -> Pad4:
        return resolve_pad(self.pad, (in_shape[1], in_shape[2]), self.kernel_shape, self.stride, self.dilation)

    def output_shape(self, in_shape: Shape) -> Shape:
        n, rows, cols, _ = in_shape
        size = conv_output_shape((rows, cols), self.kernel_shape, self.stride, self._pad4(in_shape), self.dilation)
        return n, *size, self.out_ch

    def _weight_shape(self, in_shape: Shape) -> Shape:
        if self.in_ch is not None and self.in_ch != in_shape[3]:
            raise ValueError(f"X must have {self.in_ch} channels, got {in_shape[3]}")
        return *self.kernel_shape, in_shape[3], self.out_ch

    def _take_sizes(self, W_shape: Shape) -> None:
        if len(W_shape) != 4 or W_shape[:2] != self.kernel_shape or W_shape[3] != self.out_ch:
            raise ValueError(f"W must have the shape {(*self.kernel_shape, 'in_ch', self.out_ch)}, got {W_shape}")
        if self.is_initialized and W_shape[2] != self.in_ch:
            raise ValueError(f"W must have {self.in_ch} input channels, got {W_shape[2]}")
        self.in_ch = W_shape[2]

    def _derive(self, retained: Retained) -> dict[str, Any]:
        _, rows, cols, _ = retained.Y.shape
        return {**super()._derive(retained), "out_rows": rows, "out_cols": cols}

    def fuse(self, above: Layer, in_shape: Shape) -> Layer | None:
        # Exact types, since subclasses may compute something else.
        if type(self) is Conv2D and type(above) is Pool2D and ConvPool.suits(self, above, in_shape):
            return ConvPool(self, above)
        return None

    def uses_winograd(self, in_shape: Shape, *, forward: bool) -> bool:
        """Return whether inputs of this shape go through Winograd's algorithm, forward or backward.

        Raise ValueError if it was requested but does not apply.
        """
        _, rows, cols, out_ch = self.output_shape(in_shape)
        return chooses_winograd(
            self.algorithm,
            self.kernel_shape,
            self.stride,
            self.dilation,
            out_shape=(rows, cols),
            channels=(in_shape[3], out_ch),
            forward=forward,
        )

    def padding(self, in_shape: Shape) -> dict[str, int]:
        """Return the rows and columns of zeros before an input of this shape, as arguments of the kernels."""
        top, _, left, _ = self._pad4(in_shape)
        return {"pad_top": top, "pad_left": left}

    def record_affine(self, program: Program, x: Array, z: Array, *, relu: bool) -> None:
        pad = self.padding(x.shape)
        if self.uses_winograd(x.shape, forward=True):
            winograd.forward(program, z, x, self.W, self.b, relu=relu, **pad)
        else:
            spacing = {"stride": self.stride, "dilation": self.dilation}
            conv2d.conv2d_forward(program, z, x, self.W, self.b, relu=relu, **spacing, **pad)

    def record_affine_backward(
        self, program: Program, dx: Array | None, dz: Array, x: Array, grads: Arrays | None
    ) -> None:
        pad = self.padding(x.shape)
        dW, db = (None, None) if grads is None else (grads["W"], grads["b"].reshape(-1))
        if self.uses_winograd(x.shape, forward=False):
            winograd.backward(program, dx, dW, db, x, dz, self.W, **pad)
            return
        spacing = {"stride": self.stride, "dilation": self.dilation}
        if dW is not None and db is not None:
            conv2d.conv2d_grad_weight(program, dW, db, x, dz, **spacing, **pad)
        if dx is not None:
            conv2d.conv2d_grad_input(program, dx, dz, self.W, **spacing, **pad)


def chooses_winograd(
    algorithm: str,
    kernel_shape: tuple[int, int],
    stride: int,
    dilation: int,
    *,
    out_shape: tuple[int, int],
    channels: tuple[int, int],
    forward: bool,
) -> bool:
    """Whether a convolution goes through Winograd's algorithm; ValueError if it is asked for and cannot.

    Parameters
    ----------
    algorithm : {"auto", "direct", "winograd"}
    kernel_shape, stride, dilation
        As resolved.
    out_shape : (rows, cols)
        Of the convolution's output.
    channels : (in_ch, out_ch)
        Of the convolution.
    forward : bool
        Whether the forward pass is meant, or the backward pass.
    """
    possible = stride == 1 and dilation == 0 and max(kernel_shape) <= winograd.MAX_KERNEL
    if algorithm == "winograd" and not possible:
        raise ValueError(
            "algorithm 'winograd' must have stride 1, dilation 0 and a kernel of at most "
            f"{winograd.MAX_KERNEL}x{winograd.MAX_KERNEL}, got stride {stride}, dilation {dilation} and {kernel_shape}"
        )
    if algorithm == "auto":
        if forward and channels[0] <= FEW_CHANNELS:
            return possible and winograd_rows_are_faster(out_shape, kernel_shape)
        return possible and winograd_is_faster(out_shape, kernel_shape, *channels)
    return algorithm == "winograd"


def winograd_is_faster(out_shape: tuple[int, int], kernel_shape: tuple[int, int], in_ch: int, out_ch: int) -> bool:
    """Return whether Winograd's algorithm is faster than the direct one; stride 1, no dilation, kernels up to 5x5.

    The costs are counted in multiplications per image. Direct: kernel elements x in_ch x out_ch per output pixel.
    Winograd: 64 x in_ch x out_ch per tile of 8x8 frequencies, and as much as WINOGRAD_TRANSFORM multiplications per
    frequency and channel for the transforms. Channels are rounded up to whole vectors of 16.
    """
    outputs = winograd.outputs(max(kernel_shape))
    tiles = math.ceil(out_shape[0] / outputs) * math.ceil(out_shape[1] / outputs)
    ins, outs = (math.ceil(channels / 16) * 16 for channels in (in_ch, out_ch))
    direct = math.prod(out_shape) * math.prod(kernel_shape) * in_ch * outs
    return tiles * 64 * (ins * outs + WINOGRAD_TRANSFORM * (ins + outs)) < direct


def winograd_rows_are_faster(out_shape: tuple[int, int], kernel_shape: tuple[int, int]) -> bool:
    """Return the same for the forward pass of at most FEW_CHANNELS channels, which transforms rows only.

    The costs are multiplications per output row, input and output channel. Winograd: one per tile, point and kernel
    row, and WINOGRAD_ROWS_TRANSFORM per tile and point. Direct: one per output and kernel element.
    """
    outputs = winograd.outputs(kernel_shape[1])
    transformed = math.ceil(out_shape[1] / outputs) * 8 * (kernel_shape[0] + WINOGRAD_ROWS_TRANSFORM)
    return transformed < out_shape[1] * math.prod(kernel_shape)
