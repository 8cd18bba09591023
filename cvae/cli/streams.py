"""Standard streams and warnings of the command, whatever it was started with."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator

from cvae.cli.output import log


def open_missing_streams() -> None:
    """Open standard streams that are closed, so that no file takes their place, and let them print any name."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest free number
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Let nothing be written to standard output any more, which the interpreter would try at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def logged_warnings() -> Iterator[None]:
    """Write warnings in one line on standard error within the block, as messages are, and each once."""
    written = set()

    def write(message: Warning | str, *_: object, **__: object) -> None:
        text = " ".join(str(message).split())
        if text not in written:
            written.add(text)
            log(f"warning: {text}")

    with warnings.catch_warnings():
        warnings.showwarning = write
        yield
