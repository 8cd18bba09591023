"""All or nothing: restoring objects and random number generators if a block fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np


@contextlib.contextmanager
def undone_on_error(objects: Iterable[Any], rngs: Iterable[np.random.Generator] = ()) -> Iterator[None]:
    """Restore the objects' attributes and the generators' states if the block raises.

    Attributes are restored as references: what the block writes into an existing array stays.
    """
    attributes = [(each, dict(vars(each))) for each in objects]
    states = [(rng.bit_generator, rng.bit_generator.state) for rng in rngs]
    try:
        yield
    except BaseException:
        for each, before in attributes:
            vars(each).clear()
            vars(each).update(before)
        for bit_generator, state in states:
            bit_generator.state = state
        raise
