"""The entry of the command, which imports the rest of it."""

from __future__ import annotations

import signal

from cvae.starting import EndsAtInterrupt


def main() -> int:
    """Run the command with the arguments of the process and return its exit code; Ctrl-C never gives a traceback."""
    with EndsAtInterrupt():
        from cvae.cli.main import main as run
    try:
        return run()
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # while the interpreter ends
