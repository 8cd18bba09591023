"""One training of a model at a time."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

# By the ids of models: the thread that trains one, and the model. Attributes of models would be copied and saved.
_trained: dict[int, tuple[int, Any]] = {}


@contextlib.contextmanager
def alone(model: Any) -> Iterator[None]:
    """Raise RuntimeError if the model is within such a block already, in any thread."""
    own = threading.get_ident(), model
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


def _after_fork_in_child() -> None:
    """Let go of models that other threads were training, which do not exist here.

    Their generators are locked if one was drawing a number at that moment.
    """
    for key, (thread, model) in [*_trained.items()]:
        if thread != threading.get_ident():
            del _trained[key]
            for rng in (vars(model).get(name) for name in ("random_state", "_rng", "_sampling_rng")):
                if hasattr(rng, "bit_generator"):
                    rng.bit_generator.lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
