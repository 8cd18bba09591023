"""A constructor's arguments as scikit-learn's `BaseEstimator` handles them, for where that is not installed."""

from __future__ import annotations

import inspect
from typing import Any, Self


class Parameters:
    """Base of classes whose constructor does no more than to store its arguments in attributes of the same names."""

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        """Return the arguments' default values by name."""
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        return {parameter.name: parameter.default for parameter in parameters}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments by name; with `deep` those of estimators among them too, such as "vae__T"."""
        params = {name: getattr(self, name) for name in self._defaults()}
        if deep:
            for name, value in list(params.items()):
                if hasattr(value, "get_params") and not isinstance(value, type):
                    params |= {f"{name}__{key}": inner for key, inner in value.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Change arguments, or those of estimators among them; raise ValueError if a name is unknown."""
        nested: dict[str, dict[str, Any]] = {}
        for name in params:
            first, _, rest = name.partition("__")
            if first not in self._defaults():
                raise ValueError(f"set_params must get arguments of {type(self).__name__}, got {name!r}")
            if rest:
                nested.setdefault(first, {})[rest] = params[name]
        for name, value in params.items():
            if "__" not in name:
                setattr(self, name, value)
        for name, inner in nested.items():
            getattr(self, name).set_params(**inner)
        return self

    def __repr__(self) -> str:
        changed = [
            f"{k}={getattr(self, k)!r}" for k, v in self._defaults().items() if repr(getattr(self, k)) != repr(v)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"
