"""Models of numpy-ml as models of this package."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.export.weights import set_weights
from cvae.vae import BernoulliVAE


def from_numpy_ml(
    parameters: Any,
    hyperparameters: Mapping[str, Any] | None = None,
    *,
    image_shape: Sequence[int] | None = None,
    dtype: npt.DTypeLike = "float32",
    **arguments: Any,
) -> BernoulliVAE:
    """Return a model with the weights of a trained ``BernoulliVAE`` of numpy-ml.

    Codes and images are the same up to rounding, those of `dtype`. Losses and training are not, as far as numpy-ml
    draws codes with the variance in the place of the standard deviation.

    Parameters
    ----------
    parameters : dict, or numpy-ml's model
        Its `parameters`: ``parameters["components"]["encoder"]["Conv1"]["W"]`` and so on. The model itself brings its
        hyperparameters too.
    hyperparameters : mapping, optional
        Arguments of numpy-ml's constructor by name, others than its defaults; further names are ignored. Sizes follow
        from the parameters.
    image_shape : (rows, cols) or (rows, cols, channels), optional
        Of its images. None: as ``fit`` left it in the model, otherwise square.
    dtype : {"float32", "float64"}
        numpy-ml computes in float64.
    **arguments
        Others of `cvae.BernoulliVAE`.

    Raises
    ------
    TypeError
        If `parameters` is neither a model nor nested dictionaries.
    ValueError
        If the parameters are not those of a ``BernoulliVAE`` with these hyperparameters.

    Examples
    --------
    >>> import numpy as np
    >>> shapes = {
    ...     "encoder": {"Conv1": (3, 3, 1, 2), "Conv2": (2, 2, 2, 3), "FC4": (3, 5), "FC5": (5, 4)},
    ...     "decoder": {"FC1": (2, 5), "FC2": (5, 64)},
    ... }
    >>> components = {
    ...     part: {name: {"W": np.ones(shape), "b": np.zeros(shape[-1])} for name, shape in layers.items()}
    ...     for part, layers in shapes.items()
    ... }
    >>> from_numpy_ml({"components": components}, {"enc_pool1_stride": 2}).decode(np.zeros((1, 2))).shape
    (1, 8, 8, 1)
    """
    known = inspect.signature(BernoulliVAE).parameters
    found: dict[str, Any] = {}
    if not isinstance(parameters, Mapping):
        if not hasattr(parameters, "parameters"):
            raise TypeError(f"parameters must be a model of numpy-ml or its parameters, got {parameters!r}")
        found = {name: value for name, value in vars(parameters).items() if name in known}
        sizes = [vars(parameters).get(name) for name in ("in_rows", "in_cols", "in_ch")]
        if image_shape is None and None not in sizes:
            image_shape = [int(size) for size in sizes if size is not None]
        parameters = parameters.parameters
    weights = _by_path(parameters)
    found |= {name: value for name, value in (hyperparameters or {}).items() if name in known}
    found |= _sizes(weights)
    shape = _image_shape(weights) if image_shape is None else tuple(image_shape)
    model = BernoulliVAE(**found | arguments | {"image_shape": shape, "dtype": dtype})
    return set_weights(model, weights)


def _by_path(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return numpy-ml's nested dictionaries as one, biases in the shape that they have here."""
    try:
        weights = {
            f"{part}/{layer}/{name}": np.asarray(array)
            for part, layers in parameters["components"].items()
            for layer, arrays in layers.items()
            for name, array in arrays.items()
        }
    except (KeyError, AttributeError, TypeError):
        raise TypeError(f"parameters must be nested like numpy-ml's, got {parameters!r:.100}") from None
    for path in [path for path in weights if path.endswith("/b")]:
        ndim = weights[f"{path[:-2]}/W"].ndim if f"{path[:-2]}/W" in weights else 2
        weights[path] = weights[path].reshape((1,) * (ndim - 1) + (-1,))
    return weights


def _sizes(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that follow from the shapes of the parameters."""
    shapes = {}
    for path, ndim in (("encoder/Conv1", 4), ("encoder/Conv2", 4), ("encoder/FC4", 2), ("decoder/FC1", 2)):
        if f"{path}/W" not in weights:
            raise ValueError(f"parameters must hold {path}/W, got {', '.join(weights) or 'none'}")
        shapes[path] = np.shape(weights[f"{path}/W"])
        if len(shapes[path]) != ndim:
            raise ValueError(f"{path}/W must have {ndim} axes, got the shape {shapes[path]}")
    found: dict[str, Any] = {"T": shapes["decoder/FC1"][0], "latent_dim": shapes["encoder/FC4"][1]}
    for i in (1, 2):
        *kernel_shape, _, out_ch = shapes[f"encoder/Conv{i}"]
        found |= {f"enc_conv{i}_kernel_shape": tuple(kernel_shape), f"enc_conv{i}_out_ch": out_ch}
    return found


def _image_shape(weights: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the shape of square images with as many pixels as the decoder puts out."""
    channels, outputs = weights["encoder/Conv1/W"].shape[2], np.shape(weights.get("decoder/FC2/W", ()))[-1:]
    size = math.isqrt(outputs[0] // channels) if outputs else 0
    if (size * size * channels,) != outputs:
        raise ValueError(f"image_shape must be given for images that are not square, of {outputs} numbers")
    return size, size, channels
