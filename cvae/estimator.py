"""A model's constructor arguments: read, changed and shown as scikit-learn's estimators do."""

from __future__ import annotations

import copy
import difflib
import functools
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

import numpy as np

from cvae._kernels.program import has_values
from cvae.hints import of_argument
from cvae.parsing import signature_of, unknown_argument
from cvae.scikit_learn import LateBase
from cvae.undo import undone_on_error
from cvae.warning import warn

_OTHERS_NAMES = {  # of other libraries' constructors
    **dict.fromkeys(("latent_dim", "latent_size", "z_dim", "n_latent", "n_components"), "T"),
    **dict.fromkeys(("epochs", "max_epochs", "max_iter", "epoch_num", "num_epochs"), "n_epochs"),
    "batch_size": "batchsize",
    "learning_rate": "lr",
    **dict.fromkeys(("seed", "random_seed"), "random_state"),
    "n_jobs": "n_threads",
    **dict.fromkeys(("input_shape", "input_dim", "img_size"), "image_shape"),
    **dict.fromkeys(("beta", "kl_weight"), "objective='ELBO(beta=...)'"),
    **dict.fromkeys(("loss", "reconstruction_loss"), "likelihood"),
    **dict.fromkeys(("hidden_dims", "hidden_layer_sizes"), "encoder and decoder, lists of layers,"),
}
_DOES_NOTHING = {  # if it is assigned to a model, as to one of another library
    "stop_training": "a callback that returns True ends the training",
    "trainable": "freeze keeps the parameters of a layer",
    "training": "fit trains, and all other methods leave the model as it is",
}


class NotFittedError(ValueError, AttributeError):
    """The model has no parameters yet; scikit-learn's error of this name has the same bases."""


def not_fitted(message: str) -> NotFittedError:
    """Return the error, which is also one of scikit-learn's class of this name if that has been imported."""
    theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
    if theirs is None:
        return NotFittedError(message)
    both: type[NotFittedError] = type("NotFittedError", (NotFittedError, theirs), {"__reduce__": _reduced})
    return both(message)


def _reduced(error: NotFittedError) -> tuple[Any, ...]:
    """Return what pickle makes an equal error from, in worker processes for example."""
    return not_fitted, error.args


HINTS = {name: f"it is {known.rstrip(',')} here" for name, known in _OTHERS_NAMES.items()}  # of attributes


class Given:
    """An argument of a model that takes effect each time it is given, even if that is the value that it has.

    What it describes may be another by then: a callback lowers learning rates, which the argument sets back.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        if model is None:
            return self
        if self.name not in vars(model):
            raise AttributeError(self.name)
        return vars(model)[self.name]

    def __set__(self, model: Any, value: Any) -> None:
        vars(model)[self.name] = value
        if value is not None and model._is_started:
            in_effect = zip(model._arguments, model._in_effect, strict=True)
            model._in_effect = tuple(self if name == self.name else before for name, before in in_effect)


def _noting(init: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that notes in `_passed` which arguments a derived class's passes on by itself.

    These are neither its own nor given to it: it would pass them a second time if they were.
    """
    parameters = inspect.signature(init).parameters
    if any(each.kind is each.VAR_POSITIONAL for each in parameters.values()):
        return init  # whose arguments without names may be anything
    positional = [*parameters][1:]

    @functools.wraps(init)
    def noting(self: Any, *args: Any, **kwargs: Any) -> None:
        names = {*positional[: len(args)], *kwargs}
        noted = vars(self).get("_noted")
        if noted is not None:  # the constructor of a base
            noted |= names
            init(self, *args, **kwargs)
            return
        self._noted = noted = set()
        try:
            init(self, *args, **kwargs)
        finally:
            del self._noted
        own = signature_of(type(self)).parameters
        passed = {name: vars(self)[name] for name in noted - names if name not in own and name in vars(self)}
        if passed or "_passed" in vars(self):  # otherwise the arguments are all that an instance has
            self._passed = passed

    return noting


class Estimator(LateBase, ABC):
    """Base of the models: each argument of the constructor is an attribute of the same name.

    The constructor only keeps its arguments; what they describe is made, and they are checked, by the first method that
    needs it. A later change, whether made by `set_params` or by assigning the attribute, takes effect in the next
    method call. `_take_effect` defines what follows from it.
    """

    T: int
    _keeps_parameters: frozenset[str]  # arguments that can change in a trained model
    _in_effect: tuple[Any, ...]
    _as_taken: dict[str, Any]  # copies of lists and dicts in effect
    _passed: Mapping[str, Any] = {}  # what the constructor of a derived class gave its bases by itself

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        init = vars(cls).get("__init__")
        if inspect.isfunction(init) and not hasattr(init, "__wrapped__"):
            cls.__init__ = _noting(init)  # type: ignore[method-assign]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Name the argument that an unknown name stands for, where Python would only call that unexpected."""
        name = unknown_argument(cls, kwargs)
        if name is not None:
            hint = _hint(name, signature_of(cls).parameters)
            raise TypeError(f"{cls.__name__} got an unexpected keyword argument {name!r}{hint}")
        return super().__new__(cls)

    @classmethod
    def _argument_names(cls) -> tuple[str, ...]:
        return tuple(cls._parameters_by_name())

    @classmethod
    def _parameters_by_name(cls) -> dict[str, inspect.Parameter]:
        """Return the constructor's parameters; those of the class below too, if it passes other arguments on."""
        found: dict[str, inspect.Parameter] = {}
        for each in cls.__mro__:
            if "__init__" not in vars(each):
                continue
            parameters = list(inspect.signature(each.__init__).parameters.values())[1:]  # type: ignore[misc]
            named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
            found = {parameter.name: parameter for parameter in named} | found
            if all(each.kind is not each.VAR_KEYWORD for each in parameters):
                break
        return found

    @abstractmethod
    def _start(self) -> None:
        """Check the arguments and make what they describe, without parameters."""

    @abstractmethod
    def _check_arguments(self) -> None:
        """Raise TypeError or ValueError if an argument is invalid."""

    @abstractmethod
    def _take_effect(self, changed: set[str]) -> None:
        """Apply a change of these arguments, all or nothing."""

    def _fitted_text(self) -> str:
        """Return what training has made of the model, in a few words; nothing if it has no parameters."""
        return ""

    @property
    def _is_started(self) -> bool:
        return "_in_effect" in vars(self)

    def _remember_arguments(self) -> None:
        """Record the current arguments as those in effect."""
        constructors = [cls.__init__ for cls in type(self).__mro__ if "__init__" in vars(cls)]  # type: ignore[misc]
        names = {name: None for constructor in constructors for name in inspect.signature(constructor).parameters}
        self._arguments = tuple(name for name in names if name in vars(self))
        self._in_effect = tuple(map(vars(self).get, self._arguments))
        # Lists may change in the hands of the caller, who makes another model of them perhaps.
        taken = zip(self._arguments, self._in_effect, strict=True)
        self._as_taken = {name: copy.copy(value) for name, value in taken if isinstance(value, (list, dict))}

    def _sync(self) -> None:
        """Apply arguments that are new or were assigned; raise TypeError or ValueError if one is invalid."""
        if not self._is_started:
            self._start()
        elif not has_values(vars(self), self._arguments, self._in_effect):
            self._check_arguments()
            self._apply(set(self._changed()))

    def _apply(self, changed: set[str]) -> None:
        """Apply a change of these arguments and record all as those in effect, all or nothing."""
        with undone_on_error([self]):
            self._take_effect(changed)
            self._remember_arguments()

    def _changed(self) -> dict[str, Any]:
        """Return the former values, by name, of arguments that are others now than when they took effect."""
        former = dict(zip(self._arguments, self._in_effect, strict=True)) | self._as_taken
        return {name: before for name, before in former.items() if not _is_same(vars(self)[name], before)}

    def _has_other_lists(self) -> bool:
        """Return whether a list or dict that is an argument has changed inside."""
        return any(not _is_same(vars(self)[name], before) for name, before in self._as_taken.items())

    def _warn_of_unused(self) -> None:
        """Warn of attributes that were assigned as if they were arguments, which nothing reads."""
        if not type(self).__module__.startswith("cvae."):
            return  # a subclass may have what it likes
        names = self._argument_names()
        for name in sorted(vars(self).keys() - set(names)):
            if name.startswith("_") or name.endswith("_"):
                continue
            close = difflib.get_close_matches(name, names, 1, 0.8)
            meant = (HINTS | _DOES_NOTHING).get(name) or "".join(f"it is {known} here" for known in close)
            if meant:
                message = f"{name} of this {type(self).__name__} has been assigned, but does nothing: {meant}"
                warn(message)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name, as scikit-learn's estimators do.

        Those that the constructor of a derived class passes to its base by itself are none of its own, unless they have
        been changed since.
        """
        values = {name: getattr(self, name) for name in self._argument_names()}
        passed = self._passed
        return {
            name: value for name, value in values.items() if name not in passed or not _is_same(value, passed[name])
        }

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments, which are checked and take effect in the next method call.

        A trained model keeps what it has learnt. How to train (epochs, batch size, threads, optimizer, lr, objective,
        beta, binarize), dtype, random_state and algorithm change at once. What its layers depend on, such as T, can
        only change with the next `fit`, which then starts anew; until then other methods raise an error that says so,
        and go on as before if the argument is set back. Assigning an attribute does the same.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a name is unknown; nothing is changed in that case.
        """
        names = self._argument_names()
        for name in params:
            if name not in names:
                hint = _hint(name, names)
                raise ValueError(f"set_params must get arguments of {type(self).__name__}, got {name!r}{hint}")
        current = self.get_params()
        changed = {
            name: value
            for name, value in params.items()
            if not _is_same(value, getattr(self, name)) or isinstance(getattr(type(self), name, None), Given)
        }
        if changed.keys() <= self._keeps_parameters & current.keys():
            for name, value in changed.items():
                setattr(self, name, value)
        else:  # a subclass may derive others from its arguments
            with undone_on_error([self]):
                self._construct_anew(current, changed)
        return self

    def _construct_anew(self, current: dict[str, Any], changed: dict[str, Any]) -> None:
        try:
            self.__init__(**current | changed)  # type: ignore[misc]
        except TypeError as error:
            passed = sorted((current | changed).keys() & self._passed.keys())
            if not passed:
                raise
            cls = type(self).__name__
            raise ValueError(f"{passed[0]} must be left to {cls}, whose constructor passes it on: {error}") from None

    def __repr__(self) -> str:
        defaults = self._parameters_by_name()
        changed = [f"{k}={v!r}" for k, v in self.get_params().items() if repr(v) != repr(defaults[k].default)]
        call = f"{type(self).__name__}({', '.join(changed)})"
        return f"<{call} {fitted}>" if (fitted := self._fitted_text()) else call


def _hint(name: str, known: Collection[str]) -> str:
    """Return what an unknown name is called among these, for the end of a message."""
    return f", which is {_OTHERS_NAMES[name]} here" if name in _OTHERS_NAMES else of_argument(name, known)


def _is_same(value: Any, other: Any) -> bool:
    return value is other or (type(value) is type(other) and np.array_equal(value, other))
