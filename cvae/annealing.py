"""Schedules of the weight of the KL divergence: what `beta` is at each training step, counted from when it was set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from cvae.checking import check_number, check_size
from cvae.parsable import Constant
from cvae.parsing import made


class Annealing(Constant, ABC):
    """Base of the schedules: called with the number of a training step, counted from 0, they return the weight.

    Attributes
    ----------
    end : float
        The weight that the schedule leads to, with which images that are not trained on are judged.
    """

    end: float

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return the weight, at least 0, at a step."""

    def is_settled(self, step: int) -> bool:
        """Return whether the weight is `end` from this step on."""
        return self(step) == self.end


@dataclass
class Clock:
    """What a model has gone through since its `beta` was set.

    Attributes
    ----------
    steps : int
        Training steps.
    begun, settled : int or None
        The first epoch of the history, from 1, and the first one in which the weight did not change; None before them.
    """

    steps: int = 0
    begun: int | None = None
    settled: int | None = None

    def begin_epoch(self, epoch: int, beta: float | Annealing) -> None:
        """Note that an epoch begins."""
        if self.begun is None:
            self.begun = epoch
        if self.settled is None and (not isinstance(beta, Annealing) or beta.is_settled(self.steps)):
            self.settled = epoch

    def without_state(self, beta: float | Annealing) -> Clock:
        """Return the clock of a model whose optimizers start anew, with which a schedule does, too."""
        return Clock() if isinstance(beta, Annealing) else replace(self, steps=0)


class Linear(Annealing):
    """From `start` to `end` within so many steps, and `end` from then on.

    Source: Bowman et al. 2016, "Generating Sentences from a Continuous Space", section 3.1.

    Parameters
    ----------
    start, end : float
        Weights, at least 0.
    steps : int
        Training steps until the weight is `end`: batches or, with `accumulate`, so many batches each.

    Examples
    --------
    >>> warm_up = Linear(end=2, steps=100)
    >>> [warm_up(step) for step in (0, 25, 100, 1000)]
    [0.0, 0.5, 2.0, 2.0]
    """

    def __init__(self, start: float = 0.0, end: float = 1.0, steps: int = 1000) -> None:
        self.start = check_number("start", start, "[0, inf)")
        self.end = check_number("end", end, "[0, inf)")
        self.steps = check_size("steps", steps)

    def __call__(self, step: int) -> float:
        """Return the weight at a step."""
        return _between(self.start, self.end, step / self.steps)


class Cyclical(Annealing):
    """From `start` to `end` again and again; within each cycle, the weight rises first and then stays at `end`.

    Source: Fu et al. 2019, "Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing", section 4.

    Parameters
    ----------
    start, end : float
        Weights, at least 0.
    steps : int
        Training steps in a cycle.
    ratio : float
        Share of a cycle in which the weight rises, in (0, 1].
    cycles : int
        How many cycles there are; after them, the weight is `end`.

    Examples
    --------
    >>> cycles = Cyclical(steps=100, ratio=0.5, cycles=2)
    >>> [cycles(step) for step in (0, 25, 50, 99, 100, 125, 200)]
    [0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0]
    """

    def __init__(
        self, start: float = 0.0, end: float = 1.0, steps: int = 1000, ratio: float = 0.5, cycles: int = 4
    ) -> None:
        self.start = check_number("start", start, "[0, inf)")
        self.end = check_number("end", end, "[0, inf)")
        self.steps = check_size("steps", steps)
        self.ratio = check_number("ratio", ratio, "(0, 1]")
        self.cycles = check_size("cycles", cycles)

    def __call__(self, step: int) -> float:
        """Return the weight at a step."""
        cycle, within = divmod(step, self.steps)
        progress = within / (self.ratio * self.steps) if cycle < self.cycles else 1.0
        return _between(self.start, self.end, progress)

    def is_settled(self, step: int) -> bool:
        """Return whether all cycles are over."""
        return step >= self.cycles * self.steps


def _between(start: float, end: float, progress: float) -> float:
    """Return the weight when a share `progress` of the way is done, `end` from 1 on."""
    return float(end) if progress >= 1 else start + (end - start) * progress


def make_weight(weight: float | str | Annealing, name: str) -> float | Annealing:
    """Return a number, at least 0, or a schedule from an instance or its call string; TypeError or ValueError."""
    if isinstance(weight, (Annealing, str)):
        schedule: Annealing = made(weight, Annealing, f"schedule of {name}")
        return schedule
    return check_number(name, weight, "[0, inf)")
