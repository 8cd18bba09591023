"""Processes that `mpirun` or `srun` has started together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from cvae.team import Team

# What launchers tell the processes that they start.
_SIGNS = "PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "MPI_LOCALRANKID"


def communicator() -> Any:
    """Return MPI.COMM_WORLD for processes that were started together, None for a process of its own.

    Raises
    ------
    ImportError
        If mpi4py is missing.
    """
    if not any(name in os.environ for name in _SIGNS):
        return None
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError("processes that train together need mpi4py: pip install mpi4py") from error
    return MPI.COMM_WORLD


def is_heard(team: Team | None) -> bool:
    """Return whether this process speaks for all."""
    return team is None or team.is_first


@contextlib.contextmanager
def silent_unless_first(team: Team | None) -> Iterator[None]:
    """Let only the first process print anything within the block; errors of others, which it reports, end them."""
    if is_heard(team):
        yield
        return
    nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - closed by the next line
    with nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        try:
            yield
        except Exception:
            raise SystemExit(2) from None
