"""Flattening of batches to two axes."""

import math
from typing import Any

import numpy.typing as npt

from cvae._kernels.program import Program
from cvae.nn.base import LayerBase, Retained
from cvae.nn.protocol import Array, Arrays, Shape


class Flatten(LayerBase):
    """A batch reshaped to two axes, in C order (rows, cols, channels).

    Parameters
    ----------
    keep_dim : {"first", "last", -1}
        The axis that is kept: "first" gives (n, -1), "last" (-1, channels), and -1 a single row (1, -1).
    optimizer : str, dict, optimizer or None
        Unused: the layer has no parameters.
    dtype : {"float32", "float64"}

    Examples
    --------
    >>> import numpy as np
    >>> Flatten().forward(np.ones((2, 4, 4, 3))).shape
    (2, 48)
    """

    is_view = True
    needs_output = False
    derived_names = ("in_dims",)

    def __init__(
        self, keep_dim: str | int = "first", optimizer: Any = None, *, dtype: npt.DTypeLike = "float32"
    ) -> None:
        super().__init__(optimizer, dtype=dtype)
        self.keep_dim = keep_dim
        self._check_sizes()
        self.is_initialized = True

    def _check_sizes(self) -> None:
        if self.keep_dim not in ("first", "last", -1):
            raise ValueError(f"keep_dim must be 'first', 'last' or -1, got {self.keep_dim!r}")

    def output_shape(self, in_shape: Shape) -> Shape:
        size = math.prod(in_shape)
        if self.keep_dim == -1:
            return 1, size
        return (in_shape[0], size // in_shape[0]) if self.keep_dim == "first" else (size // in_shape[-1], in_shape[-1])

    def record_forward(self, program: Program, x: Array, y: Array, saved: Arrays, *, training: bool) -> None:
        """Record nothing: y is x in another shape."""

    def record_backward(
        self, program: Program, dx: Array | None, dy: Array, x: Array, y: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        """Record nothing: dx is dy in another shape."""

    def _derive(self, retained: Retained) -> dict[str, Any]:
        return {"in_dims": retained.X.shape}
