"""Labels beside the features that they belong to."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae._kernels import condition
from cvae._kernels.program import Program
from cvae.nn.base import LayerBase
from cvae.nn.protocol import Array, Arrays, Shape

NO_LABELS = "labels must be given to a Condition layer outside of a conditional model, got None"


class Condition(LayerBase):
    """Appends the labels of a conditional model to its images or codes.

    Rows (n, features) become (n, features + L), where L numbers make a label: one for each class, of which that of the
    label is 1 and all others are 0, or the values themselves. Images (n, rows, cols, channels) get L more channels, in
    each of which all pixels are the same number.

    A model with `condition` may have it anywhere, and more than once, in encoder and decoder. To an encoder without
    one it adds one before the layer of the code, to a decoder without one it adds one at the start.

    Parameters
    ----------
    optimizer : str, dict, optimizer or None
        Without use: the layer has no parameters.
    dtype : {"float32", "float64"}

    Attributes
    ----------
    n_labels : int or None
        L; None before the first labels.

    Examples
    --------
    >>> import numpy as np
    >>> Condition().forward(np.ones((2, 3)), labels=[[0, 5], [7, 0]])
    array([[1., 1., 1., 0., 5.],
           [1., 1., 1., 7., 0.]], dtype=float32)
    """

    needs_output = False
    overwrites_input = True
    reads_labels = True
    size_names = ("n_labels",)

    def __init__(self, optimizer: Any = None, *, dtype: npt.DTypeLike = "float32") -> None:
        super().__init__(optimizer, dtype=dtype)
        self.n_labels: int | None = None
        self._labels: Array | None = None
        self.is_initialized = True

    def expect_labels(self, n_labels: int) -> None:
        if self.n_labels not in (None, n_labels):
            raise ValueError(f"labels must be of {self.n_labels} numbers for this Condition layer, got {n_labels}")
        if self.n_labels is None:  # an assignment of the same number would outdate all recordings
            self.n_labels = n_labels

    def initialize(self, in_shape: Shape) -> None:
        if self.n_labels is None:
            raise ValueError(NO_LABELS)

    def reading(self, labels: Array) -> Self:
        self.expect_labels(labels.shape[1])
        reader = copy.copy(self)
        reader._retained, reader._labels = self._retained, labels
        return reader

    def forward(self, X: npt.ArrayLike, retain_derived: bool = True, labels: npt.ArrayLike | None = None) -> Array:
        """Return the layer's output.

        Parameters
        ----------
        X : array, shape (n, features) or (n, rows, cols, channels)
        retain_derived : bool
            Whether to keep what `backward` needs.
        labels : array, shape (n, L)
            L numbers for each example.

        Raises
        ------
        ValueError
            If `X` or `labels` has another shape, or L is not that of earlier labels.
        """
        X = self._check_input(X)
        if labels is not None:
            given = np.ascontiguousarray(labels, self.dtype)
            if given.ndim != 2 or len(given) != len(X) or given.size == 0:
                raise ValueError(f"labels must have the shape ({len(X)}, any number), got {given.shape}")
            return self.reading(given).forward(X, retain_derived)
        return super().forward(X, retain_derived)

    def output_shape(self, in_shape: Shape) -> Shape:
        return *in_shape[:-1], in_shape[-1] + (self.n_labels or 0)

    def record_forward(self, program: Program, x: Array, y: Array, saved: Arrays, *, training: bool) -> None:
        """Record y = x and, after each pixel's channels, the labels."""
        if self._labels is None:
            raise ValueError(NO_LABELS)
        condition.forward(program, _by_pixel(y), _by_pixel(x), self._labels[: len(x)])

    def record_backward(
        self, program: Program, dx: Array | None, dy: Array, x: Array, y: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        """Record the gradient with respect to the input, which leaves out that of the labels."""
        if dx is not None:
            assert self.n_labels is not None
            condition.backward(program, _by_pixel(dx), _by_pixel(dy), n_labels=self.n_labels)


def _by_pixel(x: Array) -> Array:
    """View (n, ..., channels) as (n, pixels, channels)."""
    return x.reshape(len(x), -1, x.shape[-1])
