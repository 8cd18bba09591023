"""The weights of a model by path, such as "encoder/Conv1/W", and as an .npz file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cvae.annealing import Clock
from cvae.core import Core
from cvae.data.images import resolve_image_shape
from cvae.data.mapping import PixelMapping, identity, of_range
from cvae.export.parts import check_model
from cvae.io.files import as_path, replaced_file
from cvae.scaling import in_given_units
from cvae.undo import undone_on_error

Array = npt.NDArray[Any]
AnyModel = TypeVar("AnyModel", bound=Core)

OFFSET, SCALE = "pixel_offset", "pixel_scale"


def weights_of(model: Core) -> dict[str, Array]:
    """Return the parameters of a model by path, without copying them, and how it maps pixels.

    Raises
    ------
    NotFittedError
        If the model has no parameters yet.
    """
    check_model(model)
    model._require_fitted()
    assert model._mapping is not None
    weights = {
        f"{path}/{name}": np.asarray(array)
        for path, layer in model._layers().items()
        for name, array in layer.parameters.items()
    }
    return weights | {OFFSET: model._mapping.offset, SCALE: model._mapping.scale}


def set_weights(model: AnyModel, weights: Mapping[str, npt.ArrayLike]) -> AnyModel:
    """Replace the parameters of a model by copies of these, by path, and return the model.

    A model without parameters gets them, if its `image_shape` is known. Optimizers start anew; the mixture of
    `fit_prior`, which belongs to the codes of the old weights, goes.

    Parameters
    ----------
    model : VAE
    weights : mapping of str to array
        Under `OFFSET` and `SCALE` they may hold the model's `pixel_offset_` and `pixel_scale_`. Otherwise a model that
        has parameters keeps its own, and another one takes pixels as they are, or in its `value_range`.

    Raises
    ------
    ValueError
        If the weights are not exactly those of the model's layers, in name and shape, or are not finite. The model is
        then as it was.
    """
    check_model(model)
    left = dict(weights)
    pixels = [left.pop(name, None) for name in (OFFSET, SCALE)]
    parts: list[Any] = [part for layer in model._layers().values() for part in layer.parts()]
    with undone_on_error([model, *parts], [model._rng]):
        initialize(model, *pixels)
        layers = model._layers()
        known = {f"{path}/{name}" for path, layer in layers.items() for name in layer.parameters}
        check_names(left, known)
        for path, layer in layers.items():
            own = {
                name: _checked(left[f"{path}/{name}"], f"{path}/{name}", before)
                for name, before in layer.parameters.items()
            }
            if own:
                layer.set_params({"parameters": own})
            layer.optimizer = layer.optimizer.copy()
            layer.optimizer.set_params(cache_dict={})
            layer.optimizer.reset_step()
        model._clock = Clock()
        if getattr(model, "_mixture", None) is not None:
            model._mixture = None  # type: ignore[attr-defined]
    return model


def initialize(model: Core, offset: npt.ArrayLike | None = None, scale: npt.ArrayLike | None = None) -> None:
    """Create the parameters of a model that has none, from its `image_shape`; set its mapping of pixels if given."""
    model._sync()
    mapping = None
    if offset is not None and scale is not None:
        offset, scale = np.asarray(offset, np.float64), np.asarray(scale, np.float64)
        ends = (float(offset.min()), float((offset + scale).max()))
        if model.value_range is None:  # of which only means and standard deviations are known
            is_unit = offset.min() >= 0 and offset.max() <= 1 and scale.max() <= 0.5
            ends = (0.0, 1.0) if is_unit else (float((offset - 2 * scale).min()), float((offset + 2 * scale).max()))
        mapping = PixelMapping(offset, scale, ends, divides_bytes=model.value_range is None)
    if not model.__sklearn_is_fitted__():
        if model.image_shape is None:
            raise ValueError("image_shape must be given to a model without parameters that takes weights, got None")
        if model.condition is not None or (mapping is None and model.value_range == "data"):
            raise ValueError(
                "a model that learns labels or the range of its pixels must be fitted before it takes weights"
            )
        shape = resolve_image_shape(model.image_shape)
        model._initialize(shape, mapping or _given_mapping(model, shape[2]))
    elif mapping is not None:
        model._mapping = mapping
    assert model._image_shape is not None
    assert model._mapping is not None
    if model._mapping.offset.size != model._image_shape[2]:
        raise ValueError(
            f"pixel_offset must be of {model._image_shape[2]} channels, got the shape {model._mapping.offset.shape}"
        )
    model._given_likelihood = in_given_units(model._likelihood, model._value_range, model._mapping, model._image_shape)


def _given_mapping(model: Core, channels: int) -> PixelMapping:
    """Return the mapping of a model that has not learnt one."""
    value_range = model._value_range
    if value_range is None or isinstance(value_range, str):
        return identity(channels)
    return of_range(*value_range, channels)


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ValueError unless these are the same names, in any order."""
    given, known = set(given), set(known)
    for names, what in ((known - given, "must be given"), (given - known, "are of no layer")):
        if names:
            shown = ", ".join(sorted(names)[:5])
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise ValueError(f"weights must be those of the model's layers: {shown}{more} {what}")


def _checked(value: npt.ArrayLike, path: str, before: Array | None) -> Array:
    """Return the new value of a parameter, whose shape and dtype must stay."""
    array = np.asarray(value)
    assert before is not None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path} must hold real numbers, got dtype {array.dtype}")
    if array.shape != before.shape:
        raise ValueError(f"{path} must have the shape {before.shape}, got {array.shape}")
    with np.errstate(over="ignore"):
        array = array.astype(before.dtype)
    if not np.isfinite(array).all():
        raise ValueError(f"{path} must hold numbers that are finite as {before.dtype}, got NaN or infinity")
    return array


def to_npz(model: Core, path: str | os.PathLike[str]) -> None:
    """Write the weights of a model to an .npz file, as arrays such as "encoder/Conv1/W", in cvae's layout.

    A convolution's W is (kernel_rows, kernel_cols, in_ch, out_ch), a dense layer's (n_in, n_out). "pixel_offset" and
    "pixel_scale" say how the model maps pixels.

    Raises
    ------
    NotFittedError
        If the model has no parameters yet.
    OSError
        If the file cannot be written; an existing file is then left unchanged.
    """
    weights: dict[str, Any] = weights_of(model)
    with replaced_file(path) as file:
        np.savez(file, **weights)


def from_npz(model: AnyModel, path: str | os.PathLike[str]) -> AnyModel:
    """Give a model the weights that `to_npz` wrote, and return it.

    Parameters
    ----------
    model : VAE
        With the same layers; fitted, or with its `image_shape` given.
    path : path

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no .npz file, or its arrays are not those of the model's layers. The model is then as it was.
    """
    check_model(model)
    name = as_path(path)
    with open(name, "rb") as file:
        if not zipfile.is_zipfile(file):  # but one array, a pickle, or a model
            raise ValueError(f"{name} is not an .npz file of weights, as to_npz writes them")
        file.seek(0)
        try:
            with np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
                weights = {name: arrays[name] for name in arrays.files}
        except (ValueError, AttributeError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"{name} is not an .npz file of weights: {error}") from None
    return set_weights(model, weights)
