"""What convolutions and their transposes share: kernels, spacing, and when Winograd's algorithm is the faster one."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import conv2d, winograd
from cvae.checking import MAX_AXIS, check_size
from cvae.nn.base import Retained
from cvae.nn.geometry import IntOrPair, Pad, resolve_dilation, resolve_kernel_shape, resolve_stride
from cvae.nn.protocol import Shape
from cvae.nn.weighted import WeightedLayer

ALGORITHMS = ("auto", "direct", "winograd")
WINOGRAD_TRANSFORM = 12
WINOGRAD_ROWS_TRANSFORM = 2
CACHED_WEIGHTS = 1 << 12
WINOGRAD_UNCACHED = 1.4
DIRECT_FEW_CHANNELS = 1.35
FEW_CHANNELS = winograd.FEW_CHANNELS


class ConvolutionBase(WeightedLayer):
    """Base of the layers with a kernel for each pair of input and output channels.

    Attributes
    ----------
    in_axis : {2, 3}
        The axis of W for the input channels; the output channels have the other one.
    """

    size_names = ("in_ch",)
    input_ndim = 4
    derived_names = ("Z", "out_rows", "out_cols")
    in_axis: int

    def __init__(
        self,
        out_ch: int,
        kernel_shape: IntOrPair,
        pad: Pad,
        stride: IntOrPair,
        dilation: int,
        act_fn: Any,
        optimizer: Any,
        init: str,
        algorithm: str,
        dtype: npt.DTypeLike,
        random_state: Any,
    ) -> None:
        super().__init__(act_fn, optimizer, init, dtype, random_state)
        self.in_ch: int | None = None
        self.out_ch: Any = out_ch
        self.kernel_shape: Any = kernel_shape
        self.stride: Any = stride
        self.dilation: Any = dilation
        self.pad = pad
        self.algorithm = algorithm

    def _check_sizes(self) -> None:
        self.out_ch = check_size("out_ch", self.out_ch, MAX_AXIS)
        self.kernel_shape = resolve_kernel_shape(self.kernel_shape)
        self.stride = resolve_stride(self.stride)
        self.dilation = resolve_dilation(self.dilation)
        if not isinstance(self.algorithm, str) or self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be 'auto', 'direct' or 'winograd', got {self.algorithm!r}")
        super()._check_sizes()

    def _axes_of_channels(self, in_ch: Any) -> tuple[Any, Any]:
        """Return the two numbers of channels in the order of W's axes 2 and 3."""
        return (in_ch, self.out_ch) if self.in_axis == 2 else (self.out_ch, in_ch)

    def _weight_shape(self, in_shape: Shape) -> Shape:
        if self.in_ch is not None and self.in_ch != in_shape[3]:
            raise ValueError(f"X must have {self.in_ch} channels, got {in_shape[3]}")
        return *self.kernel_shape, *self._axes_of_channels(in_shape[3])

    def _take_sizes(self, W_shape: Shape) -> None:
        if len(W_shape) != 4 or W_shape[:2] != self.kernel_shape or W_shape[5 - self.in_axis] != self.out_ch:
            expected = (*self.kernel_shape, *self._axes_of_channels("in_ch"))
            raise ValueError(f"W must have the shape {expected}, got {W_shape}")
        if self.is_initialized and W_shape[self.in_axis] != self.in_ch:
            raise ValueError(f"W must have {self.in_ch} input channels, got {W_shape[self.in_axis]}")
        self.in_ch = W_shape[self.in_axis]

    def _derive(self, retained: Retained) -> dict[str, Any]:
        _, rows, cols, _ = retained.Y.shape
        return {**super()._derive(retained), "out_rows": rows, "out_cols": cols}

    @property
    def _spacing(self) -> dict[str, int]:
        """Stride and dilation, as arguments of the kernels."""
        return {"stride": self.stride, "dilation": self.dilation}

    def _has_few_outputs(self, W_shape: Shape, *, transposed: bool) -> bool:
        """Return whether "auto" is the direct algorithm because there are few output channels, as images have."""
        itemsize = np.dtype(self.dtype).itemsize
        few = conv2d.has_few_outputs(W_shape, self.stride, transposed=transposed, itemsize=itemsize)
        return self.algorithm == "auto" and few

    def _chooses_winograd(
        self, out_shape: tuple[int, int], channels: tuple[int, int], *, forward: bool, training: bool = True
    ) -> bool:
        """Return whether a convolution of this kernel goes through Winograd's algorithm.

        Raise ValueError if it was requested but does not apply.

        Parameters
        ----------
        out_shape : (rows, cols)
            Of the convolution's output.
        channels : (in_ch, out_ch)
            Of the convolution.
        forward : bool
            Whether the forward pass is meant, or the backward pass.
        training : bool
            Otherwise there may be a single image, for which the algorithm must be fast too: results do not depend on
            the number of images, so the choice must not. One tile is not worth the evaluation of the weights then.
        """
        most = winograd.MAX_KERNEL * self.stride
        possible = self.dilation == 0 and max(self.kernel_shape) <= most
        if self.algorithm == "winograd" and not possible:
            raise ValueError(
                f"algorithm 'winograd' must have dilation 0 and a kernel of at most {most}x{most} for stride "
                f"{self.stride}, got dilation {self.dilation} and {self.kernel_shape}"
            )
        if self.algorithm == "auto":
            if forward and channels[0] <= FEW_CHANNELS:
                return possible and self.stride == 1 and winograd_rows_are_faster(out_shape, self.kernel_shape)
            possible = possible and (training or winograd_tiles(out_shape, self.kernel_shape, self.stride) > 1)
            return possible and winograd_is_faster(out_shape, self.kernel_shape, self.stride, *channels)
        return self.algorithm == "winograd"


def winograd_is_faster(
    out_shape: tuple[int, int], kernel_shape: tuple[int, int], stride: int, in_ch: int, out_ch: int
) -> bool:
    """Return whether Winograd's algorithm is faster than the direct one, without dilation.

    The costs are counted in multiplications per image. Direct: kernel elements x in_ch x out_ch per output pixel, and
    DIRECT_FEW_CHANNELS times as much with few channels, whose short runs are slow to gather and to scatter. Winograd:
    64 x ins x out_ch per tile of 8x8 frequencies, and as much as WINOGRAD_TRANSFORM multiplications per frequency and
    channel for the transforms. With a stride, `ins` are the channels of all phases of the input, up to stride**2 of
    each, while the kernel shrinks by the stride. All this takes WINOGRAD_UNCACHED times as long with more than
    CACHED_WEIGHTS weights per frequency, which are read from a farther cache for each block of tiles. Channels are
    rounded up to whole vectors of 16.
    """
    rows, cols = kernel_shape
    tiles = winograd_tiles(out_shape, kernel_shape, stride)
    ins = min(rows, stride) * whole_vectors(min(cols, stride) * in_ch)
    outs = whole_vectors(out_ch)
    direct = math.prod(out_shape) * rows * cols * in_ch * outs * (DIRECT_FEW_CHANNELS if in_ch <= FEW_CHANNELS else 1)
    fast = tiles * 64 * (ins * outs + WINOGRAD_TRANSFORM * (ins + outs))
    return fast * (WINOGRAD_UNCACHED if ins * outs > CACHED_WEIGHTS else 1) < direct


def winograd_tiles(out_shape: tuple[int, int], kernel_shape: tuple[int, int], stride: int) -> int:
    """Return the number of tiles that an image's output is computed in."""
    outputs = winograd.outputs(math.ceil(max(kernel_shape) / stride))
    return math.ceil(out_shape[0] / outputs) * math.ceil(out_shape[1] / outputs)


def whole_vectors(channels: int) -> int:
    """Return a number of channels, rounded up to whole vectors of 16."""
    return math.ceil(channels / 16) * 16


def winograd_rows_are_faster(out_shape: tuple[int, int], kernel_shape: tuple[int, int]) -> bool:
    """Return the same for the forward pass of at most FEW_CHANNELS channels, stride 1, which transforms rows only.

    The costs are multiplications per output row, input and output channel. Winograd: one per tile, point and kernel
    row, and WINOGRAD_ROWS_TRANSFORM per tile and point. Direct: one per output and kernel element.
    """
    outputs = winograd.outputs(kernel_shape[1])
    transformed = math.ceil(out_shape[1] / outputs) * 8 * (kernel_shape[0] + WINOGRAD_ROWS_TRANSFORM)
    return transformed < out_shape[1] * math.prod(kernel_shape)
