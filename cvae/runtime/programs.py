"""Running of programs with the scratch memory of this Python thread and the current number of threads."""

from collections.abc import Callable
from typing import Any

from cvae._kernels.program import Program
from cvae.runtime.threads import get_num_threads, startable
from cvae.runtime.workspace import workspace


def execute(program: Program, n_threads: int | None = None) -> None:
    """Run a program, by default on `cvae.get_num_threads` threads."""
    program.run(workspace=workspace, n_threads=startable(get_num_threads() if n_threads is None else n_threads))


def run(record: Callable[..., Any], *arguments: Any, n_threads: int | None = None, **options: Any) -> None:
    """Record ``record(program, *arguments, **options)`` and run it immediately."""
    program = Program()
    record(program, *arguments, **options)
    execute(program, n_threads)
