"""Sums over processes of the gradients of their parts of a batch, while the backward pass goes on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.engine.tree import Node, total

Array = npt.NDArray[Any]


class _Stretch:
    """Consecutive elements, of which each process adds up a range and hands it to all."""

    def __init__(self, rank: int, nodes: Sequence[Sequence[Node]], first: int, last: int, dtype: npt.DTypeLike) -> None:
        n, size = len(nodes), last - first
        self.bounds = [first + size * i // n for i in range(n + 1)]
        self.widths = [end - start for start, end in itertools.pairwise(self.bounds)]
        n_own, width = len(nodes[rank]), self.widths[rank]
        self.sent = np.empty(n_own * size, dtype)
        self.n_sent = [n_own * each for each in self.widths]
        self.received = np.empty((sum(map(len, nodes)), width), dtype)
        self.n_received = [len(of_one) * width for of_one in nodes]
        self.mine = np.empty(width, dtype)


class Reduction:
    """The sum of the leaves of a tree, to all processes, of vectors whose elements become known one after another.

    The bits depend on the tree alone. The stretches of the vector travel while the program computes the next ones, as
    far as the MPI library or the network makes progress by itself, and whenever `advance` is called.

    Parameters
    ----------
    rank : int
    networks : two communicators
        For what the processes send to who adds it up, and for what these send back: operations on a communicator must
        have the same order in all processes.
    nodes : sequence of sequences
        The nodes that each process has the sums of.
    n_leaves : int
    ends : sequence of int
        Where the stretches end, the same in all processes.
    dtype : dtype
    """

    def __init__(
        self,
        rank: int,
        networks: tuple[Any, Any],
        nodes: Sequence[Sequence[Node]],
        n_leaves: int,
        ends: Sequence[int],
        dtype: npt.DTypeLike,
    ) -> None:
        self._to_owners, self._to_all = networks
        self._nodes, self._n_leaves = [*itertools.chain(*nodes)], n_leaves
        limits = itertools.pairwise([0, *ends])
        self._stretches = [_Stretch(rank, nodes, first, last, dtype) for first, last in limits]
        self._ends = ends
        self.result = np.empty(ends[-1], dtype)
        self._begun: list[Any] = []
        self._returning: list[Any] = []

    def begin(self) -> None:
        """Start anew."""
        self._begun, self._returning = [], []

    def advance(self, sums: Sequence[Array], known: int) -> None:
        """Send the stretches of which all elements are known, and whatever has come meanwhile.

        Parameters
        ----------
        sums : sequence of arrays, shape (ends[-1],)
            Those of this process's nodes.
        known : int
            Number of elements that will not change any more.
        """
        while len(self._begun) < len(self._ends) and self._ends[len(self._begun)] <= known:
            stretch, at = self._stretches[len(self._begun)], 0
            for first, last in itertools.pairwise(stretch.bounds):
                for array in sums:
                    stretch.sent[at : at + last - first] = array[first:last]
                    at += last - first
            self._begun.append(
                self._to_owners.Ialltoallv([stretch.sent, stretch.n_sent], [stretch.received, stretch.n_received])
            )
        while len(self._returning) < len(self._begun) and self._begun[len(self._returning)].Test():
            self._return()

    def finish(self, sums: Sequence[Array]) -> Array:
        """Return the sum, which is valid until the next `begin`; the elements are all known."""
        self.advance(sums, self._ends[-1])
        while len(self._returning) < len(self._begun):
            self._begun[len(self._returning)].Wait()
            self._return()
        for request in self._returning:
            request.Wait()
        return self.result

    def _return(self) -> None:
        """Add up this process's range of the next stretch, and send it to all."""
        i = len(self._returning)
        stretch = self._stretches[i]
        sums = dict(zip(self._nodes, stretch.received, strict=True))
        stretch.mine[:] = total(sums, self._n_leaves, lambda left, right: np.add(left, right, out=left))
        whole = self.result[stretch.bounds[0] : stretch.bounds[-1]]
        self._returning.append(self._to_all.Iallgatherv(stretch.mine, [whole, stretch.widths]))
