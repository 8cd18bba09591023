"""Layers in a row: made from call strings, their shapes one after another, and their parameters."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from cvae.nn.base import LayerBase
from cvae.nn.protocol import Layer, Shape
from cvae.parsing import made

Layers = OrderedDict[str, LayerBase]


def make_layer(layer: LayerBase | str, name: str) -> LayerBase:
    """Return a new layer from a call string such as "Conv2D(out_ch=32, kernel_shape=3)", or a copy of a layer.

    Raises
    ------
    TypeError
        If `layer` is neither; the message calls it `name`.
    ValueError
        If the string is not a call of a known layer with valid arguments.
    """
    try:
        new: LayerBase = copy.deepcopy(made(layer, LayerBase, "layer"))
        return new
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def make_layers(layers: Sequence[LayerBase | str], name: str) -> Layers:
    """Return new layers by name, such as "Conv2D_1"; error messages call the sequence `name`."""
    if isinstance(layers, str) or not isinstance(layers, Sequence):
        raise TypeError(f"{name} must be a sequence of layers or their call strings, got {layers!r}")
    new = [make_layer(layer, f"{name}[{i}]") for i, layer in enumerate(layers)]
    return OrderedDict((f"{type(layer).__name__}_{i}", layer) for i, layer in enumerate(new, 1))


def initialize_through(layers: Iterable[Layer], shape: Shape) -> None:
    """Create the parameters of layers in a row, of which the first gets inputs of this shape; check existing ones."""
    for layer in layers:
        layer.initialize(shape)
        shape = layer.output_shape(shape)


def shape_through(part: str, layers: Mapping[str, LayerBase], shape: Shape) -> Shape:
    """Return the last layer's output shape; raise ValueError, which calls the layers part/name, if they do not fit."""
    for name, layer in layers.items():
        if layer.input_ndim is not None and layer.input_ndim != len(shape):
            hint = " (a Flatten() before it?)" if layer.input_ndim == 2 else ""
            found = f"(n, {', '.join(map(str, shape[1:]))})"
            raise ValueError(f"{part}/{name} must get arrays of {layer.input_ndim} dimensions, got {found}{hint}")
        try:
            shape = layer.output_shape(shape)
        except ValueError as error:
            hint = (
                "; encoder='auto' of cvae.VAE (--encoder auto) makes layers for the images" if part == "encoder" else ""
            )
            raise ValueError(f"{part}/{name}: {error}{hint}") from None
    return shape
