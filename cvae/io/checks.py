"""Do the parts of a model file fit together: sizes before anything of them is made, then states and history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae import assembly
from cvae.core import Core
from cvae.nn.base import LayerBase
from cvae.nn.protocol import Shape
from cvae.position import COLUMNS

Array = npt.NDArray[Any]


def check_sizes(model: Core, arrays: Mapping[str, Array], image_shape: tuple[int, int, int], n_labels: int) -> None:
    """Raise ValueError unless there are as many parameters among the arrays as the model's layers have.

    A description of a few bytes can ask for layers of any size, so these are counted before one of them is made.
    """
    model._make_missing(image_shape)
    encoder, decoder = assembly.sized_copies(
        model.encoder_, model.decoder_, model._likelihood, image_shape, model.T, n_labels
    )
    for part, layers, shape in (("encoder", encoder, (1, *image_shape)), ("decoder", decoder, (1, model.T))):
        _check_sizes_through(part, layers, shape, arrays)


def _check_sizes_through(part: str, layers: Mapping[str, LayerBase], shape: Shape, arrays: Mapping[str, Array]) -> None:
    for name, layer in layers.items():
        prefix = f"{part}/{name}/"
        found = sum(array.size for path, array in arrays.items() if path.startswith(prefix))
        if (expected := layer.n_parameters(shape)) != found:
            raise ValueError(f"{part}/{name} must have {expected} parameters, got {found}")
        shape = layer.output_shape(shape)


def check_layer(path: str, layer: LayerBase, dtype: npt.DTypeLike) -> None:
    """Raise ValueError unless a layer has the model's dtype, finite parameters, and an optimizer whose state fits."""
    if layer.dtype != dtype:
        raise ValueError(f"{path} must have the dtype of the model, {np.dtype(dtype)}, got {layer.dtype}")
    if name := layer.diverged_parameter():
        raise ValueError(f"{name} of {path} must be finite, got NaN or infinity: has the training diverged?")
    layer.optimizer.check_cache({name: layer.parameters.get(name) for name in layer.gradients}, path)


def check_history(columns: Mapping[str, Sequence[Any] | Array]) -> None:
    """Raise ValueError unless a history's columns are lists of numbers, those of `fit` of one length."""
    for name, values in columns.items():
        if np.ndim(values) != 1:
            raise ValueError(f"history_ must hold lists of numbers, got {np.ndim(values)} dimensions under {name!r}")
        if not all(isinstance(value, (int, float, np.number)) for value in values):
            raise ValueError(f"history_ must hold lists of numbers, got {values!r} under {name!r}")
    lengths = {name: len(values) for name, values in columns.items() if name in COLUMNS}
    if len({*lengths.values()}) > 1:
        raise ValueError(f"history_ must hold lists of the same length, got the lengths {lengths}")
