"""The command `cvae`: train, evaluate and use a model from the shell.

Results are written to standard output, progress and errors to standard error. A user error is reported in one
line; `main` documents the exit codes.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import os
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

import cvae
from cvae.cli.arguments import COUNT, Parser
from cvae.cli.commands import (
    completion,
    demo,
    encode,
    evaluate,
    explore,
    export,
    info,
    outliers,
    plot,
    reconstruct,
    sample,
    train,
)
from cvae.cli.completion import answer
from cvae.cli.output import is_told, log
from cvae.cli.streams import discard_output, logged_warnings, open_missing_streams
from cvae.data.errors import one_line
from cvae.interruption import stopped_by_signals
from cvae.team import ProcessFailed

_BROKEN_PIPE = 141  # the exit code, as of a program that SIGPIPE ends
_COMMANDS: dict[str, ModuleType] = {
    "demo": demo,
    "train": train,
    "evaluate": evaluate,
    "sample": sample,
    "reconstruct": reconstruct,
    "encode": encode,
    "export": export,
    "outliers": outliers,
    "plot": plot,
    "explore": explore,
    "info": info,
    "completion": completion,
}


_CALLED = {  # what other programs call options
    **dict.fromkeys(("--learning-rate", "--learningrate"), "--lr"),
    **dict.fromkeys(("--n-epochs", "--num-epochs", "--max-epochs"), "--epochs"),
    **dict.fromkeys(("--random-state", "--random-seed", "--rng"), "--seed"),
    **dict.fromkeys(("--size", "--image-size", "--img-size"), "--resize"),
    **dict.fromkeys(("--latent-size", "--z-dim", "--zdim", "--n-latent", "--dim"), "--latent"),
    **dict.fromkeys(("--jobs", "--n-jobs", "--num-threads", "--workers", "--num-workers"), "--threads"),
    **dict.fromkeys(("--overwrite", "-f", "-y", "--yes"), "--force"),
    **dict.fromkeys(("--out", "--outfile", "--save"), "--output"),
    "--loss": "--likelihood",
    "--batch-size": "--batchsize",
    "--samples": "-n",
}
_FEW = 5  # words of which a message shows all


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; without arguments it prints its help.

    Parameters
    ----------
    argv : sequence of str, optional
        The command-line arguments without the program's name. Default: those of the process.

    Returns
    -------
    int
        The exit code: 0 for success, 2 for an error, 128 and the signal's number after a signal (130 after Ctrl-C, 143
        after SIGTERM), 141 for a broken pipe.

    Raises
    ------
    SystemExit
        With code 0 after --help and --version, with code 2 for invalid arguments.
    """
    open_missing_streams()
    with stopped_by_signals(), logged_warnings():
        try:
            code = _exit_code(sys.argv[1:] if argv is None else argv)
        except SystemExit:  # after --help, or for invalid arguments
            if failure := _flush(0):
                return failure
            raise
        return _flush(code)


def _exit_code(argv: Sequence[str]) -> int:
    try:
        _run(argv)
    except KeyboardInterrupt as error:
        if not is_told(error):
            log("interrupted")
        return 128 + getattr(error, "signal", signal.SIGINT)
    except BrokenPipeError:
        return _BROKEN_PIPE
    except (
        ValueError,
        OSError,
        FloatingPointError,
        MemoryError,
        ImportError,
        ProcessFailed,
        Warning,
    ) as error:  # python -W error
        if isinstance(error, ImportError) and error.name is not None:
            raise  # a failed import of our own, not the message about a missing extra
        log(f"error: {_one_line(error)}")
        return 2
    return 0


def _flush(code: int) -> int:
    """Write what is left of the output, and return the exit code, which is that of a failure if that is impossible."""
    try:
        print(end="", flush=True)
    except OSError as error:
        discard_output()
        if code == 0 and not isinstance(error, BrokenPipeError):
            log(f"error: {_one_line(error)}")
            return 2
        return code or _BROKEN_PIPE
    if code == _BROKEN_PIPE:
        discard_output()
    return code


def _run(argv: Sequence[str]) -> None:
    parser = make_parser()
    answer(parser)
    if not argv:
        parser.print_help()
        return
    if argv[0] == "help":
        argv = [*argv[1:2], "--help"]
    _check_command(parser, argv[0])
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        _refuse(args.parser, unknown)
    try:
        _COMMANDS[args.command].run(args)
    except (ValueError, OSError) as error:
        if (message := _with_flag(str(error), args)) != str(error):
            raise ValueError(message) from error
        raise


def _check_command(parser: argparse.ArgumentParser, word: str) -> None:
    """Exit unless the first word is a subcommand, or an option of the command itself."""
    if word.startswith("-"):
        if word not in [option for action in parser._actions for option in action.option_strings]:
            parser.error(f"a command must stand before its options, got {word!r}")
    elif word not in _COMMANDS:
        similar = difflib.get_close_matches(word, [*_COMMANDS, "--version", "--help"], 1)
        hint = f", did you mean {similar[0]}?" if similar else f": it is one of {', '.join(_COMMANDS)}"
        parser.error(f"unknown command {word!r}{hint}")


def _with_flag(message: str, args: argparse.Namespace) -> str:
    """Return a message about an argument of Python as one about the option that it was given by."""
    name, separator, rest = message.partition(" must ")
    flags = {action.dest: action.option_strings[0] for action in args.parser._actions if action.option_strings}
    flags |= {"source": "DATA"} | ({"n_samples": "--log-likelihood"} if args.command == "evaluate" else {})
    is_given = name == "source" or getattr(args, name, None) is not None
    return f"{flags[name]}{separator}{rest}" if separator and is_given and name in flags else message


def _refuse(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> NoReturn:
    """Exit for arguments that a subcommand does not have, with the option that the first one resembles."""
    options = [option for action in parser._actions for option in action.option_strings]
    word = unknown[0].partition("=")[0].replace("_", "-")
    similar = [_CALLED.get(word.lower(), "")]
    similar = similar if similar[0] in options else difflib.get_close_matches(word, options, 1)
    hint = f", did you mean {similar[0]}?" if similar else ""
    if not hint and len(unknown) > 1 and all(map(os.path.exists, unknown)):
        hint = "; many files are given by the name of their folder"
    if not hint and not word.startswith("-") and "--data" in options:
        hint = f", did you mean --data {unknown[0]}?"
    if not hint and word in ("-o", "--output") and "--onnx" in options:
        hint = "; --onnx, --c, --torch and --npz name what is written"
    shown = [*unknown[:_FEW], *["..."] * (len(unknown) > _FEW)]
    parser.error(f"unrecognized arguments: {' '.join(shown)}{hint}")


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename) or repr('')}: {error.strerror}"
    if isinstance(error, FileNotFoundError) and error.strerror:  # of os.getcwd
        return "the working directory does not exist any more; give full names"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG):  # files have names, see `io.files`
        return f"standard output: {error.strerror}"
    return one_line(error) or type(error).__name__


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = Parser(prog="cvae", description="Convolutional variational autoencoders on the CPU.")
    parser.add_argument("-V", "--version", action="version", version=f"cvae {cvae.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in _COMMANDS.items():
        help = module.HELP
        added = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        added.set_defaults(command=name, parser=added)
        added.add_argument("--threads", type=COUNT, metavar="N", help="number of threads")
        module.add_arguments(added)
    return parser
