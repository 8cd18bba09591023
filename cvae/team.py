"""Processes that train one model together, over MPI.

Every process goes through the same training, with the same random numbers, and takes a share of each batch. What one of
them learns, decides or fails with, all of them do.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from cvae.engine.tree import Node
from cvae.interruption import Stopped
from cvae.reduction import Reduction
from cvae.runtime.threads import get_num_threads

Array = npt.NDArray[Any]


class ProcessFailed(RuntimeError):
    """Another process of the team has failed; the message is its own."""


class Team:
    """The processes of a communicator.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        Duplicated, so that messages of the program's own do not mix with these. See `close`.

    Attributes
    ----------
    rank, size : int
        The number of this process, and how many there are.
    has_agreed : bool
        Whether all processes are about to fail, having told each other why.

    Raises
    ------
    TypeError
        If `comm` is no communicator of mpi4py.
    """

    def __init__(self, comm: Any) -> None:
        mpi = sys.modules.get("mpi4py.MPI")  # where a communicator comes from
        if mpi is None or not isinstance(comm, mpi.Intracomm):
            raise TypeError(f"comm must be a communicator of mpi4py, such as MPI.COMM_WORLD, or None, got {comm!r}")
        self._mpi: Any = mpi
        self._comm = comm.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.has_agreed = False
        self._flag, self._flags = np.zeros(1, np.intc), np.zeros(1, np.intc)
        self._networks: tuple[Any, Any] | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that validates, calls back and writes."""
        return bool(self.rank == 0)

    def close(self) -> None:
        """Let go of the communicators."""
        for comm in (self._comm, *(self._networks or ())):
            comm.Free()

    def n_threads(self) -> int | None:
        """Return this process's share of the threads that processes on the same CPUs would all use; None for all."""
        neighbours = self._comm.Split_type(self._mpi.COMM_TYPE_SHARED)
        cpus = neighbours.allgather(sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None)
        neighbours.Free()
        sharing = cpus.count(cpus[0])
        if sharing < len(cpus) or len(cpus) == 1 or "OMP_NUM_THREADS" in os.environ:
            return None
        return max(1, get_num_threads() // len(cpus))

    # ------------------------------------------------------------------- errors

    def agree(self, error: BaseException | None = None) -> None:
        """Raise in all processes if any of them has an error: its own there, `ProcessFailed` or `Stopped` elsewhere."""
        if self.has_agreed:  # and all are on their way out
            if error is not None:
                raise error
            return
        self._flag[0] = error is not None
        self._comm.Allreduce(self._flag, self._flags, self._mpi.MAX)
        if not self._flags[0]:
            return
        reports = self._comm.allgather(None if error is None else _report(error))
        self.has_agreed = True
        if error is not None:
            raise error
        rank, (number, message) = next((rank, report) for rank, report in enumerate(reports) if report is not None)
        if number is not None:
            raise Stopped(number)
        raise ProcessFailed(f"process {rank} of {self.size} failed: {message}")

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Have all processes fail if the block fails in one of them, which all enter."""
        error = None
        try:
            yield
        except BaseException as caught:
            error = caught
        self.agree(error)

    def abandon(self, error: BaseException) -> NoReturn:
        """End all processes because of an error that came while the others were elsewhere."""
        print(f"cvae: process {self.rank} of {self.size} failed: {_report(error)[1]}", file=sys.__stderr__, flush=True)
        self._comm.Abort(1)
        raise error

    # --------------------------------------------------------------------- data

    def share(self, value: Any) -> Any:
        """Return the value of the first process."""
        return self._comm.bcast(value)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in their order."""
        values: list[Any] = self._comm.allgather(value)
        return values

    def share_model(self, model: Any) -> None:
        """Give all processes the state of the first one's model."""
        state = self._comm.bcast(model.__getstate__() if self.is_first else None)
        if not self.is_first:
            vars(model).clear()
            model.__setstate__(state)

    def leaves(self, n: int, rank: int | None = None) -> range:
        """Return which of n parts of a batch are those of a process, by default of this one."""
        rank = self.rank if rank is None else rank
        return range(n * rank // self.size, n * (rank + 1) // self.size)

    def all_rows(self, rows: Array, counts: Sequence[int]) -> Array:
        """Return the rows of all processes, of which process r has counts[r], in one array of float64."""
        width = rows.shape[1]
        found = np.empty((sum(counts), width))
        self._comm.Allgatherv(np.ascontiguousarray(rows, np.float64), [found, [count * width for count in counts]])
        return found

    def exchange(self, sent: Array, sizes: Sequence[int], received: Array, counts: Sequence[int]) -> None:
        """Send sizes[r] rows of an array to process r, one after another, and receive counts[r] rows from it."""
        n_bytes = received.dtype.itemsize * math.prod(received.shape[1:])
        outgoing, incoming = (np.ascontiguousarray(array).view(np.uint8).reshape(-1) for array in (sent, received))
        self._comm.Alltoallv(
            [outgoing, [n * n_bytes for n in sizes], self._mpi.BYTE],
            [incoming, [n * n_bytes for n in counts], self._mpi.BYTE],
        )

    def reduction(
        self, nodes: Sequence[Sequence[Node]], n_leaves: int, ends: Sequence[int], dtype: npt.DTypeLike
    ) -> Reduction:
        """Return a `Reduction` over the processes."""
        if self._networks is None:
            self._networks = self._comm.Dup(), self._comm.Dup()
        return Reduction(self.rank, self._networks, nodes, n_leaves, ends, dtype)


def _report(error: BaseException) -> tuple[int | None, str]:
    """Return the signal that an error stands for, if any, and its message."""
    if isinstance(error, KeyboardInterrupt):
        return int(getattr(error, "signal", signal.SIGINT)), str(error)
    message = " ".join(str(error).split())
    return None, f"{type(error).__name__}: {message}" if message else type(error).__name__


@contextlib.contextmanager
def team_of(comm: Any) -> Iterator[Team | None]:
    """Yield the team of a communicator, or None."""
    if comm is None:
        yield None
        return
    team = Team(comm)
    try:
        yield team
    finally:
        team.close()


def together(team: Team | None) -> contextlib.AbstractContextManager[None]:
    """Return a block that fails in all processes of a team, if there is one, as soon as it fails in one of them."""
    return contextlib.nullcontext() if team is None else team.together()
