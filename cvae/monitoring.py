"""Which epoch of a training is the best one so far, by a column of the history."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cvae.annealing import Annealing

_WITH_BETA = "loss", "penalty"  # columns whose values are of another objective while the weight of the KL changes


class Best:
    """The best epoch so far of a monitored column, leaving out those in which the weight of the KL divergence rises.

    While it rises, losses of different epochs are of different objectives.
    """

    def __init__(self, monitor: str, min_delta: float) -> None:
        self.monitor, self.min_delta = monitor, min_delta
        self.value, self.epoch, self.waited = math.inf, 0, 0

    def improves(self, vae: Any, epoch: int, entry: Mapping[str, float]) -> bool:
        """Take note of an epoch, and return whether it is the best so far."""
        if is_warming_up(vae, entry):
            return False
        if entry[self.monitor] < self.value - self.min_delta:  # NaN is no improvement
            self.value, self.epoch, self.waited = entry[self.monitor], epoch, 0
            return True
        self.waited += 1
        return False


def is_warming_up(vae: Any, entry: Mapping[str, float]) -> bool:
    """Return whether a schedule changed the weight of the KL divergence in the epoch of this entry, the last one."""
    beta = vae._objective.beta
    return isinstance(beta, Annealing) and not (beta.is_settled(vae._clock.steps) and _had_end(beta, entry))


def changes_with_beta(column: str) -> bool:
    """Return whether values of a column cannot be compared while a schedule changes the weight of the KL divergence."""
    return column in _WITH_BETA


def best_of_history(vae: Any, column: str) -> tuple[int, float]:
    """Return the best epoch of a model's history, with a value that those to come can be compared with.

    0 and infinity if there is none.
    """
    beta, best = vae._objective.beta, (0, math.inf)
    for epoch, value in enumerate(vae.history_.get(column, ()), 1):
        is_of_end = not (isinstance(beta, Annealing) and changes_with_beta(column)) or _had_end(
            beta, entry_of(vae.history_, epoch)
        )
        if value < best[1] and is_of_end:
            best = epoch, value
    return best


def entry_of(history: Mapping[str, list[float]], epoch: int) -> dict[str, float]:
    """Return the entry of an epoch, counted from 1; NaN where a column has none."""
    return {name: values[epoch - 1] if epoch <= len(values) else math.nan for name, values in history.items()}


def _had_end(beta: Annealing, entry: Mapping[str, float]) -> bool:
    """Return whether the weight of the KL divergence was not below the schedule's end in an epoch."""
    least = beta.end * entry.get("kl", math.nan) * (1 - 1e-4)  # both are rounded
    return not entry.get("penalty", math.nan) < least
