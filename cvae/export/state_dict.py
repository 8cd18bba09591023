"""PyTorch's state dicts, in both directions, without PyTorch.

The names and layouts are those of ``torch.nn`` modules of the same layers, for images (n, channels, rows, cols): a
dense layer after a `Flatten`, before a `Reshape` to images, and at the end of a decoder has its weights in the order of
such images. `examples/pytorch_module.py` builds the module.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from cvae.core import Core
from cvae.export.parts import Step, check_model, steps, translation_of
from cvae.export.weights import OFFSET, SCALE, AnyModel, check_names, initialize, set_weights, weights_of
from cvae.io.files import replaced_file
from cvae.nn.appended_number import AppendedNumber
from cvae.nn.condition import Condition
from cvae.nn.conv2d import Conv2D
from cvae.nn.conv_transpose2d import ConvTranspose2D
from cvae.nn.flatten import Flatten
from cvae.nn.fully_connected import FullyConnected
from cvae.nn.normalization import BatchNorm1D, BatchNorm2D, GroupNorm
from cvae.nn.pool2d import Pool2D
from cvae.nn.protocol import Layer, Shape
from cvae.nn.reshape import Reshape
from cvae.nn.residual import Residual
from cvae.nn.upsample2d import Upsample2D

Array = npt.NDArray[Any]
Order = npt.NDArray[np.intp]  # the number in cvae of each feature in PyTorch

PREFIXES = ("module.", "_orig_mod.", "model.")  # what wrappers of modules put before all names
COUNTS = "num_batches_tracked"  # of PyTorch's batch normalization, which cvae does not count


class Tensor(NamedTuple):
    """A parameter in both forms.

    Attributes
    ----------
    path : str
        Such as "encoder/Conv1/W".
    name : str
        In a state dict, such as "encoder.Conv1.weight".
    to_torch, from_torch : callables
        Turn one form of the array into the other.
    """

    path: str
    name: str
    to_torch: Callable[[Array], Array]
    from_torch: Callable[[Array], Array]


def to_state_dict(model: Core) -> dict[str, Array]:
    """Return the weights of a model as a PyTorch state dict of NumPy arrays.

    ``{name: torch.from_numpy(array) for name, array in to_state_dict(vae).items()}`` is what ``load_state_dict`` of the
    module in `examples/pytorch_module.py` takes. Names are those of the layers, such as "encoder.Conv1.weight"; besides
    there are "pixel_offset" and "pixel_scale", with which the model maps pixels.

    Raises
    ------
    NotFittedError
        If the model has no parameters yet.
    ValueError
        If there is no translation of a layer, or of the order of features between two of them.
    """
    weights = weights_of(model)
    state = {}
    for tensor in _tensors(model):
        state[tensor.name] = np.array(tensor.to_torch(weights[tensor.path]), order="C")
        if tensor.path.endswith("running_var"):
            state[f"{tensor.name.removesuffix('running_var')}{COUNTS}"] = np.array(0, np.int64)
    return state | {name: weights[name].copy() for name in (OFFSET, SCALE)}


def to_torch_file(model: Core, path: str | os.PathLike[str]) -> None:
    """Write `to_state_dict` to a safetensors file, which PyTorch reads with ``safetensors.torch.load_file``.

    Raises
    ------
    NotFittedError, ValueError
        As from `to_state_dict`.
    OSError
        If the file cannot be written; an existing file is then left unchanged.
    """
    data = save(to_state_dict(model))
    with replaced_file(path) as file:
        file.write(data)


def from_state_dict(model: AnyModel, state: Mapping[str, Any]) -> AnyModel:
    """Give a model the weights of a PyTorch state dict, and return it.

    Parameters
    ----------
    model : VAE
        With the same layers; fitted, or with its `image_shape` given.
    state : mapping of str to tensor or array
        As `to_state_dict` names them; a prefix that all names have, "module." for example, is left out. "pixel_offset"
        and "pixel_scale" may be missing; then a model with parameters keeps its own.

    Raises
    ------
    ValueError
        If these are not exactly the weights of the model's layers, in name and shape, or are not finite. The model is
        then as it was.
    """
    check_model(model)
    given = {name: _as_array(value) for name, value in _unwrapped(state).items() if not name.endswith(COUNTS)}
    pixels = {name: given.pop(name) for name in (OFFSET, SCALE) if name in given}
    whole = _with_weights(model)
    tensors, before = list(_tensors(whole)), weights_of(whole)
    check_names(given, [tensor.name for tensor in tensors])
    weights: dict[str, Any] = {}
    for tensor in tensors:
        wanted = tensor.to_torch(before[tensor.path]).shape
        if given[tensor.name].shape != wanted:
            raise ValueError(f"{tensor.name} must have the shape {wanted}, got {given[tensor.name].shape}")
        weights[tensor.path] = tensor.from_torch(given[tensor.name])
    return set_weights(model, weights | pixels)


def _unwrapped(state: Any) -> dict[str, Any]:
    if not isinstance(state, Mapping):
        hint = ", whose state_dict() is one" if hasattr(state, "state_dict") else ""
        raise TypeError(f"state must be a mapping of names to tensors, got a {type(state).__name__}{hint}")
    found = {str(name): value for name, value in state.items()}
    for prefix in PREFIXES:
        if found and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _as_array(value: Any) -> Array:
    """Return a tensor, wherever and of whatever dtype it is, as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value)


def _with_weights(model: AnyModel) -> AnyModel:
    """Return the model or, if it has no parameters yet, a copy that has."""
    if not model.__sklearn_is_fitted__():
        model = copy.deepcopy(model)
        initialize(model)
    return model


def _tensors(model: Core) -> Iterator[Tensor]:
    """Yield all parameters of a model."""
    image_shape = model._require_fitted()
    yield from _of_row("encoder", model.encoder_, image_shape, np.arange(2 * model.T))
    computing = {name: layer for name, layer in model.decoder_.items() if not isinstance(layer, AppendedNumber)}
    rows, cols, _ = image_shape
    n_outputs = model._likelihood.n_outputs(image_shape)
    yield from _of_row("decoder", computing, (model.T,), _image_order((rows, cols, n_outputs // (rows * cols))))
    for name in model.decoder_.keys() - computing.keys():
        for key in model.decoder_[name].parameters:
            yield _tensor(f"decoder/{name}", key, key)


# --------------------------------------------------------- order of features


def _image_order(shape: Shape) -> Order:
    """Return the order in PyTorch of the numbers of an image (rows, cols, channels)."""
    return np.arange(math.prod(shape)).reshape(shape).transpose(2, 0, 1).ravel()


def _of_row(part: str, layers: Mapping[str, Layer], shape: Shape, last: Order) -> Iterator[Tensor]:
    """Yield the parameters of layers in a row, of which the last one puts out features, if it does, in this order."""
    row = steps(layers.values(), shape)
    wanted = _wanted_orders(row, last)
    order, before = np.arange(math.prod(shape)), "the codes"
    for name, step, needed, after in zip(layers, row, wanted, wanted[1:], strict=False):
        _check_order(order, needed, before, f"{part}/{name}")
        translate: Translation = translation_of(LAYERS, step.layer, "PyTorch", "a layer")
        new = _order_after(step, order, after)
        yield from translate(f"{part}/{name}", step, order, new)
        order, before = new, f"{part}/{name}"
    _check_order(order, wanted[-1], before, "the outputs")


def _check_order(order: Order, needed: Order | None, before: str, after: str) -> None:
    """Raise ValueError unless features have the order that is needed."""
    if needed is not None and not np.array_equal(order, needed):
        raise ValueError(
            f"a FullyConnected layer must stand between {before} and {after} to be exported to PyTorch, which has the "
            f"pixels of images in another order"
        )


def _wanted_orders(row: Sequence[Step], last: Order) -> list[Order | None]:
    """Return the order in which each layer needs its input, and `last`; None where any will do, and for images."""
    wanted: list[Order | None] = [last if len(row[-1].out_shape) == 1 else None]
    for step in reversed(row):
        layer, after, features = step.layer, wanted[0], step.in_shape[0]
        before: Order | None = None
        if len(step.in_shape) == 1:
            if isinstance(layer, Residual):
                before = np.arange(features)
            elif isinstance(layer, Reshape) and len(step.out_shape) == 3:
                before = _image_order(step.out_shape)
            elif not isinstance(layer, FullyConnected) and after is not None:
                before = after[:features]
        wanted.insert(0, before)
    return wanted


def _order_after(step: Step, order: Order, wanted: Order | None) -> Order:
    """Return the order of a layer's outputs; without meaning for images."""
    layer, features = step.layer, np.arange(math.prod(step.out_shape))
    if len(step.out_shape) != 1:
        return features
    if isinstance(layer, FullyConnected):
        return features if wanted is None else wanted
    if len(step.in_shape) == 3:
        return _image_order(step.in_shape)
    if isinstance(layer, Residual):
        return features
    return np.concatenate([order, features[len(order) :]])


# -------------------------------------------------------------------- layers
#
# Each gets the layer's path, itself with its shapes, and the orders of its inputs and outputs, if these are features.

Translation = Callable[[str, Step, Order, Order], Iterator[Tensor]]


def _same(array: Array) -> Array:
    return array


def _tensor(
    path: str, key: str, name: str, to_torch: Callable[[Array], Array] = _same,
    from_torch: Callable[[Array], Array] = _same,
) -> Tensor:  # fmt: skip
    return Tensor(f"{path}/{key}", f"{path.replace('/', '.')}.{name}", to_torch, from_torch)


def _convolution(path: str, step: Step, order: Order, after: Order) -> Iterator[Tensor]:
    yield _tensor(path, "W", "weight", lambda W: W.transpose(3, 2, 0, 1), lambda weight: weight.transpose(2, 3, 1, 0))
    yield _tensor(path, "b", "bias", lambda b: b.reshape(-1), lambda bias: bias.reshape(1, 1, 1, -1))


def _fully_connected(path: str, step: Step, order: Order, after: Order) -> Iterator[Tensor]:
    back, after_back = np.argsort(order), np.argsort(after)
    yield _tensor(
        path, "W", "weight", lambda W: W[order][:, after].T, lambda weight: weight.T[back][:, after_back]
    )  # fmt: skip
    yield _tensor(path, "b", "bias", lambda b: b[0, after], lambda bias: bias[None, after_back])


def _normalization(path: str, step: Step, order: Order, after: Order) -> Iterator[Tensor]:
    names = {"scaler": "weight", "intercept": "bias", "running_mean": "running_mean", "running_var": "running_var"}
    back = np.argsort(order)
    for key in step.layer.parameters:
        if len(step.in_shape) == 1:
            yield _tensor(path, key, names[key], lambda array: array[order], lambda array: array[back])
        else:
            yield _tensor(path, key, names[key])


def _residual(path: str, step: Step, order: Order, after: Order) -> Iterator[Tensor]:
    layer: Any = step.layer
    yield from _of_row(path, layer._row, step.in_shape, after)
    yield from _of_row(path, layer._beside, step.in_shape, after) if layer.shortcut is not None else ()


def _nothing(path: str, step: Step, order: Order, after: Order) -> Iterator[Tensor]:
    return iter(())


LAYERS: dict[type, Translation] = {
    Conv2D: _convolution,
    ConvTranspose2D: _convolution,
    FullyConnected: _fully_connected,
    BatchNorm1D: _normalization,
    BatchNorm2D: _normalization,
    GroupNorm: _normalization,
    Residual: _residual,
    **dict.fromkeys((Pool2D, Upsample2D, Flatten, Reshape, Condition), _nothing),
}
