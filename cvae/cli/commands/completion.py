"""The subcommand `cvae completion`."""

from __future__ import annotations

import argparse

from cvae.cli.completion import SHELLS, script

HELP = "print what makes a shell complete the command's words"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"{', '.join(SHELLS[:-1])} or {SHELLS[-1]}")


def run(args: argparse.Namespace) -> None:
    print(script(args.shell))
