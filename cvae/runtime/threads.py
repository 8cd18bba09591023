"""How many threads the kernels use.

The default is what OpenMP would use (OMP_NUM_THREADS, limits set by threadpoolctl, the CPUs this process may run on),
but not more than the container's CPU limit.  Results do not depend on the number.
"""

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from cvae._kernels import dispatch
from cvae._kernels.program import MAX_THREADS


def _container_cpus(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The CPU limit of the control group, rounded up; None where there is none (cgroup v2, then v1)."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        limit = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None
    return max(1, math.ceil(limit)) if limit > 0 else None


class _Local(threading.local):
    """What `limit_threads` set for this Python thread."""

    threads: int | None = None


_omp_at_import = dispatch.omp_max_threads()
_container = None if "OMP_NUM_THREADS" in os.environ else _container_cpus()
_requested: int | None = None
_forked = False
_local = _Local()


def set_num_threads(n: int | None) -> None:
    """Set the number of threads for the whole process; None goes back to the default.

    Parameters
    ----------
    n : int or None
        At least 1.  More threads than CPUs are allowed, and slow.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an integer of at least 1 or None.
    """
    global _requested
    _requested = None if n is None else check_num_threads(n, "n")


def get_num_threads() -> int:
    """The number of threads that the next kernel will use; always 1 in a forked process and without OpenMP.

    Examples
    --------
    >>> import cvae
    >>> cvae.set_num_threads(3)
    >>> cvae.get_num_threads()
    3
    >>> cvae.set_num_threads(None)
    """
    if not dispatch.has_openmp() or _forked:
        return 1
    if _local.threads is not None:
        return _local.threads
    now = dispatch.omp_max_threads()
    if _requested is not None:
        # A limit that threadpoolctl has set since the import also holds for a number asked for.
        return min(_requested, now) if now < _omp_at_import else _requested
    return min(now, _container) if _container else now


@contextlib.contextmanager
def limit_threads(n: int | None) -> Iterator[None]:
    """Within the block, kernels called from this Python thread use `n` threads; None changes nothing."""
    before = _local.threads
    if n is not None:
        _local.threads = check_num_threads(n, "n_threads")
    try:
        yield
    finally:
        _local.threads = before


def check_num_threads(n: int, name: str) -> int:
    """`n` as an int of at least 1, or TypeError or ValueError."""
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"{name} must be an int >= 1 or None, got {n!r}")
    if not 1 <= int(n) <= MAX_THREADS:
        raise ValueError(f"{name} must be from 1 to {MAX_THREADS}, got {n}")
    return int(n)


def _after_fork_in_child() -> None:
    # GNU's OpenMP cannot use its threads in a process that was forked from one that had used them: it would hang.
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
