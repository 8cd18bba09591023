"""A model's decoder as a list of steps that `decoder.js` takes, and the numbers that they need."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.likelihoods import Bernoulli, ContinuousBernoulli, DiscretizedLogistic, Gaussian, Laplace
from cvae.model import VAE
from cvae.nn.activations import ActivationBase, Affine, Identity, ReLU
from cvae.nn.appended_number import AppendedNumber
from cvae.nn.base import LayerBase
from cvae.nn.condition import Condition
from cvae.nn.conv2d import Conv2D
from cvae.nn.conv_transpose2d import ConvTranspose2D
from cvae.nn.flatten import Flatten
from cvae.nn.fully_connected import FullyConnected
from cvae.nn.normalization import BatchNorm1D, BatchNorm2D, GroupNorm
from cvae.nn.pool2d import Pool2D
from cvae.nn.protocol import Shape
from cvae.nn.reshape import Reshape
from cvae.nn.residual import Residual
from cvae.nn.upsample2d import Upsample2D

Step = dict[str, Any]
_MEANS = {
    Bernoulli: "sigmoid",
    ContinuousBernoulli: "continuous_bernoulli",
    Gaussian: "identity",
    Laplace: "identity",
    DiscretizedLogistic: "unit",
}


def network_of(vae: VAE) -> tuple[dict[str, Any], str]:
    """Return the decoder of a trained model for `decoder.js`: what JSON can represent, and its weights in base64.

    Raises
    ------
    ValueError
        If the model has a layer, activation or likelihood of the user's own, whose formula is not known here.
    """
    image_shape = vae._require_fitted()
    weights = _Weights()
    layers = [layer for layer in vae.decoder_.values() if type(layer) is not AppendedNumber]
    steps = _steps(layers, (2, vae.T), weights)
    steps[-1].pop("act", None)  # that of the likelihood, which the mean below takes care of
    likelihood, mapping = vae._likelihood, vae._mapping
    assert mapping is not None
    if type(likelihood) not in _MEANS:
        raise ValueError(f"likelihood must be one of {_listed(_MEANS)} for an explorer, got {likelihood}")
    low, high = vae._picture_ends()
    rows, cols, channels = image_shape
    return {
        "steps": steps,
        "shape": [rows, cols, channels],
        "mean": _MEANS[type(likelihood)],
        "every": likelihood.n_outputs(image_shape) // (rows * cols * channels),
        "offset": mapping.offset.tolist(),
        "scale": mapping.scale.tolist(),
        "ends": [low, high],
    }, weights.text()


def base64_of(array: npt.ArrayLike) -> str:
    """Return the bytes of an array, little-endian, as base64."""
    given = np.ascontiguousarray(array)
    return base64.b64encode(given.astype(given.dtype.newbyteorder("<"), copy=False).tobytes()).decode("ascii")


class _Weights:
    """All arrays of numbers one after another, as float32."""

    def __init__(self) -> None:
        self._arrays: list[npt.NDArray[np.float32]] = []
        self._size = 0

    def place(self, array: npt.ArrayLike) -> int:
        """Append an array and return where it starts."""
        start, flat = self._size, np.asarray(array, np.float32).reshape(-1)
        self._arrays.append(flat)
        self._size += flat.size
        return start

    def text(self) -> str:
        """Return all of them as base64."""
        return base64_of(np.concatenate([np.zeros(0, np.float32), *self._arrays]))


def _steps(layers: list[LayerBase], shape: Shape, weights: _Weights) -> list[Step]:
    """Return the steps of layers in a row, of which the first gets arrays of this shape."""
    steps = []
    for layer in layers:
        out_shape = layer.output_shape(shape)
        if type(layer) not in _STEPS or out_shape[0] != shape[0]:
            raise ValueError(f"layers of the decoder must be {_listed(_STEPS)} for an explorer, got {layer!r}")
        step = _STEPS[type(layer)](layer, shape, out_shape, weights)
        if step:
            activation = _activation(layer.act_fn)
            steps.append(step | ({"act": activation} if activation else {}))
        shape = out_shape
    return steps


def _activation(act_fn: ActivationBase | None) -> list[Any] | None:
    """Return the name in `decoder.js` and the constants of an activation, None for the identity."""
    if act_fn is None or type(act_fn) is Identity:
        return None
    if type(act_fn) is ReLU:
        return ["relu"]
    if type(act_fn) is Affine:
        return ["affine", act_fn.slope, act_fn.intercept]
    if act_fn.compiled is None:
        raise ValueError(f"activations of the decoder must be those of cvae for an explorer, got {act_fn}")
    name, constants = act_fn.compiled
    return [name, *constants]


def _dense(layer: FullyConnected, shape: Shape, out_shape: Shape, weights: _Weights) -> Step:
    return {"op": "dense", "shape": layer.W.shape, "W": weights.place(layer.W), "b": weights.place(layer.b)}


def _convolution(op: str, layer: Conv2D | ConvTranspose2D, pad: dict[str, int], in_: Shape, out: Shape) -> Step:
    return {
        "op": op,
        "in": in_[1:],
        "out": out[1:],
        "kernel": layer.kernel_shape,
        "stride": layer.stride,
        "spacing": layer.dilation + 1,
        "top": pad["pad_top"],
        "left": pad["pad_left"],
    }


def _conv(layer: Conv2D, shape: Shape, out_shape: Shape, weights: _Weights) -> Step:
    step = _convolution("conv", layer, layer.padding(shape), shape, out_shape)
    return step | {"W": weights.place(layer.W), "b": weights.place(layer.b)}


def _conv_transpose(layer: ConvTranspose2D, shape: Shape, out_shape: Shape, weights: _Weights) -> Step:
    top, _, left, _ = layer._crop()
    step = _convolution("conv_transpose", layer, {"pad_top": top, "pad_left": left}, shape, out_shape)
    return step | {"W": weights.place(layer.W), "b": weights.place(layer.b)}


def _pool(layer: Pool2D, shape: Shape, out_shape: Shape, weights: _Weights) -> Step:
    window = layer.window(shape)
    return {
        "op": "pool",
        "in": shape[1:],
        "out": out_shape[1:],
        "kernel": window["kernel_shape"],
        "stride": window["stride"],
        "top": window["pad_top"],
        "left": window["pad_left"],
        "max": layer.mode == "max",
    }


def _upsample(layer: Upsample2D, shape: Shape, out_shape: Shape, weights: _Weights) -> Step:
    return {"op": "upsample", "in": shape[1:], "factor": layer.factor, "bilinear": layer.mode == "bilinear"}


def _batch_norm(layer: BatchNorm1D | BatchNorm2D, shape: Shape, out_shape: Shape, weights: _Weights) -> Step:
    numbers = {name: np.asarray(array, np.float64) for name, array in layer.parameters.items()}
    factor = numbers["scaler"] / np.sqrt(numbers["running_var"] + layer.epsilon)
    shift = numbers["intercept"] - numbers["running_mean"] * factor
    return {"op": "scale", "channels": shape[-1], "factor": weights.place(factor), "shift": weights.place(shift)}


def _group_norm(layer: GroupNorm, shape: Shape, out_shape: Shape, weights: _Weights) -> Step:
    return {
        "op": "group_norm",
        "channels": shape[-1],
        "groups": layer.groups,
        "epsilon": layer.epsilon,
        "factor": weights.place(layer._array("scaler")),
        "shift": weights.place(layer._array("intercept")),
    }


def _condition(layer: Condition, shape: Shape, out_shape: Shape, weights: _Weights) -> Step:
    return {"op": "condition", "channels": shape[-1]}


def _residual(layer: Residual, shape: Shape, out_shape: Shape, weights: _Weights) -> Step:
    shortcut = [] if layer.shortcut is None else [layer.shortcut]
    return {
        "op": "residual",
        "layers": _steps([*layer.layers], shape, weights),
        "shortcut": _steps(shortcut, shape, weights),
    }


def _nothing(layer: LayerBase, shape: Shape, out_shape: Shape, weights: _Weights) -> Step:
    return {}


# By exact type: a subclass may compute something else.
_STEPS: dict[type[LayerBase], Callable[[Any, Shape, Shape, _Weights], Step]] = {
    FullyConnected: _dense,
    Conv2D: _conv,
    ConvTranspose2D: _conv_transpose,
    Pool2D: _pool,
    Upsample2D: _upsample,
    BatchNorm1D: _batch_norm,
    BatchNorm2D: _batch_norm,
    GroupNorm: _group_norm,
    Residual: _residual,
    Condition: _condition,
    Reshape: _nothing,
    Flatten: _nothing,
}


def _listed(types: dict[Any, Any]) -> str:
    return ", ".join(each.__name__ for each in types)
