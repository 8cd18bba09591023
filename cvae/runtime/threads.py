"""The number of threads that the kernels use.

The default is that of OpenMP (OMP_NUM_THREADS, threadpoolctl's limits, the CPUs available to this process), but at most
the container's CPU limit. Python threads that use models at the same time, as joblib's and Dask's do, share the CPUs.
Results do not depend on the number of threads.
"""

import functools
import math
import numbers
import os
import threading
from pathlib import Path
from typing import Any, Self

from cvae._kernels import dispatch
from cvae._kernels.program import MAX_THREADS
from cvae.warning import warn


def _container_cpus(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the CPU limit of the control group (v2 or v1), rounded up, or None if there is none."""
    try:
        quota, period = (root / "cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (root / "cpu" / "cpu.cfs_period_us").read_text(encoding="utf-8")
        except OSError:
            return None
    try:
        limit = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None
    return max(1, math.ceil(limit)) if limit > 0 else None


class _Local(threading.local):
    """What `limit_threads` set in the current Python thread: the limit, and whether it takes a share of the CPUs."""

    threads: int | None = None
    shares = True


def _is_number_of_threads(text: str) -> bool:
    """Return whether OpenMP takes OMP_NUM_THREADS, a number or a list of them, into account."""
    first = text.partition(",")[0].strip()
    return first.isascii() and first.isdigit() and int(first[:20]) > 0


def _omp_threads() -> int:
    """Return the number of threads of OpenMP, but at most what the kernels can use."""
    return min(dispatch.omp_max_threads(), MAX_THREADS)


_omp_at_import = _omp_threads()
_container = None if _is_number_of_threads(os.environ.get("OMP_NUM_THREADS", "")) else _container_cpus()
_requested: int | None = None
_SPARE = 4  # threads that have ended may count for a moment
_known = 1  # so many threads can be created
_most = MAX_THREADS  # more cannot
_local = _Local()
_busy: set[int] = set()  # the Python threads within `limit_threads`


def set_num_threads(n: int | None) -> None:
    """Set the number of threads for the whole process.

    Parameters
    ----------
    n : int or None
        Number of threads, from 1 to 4096; None restores the default. More threads than CPUs are slow.

    Raises
    ------
    TypeError
        If `n` is neither an integer nor None.
    ValueError
        If it is out of range.
    """
    global _requested
    _requested = None if n is None else check_num_threads("n", n)


def get_num_threads() -> int:
    """Return the number of threads that kernels use when called from this Python thread.

    It is always 1 without OpenMP. While several Python threads use models, it is at most the number of CPUs divided by
    theirs.

    Returns
    -------
    int

    Examples
    --------
    >>> import cvae
    >>> cvae.set_num_threads(3)
    >>> cvae.get_num_threads()
    3
    >>> cvae.set_num_threads(None)
    """
    if not dispatch.has_openmp():
        return 1
    if _local.threads is not None:
        return _local.threads
    if len(_busy) > 1:
        return min(_unshared(), max(1, _cpus() // len(_busy)))
    return _unshared()


def _unshared() -> int:
    """Return the number of threads that this Python thread would use if it were alone."""
    omp_now = _omp_threads()
    if _requested is not None:
        # A limit that threadpoolctl has set since the import takes precedence over `set_num_threads`.
        return min(_requested, omp_now) if omp_now < _omp_at_import else _requested
    return min(omp_now, _container) if _container else omp_now


def _cpus() -> int:
    """Return the number of CPUs that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, _limit_of_container() or usable)


_limit_of_container = functools.cache(_container_cpus)


def startable(n: int) -> int:
    """Return n or, where so many threads cannot be created, fewer, with a RuntimeWarning.

    GNU OpenMP ends the process where the system refuses a thread, because of a limit of processes or memory. So as many
    Python threads are created first, once for each larger number: their failure is an exception.
    """
    global _known, _most
    if n <= _known:
        return n
    if n <= _most:
        started = _started(n - 1 + _SPARE)
        if started < n - 1 + _SPARE:
            _most = max(_known, started // 2)
            message = f"only {started} threads can be created here: the kernels use {_most} instead of {n}"
            warn(message, RuntimeWarning)
        else:
            _known = n
    return min(n, _most)


def _started(n: int) -> int:
    """Return how many of n threads can be created at the same time."""
    threads: list[threading.Thread] = []
    end = threading.Event()
    try:
        for _ in range(n):
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            threads.append(thread)
    except (RuntimeError, MemoryError):
        pass
    finally:
        end.set()
        for thread in threads:
            thread.join()
    return len(threads)


class limit_threads:
    """Make kernels called from this Python thread use `n` threads within the block; None leaves their number open.

    All uses of a model are within such blocks, and Python threads that are there at the same time share the CPUs.
    A class, because a generator takes half as long again, and encoding a single image enters several.

    Parameters
    ----------
    n : int or None
    shares : bool
        Whether this Python thread takes its share of the CPUs, unlike one that only reads ahead for another.
    """

    __slots__ = ("_before", "_is_outermost", "_n", "_shared_before", "_shares")

    def __init__(self, n: int | None, *, shares: bool = True) -> None:
        self._n, self._shares = None if n is None else check_num_threads("n_threads", n), shares

    def __enter__(self) -> None:
        own = threading.get_ident()
        self._before, self._shared_before = _local.threads, _local.shares
        if self._n is not None:
            _local.threads = self._n
        if not self._shares:
            _local.shares = False
        self._is_outermost = _local.shares and own not in _busy
        if self._is_outermost:
            _busy.add(own)

    def __exit__(self, *exception: object) -> None:
        _local.threads, _local.shares = self._before, self._shared_before
        if self._is_outermost:
            _busy.discard(threading.get_ident())


class keep_threads:
    """Look up the number of threads once for a block that runs many programs, and again if `renew` finds others busy.

    More or fewer Python threads may use models after a while, and change each one's share.
    """

    __slots__ = ("_before", "_n_busy")

    def __enter__(self) -> Self:
        self._before, self._n_busy = _local.threads, 0
        self.renew()
        return self

    def renew(self) -> None:
        """Take the current share of the CPUs."""
        if len(_busy) != self._n_busy:
            self._n_busy = len(_busy)
            _local.threads = self._before
            _local.threads = get_num_threads()

    def __exit__(self, *exception: object) -> None:
        _local.threads = self._before


def check_num_threads(name: str, n: Any) -> int:
    """Return `n` as an int after checking that it is from 1 to 4096.

    Raises
    ------
    TypeError
        If `n` is not an integer; a bool does not count.
    ValueError
        If it is out of range.
    """
    if type(n) is int and 1 <= n <= MAX_THREADS:  # in a hurry: asking the abstract class takes longer
        return n
    if isinstance(n, bool) or not isinstance(n, numbers.Integral):
        raise TypeError(f"{name} must be an int >= 1 or None, got {n!r}")
    if not 1 <= int(n) <= MAX_THREADS:
        hint = ": None takes all" if n == -1 and name == "n_threads" else ""
        raise ValueError(f"{name} must be from 1 to {MAX_THREADS}, got {n}{hint}")
    return int(n)


def _after_fork_in_child() -> None:
    """Find out again how many threads can be created: the child has none of them, and perhaps another limit."""
    global _known, _most
    _known, _most = 1, MAX_THREADS
    _busy.intersection_update({threading.get_ident()})  # the child does not have the others


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
