"""Channels parted into images of their own."""

from typing import Any

import numpy.typing as npt

from cvae._kernels import elementwise
from cvae._kernels.program import Program
from cvae.nn.base import LayerBase
from cvae.nn.protocol import Array, Arrays, Shape
from cvae.parsing import check_size


class SplitChannels(LayerBase):
    """Images (n, rows, cols, parts * ch) as (n, parts, rows, cols, ch): the first ch channels of all pixels, then more.

    A convolution puts out the numbers of a pixel side by side; likelihoods that need several numbers a pixel, such as
    means and scales, take all of the first kind, then all of the second. `cvae.VAE` adds this layer where it is needed.

    Parameters
    ----------
    parts : int
        Into how many images each one is split; a divisor of the number of channels.
    optimizer : str, dict, optimizer or None
        Without use: the layer has no parameters.
    dtype : {"float32", "float64"}

    Raises
    ------
    ValueError
        From `forward`, if `parts` does not divide the number of channels.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([1.0, -1.0, 2.0, -2.0]).reshape(1, 1, 2, 2)
    >>> SplitChannels(2).forward(X).ravel()
    array([ 1.,  2., -1., -2.], dtype=float32)
    """

    input_ndim = 4
    needs_output = False
    overwrites_input = True

    def __init__(self, parts: int = 2, optimizer: Any = None, *, dtype: npt.DTypeLike = "float32") -> None:
        super().__init__(optimizer, dtype=dtype)
        self.parts = parts
        self._check_sizes()
        self.is_initialized = True

    def _check_sizes(self) -> None:
        self.parts = check_size(self.parts, "parts")

    def output_shape(self, in_shape: Shape) -> Shape:
        n, rows, cols, channels = in_shape
        if channels % self.parts:
            raise ValueError(f"SplitChannels must get a multiple of parts={self.parts} channels, got {channels}")
        return n, self.parts, rows, cols, channels // self.parts

    def record_forward(self, program: Program, x: Array, y: Array, saved: Arrays, *, training: bool) -> None:
        """Record y = the channels of x, one part after the other."""
        elementwise.swap_axes(program, *self._by_part(y, x))

    def record_backward(
        self, program: Program, dx: Array | None, dy: Array, x: Array, y: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        """Record the gradient with respect to the input."""
        if dx is not None:
            parts, pixels = self._by_part(dy, dx)
            elementwise.swap_axes(program, pixels, parts)

    def _by_part(self, y: Array, x: Array) -> tuple[Array, Array]:
        """Return views (n, parts, pixels, ch) of an output and (n, pixels, parts, ch) of an input."""
        n, ch = len(x), x.shape[3] // self.parts
        return y.reshape(n, self.parts, -1, ch), x.reshape(n, -1, self.parts, ch)
