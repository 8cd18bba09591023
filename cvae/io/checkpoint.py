"""The whole state of a model (parameters, optimizers, random numbers, history) to and from one file.

A model that is loaded goes on training with the same bits as the one that was saved.
"""

import inspect
import os
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cvae.assembly import call_strings
from cvae.io import serialization
from cvae.nn.base import LayerBase
from cvae.nn.initializers import OptimizerInitializer
from cvae.optim.base import OptimizerBase
from cvae.parsing import Parsable

Array = npt.NDArray[Any]


AnyModel = TypeVar("AnyModel")  # a cvae.core.Core


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a model that has parameters to a file, see `cvae.VAE.save`."""
    image_shape = model._require_fitted()
    arrays: dict[str, Array] = {}
    optimizers: dict[str, Any] = {}
    for name, layer in _with_parameters(model).items():
        arrays |= {f"{name}/{key}": value for key, value in layer.parameters.items() if value is not None}
        optimizers[name] = _optimizer_state(layer.optimizer, f"optimizer/{name}", arrays)
    # Of a subclass what the class of this package, which `load` knows, makes of it.
    saved_class = next(each for each in type(model).__mro__ if each.__module__.startswith("cvae."))
    names = [*inspect.signature(saved_class).parameters]
    arguments = {name: _as_text(name, getattr(model, name)) for name in names}
    _check_can_be_read(model, saved_class, arguments, optimizers)
    description = {
        "model": saved_class.__name__,
        "arguments": arguments,
        "image_shape": image_shape,
        "layers": {name: _hyperparameters(layer) for name, layer in model._layers().items()},
        "frozen": [name for name, layer in model._layers().items() if not layer.trainable],
        "optimizers": optimizers,
        "rng": [rng.bit_generator.state for rng in (model._rng, model._sampling_rng)],
        "history": model.history_,
    }
    serialization.write(path, arrays, description)


def _as_text(name: str, value: Any) -> Any:
    """Return an argument as JSON can hold it, and the constructor takes it."""
    if name == "random_state":  # a generator goes on from its state
        return value if isinstance(value, (int, np.integer)) else None
    if name == "dtype":
        return np.dtype(value).name
    if name in ("encoder", "decoder"):
        return call_strings(value)
    return str(value) if isinstance(value, Parsable) else value


def _check_can_be_read(
    model: Any, saved_class: type[Any], arguments: dict[str, Any], optimizers: dict[str, Any]
) -> None:
    """ValueError for what `load` could not make again, such as a scheduler of the user's own class."""
    for state in optimizers.values():
        OptimizerInitializer(state["call"])()
    made, layers = saved_class(**arguments)._layers(), model._layers()
    if made.keys() != layers.keys():
        raise ValueError(f"layers must be those of the constructor to be saved, {[*made]}, got {[*layers]}")
    for name, layer in layers.items():
        made[name].set_params({"hyperparameters": _hyperparameters(layer)})
    for name, values in model.history_.items():
        if not all(isinstance(value, (int, float)) for value in values):
            raise ValueError(f"history_ must hold lists of numbers to be saved, got {values!r} under {name!r}")


def load(classes: Mapping[str, type[AnyModel]], path: str | os.PathLike[str]) -> AnyModel:
    """Make a model from a file that `save` wrote; `classes` are those that it may be of.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a model file, or its contents do not fit together.
    """
    arrays, description = serialization.read(path)
    try:
        if description["format"] == 1:  # which knew one class
            description["model"] = "BernoulliVAE"
        model: Any = classes[description["model"]](**_with_tuples(description["arguments"], "encoder", "decoder"))
        for name, hyperparameters in description["layers"].items():
            model._layers()[name].set_params({"hyperparameters": _with_tuples(hyperparameters)})
        rows, cols, channels = description["image_shape"]
        model._initialize((rows, cols, channels))
        for name, layer in _with_parameters(model).items():
            layer.set_params({"parameters": {key: arrays[f"{name}/{key}"] for key in layer.parameters}})
            layer.optimizer = _restored_optimizer(description["optimizers"][name], f"optimizer/{name}", arrays)
        for name in description["frozen"]:
            model._layers()[name].freeze()
        model._rng, model._sampling_rng = (_restored_rng(state) for state in description["rng"])
        model.history_ = {name: [float(value) for value in values] for name, values in description["history"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"{os.fspath(path)} is not a complete model file of cvae: {error}") from None
    made: AnyModel = model
    return made


def _hyperparameters(layer: LayerBase) -> dict[str, Any]:
    """What describes a layer beside its arrays and optimizer: it may be changed after the model is made."""
    return {name: value for name, value in layer.hyperparameters.items() if name != "optimizer"}


def _with_tuples(values: dict[str, Any], *lists: str) -> dict[str, Any]:
    """Return the values with tuples for what JSON made lists of, except for those that were lists."""
    return {k: tuple(v) if isinstance(v, list) and k not in lists else v for k, v in values.items()}


def _restored_rng(state: dict[str, Any]) -> np.random.Generator:
    bit_generator = getattr(np.random, state["bit_generator"])
    if not issubclass(bit_generator, np.random.BitGenerator):
        raise ValueError(f"rng must be a bit generator of NumPy, got {state['bit_generator']!r}")
    rng = np.random.Generator(bit_generator())
    rng.bit_generator.state = state
    return rng


def _with_parameters(model: Any) -> dict[str, LayerBase]:
    return {name: layer for name, layer in model._layers().items() if layer.parameters}


def _optimizer_state(optimizer: OptimizerBase, prefix: str, arrays: dict[str, Array]) -> dict[str, Any]:
    """The optimizer as JSON; its arrays go to `arrays` under names that start with the prefix."""
    counts: dict[str, Any] = {}
    for name, state in optimizer.cache.items():
        for key, value in (state if isinstance(state, dict) else {"": state}).items():
            if isinstance(value, np.ndarray):
                arrays[f"{prefix}/{name}/{key}"] = value
            else:
                counts.setdefault(name, {})[key] = value
    scheduler = optimizer.lr_scheduler
    state = {name: value for name, value in vars(scheduler).items() if name not in scheduler.arguments}
    return {"call": str(optimizer), "step": optimizer.cur_step, "counts": counts, "scheduler": state}


def _restored_optimizer(state: dict[str, Any], prefix: str, arrays: dict[str, Array]) -> OptimizerBase:
    optimizer = OptimizerInitializer(state["call"])()
    cache: dict[str, Any] = {}
    for path, array in arrays.items():
        if path.startswith(prefix + "/"):
            name, key = path.removeprefix(prefix + "/").split("/")
            if key:
                cache.setdefault(name, dict(state["counts"].get(name, {})))[key] = array
            else:
                cache[name] = array
    optimizer.set_params(cache_dict=cache)
    optimizer.cur_step = int(state["step"])
    for name, value in state["scheduler"].items():
        setattr(optimizer.lr_scheduler, name, value)
    return optimizer
