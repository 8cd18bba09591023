"""Assembly of a model's encoder and decoder: do the layers fit together, and the creation of all parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

from cvae.layers import FullyConnected, LayerBase  # which makes the names of all layers known
from cvae.likelihoods import Likelihood
from cvae.nn.activated import is_identity
from cvae.nn.appended_number import AppendedNumber
from cvae.nn.condition import Condition
from cvae.nn.sequence import Layers, initialize_through, make_layers, shape_through

# The names of layers that are added to those given: one that reads labels, and the likelihood's own.
CONDITION, SCALE = "Condition", "Scale"


def make_encoder(layers: Sequence[LayerBase | str], T: int) -> Layers:
    """Return new layers by name, and the one for the mean and log variance of each of the code's T dimensions."""
    encoder = make_layers(layers, "encoder")
    encoder["Code"] = FullyConnected(2 * T)
    return encoder


def with_condition(layers: Layers, condition: str | None, place: int) -> Layers:
    """Return the layers of a model with a layer that reads labels, at this place, if none does but one has to.

    Raise ValueError if one does in a model without labels.
    """
    reads_labels = any(layer.reads_labels for layer in layers.values())
    if condition is None and reads_labels:
        raise ValueError("condition must be 'classes' or 'values' for layers that read labels, got None")
    if condition is None or reads_labels or not layers:
        return layers
    items = list(layers.items())
    items.insert(place, (CONDITION, Condition()))
    return Layers(items)


def make_decoder(layers: Sequence[LayerBase | str], T: int, likelihood: Likelihood) -> Layers:
    """Return new layers by name, with a dense layer after all but those that put out images, and the likelihood's own.

    Raises
    ------
    TypeError, ValueError
        As `make_layers`, and if images have too few channels for the likelihood.
    """
    decoder = make_layers(layers, "decoder")
    parts, channels = numbers_per_pixel(likelihood), _channels_put_out(decoder, T)
    if channels is None:
        decoder["Output"] = FullyConnected(None)
    elif channels % parts:
        raise ValueError(
            f"decoder must put out {parts} channels for each of the images', for {likelihood}, got {channels}"
        )
    scale = likelihood.scale_layer()
    if scale is not None:
        decoder[SCALE] = scale
    return decoder


def added_to(layers: Layers) -> set[str]:
    """Return the names of the layers that `make_encoder`, `make_decoder` or `with_condition` added."""
    return {"Code", "Output", SCALE, CONDITION} & layers.keys()


def numbers_per_pixel(likelihood: Likelihood) -> int:
    """Return how many outputs the likelihood needs for each pixel and channel, 1 if that is no whole number."""
    one, many = likelihood.n_outputs((1, 1, 1)), likelihood.n_outputs((2, 3, 4))
    return one if many == 24 * one else 1


def _channels_put_out(decoder: Layers, T: int) -> int | None:
    """Return the channels of the images that a decoder of codes (n, T) ends with weights for, or None."""
    if not decoder or not _last(decoder)[1].parameters:
        return None
    try:
        shape = shape_through("decoder", decoder, (1, T))
    except ValueError:  # which `check_shapes` raises again, once the images are known
        return None
    return shape[3] if len(shape) == 4 else None


def _last(layers: Layers) -> tuple[str, LayerBase]:
    return next(reversed(layers.items()))


def initialize(
    encoder: Layers,
    decoder: Layers,
    likelihood: Likelihood,
    image_shape: tuple[int, int, int],
    T: int,
    n_labels: int = 0,
) -> None:
    """Create all parameters for images of this shape, from the encoder's first layer to the decoder's last.

    Labels are of `n_labels` numbers; 0 in a model without condition.

    After an error the layers may be half created; `Core._prepare` undoes that.

    Raises
    ------
    ValueError
        If the layers do not fit each other, the images or the likelihood.
    MemoryError
        If there is not enough memory.
    """
    _set_sizes(encoder, decoder, likelihood, image_shape, T, n_labels)
    initialize_through(encoder.values(), (1, *image_shape))
    initialize_through(decoder.values(), (1, T))


def _set_sizes(
    encoder: Layers, decoder: Layers, likelihood: Likelihood, image_shape: tuple[int, int, int], T: int, n_labels: int
) -> None:
    if n_labels:
        for layer in (*encoder.values(), *decoder.values()):
            layer.expect_labels(n_labels)
    last = _last(_computing(decoder))[1]
    if isinstance(last, FullyConnected) and last.n_out is None:
        last.n_out = likelihood.n_outputs(image_shape)
    check_shapes(encoder, decoder, likelihood, image_shape, T)


def sized_copies(
    encoder: Layers,
    decoder: Layers,
    likelihood: Likelihood,
    image_shape: tuple[int, int, int],
    T: int,
    n_labels: int = 0,
) -> tuple[Layers, Layers]:
    """Return the same layers if they have parameters, otherwise copies of the sizes that `initialize` gives them."""
    if not all(layer.is_initialized for layer in (*encoder.values(), *decoder.values())):
        encoder, decoder = copy.deepcopy((encoder, decoder))
        _set_sizes(encoder, decoder, likelihood, image_shape, T, n_labels)
    return encoder, decoder


def check_shapes(
    encoder: Layers, decoder: Layers, likelihood: Likelihood, image_shape: tuple[int, int, int], T: int
) -> None:
    """Raise ValueError unless the shapes and the last activations fit the images, the codes and the likelihood."""
    code = shape_through("encoder", encoder, (2, *image_shape))
    if code != (2, 2 * T):
        raise ValueError(f"encoder must put out a mean and a log variance for each of T={T} dimensions, got {code[1:]}")
    own = _computing(decoder)
    output, n_outputs = shape_through("decoder", own, (2, T)), likelihood.n_outputs(image_shape)
    if output[0] != 2 or math.prod(output[1:]) != n_outputs:
        raise ValueError(f"decoder must put out {n_outputs} numbers for {likelihood}, got the shape {output[1:]}")
    name, layer = _last(encoder)
    if layer.act_fn is not None and not is_identity(layer.act_fn):
        raise ValueError(f"{name} must have the activation Affine(slope=1, intercept=0), got {layer.act_fn}")
    name, layer = _last(own)
    if layer.act_fn is not None and not (is_identity(layer.act_fn) or layer.act_fn == likelihood.activation):
        raise ValueError(
            f"{name} must have the activation {likelihood.activation} of the likelihood, got {layer.act_fn}"
        )


def _computing(decoder: Layers) -> Layers:
    """Return the decoder's layers that compute outputs from codes, without the likelihood's own."""
    return Layers((name, layer) for name, layer in decoder.items() if not isinstance(layer, AppendedNumber))
