"""The layer protocol of the engine: shapes, memory needs and the recording of the passes.

A layer records its work once, for given arrays, in a program that then runs many times. All arrays are C-contiguous and
of the layer's dtype, with the examples along the first axis.
"""

from __future__ import annotations

import copy
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
    """Protocol of layers, to which `cvae.layers.LayerBase` adds numpy-ml's interface.

    Attributes
    ----------
    parameters, gradients : dict of arrays
        Parameters by name (None until `initialize`), and the gradients of those that the optimizer updates. The others,
        such as running averages, are saved and copied like all parameters; `record_statistics` changes them, never
        the forward pass, so that a batch whose loss is not finite leaves no trace.
    optimizer : OptimizerBase
        Updates the parameters.
    trainable : bool
        Whether the parameters are updated.
    dtype : numpy.dtype
        Of parameters, activations and gradients.
    needs_output : bool
        Whether the backward pass reads `y`; if not, `dy` may be stored in the same memory.
    overwrites_input : bool
        Whether the backward pass allows `dx` and `x` to be the same memory.
    is_view : bool
        Whether the output is a reshaped view of the input, for which nothing is recorded.
    reads_labels : bool
        Whether the output depends on the labels of a conditional model; see `reading`.
    """

    trainable: bool
    dtype: np.dtype[Any]
    needs_output = True
    overwrites_input = False
    is_view = False
    reads_labels = False

    @abstractmethod
    def output_shape(self, in_shape: Shape) -> Shape:
        """Return the shape of the output for an input of shape `in_shape`; raise ValueError if there is none."""

    def multiplications(self, in_shape: Shape) -> int:
        """Return the number of multiplications by weights in a forward pass, as the layer is defined.

        An algorithm may need fewer.
        """
        return 0

    def n_parameters(self, in_shape: Shape) -> int:
        """Return how many parameters the layer has for inputs of shape `in_shape`; it need not have them yet."""
        layer = self
        if any(array is None for array in self.parameters.values()):
            layer = copy.deepcopy(self)
            layer.initialize(in_shape)
        return sum(array.size for array in layer.parameters.values() if array is not None)

    def parts(self) -> list[Layer]:
        """Return the layer itself and all that it contains, whose changes outdate recordings of it."""
        return [self]

    def initialize(self, in_shape: Shape) -> None:
        """Create the parameters for inputs of shape `in_shape`, or raise ValueError if existing ones do not fit."""

    def saved(self, in_shape: Shape) -> dict[str, tuple[Shape, npt.DTypeLike]]:
        """Return the shapes and dtypes of the arrays that the forward pass stores for the backward pass."""
        return {}

    @abstractmethod
    def record_forward(self, program: Program, x: Array, y: Array, saved: Arrays, *, training: bool) -> None:
        """Record the computation of the output y from x.

        Parameters
        ----------
        program : Program
        x : array
        y : array, of `output_shape`
            Overwritten.
        saved : dict of arrays
            Those specified by the method `saved`. Overwritten.
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
            Overwritten with the gradient with respect to x; None if that is not needed.
        dy : array
            The gradient with respect to y. May be overwritten.
        x, y, saved
            As the forward pass left them; y only if `needs_output`.
        grads : dict of arrays or None
            Overwritten with the parameters' gradients, by the parameters' names; None if those are not needed.
        """

    def record_descent(
        self, program: Program, dx: Array | None, dy: Array, x: Array, y: Array, saved: Arrays, updates: Updates
    ) -> None:
        """Record the backward pass and the prepared optimizer step of all parameters.

        It leaves the contents of `gradients` unspecified, since a layer may update part of a parameter as soon as the
        gradient of that part is known.
        """
        self.record_backward(program, dx, dy, x, y, saved, self.gradients)
        updates.record(program, self)

    def fuse(self, above: Layer, in_shape: Shape) -> Layer | None:
        """Return a layer that does the work of this one and the next one, `above`, faster, or None."""
        return None

    def expect_labels(self, n_labels: int) -> None:
        """Prepare a layer that reads labels for those of `n_labels` numbers, or raise ValueError."""

    def reading(self, labels: Array) -> Self:
        """Return a layer with the same state that reads labels (n, L) from this array when its programs run.

        Row i belongs to example i of the batch; there may be more rows. Most layers read none.
        """
        return self

    def without_activation(self) -> Self | None:
        """Return a layer with the same state that stops before the activation, or None if there is no such form."""
        return None


def allocate(specification: Mapping[str, tuple[Shape, npt.DTypeLike]]) -> dict[str, Array]:
    """Return uninitialized arrays as specified by `Layer.saved`."""
    return {name: empty(shape, dtype) for name, (shape, dtype) in specification.items()}
