"""The batches of an epoch: from arrays in memory, or as they are read.

A feed has the arrays `images`, `labels` and `weights`, of which batches are indices. They may be other ones from one
batch to the next.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.conditions import Labels
from cvae.data.blocks import Blocks, as_blocks
from cvae.data.mapping import PixelMapping
from cvae.data.minibatches import minibatch
from cvae.data.weights import Weights, as_weights
from cvae.parts import fingerprint_of, on_first, shared_data
from cvae.streaming import Pool, Stream, Window, stream_of
from cvae.team import Team, together

Array = npt.NDArray[Any]
Labelled = tuple[Array | Stream, Labels | None]  # checked images, and their labels in a conditional model
Batches = Generator[tuple[npt.NDArray[np.intp], bool], None, None]  # indices, and whether they are the last ones


class InMemory:
    """Batches of images in memory, in random order.

    Parameters
    ----------
    images : array or Parts, shape (m, rows, cols, channels)
        Checked images.
    labels : Labels or None
    weights : array, shape (m,), or None
        Of the images in the loss, with a mean of 1 over those that are trained on.
    rows : array of int or None
        Which of the images to train on; None means all.
    batchsize : int
    given : optional
        The images as they were given.

    Attributes
    ----------
    n, n_batches : int or None
        Of an epoch, if they are known.
    largest : int
        The number of images of the largest batch.
    """

    def __init__(
        self,
        images: Any,
        labels: Labels | None,
        weights: Array | None,
        rows: Array | None,
        batchsize: int,
        given: Any = None,
    ) -> None:
        self.given = given
        self.images, self.labels, self.weights = images, labels, weights
        self._rows = np.arange(len(images)) if rows is None else rows
        self._batchsize = batchsize
        self.n: int | None = len(self._rows)
        self.n_batches: int | None = -(-len(self._rows) // batchsize)
        self.largest = min(batchsize, len(self._rows))

    def fingerprint(self) -> list[int]:
        """Return numbers that differ for other images and other batches."""
        return [len(self._rows), self._batchsize, fingerprint_of(self.images, self._rows)]

    def batches(self, rng: np.random.Generator, first: int) -> tuple[Batches, int]:
        """Return the batches from number `first` on, whose order is drawn now, and how many images are before them."""
        indices, n_batches = minibatch(self._rows, self._batchsize, rng=rng)
        rows = self._rows
        batches = ((rows[each], i == n_batches - 1) for i, each in enumerate(indices) if i >= first)
        return batches, min(first * self._batchsize, len(rows))


class Streamed:
    """Batches of images that are read block by block, with the methods and attributes of `InMemory`."""

    def __init__(self, stream: Stream, batchsize: int) -> None:
        self._stream, self._batchsize, self.n, self.given = stream, batchsize, stream.n, stream.first
        self._as_they_come = stream.blocks.buffer == 0
        if self._as_they_come:
            self.largest = self._size = len(stream.sample)
            self.n_batches = len(stream.blocks.numbers) if stream.blocks.is_indexed else None
        else:
            image_bytes = math.prod(stream.image_shape) * stream.dtype.itemsize
            self._size = stream.blocks.window(batchsize, image_bytes)
            if self.n is not None:
                self._size = min(self._size, self.n)
            self.largest = min(batchsize, self._size)
            self.n_batches = None if self.n is None else -(-self.n // batchsize)
        self._take(stream.pool(self._size))

    def _take(self, pool: Pool) -> None:
        self.images, self.labels, self.weights = pool.images, pool.labels, pool.weights

    def fingerprint(self) -> list[int]:
        """Return numbers that differ for other images and other batches."""
        batchsize = 0 if self._as_they_come else self._batchsize
        return [self.n or 0, batchsize, self._stream.checksum()]

    def batches(self, rng: np.random.Generator, first: int) -> tuple[Batches, int]:
        """Do the same as `InMemory.batches`: the blocks are in random order, and the images of each window."""
        blocks, seed = self._stream.blocks, int(rng.integers(2**63))
        if self._as_they_come:
            return self._blocks(first)
        order = np.random.default_rng(seed).permutation(blocks.numbers) if blocks.is_indexed else None
        begun, before = divmod(first * self._batchsize, self._size)
        n_before = first * self._batchsize
        return self._shuffled(seed, order, begun, before), n_before if self.n is None else min(n_before, self.n)

    def _shuffled(self, seed: int, order: Array | None, begun: int, before: int) -> Batches:
        """Yield batches, from window number `begun` on, without some images that are before them there."""
        with contextlib.closing(self._stream.windows(self._size, order, begun * self._size)) as windows:
            for window in windows:
                self._take(window.pool)
                slots = window.start + np.random.default_rng([seed, begun]).permutation(window.n)
                for start in range(before, window.n, self._batchsize):
                    end = start + self._batchsize
                    yield slots[start:end], window.is_last and end >= window.n
                begun, before = begun + 1, 0

    def _blocks(self, first: int) -> tuple[Batches, int]:
        """Return blocks as batches, and how many images are in those before number `first`."""
        blocks = self._stream.blocks
        order = blocks.numbers if blocks.is_indexed else None
        if order is not None:
            before = sum(rows.stop - rows.start for rows in map(blocks.rows, order[:first].tolist()))
            return self._each(self._stream.windows(None, order[first:])), before
        before = self._stream.skip(first) if first else 0
        return self._each(self._stream.windows(None, None)), before

    def _each(self, windows: Generator[Window, None, None]) -> Batches:
        with contextlib.closing(windows):
            for window in windows:
                self._take(window.pool)
                self.largest = max(self.largest, window.n)
                yield window.start + np.arange(window.n), window.is_last


Feed = InMemory | Streamed


def feed_of(
    model: Any,
    X: Any,
    y: Any,
    weights: Weights,
    *,
    n_epochs: int,
    batchsize: int,
    cuts: bool,
    validation_fraction: float | None,
    team: Team | None,
    parts: bool,
) -> tuple[Feed, Labelled | None, PixelMapping]:
    """Return batches for the arguments of `fit`, the images to validate with if they are a share of X, and the mapping.

    Parameters
    ----------
    cuts : bool
        Whether the caller has asked for this size of batches.
    team : Team or None
        The processes that train together, which all call this.
    parts : bool
        Whether each of them has a part of the images.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    blocks = as_blocks(X, model._known_shape)
    if blocks is None:
        return _in_memory(model, X, y, weights, batchsize, validation_fraction, team, parts)
    if parts:
        raise ValueError("parts must be False for X, which is read block by block, by all processes")
    if blocks.buffer == 0 and cuts:
        raise ValueError("batchsize must be left out for X, whose blocks are the batches; Blocks(X) cuts others")
    check_repeatable(blocks, n_epochs, "X")
    return _streamed(model, blocks, y, weights, batchsize, validation_fraction)


def _in_memory(
    model: Any,
    X: Any,
    y: Any,
    weights: Weights,
    batchsize: int,
    validation_fraction: float | None,
    team: Team | None,
    parts: bool,
) -> tuple[Feed, Labelled | None, PixelMapping]:
    with together(team):
        images = model._as_images(X)
    if team is not None:
        images, y, weights = shared_data(team, parts, images, y, weights)
    mapping = on_first(images, lambda: model._mapping_of(images))
    with together(team):
        labels, validation, rows = model._as_labels(y, len(images)), None, None
        if validation_fraction is not None:
            rows, others = split(len(images), validation_fraction, model.random_state)
            validation = images[others], None if labels is None else labels._replace(rows=labels.rows[others])
        feed = InMemory(images, labels, as_weights(weights, len(images), rows), rows, batchsize, X)
    return feed, validation, mapping


def _streamed(
    model: Any, blocks: Blocks, y: Any, weights: Weights, batchsize: int, validation_fraction: float | None
) -> tuple[Feed, Labelled | None, PixelMapping]:
    as_weights({**weights, "sample_weight": None}, 0)  # which reports arguments of other names
    sample_weight, validation = weights.get("sample_weight"), None
    if not blocks.is_indexed:
        unknown = "must be left out where the number of images is not known"
        if validation_fraction is not None:
            raise ValueError(f"validation_fraction {unknown}: pass validation_data")
        if sample_weight is not None:
            raise ValueError(f"sample_weight {unknown}: X may hold images several times")
    elif validation_fraction is not None:
        training, others = split(
            len(blocks.numbers), validation_fraction, model.random_state, "blocks (a smaller block makes more)"
        )
        validation = stream_of(model, blocks.part(others), y)
        blocks = blocks.part(training)
    if isinstance(model.value_range, str) and model._mapping is None and blocks.is_once:
        raise ValueError("value_range must be (low, high) for X, which can be read once, got 'data'")
    stream = stream_of(model, blocks, y)
    mapping = model._mapping_of(stream)
    stream.take_mapping(mapping)
    if validation is not None:
        validation.take_mapping(mapping)
    if sample_weight is not None:
        rows = np.concatenate([np.arange(len(blocks))[blocks.rows(number)] for number in blocks.numbers.tolist()])
        stream.weights = as_weights(weights, len(blocks), rows)
    return Streamed(stream, batchsize), None if validation is None else (validation, None), mapping


def split(n: int, fraction: float, random_state: Any, what: str = "images") -> tuple[Array, Array]:
    """Return the rows of the images to train on, and of those to validate with, both ascending.

    The rows are drawn by `random_state` if that is an int, and otherwise always the same way, so that further calls of
    `fit` with the same images train on the same ones.

    Raises
    ------
    ValueError
        If one of the two would be empty.
    """
    n_validation = round(n * fraction)
    if not 0 < n_validation < n:
        raise ValueError(f"validation_fraction must leave images on both sides, got {fraction} of {n} {what}")
    seed = int(random_state) if isinstance(random_state, (int, np.integer)) else 0
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[n_validation:]), np.sort(order[:n_validation])


def check_repeatable(blocks: Blocks, n_epochs: int, name: str) -> None:
    """Raise ValueError for what can be read once if there are several epochs."""
    if n_epochs > 1 and blocks.is_once:
        kind = type(blocks.source).__name__
        raise ValueError(
            f"{name} must be iterable anew for each of {n_epochs} epochs, got a {kind}, which ends after one: pass "
            "the function that makes it, or n_epochs=1"
        )
