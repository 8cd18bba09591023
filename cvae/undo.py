"""All or nothing: restoring objects and random number generators if a block fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np


@contextlib.contextmanager
def undone_on_error(objects: Iterable[Any], rngs: Iterable[np.random.Generator] = ()) -> Iterator[Callable[[], None]]:
    """Restore the objects' attributes and the generators' states if the block raises.

    Attributes are restored as references: what the block writes into an existing array stays. The function that the
    block is given ends this: what has happened when it is called stays, and what was before is let go.
    """
    attributes = [(each, dict(vars(each))) for each in objects]
    states = [(rng.bit_generator, rng.bit_generator.state) for rng in rngs]

    def forget() -> None:
        attributes.clear()
        states.clear()

    try:
        yield forget
    except BaseException:
        for each, before in attributes:
            vars(each).clear()
            vars(each).update(before)
        for bit_generator, state in states:
            bit_generator.state = state
        raise
