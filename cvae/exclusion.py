"""One training of a model at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

_lock = threading.Lock()
_trained: set[int] = set()  # the ids of models; attributes of theirs would be copied and saved with them


@contextlib.contextmanager
def alone(model: Any) -> Iterator[None]:
    """Raise RuntimeError if the model is within such a block already, in any thread."""
    with _lock:
        if id(model) in _trained:
            raise RuntimeError(
                f"this {type(model).__name__} is being trained already, by another thread or the fit that has called a "
                "callback: train a copy (copy.deepcopy)"
            )
        _trained.add(id(model))
    try:
        yield
    finally:
        _trained.discard(id(model))
