"""Completion of the command's words by a shell, with argcomplete, which asks the command itself."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any

SHELLS = ("bash", "zsh", "fish")


def script(shell: str) -> str:
    """Return what a shell has to run for its completion of `cvae`; raise ImportError without argcomplete."""
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        raise ImportError("completion needs argcomplete: pip install argcomplete") from None
    text: str = shellcode(["cvae"], shell=shell)
    return text


def answer(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for completions, and end the process; return if none does."""
    if "_ARGCOMPLETE" in os.environ:
        try:
            import argcomplete
        except ImportError:  # of another environment than the one that printed the script
            return
        argcomplete.autocomplete(parser)


def suggest(action: argparse.Action, names: Iterable[str]) -> None:
    """Have an argument completed with names, beside those of files."""
    action.completer = _names_and_files([*names])  # type: ignore[attr-defined]


def _names_and_files(names: list[str]) -> Callable[..., list[str]]:
    def complete(prefix: str, **_: Any) -> list[str]:
        from argcomplete.completers import FilesCompleter

        return [*(name for name in names if name.startswith(prefix)), *FilesCompleter()(prefix)]

    return complete
