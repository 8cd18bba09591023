"""Assembly of a model's encoder and decoder from lists of layers or their call strings."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Sequence

from cvae.layers import FullyConnected, LayerBase  # which makes the names of all layers known
from cvae.likelihoods import Likelihood
from cvae.nn.appended_number import AppendedNumber
from cvae.nn.weighted import is_identity
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


def puts_out_images(decoder: Layers, T: int) -> bool:
    """Return whether a decoder of codes (n, T) ends with weights that put out images (n, rows, cols, channels)."""
    if not decoder or not decoder[next(reversed(decoder))].parameters:
        return False
    try:
        return len(_shape_through("decoder", decoder, (1, T))) == 4
    except ValueError:  # which `check_shapes` raises again, once the images are known
        return False


def initialize(
    encoder: Layers, decoder: Layers, likelihood: Likelihood, image_shape: tuple[int, int, int], T: int
) -> None:
    """Create all parameters for images of this shape, from the encoder's first layer to the decoder's last.

    After an error the layers may be half created; `Core._prepare` undoes that.

    Raises
    ------
    ValueError
        If the layers do not fit each other, the images or the likelihood.
    MemoryError
        If there is not enough memory.
    """
    last = list(_computing(decoder).values())[-1]
    if isinstance(last, FullyConnected) and last.n_out is None:
        last.n_out = likelihood.n_outputs(image_shape)
    check_shapes(encoder, decoder, likelihood, image_shape, T)
    _initialize_through(encoder, (1, *image_shape))
    _initialize_through(decoder, (1, T))


def _initialize_through(layers: Layers, shape: tuple[int, ...]) -> None:
    for layer in layers.values():
        layer.initialize(shape)
        shape = layer.output_shape(shape)


def check_shapes(
    encoder: Layers, decoder: Layers, likelihood: Likelihood, image_shape: tuple[int, int, int], T: int
) -> None:
    """Raise ValueError unless the shapes and the last activations fit the images, the codes and the likelihood."""
    code = _shape_through("encoder", encoder, (2, *image_shape))
    if code != (2, 2 * T):
        raise ValueError(f"encoder must put out a mean and a log variance for each of T={T} dimensions, got {code[1:]}")
    own = _computing(decoder)
    output, n_outputs = _shape_through("decoder", own, (2, T)), likelihood.n_outputs(image_shape)
    if output[0] != 2 or math.prod(output[1:]) != n_outputs:
        raise ValueError(f"decoder must put out {n_outputs} numbers for {likelihood}, got the shape {output[1:]}")
    name, layer = next(reversed(encoder.items()))
    if layer.act_fn is not None and not is_identity(layer.act_fn):
        raise ValueError(f"{name} must have the activation Affine(slope=1, intercept=0), got {layer.act_fn}")
    name, layer = list(own.items())[-1]
    if layer.act_fn is not None and not (is_identity(layer.act_fn) or layer.act_fn == likelihood.activation):
        raise ValueError(
            f"{name} must have the activation {likelihood.activation} of the likelihood, got {layer.act_fn}"
        )


def _computing(decoder: Layers) -> Layers:
    """Return the decoder's layers that compute outputs from codes, without the likelihood's own."""
    return OrderedDict((name, layer) for name, layer in decoder.items() if not isinstance(layer, AppendedNumber))


def _shape_through(part: str, layers: Layers, shape: tuple[int, ...]) -> tuple[int, ...]:
    for name, layer in layers.items():
        if layer.input_ndim is not None and layer.input_ndim != len(shape):
            hint = " (a Flatten() before it?)" if layer.input_ndim == 2 else ""
            found = f"(n, {', '.join(map(str, shape[1:]))})"
            raise ValueError(f"{part}/{name} must get arrays of {layer.input_ndim} dimensions, got {found}{hint}")
        shape = layer.output_shape(shape)
    return shape
