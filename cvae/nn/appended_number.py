"""A number at the end of each row of outputs, from which a likelihood makes one scale for all pixels."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import elementwise
from cvae._kernels.program import Program
from cvae.checking import check_bool
from cvae.nn.base import LayerBase
from cvae.nn.protocol import Array, Arrays, Shape
from cvae.runtime.workspace import copy_of, zeros_like

LEAST_SHARE = 0.01  # of a batch in the average, which thus reaches back some hundred batches


class AppendedNumber(LayerBase):
    """Appends one number to each row, which the optimizer learns, or which is a running average of what comes back.

    Models append this layer to the decoder for likelihoods that need it; it has no other use.

    Parameters
    ----------
    averaged : bool
        False: the parameter "number", which starts at 0, is learnt; its gradient is the sum of the appended column's.
        True: it has no gradient; each step after a backward pass moves it towards this sum, the b-th by the share
        2 / (b + 1), at least 0.01. It starts at 1, of which nothing is left after the first step. The parameter
        "steps" is b.
    optimizer : str, dict, optimizer or None
        Without use if `averaged`.
    dtype : {"float32", "float64"}

    Examples
    --------
    >>> import numpy as np
    >>> AppendedNumber(averaged=True).forward(np.zeros((2, 3)))
    array([[0., 0., 0., 1.],
           [0., 0., 0., 1.]], dtype=float32)
    """

    needs_output = False

    def __init__(self, averaged: bool = False, optimizer: Any = None, *, dtype: npt.DTypeLike = "float32") -> None:
        super().__init__(optimizer, dtype=dtype)
        self.averaged = check_bool("averaged", averaged)
        self.parameters = {"number": None, "steps": None} if averaged else {"number": None}

    def output_shape(self, in_shape: Shape) -> Shape:
        return in_shape[0], math.prod(in_shape[1:]) + 1

    def initialize(self, in_shape: Shape) -> None:
        if not self.is_initialized:
            start = {"number": [1.0], "steps": [0.0]} if self.averaged else {"number": [0.0]}
            self._set_parameters(start)

    def _set_parameters(self, parameters: Mapping[str, npt.ArrayLike]) -> None:
        arrays: dict[str, Array | None] = dict(self.parameters)
        arrays |= {name: copy_of(value, self.dtype) for name, value in parameters.items()}
        for name, array in arrays.items():
            if array is None or array.shape != (1,):
                raise ValueError(f"{name} must have the shape (1,), got {None if array is None else array.shape}")
        self.parameters = arrays
        # If averaged, of the column that came back last; NaN if none has since the last step.
        self._sum = copy_of([math.nan], self.dtype)
        self.gradients = {} if self.averaged else {"number": zeros_like(self._parameter("number"))}
        self._retained = []
        self.is_initialized = True

    def _check_sizes(self) -> None:
        if self.averaged != ("steps" in self.parameters):
            raise ValueError(f"averaged must stay {not self.averaged}, got {self.averaged}")

    def record_forward(self, program: Program, x: Array, y: Array, saved: Arrays, *, training: bool) -> None:
        elementwise.append_column(program, y, x.reshape(len(x), -1), self._parameter("number"))

    def record_backward(
        self, program: Program, dx: Array | None, dy: Array, x: Array, y: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        sums = {"number": np.empty(1, self.dtype)} if grads is None else grads
        total = self._sum if self.averaged and grads is not None else sums["number"]
        below = np.empty(x.shape, self.dtype) if dx is None else dx
        elementwise.split_column(program, below.reshape(len(x), -1), total, dy)

    def record_statistics(self, program: Program) -> None:
        """Record the move of the average towards the last sum."""
        if self.averaged:
            number, steps = self._parameter("number"), self._parameter("steps")
            elementwise.move_average(program, number, steps, self._sum, LEAST_SHARE)

    def batch_statistics(self) -> list[Array]:
        return [self._sum] if self.averaged else []

    def flush_gradients(self) -> None:
        super().flush_gradients()
        if self.is_initialized:
            self._sum.fill(math.nan)

    def _parameter(self, name: str) -> Array:
        array = self.parameters[name]
        assert array is not None
        return array
