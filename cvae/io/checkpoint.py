"""Saving and loading the complete state of a model: parameters, optimizers, random number generators, history.

A loaded model continues training with the same bits as the saved one.
"""

import inspect
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cvae import assembly, conditions
from cvae.annealing import Annealing, Clock
from cvae.checking import check_count
from cvae.core import Core
from cvae.data.columns import Columns
from cvae.data.errors import one_line
from cvae.data.mapping import PixelMapping, identity
from cvae.io import serialization
from cvae.io.checks import check_history, check_layer, check_sizes
from cvae.mixture import Mixture
from cvae.nn.base import LayerBase
from cvae.nn.fully_connected import FullyConnected
from cvae.nn.initializers import OptimizerInitializer
from cvae.optim.base import OptimizerBase
from cvae.optim.schedulers import make_scheduler
from cvae.parsable import Parsable
from cvae.position import TIMES, Position
from cvae.sampling import Sampling
from cvae.warning import warn

Array = npt.NDArray[Any]
AnyModel = TypeVar("AnyModel", bound=Sampling)
# What a description that is none, or has values of other types, raises somewhere. MemoryError is none of these.
_UNFIT = LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, NotImplementedError
_UNKNOWN_CLASS = re.compile(r"\bthe [a-z ]+ must be one of [\w, ]+, got '\w+'$")  # as `cvae.parsing` writes it
_HISTORY = "history/"  # what the names of the history's columns among the arrays begin with


def save(model: Sampling, path: str | os.PathLike[str], *, optimizer_state: bool = True) -> None:
    """Write a model with parameters to a file; see `cvae.VAE.save`."""
    arrays, description = _contents(model, optimizer_state)
    serialization.write(path, arrays, description)


def check_can_be_saved(model: Sampling) -> None:
    """Raise what `save` would raise of a model without parameters, such as ValueError for what `load` cannot restore.

    Also for a model without parameters yet; `fit` can be refused with this before it starts.
    """
    for layer in model._layers().values():
        OptimizerInitializer(str(layer.optimizer))()
    saved_class = _saved_class(model)
    saved_class(**_arguments(model, saved_class))


def _contents(model: Sampling, optimizer_state: bool) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays and the description of a model's file; raise ValueError for what `load` could not restore."""
    image_shape = model._require_fitted()
    arrays: dict[str, Array] = {}
    optimizers: dict[str, Any] = {}
    for name, layer in _with_parameters(model).items():
        check_layer(name, layer, model.dtype)
        arrays |= {f"{name}/{key}": value for key, value in layer.parameters.items() if value is not None}
        optimizers[name] = {"call": str(layer.optimizer), "step": 0, "counts": {}, "scheduler": {}}
        if optimizer_state:
            optimizers[name] |= _optimizer_state(layer.optimizer, f"optimizer/{name}", arrays)
    if model._mixture is not None:
        arrays |= {f"prior/{name}": array for name, array in model._mixture._asdict().items()}
    arrays |= _history_arrays(model.history_)
    saved_class = _saved_class(model)
    arguments = _arguments(model, saved_class)
    named = _layers_of_named(model, arguments)
    clock = model._clock if optimizer_state else model._clock.without_state(model._objective.beta)
    description: dict[str, Any] = {
        "model": saved_class.__name__,
        "arguments": arguments,
        "image_shape": image_shape,
        "pixels": _pixels(model._mapping),
        "layers": {name: _hyperparameters(layer) for name, layer in model._layers().items()},
        "frozen": [name for name, layer in model._layers().items() if not layer.trainable],
        "optimizers": optimizers,
        "clock": asdict(clock),
        "rng": [rng.bit_generator.state for rng in (model._rng, model._sampling_rng)],
        "history": [name for name in model.history_ if name not in TIMES],
        **({"named": named} if named else {}),  # which files of models from lists of layers do not have
    }
    if type(model) is not saved_class:
        description["subclass"] = {"name": type(model).__qualname__, **_own_arguments(model)}
    if model._columns.are_rows:
        description["columns"] = model._columns.names
    if model._label_kind is not None:
        description["labels"] = model._label_kind.state()
    if model._position is not None and optimizer_state:
        description["position"] = model._position.state()
    _check_can_be_read(saved_class, description)
    return arrays, description


def _saved_class(model: Sampling) -> type[Any]:
    """Return of a subclass the class of this package, which `load` knows."""
    return next(each for each in type(model).__mro__ if each.__module__.startswith("cvae."))


def _arguments(model: Sampling, saved_class: type[Any]) -> dict[str, Any]:
    taken = model._as_taken if model._is_started else {}
    values = {name: taken.get(name, getattr(model, name)) for name in inspect.signature(saved_class).parameters}
    return {name: _as_text(name, value) for name, value in values.items()}


def _own_arguments(model: Sampling) -> dict[str, Any]:
    """Return the arguments of a subclass's own constructor, and the names of those that JSON cannot represent."""
    params = model.get_params(deep=False)
    arguments = {name: _as_text(name, model._as_taken.get(name, value)) for name, value in params.items()}
    kept = {name: value for name, value in arguments.items() if _is_writable(value)}
    return {"arguments": kept, "missing": sorted(arguments.keys() - kept.keys())}


def _is_writable(value: Any) -> bool:
    try:
        serialization.as_text({"value": value})
    except (TypeError, ValueError):
        return False
    return True


def _history_arrays(history: Mapping[str, list[float]]) -> dict[str, Array]:
    """Return a history's columns, without times, so that equal runs give equal files."""
    columns = {name: values for name, values in history.items() if name not in TIMES}
    check_history(columns)
    return {f"{_HISTORY}{name}": np.array(values, np.float64) for name, values in columns.items()}


def _as_text(name: str, value: Any) -> Any:
    """Return an argument in a form that JSON can represent and the constructor accepts."""
    if name == "random_state":  # the state of a generator is saved separately
        return value if isinstance(value, (int, np.integer)) else None
    if name == "dtype":
        return np.dtype(value).name
    if name in ("encoder", "decoder") and not isinstance(value, str):
        return [layer if isinstance(layer, str) else repr(layer) for layer in value]
    return str(value) if isinstance(value, Parsable) else value


def _layers_of_named(model: Core, arguments: dict[str, Any]) -> dict[str, list[str]]:
    """Return the call strings of the layers of networks given by name, of which another version may make others."""
    parts = {"encoder": model.encoder_, "decoder": model.decoder_}
    return {
        part: [repr(layer) for name, layer in layers.items() if name not in assembly.added_to(layers)]
        for part, layers in parts.items()
        if isinstance(arguments.get(part), str)
    }


def _check_can_be_read(saved_class: type[Any], description: dict[str, Any]) -> None:
    """Raise ValueError or TypeError for what `load` could not restore."""
    written = json.loads(serialization.as_text(description))
    _made({saved_class.__name__: saved_class}, written)


def load(
    classes: Mapping[str, type[AnyModel]], path: str | os.PathLike[str], cls: type[AnyModel] | None = None
) -> AnyModel:
    """Return the model that `save` wrote to a file.

    Parameters
    ----------
    classes : mapping
        The possible classes by name.
    path : str or path
    cls : type, optional
        One of them, or a class derived from it. None means that of this package which was saved, and warns if it was
        that of a subclass.

    Raises
    ------
    TypeError
        If `path` is not a str or path, or `cls` not such a class.
    OSError
        If the file cannot be read.
    ValueError
        If it is not a model file, its contents do not fit together, or `cls` is not of the model in the file.
    """
    if cls is not None and not (isinstance(cls, type) and issubclass(cls, tuple(classes.values()))):
        raise TypeError(f"cls must be one of the classes {', '.join(classes)}, or derived from one, got {cls!r}")
    arrays, description = serialization.read(path)
    name = os.fspath(path)
    try:
        base = classes["BernoulliVAE" if description["format"] == 1 else description["model"]]
        fits = cls is None or issubclass(cls, base)
        subclass = str(description["subclass"]["name"]) if "subclass" in description else None
        if fits:
            model = _made({base.__name__: base}, description, cls)
            _fill(model, arrays, description)
    except _UNFIT as error:
        found = one_line(error)
        if _UNKNOWN_CLASS.search(found):
            message = f"{name} is of a class that is not defined here: {found}; import the module that defines it first"
        else:
            message = f"{name} is not a complete model file of cvae: {found}"
        raise ValueError(message) from None
    if not fits:
        raise ValueError(f"{name} holds a {base.__name__}, got the class {cls.__name__}")  # type: ignore[union-attr]
    if cls is None and subclass is not None:
        shown = one_line(subclass)
        warn(
            f"{name} was saved from {shown}, a class derived from {base.__name__}, which this returns: pass that class "
            f"as cls, or cls={base.__name__}",
        )
    missing = [str(each) for each in description.get("subclass", {}).get("missing", ())] if cls is not None else []
    if missing and cls is not base:
        warn(
            f"{name} does not hold {one_line(', '.join(missing))} of the {type(model).__name__}, which have their "
            "defaults: set_params changes them",
        )
    return model


def _made(
    classes: Mapping[str, type[AnyModel]], description: dict[str, Any], cls: type[AnyModel] | None = None
) -> AnyModel:
    """Return a model without parameters from the description of its file, in which older formats are brought up.

    It is of the class `cls`, if there is one, made from what its own constructor takes.
    """
    if description["format"] == 1:  # knew only one class
        description["model"] = "BernoulliVAE"
    if description["format"] < 3:
        _, _, channels = description["image_shape"]
        description["pixels"] = _pixels(identity(channels))  # which were taken as they were
    arguments = _with_tuples(description["arguments"] | description.get("named", {}), "encoder", "decoder")
    if cls is None or cls is classes[description["model"]]:
        model = classes[description["model"]](**arguments)
    else:
        model = cls(**_with_tuples(description.get("subclass", {}).get("arguments", arguments)))
        for name, value in arguments.items():
            setattr(model, name, value)
    layers = model._layers()
    if [*layers] != [*description["layers"]]:
        raise ValueError(f"layers must be those of the constructor, {[*layers]}, got {[*description['layers']]}")
    for name, hyperparameters in description["layers"].items():
        layers[name].set_params({"hyperparameters": _with_tuples(hyperparameters)})
    for state in description["optimizers"].values():
        OptimizerInitializer(state["call"])()
    for name in description["frozen"]:
        layers[name].freeze()
    model._rng, model._sampling_rng = (_restored_rng(state) for state in description["rng"])
    if "position" in description:
        model._position = Position.restored(description["position"], model._rng)
    return model


def _fill(model: Sampling, arrays: dict[str, Array], description: dict[str, Any]) -> None:
    """Give a model its parameters, the state of its optimizers, and its history."""
    rows, cols, channels = description["image_shape"]
    kind = None if model.condition is None else conditions.restored(model.condition, description["labels"])
    check_sizes(model, arrays, (rows, cols, channels), 0 if kind is None else kind.n_labels)
    rng_states = [rng.bit_generator.state for rng in (model._rng, model._sampling_rng)]
    model._initialize((rows, cols, channels), _restored_mapping(description["pixels"], channels), kind)
    model._rng.bit_generator.state, model._sampling_rng.bit_generator.state = rng_states
    if "columns" in description:
        names = description["columns"]
        model._columns = Columns(None if names is None else tuple(map(str, names)), True)
    if description["format"] < 3 and assembly.numbers_per_pixel(model._likelihood) == 2:
        _put_side_by_side(model, arrays)
    if "prior/weights" in arrays:
        model._mixture = Mixture(*(arrays[f"prior/{name}"] for name in Mixture._fields))
    for name, layer in _with_parameters(model).items():
        layer.set_params({"parameters": {key: arrays[f"{name}/{key}"] for key in layer.parameters}})
        layer.optimizer = _restored_optimizer(description["optimizers"][name], f"optimizer/{name}", arrays)
        check_layer(name, layer, model.dtype)
    model._clock = _clock(description, model._objective.beta)
    for part in description.get("named", {}):  # of which the arguments are still the names
        network = description["arguments"][part]
        if part not in ("encoder", "decoder") or not isinstance(network, str):
            raise ValueError(f"named must be networks by name, got {part}={network!r}")
        setattr(model, part, network)
    model._remember_arguments()
    if description["format"] < 4:
        history = {name: values for name, values in description["history"].items() if name not in TIMES}
    else:
        history = {name: arrays[f"{_HISTORY}{name}"] for name in description["history"]}
    check_history(history)
    model.history_ = {name: [float(value) for value in values] for name, values in history.items()}


def _hyperparameters(layer: LayerBase) -> dict[str, Any]:
    """Return a layer's hyperparameters, which may have changed since the model was created, without the optimizer."""
    return {name: value for name, value in layer.hyperparameters.items() if name != "optimizer"}


def _with_tuples(values: dict[str, Any], *lists: str) -> dict[str, Any]:
    """Return the values with JSON's lists turned back into tuples, except for those named in `lists`."""
    return {k: tuple(v) if isinstance(v, list) and k not in lists else v for k, v in values.items()}


def _pixels(mapping: PixelMapping | None) -> dict[str, Any]:
    assert mapping is not None
    return {name: getattr(mapping, name) for name in ("offset", "scale", "ends", "divides_bytes")}


def _put_side_by_side(model: Core, arrays: dict[str, Array]) -> None:
    """Reorder the parameters of a decoder that put out all means before all scales, instead of pixel by pixel."""
    name, layer = next(reversed(model.decoder_.items()))
    if not isinstance(layer, FullyConnected):
        raise ValueError(f"decoder must end with a dense layer in a file of an older format, got {layer!r}")
    for path, array in arrays.items():
        if path.startswith((f"decoder/{name}/", f"optimizer/decoder/{name}/")) and array.shape[-1:] == (layer.n_out,):
            arrays[path] = array.reshape(*array.shape[:-1], 2, -1).swapaxes(-1, -2).reshape(array.shape)


def _restored_mapping(saved: dict[str, Any], channels: int) -> PixelMapping:
    if len(saved["offset"]) != channels:
        raise ValueError(f"pixels must have {channels} offsets, got {saved['offset']}")
    return PixelMapping(**saved)


def _restored_rng(state: dict[str, Any]) -> np.random.Generator:
    bit_generator = getattr(np.random, state["bit_generator"])
    if not (isinstance(bit_generator, type) and issubclass(bit_generator, np.random.BitGenerator)):
        raise ValueError(f"rng must be a bit generator of NumPy, got {state['bit_generator']!r}")
    rng = np.random.Generator(bit_generator())
    rng.bit_generator.state = state
    return rng


def _with_parameters(model: Core) -> dict[str, LayerBase]:
    return {name: layer for name, layer in model._layers().items() if layer.parameters}


def _clock(description: dict[str, Any], beta: float | Annealing) -> Clock:
    """Return the clock of a model, as far as older formats tell."""
    if description["format"] >= 5:
        clock = Clock(**description["clock"])
        check_count("steps", clock.steps)
        for name, epoch in (("begun", clock.begun), ("settled", clock.settled)):
            if epoch is not None:
                check_count(name, epoch)
        return clock
    counts = [(each["step"], each.get("steps_before", 0)) for each in description["optimizers"].values()]
    clock = Clock(max(sum(check_count("step", count) for count in each) for each in counts))
    clock.begin_epoch(1, beta)
    return clock


def _optimizer_state(optimizer: OptimizerBase, prefix: str, arrays: dict[str, Array]) -> dict[str, Any]:
    """Return an optimizer's state for JSON and add its arrays to `arrays`, under names that start with `prefix`."""
    counts: dict[str, Any] = {}
    for name, state in optimizer.cache.items():
        for key, value in (state if isinstance(state, dict) else {"": state}).items():
            if isinstance(value, np.ndarray):
                arrays[f"{prefix}/{name}/{key}"] = value
            else:
                counts.setdefault(name, {})[key] = value
    return {
        "call": str(optimizer),
        "step": optimizer.cur_step,
        "counts": counts,
        "scheduler": make_scheduler(optimizer.lr_scheduler).state(),
    }


def _restored_optimizer(state: dict[str, Any], prefix: str, arrays: dict[str, Array]) -> OptimizerBase:
    optimizer = OptimizerInitializer(state["call"])()
    cache: dict[str, Any] = {}
    for path, array in arrays.items():
        if path.startswith(prefix + "/"):
            name, _, key = path.removeprefix(prefix + "/").rpartition("/")
            if key:
                cache.setdefault(name, dict(state["counts"].get(name, {})))[key] = array
            else:
                cache[name] = array
    optimizer.set_params(cache_dict=cache)
    optimizer.cur_step = check_count("step", state["step"])
    optimizer.lr_scheduler.restore(state["scheduler"])
    return optimizer
