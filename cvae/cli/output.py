"""What the command writes: checks of output files, messages and tables."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvae import plotting

NATS = "nats per image"


def check_output(path: str | Path, inputs: Sequence[str | None] = (), picture: bool = False) -> None:
    """Check, before any long work, that an output can be written and would not overwrite an input."""
    if picture:
        plotting.check_can_plot(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"the output must be a regular file, got {os.fspath(path)!r}")
    for other in inputs:
        if other is not None and os.path.realpath(other) == os.path.realpath(path):
            raise ValueError(f"inputs and outputs must be different files, got {os.fspath(path)!r} twice")
    folder = os.path.dirname(os.path.realpath(path))
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"cannot write to the folder {folder}: {error.strerror}") from None


def log(message: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # a closed log is no reason to stop training
        print(f"cvae: {message}", file=sys.stderr)


def print_table(rows: Mapping[str, Any]) -> None:
    width = max(map(len, rows)) + 2
    for name, value in rows.items():
        print(f"{name:{width}}{value}")


def print_written(*paths: str | Path) -> None:
    for path in paths:
        print(f"wrote {path}")
