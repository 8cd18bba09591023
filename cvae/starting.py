"""Ctrl-C while the command's modules are imported, before which there is nothing to save."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ends_at_interrupt(is_command: bool = True) -> Iterator[None]:
    """Let Ctrl-C within the block end the process at once, with a line in the place of a traceback, if `is_command`.

    A `KeyboardInterrupt` would be caught, turned into another exception or printed by whatever is being imported.
    """
    before = signal.getsignal(signal.SIGINT)
    handles = (
        is_command and before is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    )
    if handles:
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        if handles:
            signal.signal(signal.SIGINT, before)


def _end(number: int, frame: object) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"cvae: interrupted\n")
    os._exit(128 + number)
