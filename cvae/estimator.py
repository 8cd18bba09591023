"""A model's constructor arguments: read, changed and shown as scikit-learn's estimators do."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae._kernels.program import has_values
from cvae.undo import undone_on_error


class NotFittedError(ValueError, AttributeError):
    """The model has no parameters yet; scikit-learn's error of this name has the same bases."""


class Estimator(ABC):
    """Base of the models: each argument of the constructor is an attribute of the same name.

    A change takes effect in the next method call, whether made by `set_params` or by assigning the attribute.
    `_take_effect` defines what follows from it.
    """

    T: int
    _keeps_parameters: frozenset[str]  # arguments whose change leaves the parameters as they are

    @classmethod
    def _argument_names(cls) -> tuple[str, ...]:
        return tuple(list(inspect.signature(cls.__init__).parameters)[1:])

    @abstractmethod
    def _check_arguments(self) -> None:
        """Raise TypeError or ValueError if an argument is invalid."""

    @abstractmethod
    def _take_effect(self, changed: set[str]) -> None:
        """Apply a change of these arguments, all or nothing."""

    def _remember_arguments(self) -> None:
        """Record the current arguments as those in effect."""
        constructors = [cls.__init__ for cls in type(self).__mro__ if "__init__" in vars(cls)]  # type: ignore[misc]
        names = {name: None for constructor in constructors for name in inspect.signature(constructor).parameters}
        self._arguments = tuple(name for name in names if name in vars(self))
        self._in_effect = tuple(map(vars(self).get, self._arguments))

    def _sync(self) -> None:
        """Apply arguments that were assigned; raise TypeError or ValueError if one is invalid."""
        if has_values(vars(self), self._arguments, self._in_effect):
            return
        values = map(vars(self).__getitem__, self._arguments)
        pairs = zip(self._arguments, values, self._in_effect, strict=True)
        with undone_on_error([self]):
            self._check_arguments()
            self._take_effect({name for name, value, before in pairs if not _is_same(value, before)})
            self._remember_arguments()

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name, as scikit-learn's estimators do."""
        return {name: getattr(self, name) for name in self._argument_names()}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments.

        Changing how to train (epochs, batch size, threads, optimizer, objective, binarize) keeps the trained
        parameters; any other change but that of `verbose` creates new, untrained layers.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a name is unknown or a value invalid; nothing is changed in that case.
        """
        names = self._argument_names()
        for name in params:
            if name not in names:
                raise ValueError(f"set_params must get arguments of {type(self).__name__}, got {name!r}")
        current = self.get_params()
        changed = {name: value for name, value in params.items() if not _is_same(value, current[name])}
        with undone_on_error([self]):
            if changed.keys() <= self._keeps_parameters:
                for name, value in changed.items():
                    setattr(self, name, value)
                self._sync()
            else:  # a subclass may derive others from its arguments
                self.__init__(**current | changed)  # type: ignore[misc]
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = [f"{k}={v!r}" for k, v in self.get_params().items() if repr(v) != repr(defaults[k].default)]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags, TransformerTags  # an optional extra

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float32", "float64"]),
        )

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return names for the columns of `transform`: the class name in lower case followed by the column number."""
        return np.array([f"{type(self).__name__.lower()}{i}" for i in range(self.T)], dtype=object)


def _is_same(value: Any, other: Any) -> bool:
    return value is other or (type(value) is type(other) and np.array_equal(value, other))
