"""Assembly of a model's encoder and decoder: do the layers fit together, and the creation of all parameters."""

from __future__ import annotations

import math

from cvae.layers import FullyConnected  # which makes the names of all layers known
from cvae.likelihoods import Likelihood
from cvae.nn.activated import is_identity
from cvae.nn.sequence import Layers, initialize_through, make_layer, make_layers, shape_through

__all__ = ["Layers", "check_shapes", "initialize", "make_layer", "make_layers", "puts_out_images"]


def puts_out_images(decoder: Layers, T: int) -> bool:
    """Return whether a decoder of codes (n, T) ends with weights that put out images (n, rows, cols, channels)."""
    if not decoder or not decoder[next(reversed(decoder))].parameters:
        return False
    try:
        return len(shape_through("decoder", decoder, (1, T))) == 4
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
    last = decoder[next(reversed(decoder))]
    if isinstance(last, FullyConnected) and last.n_out is None:
        last.n_out = likelihood.n_outputs(image_shape)
    check_shapes(encoder, decoder, likelihood, image_shape, T)
    initialize_through(encoder, (1, *image_shape))
    initialize_through(decoder, (1, T))


def check_shapes(
    encoder: Layers, decoder: Layers, likelihood: Likelihood, image_shape: tuple[int, int, int], T: int
) -> None:
    """Raise ValueError unless the shapes and the last activations fit the images, the codes and the likelihood."""
    code = shape_through("encoder", encoder, (2, *image_shape))
    if code != (2, 2 * T):
        raise ValueError(f"encoder must put out a mean and a log variance for each of T={T} dimensions, got {code[1:]}")
    output, n_outputs = shape_through("decoder", decoder, (2, T)), likelihood.n_outputs(image_shape)
    if output[0] != 2 or math.prod(output[1:]) != n_outputs:
        raise ValueError(f"decoder must put out {n_outputs} numbers for {likelihood}, got the shape {output[1:]}")
    name, layer = next(reversed(encoder.items()))
    if layer.act_fn is not None and not is_identity(layer.act_fn):
        raise ValueError(f"{name} must have the activation Affine(slope=1, intercept=0), got {layer.act_fn}")
    name, layer = next(reversed(decoder.items()))
    if layer.act_fn is not None and not (is_identity(layer.act_fn) or layer.act_fn == likelihood.activation):
        raise ValueError(
            f"{name} must have the activation {likelihood.activation} of the likelihood, got {layer.act_fn}"
        )
