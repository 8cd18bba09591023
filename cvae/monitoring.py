"""Which epoch of a training is the best one so far, by a column of the history."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class Best:
    """The best epoch so far of a monitored column, leaving out those in which a schedule changes beta.

    While it changes, losses of different epochs are of different objectives.
    """

    def __init__(self, monitor: str, min_delta: float) -> None:
        self.monitor, self.min_delta = monitor, min_delta
        self.value, self.epoch, self.waited = math.inf, 0, 0

    def improves(self, vae: Any, epoch: int, entry: Mapping[str, float]) -> bool:
        """Take note of an epoch, and return whether it is the best so far."""
        if is_warming_up(vae, epoch):
            return False
        if entry[self.monitor] < self.value - self.min_delta:  # NaN is no improvement
            self.value, self.epoch, self.waited = entry[self.monitor], epoch, 0
            return True
        self.waited += 1
        return False


def is_warming_up(vae: Any, epoch: int) -> bool:
    """Return whether a schedule changed beta in an epoch since the model got it."""
    settled = vae._clock.settled
    return settled is None or epoch < settled


def changes_with_beta(column: str) -> bool:
    """Return whether values of a column cannot be compared while a schedule changes beta."""
    return column in ("loss", "penalty")


def best_of_history(vae: Any, column: str) -> tuple[int, float]:
    """Return the best epoch of those of the model's history that have its objective, and its value.

    0 and infinity if there is none.
    """
    clock, values = vae._clock, vae.history_.get(column, ())
    first = clock.settled if changes_with_beta(column) else clock.begun if column == "val_loss" else 1
    known = [(value, epoch) for epoch, value in enumerate(values, 1) if first is not None and epoch >= first]
    value, epoch = min((each for each in known if not math.isnan(each[0])), default=(math.inf, 0))
    return epoch, value


def entry_of(history: Mapping[str, list[float]], epoch: int) -> dict[str, float]:
    """Return the entry of an epoch, counted from 1; NaN where a column has none."""
    return {name: values[epoch - 1] if epoch <= len(values) else math.nan for name, values in history.items()}
