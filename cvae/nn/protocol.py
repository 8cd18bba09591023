"""What a layer is to the engine: shapes, the memory it needs, and the recording of its passes.

A layer records its work once, for given arrays, in a program that then runs many times. All arrays are C-contiguous and
of the layer's dtype; the first axis is the examples'.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae._kernels.program import Program
from cvae.optim.updates import Optimized, Updates
from cvae.runtime.workspace import empty

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Arrays = Mapping[str, Array]


class Layer(Optimized, ABC):
    """Protocol of layers; `cvae.layers.LayerBase` adds numpy-ml's interface to it.

    Attributes
    ----------
    parameters, gradients : dict of arrays
        Parameters by name (None until `initialize`), and the gradients of those that an optimizer moves.
    optimizer : OptimizerBase
        Moves the parameters.
    trainable : bool
        Whether it does.
    dtype : numpy.dtype
        Of parameters, activations and gradients.
    needs_output : bool
        Whether the backward pass reads `y`; where it does not, `dy` may be stored in its place.
    overwrites_input : bool
        Whether the backward pass may be given the same memory as `dx` and `x`.
    is_view : bool
        Whether the output is the input in another shape: then nothing is recorded.
    """

    trainable: bool
    dtype: np.dtype[Any]
    needs_output = True
    overwrites_input = False
    is_view = False

    @abstractmethod
    def output_shape(self, in_shape: Shape) -> Shape:
        """Return the shape of the output for an input of shape `in_shape`; ValueError if there is none."""

    def initialize(self, in_shape: Shape) -> None:
        """Create the parameters for inputs of shape `in_shape`; if they exist, check that they fit (ValueError)."""

    def saved(self, in_shape: Shape) -> dict[str, tuple[Shape, npt.DTypeLike]]:
        """Return the shapes and dtypes of the arrays that the forward pass leaves for the backward pass."""
        return {}

    @abstractmethod
    def record_forward(self, program: Program, x: Array, y: Array, saved: Arrays, *, training: bool) -> None:
        """Record y = the output for x.

        Parameters
        ----------
        program : Program
        x : array
        y : array, of `output_shape`
            Is overwritten.
        saved : dict of arrays
            Those that `saved` asks for. Are overwritten.
        training : bool
            Whether a backward pass follows.
        """

    @abstractmethod
    def record_backward(
        self, program: Program, dx: Array | None, dy: Array, x: Array, y: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        """Record the gradients of the loss with respect to the input and the parameters.

        Parameters
        ----------
        program : Program
        dx : array or None
            Is overwritten with the gradient with respect to x; None: it is not wanted.
        dy : array
            The gradient with respect to y. May be overwritten.
        x, y, saved
            As the forward pass left them; y only if `needs_output`.
        grads : dict of arrays or None
            Are overwritten with the parameters' gradients, by the parameters' names; None: they are not wanted.
        """

    def record_descent(
        self, program: Program, dx: Array | None, dy: Array, x: Array, y: Array, saved: Arrays, updates: Updates
    ) -> None:
        """Record the backward pass and the prepared optimizer step of all parameters.

        Afterwards the contents of `gradients` are unspecified: a layer may update a part of a parameter as soon as its
        gradient is known.
        """
        self.record_backward(program, dx, dy, x, y, saved, self.gradients)
        updates.record(program, self)

    def fuse(self, above: Layer, in_shape: Shape) -> Layer | None:
        """Return a layer that does the work of this one and the one above it faster, or None."""
        return None

    def without_activation(self) -> Self | None:
        """Return a layer on the same parameters that leaves out the activation; None if it has no such form."""
        return None


def allocate(specification: Mapping[str, tuple[Shape, npt.DTypeLike]]) -> dict[str, Array]:
    """Return uninitialised arrays for what `Layer.saved` asks for."""
    return {name: empty(shape, dtype) for name, (shape, dtype) in specification.items()}
