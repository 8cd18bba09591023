"""The training steps of an epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.by_hand import ByHand
from cvae.conditions import LabelGatherer
from cvae.feeding import Feed
from cvae.parts import PartsGatherer, gatherer_of
from cvae.random import standard_normal

Array = npt.NDArray[Any]


class Steps:
    """The training steps of an epoch, within which layers, optimizers and the number of threads do not change.

    Parameters
    ----------
    model : VAE
    feed : InMemory or Streamed
        Has the arrays that batches are taken from.
    largest : int
        The number of images of the largest batch.
    """

    loss = 0.0  # per image, of the last batch

    def __init__(self, model: ByHand, feed: Feed, largest: int) -> None:
        self.objective, self.images, self._weights = model._objective, feed.images, feed.weights
        self._rng = model._rng
        self.passes = model._passes(largest, training=True)
        self.norm_limit = model.global_clip_norm
        self.passes.begin_epoch(self.norm_limit)
        self._binarization, self._key = model._binarization, np.zeros(1, np.uint64)
        # Without a reference to self, which would keep the images in memory until garbage is collected.
        binarize = partial(self._binarization.record, key=self._key, training=True)
        self._images = gatherer_of(feed.images, self.passes.images, model._mapping, binarize)
        self._labels = None if feed.labels is None else LabelGatherer(feed.labels, self.passes.labels)
        # Far below the largest number, since gradients are products and overflow before the loss does.
        self.limit = math.sqrt(np.finfo(model.dtype).max)

    def take(self, indices: Array) -> list[float] | None:
        """Take a step and return the objective's terms before it, summed over the batch.

        Return None without a step if the loss is not finite.
        """
        self.load(indices, self._rng)
        terms = self.loss_of(indices)
        self.loss = self.objective.loss(terms) / len(indices)
        if not self.loss < self.limit:
            return None
        self.passes.descend(len(indices), self.loss)
        return terms

    def exchange(self, wanted: Sequence[Array]) -> None:
        """Get the images wanted[r] to process r, if each process has some of them."""
        if isinstance(self._images, PartsGatherer):
            self._images.exchange(wanted)

    def draw(self) -> int:
        """Return the next number of the model's generator, of 64 bits."""
        return int(self._rng.integers(2**64, dtype=np.uint64))

    def load(self, indices: Array, rng: np.random.Generator) -> None:
        """Load images, labels and noise, drawn by `rng`, to where the passes read them."""
        passes, rows = self.passes, len(indices) * self.passes.codes
        self._key[0] = self._binarization.new_key(rng)
        self._images.load(indices)
        if self._labels is not None:
            self._labels.load(indices)
        passes.noise[:rows] = standard_normal(rng, (rows, passes.T), passes.noise.dtype)

    def loss_of(self, indices: Array) -> list[float]:
        """Run the forward pass of the images that have been loaded; return the objective's terms, summed over them."""
        return self.passes.loss(len(indices), None if self._weights is None else self._weights[indices])
