"""A framework in a process of its own, controlled through a pipe.

Two thread pools in one process slow each other down, so no process contains two frameworks. While one works, the
others block on their pipes without using the CPU.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from cases import Model, Network
from peers import Peer, Variant

_SPAWN = multiprocessing.get_context("spawn")


class WorkerError(Exception):
    """An exception in a worker's process, described in one line."""


class Worker:
    """The parent's handle of a process that runs one framework.

    Parameters
    ----------
    variant : Variant
    threads : int
        Number of threads that the framework may use; also OMP_NUM_THREADS in its process.
    """

    def __init__(self, variant: Variant, threads: int) -> None:
        self.variant = variant
        self.threads = threads
        self._pipe, other_end = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(other_end, variant), daemon=True)
        with _environment(OMP_NUM_THREADS=str(threads), **variant.environment):
            self._process.start()
        other_end.close()

    def build(self, model: Model | Network, batch: int, images: Path, initial: Any, seed: int = 0) -> None:
        """Build the framework's model for the images in a .npy file, in place of the previous one.

        It starts from `initial`, which comes from cvae: its layers, if `Variant.takes_layers`, otherwise its
        parameters by name. cvae itself draws them from the seed.
        """
        start = () if self.variant.framework == "cvae" else (initial,)
        self.call("build", model, batch, self.threads, images, seed, *start)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the framework's `Peer` and return its result.

        Raises
        ------
        WorkerError
            If the method raised or the process died.
        """
        try:
            self._pipe.send((method, arguments))
            result, error = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(10)
            code = self._process.exitcode
            raise WorkerError(f"its process ended with exit code {code}") from None
        if error:
            raise WorkerError(error)
        return result

    def close(self) -> None:
        """Terminate the process."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection, variant: Variant) -> None:
    """Receive (method, arguments) and send (result, error) until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # after Ctrl-C the parent closes the pipe
    peer: Peer | None = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            method, arguments = pipe.recv()
            result, error = None, ""
            try:
                if method == "build":
                    peer = None  # frees the previous model's memory first
                    peer = _build(variant, *arguments)
                elif method == "peak_memory":
                    result = peak_memory()
                else:
                    result = getattr(peer, method)(*arguments)
            except Exception as exception:
                error = f"{type(exception).__name__}: {exception}".splitlines()[0]
            pipe.send((result, error))


def _build(
    variant: Variant, model: Model | Network, batch: int, threads: int, images: Path, seed: int, *rest: Any
) -> Peer:
    peer_class = variant.load(model)
    return peer_class(model, batch, threads, np.load(images), seed, *rest, **variant.options)


def peak_memory() -> float:
    """Return the peak memory of this process in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, getrusage includes the parent's memory at the fork
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1000 * 1.024
    import resource

    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables for processes started within the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
