"""Layers and activations in ONNX: each class's translation is a function in one of the tables below.

A layer of one's own: add ``LAYERS[MyLayer] = function``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cvae.export.onnx_graph import Examples, Term
from cvae.export.parts import Step, array_of, steps, translation_of
from cvae.nn import activations as act
from cvae.nn.condition import Condition
from cvae.nn.conv2d import Conv2D
from cvae.nn.conv_transpose2d import ConvTranspose2D
from cvae.nn.flatten import Flatten
from cvae.nn.fully_connected import FullyConnected
from cvae.nn.geometry import kernel_span
from cvae.nn.normalization import BatchNorm1D, BatchNorm2D, GroupNorm
from cvae.nn.pool2d import Pool2D
from cvae.nn.reshape import Reshape
from cvae.nn.residual import Residual
from cvae.nn.upsample2d import Upsample2D

Translation = Callable[[Any, Examples, Step, Term | None], Examples]


def translate(row: Sequence[Step], x: Examples, labels: Term | None) -> Examples:
    """Add layers in a row to the graph of x, and return their output.

    `labels` are those of a conditional model, (n, L).
    """
    for step in row:
        translation: Translation = translation_of(LAYERS, step.layer, "ONNX", "a layer")
        x = translation(step.layer, x, step, labels)
        x = x._replace(term=activated(x.term, getattr(step.layer, "act_fn", None)))
    return x


def activated(z: Term, act_fn: act.ActivationBase | None) -> Term:
    """Return the activation of z; None is the identity."""
    if act_fn is None:
        return z
    function: Callable[[Any, Term], Term] = translation_of(ACTIVATIONS, act_fn, "ONNX", "an activation")
    return function(act_fn, z)


# -------------------------------------------------------------------- layers
#
# Each gets the layer, its input, the shapes and the labels, and returns what comes before the activation.


def _conv2d(layer: Conv2D, x: Examples, step: Step, labels: Term | None) -> Examples:
    top, bottom, left, right = layer._pad4((1, *step.in_shape))
    x = x.channels_first()
    W = array_of(layer, "W").transpose(3, 2, 0, 1)
    y = x.term.node(
        "Conv", W, layer.b,
        kernel_shape=layer.kernel_shape, strides=[layer.stride] * 2, dilations=[layer.dilation + 1] * 2,
        pads=[top, left, bottom, right],
    )  # fmt: skip
    return Examples(y, step.out_shape, True)


def _conv_transpose2d(layer: ConvTranspose2D, x: Examples, step: Step, labels: Term | None) -> Examples:
    top, _, left, _ = layer._crop()
    span, x = kernel_span(layer.kernel_shape, layer.dilation), x.channels_first()
    # Rows and cols cropped after the output or, where negative, added there.
    bottom, right = (
        (step.in_shape[axis] - 1) * layer.stride + span[axis] - before - step.out_shape[axis]
        for axis, before in ((0, top), (1, left))
    )
    y = x.term.node(
        "ConvTranspose", array_of(layer, "W").transpose(3, 2, 0, 1), layer.b,
        kernel_shape=layer.kernel_shape, strides=[layer.stride] * 2, dilations=[layer.dilation + 1] * 2,
        pads=[top, left, max(bottom, 0), max(right, 0)], output_padding=[max(-bottom, 0), max(-right, 0)],
    )  # fmt: skip
    return Examples(y, step.out_shape, True)


def _pool2d(layer: Pool2D, x: Examples, step: Step, labels: Term | None) -> Examples:
    top, bottom, left, right = layer._pad4((1, *step.in_shape))
    y = x.channels_first().term
    if any((top, bottom, left, right)):  # zeros, which count; those of the operators do not
        y = y.node("Pad", y.graph.constant([0, 0, top, left, 0, 0, bottom, right], np.int64))
    operator = "MaxPool" if layer.mode == "max" else "AveragePool"
    y = y.node(operator, kernel_shape=layer.kernel_shape, strides=[layer.stride] * 2)
    return Examples(y, step.out_shape, True)


def _upsample2d(layer: Upsample2D, x: Examples, step: Step, labels: Term | None) -> Examples:
    x = x.channels_first()
    graph, (rows, cols) = x.term.graph, layer.factor
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if layer.mode == "bilinear":
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    none = graph.constant(np.zeros(0), np.float32)
    y = x.term.node("Resize", none, graph.constant([1, 1, rows, cols], np.float32), **how)
    return Examples(y, step.out_shape, True)


def _fully_connected(layer: FullyConnected, x: Examples, step: Step, labels: Term | None) -> Examples:
    return Examples(x.term.node("Gemm", array_of(layer, "W"), layer.b), step.out_shape)


def _reshaped(layer: Flatten | Reshape, x: Examples, step: Step, labels: Term | None) -> Examples:
    return Examples(x.channels_last().term.reshape(-1, *step.out_shape), step.out_shape)


def _batch_norm(layer: BatchNorm1D | BatchNorm2D, x: Examples, step: Step, labels: Term | None) -> Examples:
    mean, variance, scaler, intercept = (
        array_of(layer, name).astype(np.float64) for name in ("running_mean", "running_var", "scaler", "intercept")
    )
    factor = scaler / np.sqrt(variance + layer.epsilon)
    mean, factor, intercept = (_by_channel(array, x) for array in (mean, factor, intercept))
    return x._replace(term=(x.term - mean) * factor + intercept)


def _group_norm(layer: GroupNorm, x: Examples, step: Step, labels: Term | None) -> Examples:
    x, (rows, cols, channels) = x.channels_first(), step.in_shape
    grouped = x.term.reshape(-1, layer.groups, channels // layer.groups * rows * cols)
    centred = grouped - grouped.mean(2)
    variance = (centred * centred).mean(2)
    normalized = (centred / (variance + layer.epsilon).node("Sqrt")).reshape(-1, channels, rows, cols)
    scaler, intercept = (_by_channel(array_of(layer, name), x) for name in ("scaler", "intercept"))
    return x._replace(term=normalized * scaler + intercept)


def _by_channel(array: Any, x: Examples) -> Any:
    """Return numbers of channels in a shape that goes with x."""
    return array.reshape(-1, 1, 1) if x.is_channels_first else array


def _residual(layer: Residual, x: Examples, step: Step, labels: Term | None) -> Examples:
    y = translate(steps(layer.layers, step.in_shape), x, labels)
    beside = x if layer.shortcut is None else translate(steps([layer.shortcut], step.in_shape), x, labels)
    return y._replace(term=y.term + beside.in_layout_of(y).term)


def _condition(layer: Condition, x: Examples, step: Step, labels: Term | None) -> Examples:
    assert labels is not None
    if len(step.in_shape) == 3:
        x, (rows, cols, _) = x.channels_first(), step.in_shape
        shape = labels.graph.constant([1, 1, rows, cols], np.int64)
        labels = labels.reshape(-1, step.out_shape[-1] - step.in_shape[-1], 1, 1).node("Expand", shape)
    return Examples(x.term.node("Concat", labels, axis=1), step.out_shape, x.is_channels_first)


LAYERS: dict[type, Translation] = {
    Conv2D: _conv2d,
    ConvTranspose2D: _conv_transpose2d,
    Pool2D: _pool2d,
    Upsample2D: _upsample2d,
    FullyConnected: _fully_connected,
    Flatten: _reshaped,
    Reshape: _reshaped,
    BatchNorm1D: _batch_norm,
    BatchNorm2D: _batch_norm,
    GroupNorm: _group_norm,
    Residual: _residual,
    Condition: _condition,
}


# --------------------------------------------------------------- activations


def _gelu(act_fn: act.GELU, z: Term) -> Term:
    if not act_fn.approximate:
        return z * ((z * math.sqrt(0.5)).node("Erf") + 1) * 0.5
    return z * ((z + z * z * z * 0.044715) * (2 * math.sqrt(2 / math.pi))).node("Sigmoid")


def _affine(act_fn: act.Affine, z: Term) -> Term:
    z = z if act_fn.slope == 1 else z * act_fn.slope
    return z if act_fn.intercept == 0 else z + act_fn.intercept


ACTIVATIONS: dict[type, Callable[[Any, Term], Term]] = {
    act.Sigmoid: lambda act_fn, z: z.node("Sigmoid"),
    act.ReLU: lambda act_fn, z: z.node("Relu"),
    act.LeakyReLU: lambda act_fn, z: z.node("LeakyRelu", alpha=act_fn.alpha),
    act.GELU: _gelu,
    act.Tanh: lambda act_fn, z: z.tanh(),
    act.Affine: _affine,
    act.Identity: _affine,
    act.ELU: lambda act_fn, z: z.node("Elu", alpha=act_fn.alpha),
    act.Exponential: lambda act_fn, z: z.exp(),
    act.SELU: lambda act_fn, z: z.node("Selu", alpha=act_fn._alpha, gamma=act_fn._scale),
    act.HardSigmoid: lambda act_fn, z: z.node("HardSigmoid", alpha=0.2, beta=0.5),
    act.SoftPlus: lambda act_fn, z: z.softplus(),
}
