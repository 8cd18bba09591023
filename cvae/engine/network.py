"""Networks of consecutive layers with their memory for a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels.program import Program
from cvae.nn.protocol import Layer, Shape, allocate
from cvae.nn.sequence import initialize_through
from cvae.optim.updates import Updates
from cvae.runtime.workspace import aligned_empty, empty

Array = npt.NDArray[Any]


class Node:
    """A layer in a network, with its memory for the largest batch.

    Attributes
    ----------
    layer : Layer
        A layer of the network, the fused form of two, or one without its activation.
    in_shape : tuple of int
        Of the input, for the largest batch.
    y, dy : arrays
        The output and, in training, the gradient with respect to it; they may share memory, and gradients of different
        nodes do. Unused if the output is a view of the input.
    saved : dict of arrays
        What the forward pass stores for the backward pass.
    """

    def __init__(self, layer: Layer, in_shape: Shape) -> None:
        self.layer, self.in_shape = layer, in_shape
        shape = layer.output_shape(in_shape)
        if shape[0] != in_shape[0]:
            raise ValueError(
                f"layers must keep the {in_shape[0]} examples of a batch apart, got {shape} from {layer!r}"
            )
        self.y = empty((0,) if layer.is_view else shape, layer.dtype)
        self.dy = self.y[:0]
        self.saved = allocate(layer.saved(in_shape))

    def saved_for(self, n: int) -> dict[str, Array]:
        """Return the parts of `saved` for a batch of n."""
        specification = self.layer.saved((n, *self.in_shape[1:]))
        return {
            name: self.saved[name].reshape(-1)[: math.prod(shape)].reshape(shape)
            for name, (shape, _) in specification.items()
        }


class Network:
    """Consecutive layers, for batches of at most `in_shape[0]` examples.

    The network stops before the activation of its last layer, which is part of whatever uses the output.

    Parameters
    ----------
    layers : sequence of layers
        At least one of them not a view, initialized for this shape.
    in_shape : tuple of int
        Of the largest batch.
    training : bool
        Whether a backward pass may follow the forward pass; `allocate_gradients` then comes first.
    labels : array, shape (in_shape[0], L), optional
        What layers that read labels read.

    Attributes
    ----------
    output : array
        The output for the largest batch.

    Raises
    ------
    ValueError
        If a layer does not fit the shape of its input, or mixes the examples.
    """

    def __init__(
        self, layers: Sequence[Layer], in_shape: Shape, *, training: bool, labels: Array | None = None
    ) -> None:
        if labels is not None:
            layers = [layer.reading(labels) for layer in layers]
        self._training = training
        self._nodes: list[Node] = []
        shape = in_shape
        initialize_through(layers, in_shape)
        for layer in fused(layers, in_shape):
            self._nodes.append(Node(layer, shape))
            shape = layer.output_shape(shape)
        self._last = [node for node in self._nodes if not node.layer.is_view][-1]
        self.output = self._last.y.reshape(shape)

    @property
    def output_grad(self) -> Array:
        """The gradient with respect to `output`, in the same memory if the last layer allows that."""
        return self._last.dy.reshape(-1, *self.output.shape[1:])

    def share_gradients(self) -> list[Node]:
        """Put gradients into the memory of outputs that are no longer needed; return the other nodes, the last first.

        A backward pass needs the gradient of one of these nodes until that of the next one is known.
        """
        others, is_free = [], True  # the last output: whatever computes its gradient reads it first
        for node in reversed(self._nodes):
            if node.layer.is_view:
                continue
            if is_free and not node.layer.needs_output:
                node.dy = node.y
            else:
                others.append(node)
            is_free = node.layer.overwrites_input
        return others

    def record_forward(self, program: Program, x: Array) -> None:
        """Record the forward pass from a batch x to the first len(x) rows of `output`."""
        outputs = self._outputs(x)
        for node, below, y in zip(self._nodes, outputs, outputs[1:], strict=False):
            if not node.layer.is_view:
                node.layer.record_forward(program, below, y, node.saved_for(len(x)), training=self._training)

    def record_backward(
        self,
        program: Program,
        x: Array,
        *,
        dx: Array | None = None,
        updates: Updates | None = None,
        separate_dx: Array | None = None,
    ) -> None:
        """Record the backward pass from the first len(x) rows of `output_grad`, which are overwritten.

        Parameters
        ----------
        program : Program
        x : array
            The batch that went forward.
        dx : array or None
            Overwritten with the gradient with respect to x; None if that is not needed.
        updates : Updates or None
            The prepared steps, taken by all layers that are not frozen, whose `gradients` are then unspecified; None
            to overwrite the layers' `gradients` instead.
        separate_dx : array or None
            The same as dx, but computed separately from the parameters' gradients, whose summation order may depend on
            whether dx is needed.
        """
        outputs, gradients = self._outputs(x), self._gradients(len(x), dx)
        for i in reversed(range(len(self._nodes))):
            layer, saved = self._nodes[i].layer, self._nodes[i].saved_for(len(x))
            if layer.is_view:
                continue
            passes = gradients[i + 1], outputs[i], outputs[i + 1], saved
            if separate_dx is not None and i == self._first:
                kept = np.empty_like(gradients[i + 1])
                program.call(np.copyto, kept, gradients[i + 1])
                layer.record_backward(program, separate_dx.reshape(outputs[i].shape), kept, *passes[1:], None)
            is_trained = layer.trainable and bool(layer.parameters)
            if is_trained and updates is not None:
                layer.record_descent(program, gradients[i], *passes, updates)
            else:
                layer.record_backward(program, gradients[i], *passes, layer.gradients if is_trained else None)

    @property
    def _first(self) -> int:
        """The index of the first layer that is not a view."""
        return next(i for i, node in enumerate(self._nodes) if not node.layer.is_view)

    def _outputs(self, x: Array) -> list[Array]:
        """Return x and each layer's output for it."""
        outputs = [x]
        for node in self._nodes:
            below = outputs[-1]
            is_view, shape = node.layer.is_view, node.layer.output_shape(below.shape)
            outputs.append(below.reshape(shape) if is_view else node.y[: len(x)])
        return outputs

    def _gradients(self, n: int, dx: Array | None) -> list[Any]:
        """Return dx and the gradients with respect to each layer's output, for a batch of n."""
        gradients = [dx]
        for node in self._nodes:
            below = gradients[-1]
            if not node.layer.is_view:
                gradients.append(node.dy[:n])
            else:
                gradients.append(None if below is None else below.reshape(node.layer.output_shape(below.shape)))
        return gradients


def allocate_gradients(networks: Sequence[Network]) -> None:
    """Allocate the gradients of networks whose backward passes run one after another: two places in turn for all."""
    nodes = [network.share_gradients() for network in networks]
    places = [
        aligned_empty(max((node.y.nbytes for of_one in nodes for node in of_one[first::2]), default=0))
        for first in range(2)
    ]
    for of_one in nodes:
        for i, node in enumerate(of_one):
            node.dy = places[i % 2][: node.y.nbytes].view(node.y.dtype).reshape(node.y.shape)


def fused(layers: Sequence[Layer], in_shape: Shape) -> list[Layer]:
    """Return the layers, fused where possible, and the last one without its activation."""
    left, result, shape = list(layers), [], in_shape
    left[-1] = left[-1].without_activation() or left[-1]
    while left:
        layer = left.pop(0)
        both = layer.fuse(left[0], shape) if left else None
        if both is not None:
            layer = both
            left.pop(0)
        shape = layer.output_shape(shape)
        result.append(layer)
    return result
