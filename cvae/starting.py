"""Ctrl-C while the command's modules are imported, before which there is nothing to save.

The first module to be imported, and so one that imports next to nothing.
"""

import os
import signal


class EndsAtInterrupt:
    """Within its `with` block Ctrl-C ends the process at once, with a line in the place of a traceback.

    A `KeyboardInterrupt` would be caught, turned into another exception or printed by whatever is being imported.
    Nothing changes unless `is_command`, outside the main thread, or if the program handles Ctrl-C itself.
    """

    def __init__(self, is_command: bool = True) -> None:
        self._handles = is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def __enter__(self) -> None:
        if self._handles:
            try:
                signal.signal(signal.SIGINT, _end)
            except ValueError:  # not the main thread
                self._handles = False

    def __exit__(self, *_: object) -> None:
        if self._handles:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: object) -> None:
    try:
        os.write(2, b"cvae: interrupted\n")
    finally:
        os._exit(128 + number)
