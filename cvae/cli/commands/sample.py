"""The subcommand `cvae sample`."""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

import numpy as np

import cvae
from cvae import plotting
from cvae.cli.arguments import COUNT, SEED, add_model, add_output
from cvae.cli.inputs import label, set_threads
from cvae.cli.output import check_output, print_written, shown

HELP = "draw new images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_output(parser, "PICTURE", "picture to write, .png")
    parser.add_argument("-n", type=COUNT, metavar="N", default=64, help="default: %(default)s")
    parser.add_argument(
        "--label", metavar="LABEL", help="of a conditional model: a class (default: all), or values joined by commas"
    )
    parser.add_argument("--seed", type=SEED, metavar="N", help="seed of the random numbers (default: a new one)")


def run(args: argparse.Namespace) -> None:
    check_output(args.output, (args.model,), picture=True)
    set_threads(args)
    vae, title = cvae.load(args.model), f"Samples of {shown(Path(args.model).name)}"
    seed = args.seed if args.seed is not None else secrets.randbelow(2**32)
    if vae.condition == "classes" and args.label is None:
        # A row for each class, the same codes in all rows.
        n = max(1, args.n // len(vae.classes_))
        images = np.stack([vae.sample(n, random_state=seed, y=each) for each in vae.classes_])
        plotting.class_samples(vae._as_pictures(images), vae.classes_.tolist(), args.output, title)
    else:
        images = vae.sample(args.n, random_state=seed, y=label(vae, args.label))
        plotting.samples(vae._as_pictures(images), args.output, title)
    if args.seed is None:
        print(f"drawn with --seed {seed}")
    print_written(args.output)
