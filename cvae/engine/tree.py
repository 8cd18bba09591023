"""A sum over the parts of a batch in the order of a fixed tree, whoever computes which parts.

Parts are the leaves of a binary tree: node (level, i) is the sum of its children (level - 1, 2 i) and
(level - 1, 2 i + 1), of which the second may be missing at the end. A process takes consecutive leaves, adds up what
lies within them, and hands over the sums of whole nodes. The total has the same bits however leaves are shared out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Node = tuple[int, int]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Step:
    """What becomes of the sum of one leaf.

    Attributes
    ----------
    added : tuple of int
        The places of the sums that are added to it, one after another.
    place : int
        Where the result goes.
    """

    added: tuple[int, ...]
    place: int


@dataclass(frozen=True)
class Plan:
    """How a process adds up consecutive leaves in as few places as it takes.

    Attributes
    ----------
    first : int
        The first leaf.
    steps : tuple of Step
        One for each leaf.
    places : dict
        Where the sum of each node is that is left at the end, in the order of the leaves.
    n_places : int
    """

    first: int
    steps: tuple[Step, ...]
    places: Mapping[Node, int]
    n_places: int

    @classmethod
    def of(cls, first: int, last: int) -> Plan:
        """Return the plan for the leaves first <= leaf < last."""
        places: dict[Node, int] = {}
        free: list[int] = []
        steps, n_places = [], 0
        for leaf in range(first, last):
            level, i, added = 0, leaf, []
            while i % 2 and (level, i - 1) in places:
                added.append(places.pop((level, i - 1)))
                level, i = level + 1, i // 2
            free += added
            if not free:
                free.append(n_places)
                n_places += 1
            places[level, i] = free.pop()
            steps.append(Step(tuple(added), places[level, i]))
        return cls(first, tuple(steps), places, n_places)


def total(sums: Mapping[Node, Value], n_leaves: int, add: Callable[[Value, Value], Value]) -> Value:
    """Return the sum of all leaves from those of nodes that cover each leaf once; `add` may write into its first."""

    def of(level: int, i: int) -> Value:
        if (level, i) in sums:
            return sums[level, i]
        left, second = of(level - 1, 2 * i), 2 * i + 1
        return left if second << (level - 1) >= n_leaves else add(left, of(level - 1, second))

    return of(max(0, (n_leaves - 1).bit_length()), 0)
