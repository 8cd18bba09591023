"""scikit-learn's own base classes below the models, from the moment that it is imported.

They bring `set_output`, metadata routing, tags, HTML and `isinstance(vae, sklearn.base.BaseEstimator)`. Importing them
with `cvae` would take ten times as long as the rest, and they are an optional extra, so they are put in later.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cvae.hints import no_attribute

# What only scikit-learn's base classes have: asking for it imports them if they are installed.
_FROM_SCIKIT_LEARN = re.compile(r"set_output|set_callbacks|set_\w+_request|get_metadata_routing|_repr_\w+_")


class _NoBase:
    """In the place of scikit-learn's base classes until they are there."""


_lock = threading.Lock()


class LateBase(_NoBase):
    """Base of classes that get scikit-learn's base classes as soon as an instance is made, or asked for what they have.

    An instance from before the import gets them, too.
    """

    _hints: Mapping[str, str] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take scikit-learn's base classes now, where bases of a user's class may be in the way of them."""
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("cvae."):
            return
        try:
            take_base()
        except TypeError:  # the orders of bases contradict each other
            given = cls.__bases__
            cls.__bases__ = tuple(base for base in given if issubclass(base, LateBase))  # or no class could have them
            names = ", ".join(base.__name__ for base in given if base not in cls.__bases__)
            model = cls.__bases__[0].__name__
            raise TypeError(
                f"{cls.__name__} must not have the bases {names} beside {model}, which brings scikit-learn's base "
                "classes in another order: leave those of scikit-learn out"
            ) from None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        take_base()
        return super().__new__(cls)

    def __getattr__(self, name: str) -> Any:
        """Look once more, among scikit-learn's methods, if they are there by now."""
        if isinstance(getattr(type(self), name, None), property):
            return object.__getattribute__(self, name)  # which raised an AttributeError of its own
        if take_base(import_it=_FROM_SCIKIT_LEARN.fullmatch(name) is not None):
            return getattr(self, name)
        raise no_attribute(self, name, self._hints)

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self)]  # scikit-learn's evaluates all of them

    def __sklearn_tags__(self) -> Any:
        take_base()  # which only an instance from before the import still needs
        return super().__sklearn_tags__()  # type: ignore[misc]


def take_base(*, import_it: bool = False) -> bool:
    """Give `LateBase` scikit-learn's base classes if it has been imported; return whether they are new there."""
    if LateBase.__bases__ != (_NoBase,):
        return False
    if import_it:
        with contextlib.suppress(ImportError):  # an optional extra
            importlib.import_module("sklearn.base")
    found: Any = sys.modules.get("sklearn.base")
    if not hasattr(found, "is_outlier_detector"):  # not there, or still being imported
        return False
    bases = found.TransformerMixin, *_callback_support(), found.BaseEstimator, _NoBase
    with _lock:
        if LateBase.__bases__ == (_NoBase,):
            LateBase.__bases__ = bases
            for cls in _with_subclasses(LateBase):
                super(cls, cls).__init_subclass__()  # which makes `set_fit_request` and others from the signatures
    return True


def _callback_support() -> tuple[type[Any], ...]:
    """Return the base class with `set_callbacks`, which scikit-learn has from version 1.9 on."""
    try:
        return (importlib.import_module("sklearn.callback").CallbackSupportMixin,)
    except ImportError:
        return ()


def run_with_callbacks(
    model: Any,
    run: Callable[..., None],
    callbacks: Sequence[Any],
    n_epochs: int,
    reconstruct: Callable[[], dict[str, Any]],
    data: dict[str, Any],
) -> None:
    """Train with `callbacks` and those of scikit-learn's `set_callbacks`, to which `fit` and its epochs are tasks.

    Parameters
    ----------
    model : VAE
    run : callable
        Trains for up to `n_epochs`, with the `callbacks` that it is given.
    callbacks : sequence
    n_epochs : int
    reconstruct : callable
        Returns the attributes that make a copy of the model one that is as far as the model is now.
    data : dict
        X, y and metadata, for the callbacks that ask for them.
    """
    if not vars(model).get("_skl_callbacks"):
        run(callbacks=callbacks)
        return

    def train(model: Any) -> None:
        known = {**data, "estimator": model, "reconstruction_attributes": reconstruct}
        whole = model._init_callback_context(max_subtasks=n_epochs).call_on_fit_task_begin(**known)

        def begin() -> Any:
            return whole.subcontext(task_name="epoch").call_on_fit_task_begin(**known)

        tasks = [begin()]

        def end(model: Any, epoch: int, entry: Any) -> bool:
            stops = bool(tasks[-1].call_on_fit_task_end(**known))
            if not stops and len(tasks) < n_epochs:
                tasks.append(begin())
            return stops

        run(callbacks=[*callbacks, end])
        whole.call_on_fit_task_end(**known)

    importlib.import_module("sklearn.callback").with_callbacks(train)(model)


def _with_subclasses(cls: type[Any]) -> list[type[Any]]:
    """Return a class and all classes below it, each once and after its bases."""
    found = {cls: None}
    for subclass in cls.__subclasses__():
        found |= dict.fromkeys(_with_subclasses(subclass))
    return [*found]
