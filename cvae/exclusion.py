"""One training of a model at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

_trained: dict[int, object] = {}  # by the ids of models; attributes of theirs would be copied and saved with them


@contextlib.contextmanager
def alone(model: Any) -> Iterator[None]:
    """Raise RuntimeError if the model is within such a block already, in any thread."""
    own = object()
    # One step of the interpreter, without a lock, which a process that forks could leave locked in its child.
    if _trained.setdefault(id(model), own) is not own:
        raise RuntimeError(
            f"this {type(model).__name__} is being trained already, by another thread or the fit that has called a "
            "callback: train a copy (copy.deepcopy)"
        )
    try:
        yield
    finally:
        _trained.pop(id(model), None)
