"""A model's constructor arguments: read, changed and shown as scikit-learn's estimators do."""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae._kernels.program import has_values
from cvae.scikit_learn import LateBase
from cvae.undo import undone_on_error


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


class Estimator(LateBase, ABC):
    """Base of the models: each argument of the constructor is an attribute of the same name.

    The constructor only keeps its arguments; what they describe is made, and they are checked, by the first method that
    needs it. A later change, whether made by `set_params` or by assigning the attribute, takes effect in the next
    method call. `_take_effect` defines what follows from it.
    """

    T: int
    _keeps_parameters: frozenset[str]  # arguments that can change in a trained model
    _in_effect: tuple[Any, ...]

    @classmethod
    def _argument_names(cls) -> tuple[str, ...]:
        return tuple(list(inspect.signature(cls.__init__).parameters)[1:])

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

    def _sync(self) -> None:
        """Apply arguments that are new or were assigned; raise TypeError or ValueError if one is invalid."""
        if not self._is_started:
            self._start()
        elif not has_values(vars(self), self._arguments, self._in_effect):
            with undone_on_error([self]):
                self._check_arguments()
                self._take_effect(set(self._changed()))
                self._remember_arguments()

    def _changed(self) -> dict[str, Any]:
        """Return the former values, by name, of arguments that have been assigned others since they took effect."""
        values = map(vars(self).__getitem__, self._arguments)
        pairs = zip(self._arguments, values, self._in_effect, strict=True)
        return {name: before for name, value, before in pairs if not _is_same(value, before)}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name, as scikit-learn's estimators do."""
        return {name: getattr(self, name) for name in self._argument_names()}

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
                raise ValueError(f"set_params must get arguments of {type(self).__name__}, got {name!r}")
        current = self.get_params()
        changed = {name: value for name, value in params.items() if not _is_same(value, current[name])}
        if changed.keys() <= self._keeps_parameters:
            vars(self).update(changed)
        else:  # a subclass may derive others from its arguments
            with undone_on_error([self]):
                self.__init__(**current | changed)  # type: ignore[misc]
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = [f"{k}={v!r}" for k, v in self.get_params().items() if repr(v) != repr(defaults[k].default)]
        call = f"{type(self).__name__}({', '.join(changed)})"
        return f"<{call} {fitted}>" if (fitted := self._fitted_text()) else call

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return names for the columns of `transform`: the class name in lower case followed by the column number."""
        return np.array([f"{type(self).__name__.lower()}{i}" for i in range(self.T)], dtype=object)


def _is_same(value: Any, other: Any) -> bool:
    return value is other or (type(value) is type(other) and np.array_equal(value, other))
