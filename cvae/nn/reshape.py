"""Rows to images, or any other shape of as many numbers."""

import math
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from cvae._kernels.program import Program
from cvae.checking import check_size
from cvae.nn.base import LayerBase
from cvae.nn.protocol import Array, Arrays, Shape


class Reshape(LayerBase):
    """Gives each example another shape, in C order; nothing is copied.

    Parameters
    ----------
    shape : int or sequence of ints
        Of an example of the output, such as (rows, cols, channels).
    optimizer : str, dict, optimizer or None
        Without use: the layer has no parameters.
    dtype : {"float32", "float64"}

    Raises
    ------
    ValueError
        From `forward`, if an example of the input is not of as many numbers.

    Examples
    --------
    >>> import numpy as np
    >>> Reshape((4, 4, 3)).forward(np.ones((2, 48))).shape
    (2, 4, 4, 3)
    """

    is_view = True
    needs_output = False

    def __init__(self, shape: int | Sequence[int], optimizer: Any = None, *, dtype: npt.DTypeLike = "float32") -> None:
        super().__init__(optimizer, dtype=dtype)
        self.shape: Any = shape
        self._check_sizes()
        self.is_initialized = True

    def _check_sizes(self) -> None:
        sizes = self.shape if isinstance(self.shape, (tuple, list)) else (self.shape,)
        if not sizes:
            raise ValueError(f"shape must be an int or at least 1 int, got {self.shape!r}")
        self.shape = tuple(check_size("shape", size) for size in sizes)

    def output_shape(self, in_shape: Shape) -> Shape:
        size, wanted = math.prod(in_shape[1:]), math.prod(self.shape)
        if size != wanted:
            raise ValueError(
                f"Reshape to {self.shape} must get {wanted} numbers an example, got {size} in the shape {in_shape[1:]}"
            )
        return in_shape[0], *self.shape

    def record_forward(self, program: Program, x: Array, y: Array, saved: Arrays, *, training: bool) -> None:
        """Record nothing: y is x in another shape."""

    def record_backward(
        self, program: Program, dx: Array | None, dy: Array, x: Array, y: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        """Record nothing: dx is dy in another shape."""
