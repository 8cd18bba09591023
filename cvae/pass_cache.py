"""The passes of each model, kept from one call to the next."""

from __future__ import annotations

import threading
import weakref
from typing import Any

from cvae.passes import Passes


class PassCache(threading.local):
    """The passes of each model, separate for each Python thread, so that several threads can use one model.

    By the model's id, which takes a fraction of the time of a WeakKeyDictionary, until the model is gone.
    """

    def __init__(self) -> None:
        self._of: dict[int, tuple[weakref.ref[Any], dict[bool, Passes]]] = {}

    def kept_for(self, model: Any) -> dict[bool, Passes]:
        """Return the passes of a model, by whether they are for training."""
        key = id(model)
        if key in self._of:
            return self._of[key][1]
        by_id = self._of  # of this thread; the model may go in another

        def forget(_: weakref.ref[Any]) -> None:
            by_id.pop(key, None)

        by_id[key] = weakref.ref(model, forget), {}
        return by_id[key][1]
