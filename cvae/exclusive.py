"""One thread at a time trains a model."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from typing import Any

# The thread that trains a model, and the list that tells its outermost call from those of callbacks.
_trained_by: weakref.WeakKeyDictionary[Any, tuple[int, list[None]]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def only_here(model: Any) -> Iterator[None]:
    """Keep other threads from training a model within the block, which the same thread may enter again.

    Raises
    ------
    RuntimeError
        If another thread is training the model, or was when this process was forked.
    """
    own: tuple[int, list[None]] = threading.get_ident(), []
    holder = _trained_by.setdefault(model, own)  # in one step, and without a lock that a fork could leave locked
    if holder[0] != own[0]:
        raise RuntimeError(f"this {type(model).__name__} is being trained by another thread: train a copy of it")
    try:
        yield
    finally:
        if holder is own:
            _trained_by.pop(model, None)
