"""Random number generators, and normal deviates of a given dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def standard_normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Draw standard normal deviates of dtype float32 or float64, in that precision."""
    return rng.standard_normal(shape, np.float32) if np.dtype(dtype) == np.float32 else rng.standard_normal(shape)


def make_rng(random_state: int | np.random.Generator | np.random.RandomState | None) -> np.random.Generator:
    """Return a generator for a seed, the given generator itself, or a new one with fresh entropy for None.

    A legacy RandomState seeds a new generator, which advances its state.
    """
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31, size=4))
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError):
        raise ValueError(
            f"random_state must be an int >= 0, a numpy.random.Generator or RandomState, or None, got {random_state!r}"
        ) from None
