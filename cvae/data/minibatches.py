"""Splitting a set of examples into minibatches."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
import numpy.typing as npt

from cvae.checking import check_size, check_switch


def minibatch(
    X: Sized, batchsize: int = 256, shuffle: bool = True, rng: np.random.Generator | None = None
) -> tuple[Iterator[npt.NDArray[np.intp]], int]:
    """Split the indices of the examples in `X` into minibatches.

    Parameters
    ----------
    X : sized
        The examples; only their number, ``len(X)``, is used.
    batchsize : int
        Examples per batch, >= 1. The last batch may be smaller.
    shuffle : bool
        Whether the indices are in random order; otherwise they are ascending.
    rng : numpy.random.Generator, optional
        Generator of the random order, which is drawn by the call itself, not by the first iteration.
        Default: a new generator with fresh entropy.

    Returns
    -------
    batches : iterator of arrays of shape (<= batchsize,), dtype intp
        Each index from 0 to ``len(X) - 1`` exactly once.
    n_batches : int
        ``ceil(len(X) / batchsize)``; 0 for an empty `X`.

    Raises
    ------
    TypeError
        If `X` has no length, `batchsize` is not an integer, `shuffle` not a bool or `rng` not a Generator.
    ValueError
        If `batchsize` is less than 1.

    Examples
    --------
    >>> batches, n_batches = minibatch(np.zeros((10, 28, 28, 1)), batchsize=4, shuffle=False)
    >>> n_batches
    3
    >>> [batch.tolist() for batch in batches]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    """
    size, shuffle = check_size("batchsize", batchsize), check_switch("shuffle", shuffle)
    if rng is None:
        rng = np.random.default_rng()
    elif not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator or None, got {rng!r}")
    try:
        n = len(X)
    except TypeError:
        raise TypeError(f"X must have a length, got {type(X).__name__}") from None

    order = np.arange(n, dtype=np.intp)
    if shuffle:
        rng.shuffle(order)
    starts = range(0, n, size)
    return (order[start : start + size] for start in starts), len(starts)
