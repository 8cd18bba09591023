"""Transposed two-dimensional convolution: the input gradient of a convolution as a forward pass.

Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016), chapter 4.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import conv2d, elementwise, winograd
from cvae._kernels.program import Program
from cvae.nn.convolution import ConvolutionBase
from cvae.nn.geometry import IntOrPair, Pad, Pad4, kernel_span, resolve_pad
from cvae.nn.protocol import Array, Arrays, Shape
from cvae.runtime.workspace import empty


class ConvTranspose2D(ConvolutionBase):
    """Each pixel of images (n, rows, cols, in_ch) spreads a kernel over the output, plus a bias, then the activation.

    ``Zfull[m, i * stride + r * (dilation + 1), j * stride + c * (dilation + 1), o] +=
    X[m, i, j, k] * W[r, c, o, k]`` for all i, j, k, r and c, and Z is Zfull, cropped, plus b[o].

    Parameters
    ----------
    out_ch : int
        Number of output channels.
    kernel_shape : int or (rows, cols)
    stride : int
        Rows and cols of output for each one of the input.
    pad : int, "same", "valid", (rows, cols) or (top, bottom, left, right)
        Rows and cols that are cropped from the output: the padding of the convolution whose transpose this is. "same"
        makes the output `stride` times as large as the input, and crops an odd row or col at the bottom or right.
    output_pad : int
        Rows and cols added at the bottom and right of the uncropped output, which a convolution of this stride leaves
        unused; less than the larger of stride and dilation + 1.
    dilation : int
        Zeros between the kernel's elements; 0 is an ordinary convolution.
    act_fn : str, activation or None
        None is the identity.
    optimizer : str, dict, optimizer or None
    init : str
        How the weights start (see `cvae.nn.initializers.WeightInitializer`). fan_in is the number of products in an
        output pixel, in_ch * kernel_rows / stride * kernel_cols / stride on average (neither quotient less than 1);
        fan_out is the number that an input pixel takes part in, out_ch * kernel_rows * kernel_cols.
    algorithm : {"auto", "direct", "winograd"}
        As for `Conv2D`.
    dtype : {"float32", "float64"}
    random_state : int, numpy.random.Generator or None
        Where the weights are drawn from.

    Notes
    -----
    The output has ``(size - 1) * stride - cropped + span + output_pad`` pixels along an axis, for a kernel that spans
    `span` pixels. Parameters are W (kernel_rows, kernel_cols, out_ch, in_ch) and b (1, 1, 1, out_ch), created by the
    first `forward`, which sets in_ch. W has the layout of the convolution from out_ch to in_ch channels whose transpose
    the layer is.

    Examples
    --------
    >>> import numpy as np
    >>> layer = ConvTranspose2D(out_ch=4, kernel_shape=3, stride=2, pad="same", act_fn="ReLU", random_state=0)
    >>> layer.forward(np.ones((2, 7, 7, 8))).shape
    (2, 14, 14, 4)
    """

    in_axis = 3
    overwrites_input = True

    def __init__(
        self,
        out_ch: int,
        kernel_shape: IntOrPair,
        stride: IntOrPair = 1,
        pad: Pad = 0,
        output_pad: int = 0,
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
        self.output_pad: Any = output_pad
        self._check_sizes()

    def _check_sizes(self) -> None:
        super()._check_sizes()
        self.output_pad = resolve_output_pad(self.output_pad, max(self.stride, self.dilation + 1) - 1)
        self._crop()

    @property
    def _is_same(self) -> bool:
        return isinstance(self.pad, str) and self.pad.lower() == "same"

    def _crop(self) -> Pad4:
        """Rows and cols cropped at the top, bottom, left and right."""
        if not self._is_same:
            return resolve_pad(self.pad, (1, 1), self.kernel_shape, self.stride, self.dilation)
        span = kernel_span(self.kernel_shape, self.dilation)
        rows, cols = (max(size - self.stride + self.output_pad, 0) for size in span)
        return rows // 2, rows - rows // 2, cols // 2, cols - cols // 2

    def multiplications(self, in_shape: Shape) -> int:
        """Return those of the uncropped output, in which each pixel of the input takes part with every weight."""
        return math.prod(self._weight_shape(in_shape)) * math.prod(in_shape[:-1])

    def output_shape(self, in_shape: Shape) -> Shape:
        n, rows, cols, _ = in_shape
        if self._is_same:  # also where a kernel shorter than the stride reaches less far
            return n, rows * self.stride, cols * self.stride, self.out_ch
        top, bottom, left, right = self._crop()
        span = kernel_span(self.kernel_shape, self.dilation)
        out_rows = (rows - 1) * self.stride + span[0] + self.output_pad - top - bottom
        out_cols = (cols - 1) * self.stride + span[1] + self.output_pad - left - right
        if out_rows <= 0 or out_cols <= 0:
            raise ValueError(
                f"Dimension mismatch during transposed convolution: out_rows = {out_rows}, out_cols = {out_cols}, "
                f"because {(top, bottom, left, right)} rows and cols are cropped from the output of an input of "
                f"{rows}x{cols}"
            )
        return n, out_rows, out_cols, self.out_ch

    def _bias_shape(self, W_shape: Shape) -> Shape:
        return 1, 1, 1, self.out_ch

    def _fan(self, W_shape: Shape) -> tuple[float, float]:
        *kernel_shape, out_ch, in_ch = W_shape
        return in_ch * math.prod(max(1, taps / self.stride) for taps in kernel_shape), out_ch * math.prod(kernel_shape)

    def _uses_winograd(self, in_shape: Shape, *, forward: bool, training: bool = True) -> bool:
        """Whether the convolution whose transpose this is goes through Winograd's algorithm, forward or backward."""
        channels = self.out_ch, in_shape[3]
        return self._chooses_winograd((in_shape[1], in_shape[2]), channels, forward=forward, training=training)

    def _pad_before(self) -> dict[str, int]:
        top, _, left, _ = self._crop()
        return {"pad_top": top, "pad_left": left}

    def record_affine(self, program: Program, x: Array, z: Array, *, relu: bool, training: bool) -> None:
        pad = self._pad_before()
        few = self._has_few_outputs(self.W.shape, transposed=True)
        if not few and self._uses_winograd(x.shape, forward=False, training=training):
            winograd.transpose(program, z, x, self.W, self.b, relu=relu, stride=self.stride, **pad)
        else:
            conv2d.conv2d_transpose(program, z, x, self.W, self.b, relu=relu, **self._spacing, **pad)

    def record_affine_backward(
        self, program: Program, dx: Array | None, dz: Array, x: Array, grads: Arrays | None
    ) -> None:
        # In the convolution from dz to x: dW with x as the gradient of its output, before dx may take the place of x.
        pad = self._pad_before()
        if grads is not None:
            elementwise.column_sums(program, grads["b"].reshape(-1), dz.reshape(-1, self.out_ch))
            unused = empty((x.shape[3],), self.dtype)  # the gradient of that convolution's own bias
            if self._uses_winograd(x.shape, forward=False):
                winograd.backward(program, None, grads["W"], unused, dz, x, self.W, stride=self.stride, **pad)
            else:
                conv2d.conv2d_grad_weight(program, grads["W"], unused, dz, x, **self._spacing, **pad)
        if dx is not None:
            no_bias = np.zeros(x.shape[3], self.dtype)
            if self._uses_winograd(x.shape, forward=True):
                winograd.forward(program, dx, dz, self.W, no_bias, relu=False, stride=self.stride, **pad)
            else:
                conv2d.conv2d_forward(program, dx, dz, self.W, no_bias, relu=False, **self._spacing, **pad)


def resolve_output_pad(output_pad: Any, most: int) -> int:
    """Return `output_pad` as an int from 0 to `most`; TypeError or ValueError."""
    message = f"output_pad must be an int from 0 to {most}, less than stride or dilation + 1, got {output_pad!r}"
    if isinstance(output_pad, bool) or not isinstance(output_pad, (int, np.integer)):
        raise TypeError(message)
    if not 0 <= output_pad <= most:
        raise ValueError(message)
    return int(output_pad)
