"""The command `cvae`: train, evaluate and use a model from the shell.

Results are written to standard output, progress and errors to standard error. A user error is reported in one
line; `main` documents the exit codes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType

import cvae
from cvae.cli.arguments import COUNT, Parser
from cvae.cli.commands import demo, encode, evaluate, info, reconstruct, sample, train

_COMMANDS: dict[str, ModuleType] = {
    "demo": demo,
    "train": train,
    "evaluate": evaluate,
    "sample": sample,
    "reconstruct": reconstruct,
    "encode": encode,
    "info": info,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        The command-line arguments without the program's name. Default: those of the process.

    Returns
    -------
    int
        The exit code: 0 for success, 2 for an error, 130 after Ctrl-C, 141 for a broken pipe.

    Raises
    ------
    SystemExit
        With code 0 after --help and --version, with code 2 for invalid arguments.
    """
    try:
        try:
            args = make_parser().parse_args(argv)
            _COMMANDS[args.command].run(args)
        finally:
            print(end="", flush=True)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The interpreter flushes standard output again at exit, which would raise another BrokenPipeError.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, FloatingPointError, MemoryError, ImportError) as error:
        if isinstance(error, ImportError) and error.name is not None:
            raise  # a failed import of our own, not the message about a missing extra
        print(f"cvae: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = Parser(prog="cvae", description="Convolutional variational autoencoders on the CPU.")
    parser.add_argument("--version", action="version", version=f"cvae {cvae.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in _COMMANDS.items():
        help = module.HELP
        added = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        added.set_defaults(command=name)
        added.add_argument("--threads", type=COUNT, metavar="N", help="number of threads")
        module.add_arguments(added)
    return parser
