"""Layers and activations in C: each class's translation is a function in one of the tables below.

A layer of one's own: add ``LAYERS[MyLayer] = function``, which calls functions of `kernels.c`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cvae.export.c_source import Buffer, Place, Program
from cvae.export.parts import Step, array_of, steps, translation_of
from cvae.nn import activations as act
from cvae.nn.activated import is_identity
from cvae.nn.condition import Condition
from cvae.nn.conv2d import Conv2D
from cvae.nn.conv_transpose2d import ConvTranspose2D
from cvae.nn.flatten import Flatten
from cvae.nn.fully_connected import FullyConnected
from cvae.nn.geometry import Pad4
from cvae.nn.normalization import BatchNorm1D, BatchNorm2D, GroupNorm
from cvae.nn.pool2d import Pool2D
from cvae.nn.reshape import Reshape
from cvae.nn.residual import Residual
from cvae.nn.upsample2d import Upsample2D

Array = npt.NDArray[Any]
Translation = Callable[[Program, Any, Buffer, Step, "Buffer | None"], Buffer]

CHANNELS = 32  # of weights that lie side by side for `conv`: two of the widest vectors
COLUMNS = 128  # the same for `dense`: eight vectors
NARROWEST = 16
FEW = 4  # output channels, for which sums over input channels become vectors


def translate(program: Program, row: Sequence[Step], x: Buffer, labels: Buffer | None) -> Buffer:
    """Add layers in a row to a program, and return the buffer of their output; x keeps its contents."""
    for step in row:
        translation: Translation = translation_of(LAYERS, step.layer, "C", "a layer")
        y = translation(program, step.layer, x, step, labels)
        if not _does_relu(step.layer):
            activate(program, getattr(step.layer, "act_fn", None), y, math.prod(step.out_shape))
        x = y
    return x


def _does_relu(layer: Any) -> bool:
    """Return whether the translation of a layer includes its activation."""
    return isinstance(layer, (Conv2D, ConvTranspose2D, FullyConnected)) and type(layer.act_fn) is act.ReLU


def activate(program: Program, act_fn: act.ActivationBase | None, y: Buffer, count: int) -> None:
    """Add an activation in place; None is the identity."""
    if act_fn is None or is_identity(act_fn):
        return
    function, *constants = translation_of(ACTIVATIONS, act_fn, "C", "an activation")(act_fn)
    program.call(function, y, count, *map(float, constants))


# -------------------------------------------------------------------- layers
#
# Each gets the program, the layer, its input, the shapes and the labels, and returns a new buffer with what comes
# before the activation, or after it for ReLU where `_does_relu`.


class _Outputs(NamedTuple):
    """Where a convolution writes: every `step`-th pixel of rows of `cols` pixels, from `start` on."""

    buffer: Buffer
    start: int
    step: int
    shape: tuple[int, int]
    cols: int


def _convolution(
    program: Program, to: _Outputs, x: Place, x_cols: int, stride: int, spacing: tuple[int, int], W: Array, b: Array, *,
    relu: bool,
) -> None:  # fmt: skip
    """Add a convolution with weights W (taps, taps across, channels, outputs) of an image with its padding."""
    source = program.source
    (rows, cols), (taps, across, channels, outputs) = to.shape, W.shape
    if not (taps and across):
        program.call(
            "fill", Place(to.buffer, to.start), to.step * to.cols * outputs, to.step * outputs, source.array(b), rows,
            cols, outputs, relu,
        )  # fmt: skip
        return
    distances = x_cols * channels, channels
    geometry = (
        *(to.step * each for each in (to.cols * outputs, outputs)), x, *(stride * each for each in distances),
        *(space * each for space, each in zip(spacing, distances, strict=True)),
    )  # fmt: skip
    if spacing[1] == 1:  # taps of a row are neighbours in memory
        across, channels = 1, across * channels
    start, end = Place(to.buffer, to.start), (taps, across, channels, relu)
    if outputs <= FEW and channels >= 2 * NARROWEST:
        few = np.moveaxis(W, -1, 0)
        program.call("conv_to_few", start, *geometry, source.array(few), source.array(b), rows, cols, outputs, *end)
        return
    for first in range(0, outputs, CHANNELS):
        count = min(CHANNELS, outputs - first)
        width = CHANNELS if count > NARROWEST else NARROWEST
        weights, bias = (_widened(array[..., first : first + count], width) for array in (W, b))
        program.call(
            "conv", Place(to.buffer, to.start + first), *geometry, source.array(weights), source.array(bias), rows,
            cols, count, width, *end,
        )  # fmt: skip


def _widened(array: Array, width: int) -> Array:
    """Return an array with zeros at the end of its last axis."""
    return np.concatenate([array, np.zeros((*array.shape[:-1], width - array.shape[-1]), array.dtype)], -1)


def _padded(program: Program, x: Buffer, shape: Sequence[int], pad4: Pad4) -> tuple[Buffer, int]:
    """Return an image with zeros around it, and its number of cols."""
    (rows, cols, channels), (top, bottom, left, right) = shape, pad4
    if not any(pad4):
        return x, cols
    y_rows, y_cols = rows + top + bottom, cols + left + right
    y = program.buffer(y_rows * y_cols * channels)
    program.call("pad", y, x, rows, cols, channels, top, left, y_rows, y_cols)
    return y, y_cols


def _conv2d(program: Program, layer: Conv2D, x: Buffer, step: Step, labels: Buffer | None) -> Buffer:
    inside, cols = _padded(program, x, step.in_shape, layer._pad4((1, *step.in_shape)))
    y = program.buffer(math.prod(step.out_shape))
    to = _Outputs(y, 0, 1, step.out_shape[:2], step.out_shape[1])  # type: ignore[arg-type]
    spacing = (layer.dilation + 1,) * 2
    _convolution(
        program, to, Place(inside, 0), cols, layer.stride, spacing, array_of(layer, "W"), layer.b,
        relu=_does_relu(layer),
    )  # fmt: skip
    return y


class _Phase(NamedTuple):
    """One of each `stride` outputs of a transposed convolution along an axis, a convolution with some of the taps.

    Attributes
    ----------
    taps : list of int
        In the order of the pixels that they multiply.
    start : int
        The pixel that the first of them multiplies for the first output; may be negative.
    spacing : int
        Pixels from one tap's to the next one's.
    outputs : int
        Of this phase.
    """

    taps: list[int]
    start: int
    spacing: int
    outputs: int


def _phase(first: int, size: int, stride: int, crop: int, taps: int, dilation: int) -> _Phase:
    """Return the phase of outputs first, first + stride, ... of `size` in all."""
    # Output i gets pixel p through tap r if i + crop = p * stride + r * (dilation + 1).
    step = dilation + 1
    mine = [r for r in range(taps) if (first + crop - r * step) % stride == 0][::-1]
    pixels = [(first + crop - r * step) // stride for r in mine]
    spacing = pixels[1] - pixels[0] if len(pixels) > 1 else 1
    return _Phase(mine, pixels[0] if pixels else 0, spacing, len(range(first, size, stride)))


def _conv_transpose2d(program: Program, layer: ConvTranspose2D, x: Buffer, step: Step, labels: Buffer | None) -> Buffer:
    top, _, left, _ = layer._crop()
    axes = [
        [
            _phase(first, step.out_shape[axis], layer.stride, crop, layer.kernel_shape[axis], layer.dilation)
            for first in range(min(layer.stride, step.out_shape[axis]))
        ]
        for axis, crop in ((0, top), (1, left))
    ]
    pad4 = tuple(size for axis in (0, 1) for size in _reach(axes[axis], step.in_shape[axis]))
    inside, cols = _padded(program, x, step.in_shape, pad4)  # type: ignore[arg-type]
    y, W, channels = program.buffer(math.prod(step.out_shape)), array_of(layer, "W").swapaxes(2, 3), step.in_shape[2]
    for i, down in enumerate(axes[0]):
        for j, across in enumerate(axes[1]):
            start = (i * step.out_shape[1] + j) * step.out_shape[2]
            to = _Outputs(y, start, layer.stride, (down.outputs, across.outputs), step.out_shape[1])
            at = ((down.start + pad4[0]) * cols + across.start + pad4[2]) * channels
            _convolution(
                program, to, Place(inside, at), cols, 1, (down.spacing, across.spacing),
                W[down.taps][:, across.taps], layer.b, relu=_does_relu(layer),
            )  # fmt: skip
    return y


def _reach(phases: Sequence[_Phase], size: int) -> tuple[int, int]:
    """Return how many zeros before and after an axis of `size` pixels the phases read."""
    with_taps = [phase for phase in phases if phase.taps]
    before = max((-phase.start for phase in with_taps), default=0)
    ends = (phase.start + (len(phase.taps) - 1) * phase.spacing + phase.outputs for phase in with_taps)
    return max(before, 0), max(max(ends, default=0) - size, 0)


def _pool2d(program: Program, layer: Pool2D, x: Buffer, step: Step, labels: Buffer | None) -> Buffer:
    inside, cols = _padded(program, x, step.in_shape, layer._pad4((1, *step.in_shape)))
    y, (rows, out_cols, channels) = program.buffer(math.prod(step.out_shape)), step.out_shape
    name = "max_pool" if layer.mode == "max" else "average_pool"
    program.call(name, y, inside, cols, channels, rows, out_cols, *layer.kernel_shape, layer.stride)
    return y


def _upsample2d(program: Program, layer: Upsample2D, x: Buffer, step: Step, labels: Buffer | None) -> Buffer:
    y = program.buffer(math.prod(step.out_shape))
    name = "upsample" if layer.mode == "nearest" else "upsample_bilinear"
    program.call(name, y, x, *step.in_shape, *layer.factor)
    return y


def _fully_connected(program: Program, layer: FullyConnected, x: Buffer, step: Step, labels: Buffer | None) -> Buffer:
    y, source, (inputs, outputs) = program.buffer(step.out_shape[0]), program.source, array_of(layer, "W").shape
    whole = outputs // COLUMNS * COLUMNS
    for first, last, width in ((0, whole, COLUMNS), (whole, outputs, -(-(outputs - whole) // NARROWEST) * NARROWEST)):
        if first < last:
            W, b = array_of(layer, "W")[:, first:last], layer.b[first:last]
            blocks = -(-(last - first) // width)
            packed = _widened(W, blocks * width).reshape(inputs, blocks, width).swapaxes(0, 1)
            bias = source.array(_widened(b, blocks * width))
            at = Place(y, first)
            program.call("dense", at, x, source.array(packed), bias, inputs, blocks, width, _does_relu(layer))
    return y


def _view(program: Program, layer: Flatten | Reshape, x: Buffer, step: Step, labels: Buffer | None) -> Buffer:
    return x


def _copied(program: Program, x: Buffer, shape: Sequence[int]) -> Buffer:
    """Return a copy of numbers, to be changed in place."""
    y, count = program.buffer(math.prod(shape)), math.prod(shape)
    program.call("pad", y, x, 1, 1, count, 0, 0, 1, 1)
    return y


def _batch_norm(
    program: Program, layer: BatchNorm1D | BatchNorm2D, x: Buffer, step: Step, labels: Buffer | None
) -> Buffer:
    y, channels = _copied(program, x, step.in_shape), step.in_shape[-1]
    factor = array_of(layer, "scaler") / np.sqrt(array_of(layer, "running_var").astype(np.float64) + layer.epsilon)
    numbers = array_of(layer, "running_mean"), factor, array_of(layer, "intercept")
    program.call("normalize", y, *map(program.source.array, numbers), math.prod(step.in_shape[:-1]), channels)
    return y


def _group_norm(program: Program, layer: GroupNorm, x: Buffer, step: Step, labels: Buffer | None) -> Buffer:
    y, (rows, cols, channels) = _copied(program, x, step.in_shape), step.in_shape
    numbers = (program.source.array(array_of(layer, name)) for name in ("scaler", "intercept"))
    program.call("group_norm", y, *numbers, rows * cols, channels, layer.groups, float(layer.epsilon))
    return y


def _residual(program: Program, layer: Residual, x: Buffer, step: Step, labels: Buffer | None) -> Buffer:
    y = translate(program, steps(layer.layers, step.in_shape), x, labels)
    if y is x:  # in another shape
        y = _copied(program, x, step.out_shape)
    beside = x
    if layer.shortcut is not None:
        beside = translate(program, steps([layer.shortcut], step.in_shape), x, labels)
    program.call("add", y, beside, math.prod(step.out_shape))
    return y


def _condition(program: Program, layer: Condition, x: Buffer, step: Step, labels: Buffer | None) -> Buffer:
    assert labels is not None
    y, channels = program.buffer(math.prod(step.out_shape)), step.in_shape[-1]
    count = step.out_shape[-1] - channels
    program.call("append", y, x, labels, math.prod(step.in_shape[:-1]), channels, count)
    return y


LAYERS: dict[type, Translation] = {
    Conv2D: _conv2d,
    ConvTranspose2D: _conv_transpose2d,
    Pool2D: _pool2d,
    Upsample2D: _upsample2d,
    FullyConnected: _fully_connected,
    Flatten: _view,
    Reshape: _view,
    BatchNorm1D: _batch_norm,
    BatchNorm2D: _batch_norm,
    GroupNorm: _group_norm,
    Residual: _residual,
    Condition: _condition,
}


# --------------------------------------------------------------- activations

# For each class what returns the name of a function of `kernels.c`, and its constants.
ACTIVATIONS: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    act.Sigmoid: lambda each: ("sigmoid",),
    act.ReLU: lambda each: ("relu",),
    act.LeakyReLU: lambda each: ("leaky_relu", each.alpha),
    act.GELU: lambda each: ("gelu" if each.approximate else "gelu_exact",),
    act.Tanh: lambda each: ("hyperbolic_tangent",),
    act.Affine: lambda each: ("affine", each.slope, each.intercept),
    act.Identity: lambda each: ("affine", each.slope, each.intercept),
    act.ELU: lambda each: ("elu", each.alpha, 1),
    act.SELU: lambda each: ("elu", each._scale * each._alpha, each._scale),
    act.Exponential: lambda each: ("exponential",),
    act.HardSigmoid: lambda each: ("hard_sigmoid",),
    act.SoftPlus: lambda each: ("softplus",),
}
