"""Reshaping of batches to two axes."""

import math
from typing import Any

import numpy.typing as npt

from cvae.nn.base import Array, LayerBase


class Flatten(LayerBase):
    """Flattens a batch to two axes, in C order (rows, cols, channels).

    Parameters
    ----------
    keep_dim : {"first", "last", -1}
        The axis that stays: "first" gives (n, -1), "last" (-1, channels), and -1 one row (1, -1).
    optimizer : str, dict, optimizer or None
        Without use: the layer has no parameters.
    dtype : {"float32", "float64"}

    Examples
    --------
    >>> import numpy as np
    >>> Flatten().forward(np.ones((2, 4, 4, 3))).shape
    (2, 48)
    """

    def __init__(
        self, keep_dim: str | int = "first", optimizer: Any = None, *, dtype: npt.DTypeLike = "float32"
    ) -> None:
        super().__init__(optimizer, dtype=dtype)
        self.keep_dim = keep_dim
        self._check_sizes()
        self.derived_variables = {"in_dims": []}
        self.is_initialized = True

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return {
            "layer": "Flatten",
            "keep_dim": self.keep_dim,
            "dtype": self.dtype.name,
            "optimizer": self._optimizer_summary(),
        }

    def _check_sizes(self) -> None:
        if self.keep_dim not in ("first", "last", -1):
            raise ValueError(f"keep_dim must be 'first', 'last' or -1, got {self.keep_dim!r}")

    def output_shape(self, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        size = math.prod(in_shape)
        if self.keep_dim == -1:
            return 1, size
        return (in_shape[0], size // in_shape[0]) if self.keep_dim == "first" else (size // in_shape[-1], in_shape[-1])

    def _forward_one(self, X: Array, retain_derived: bool) -> Array:
        if retain_derived:
            self.derived_variables["in_dims"].append(X.shape)
        return X.reshape(self.output_shape(X.shape))

    def _backward_one(self, dLdy: Array, index: int, retain_grads: bool) -> Array:
        return dLdy.reshape(self.derived_variables["in_dims"][index])
