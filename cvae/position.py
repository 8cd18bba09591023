"""Where training stands within an epoch, so that it can go on from there with the bits of an uninterrupted run."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

State = Mapping[str, Any]  # of a bit generator of NumPy

TIMES = "seconds", "images_per_second"  # columns of the history that are not saved
# Those that have a number for each epoch; columns of users may be of any length.
COLUMNS = {"loss", "reconstruction", "kl", "penalty", "bound", "val_loss", "val_reconstruction", "val_kl", *TIMES}


@dataclass
class Position:
    """Where training stands within an epoch.

    Attributes
    ----------
    order : dict
        State of the model's generator before it drew the order of the epoch's images.
    data : list of int
        Number of images, batch size, and a checksum of some images.
    until : int
        The epoch to which the call of `fit` leads.
    batches : int
        How many have been trained on.
    sums : list of float
        The objective's terms, summed over their images.
    shards : list of int
        `n_shards` and `accumulate` of a training that takes batches in parts, which the data do not show; empty for
        another.
    generator : dict or None
        State of the model's generator after these batches; None while training goes on.
    interrupted : bool
        Whether an error or a signal has ended the training here.
    """

    order: State
    data: list[int]
    until: int
    batches: int = 0
    sums: list[float] = field(default_factory=list)
    shards: list[int] = field(default_factory=list)
    generator: State | None = None
    interrupted: bool = False

    def state(self) -> dict[str, Any]:
        """Return all but the generator's state, which is saved with the model."""
        return {name: value for name, value in vars(self).items() if name not in ("generator", "interrupted")}

    @classmethod
    def restored(cls, state: Mapping[str, Any], rng: np.random.Generator) -> Position:
        """Return the position of a model with this generator; TypeError or ValueError if it is none."""
        position = cls(**state, generator=rng.bit_generator.state, interrupted=True)
        sizes = [*position.data, position.until, position.batches, *position.shards]
        if (
            len(position.data) != 3
            or len(position.shards) not in (0, 2)
            or not all(type(size) is int and size >= 0 for size in sizes)
        ):
            raise ValueError(f"position must hold numbers of images and batches, got {sizes}")
        position.sums = [float(total) for total in position.sums]
        copy.deepcopy(rng).bit_generator.state = position.order
        return position

    def goes_on(self, rng: np.random.Generator, data: list[int], shards: list[int], n_terms: int) -> bool:
        """Return whether the epoch can be finished with these data, by a generator that drew nothing since."""
        is_same = self.data == data and self.shards == shards and len(self.sums) in (0, n_terms)
        return is_same and is_same_state(self.generator, rng.bit_generator.state)


def is_same_state(one: Any, other: Any) -> bool:
    """Return whether two states of generators, or parts of them, are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same_state(one[key], other[key]) for key in one)
    return bool(np.array_equal(one, other))
