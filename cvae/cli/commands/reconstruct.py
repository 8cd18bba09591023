"""The subcommand `cvae reconstruct`."""

from __future__ import annotations

import argparse

from cvae import plotting
from cvae.cli.arguments import COUNT, add_data, add_model, add_output, add_part
from cvae.cli.inputs import evaluation_data, load
from cvae.cli.output import check_output, print_written

HELP = "draw the first test images above their reconstructions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_part(parser, "test, or what there is")
    add_output(parser, "PICTURE", "picture to write, .png")
    parser.add_argument("-n", type=COUNT, metavar="N", default=40, help="default: %(default)s")


def run(args: argparse.Namespace) -> None:
    check_output(args.output, (args.model, args.data), picture=True)
    vae, dataset = load(args)
    images, labels, which = evaluation_data(vae, dataset, args.part)
    images = images[: args.n]
    means = vae.reconstruct(images, None if labels is None else labels[: args.n])
    title = f"Reconstructions of {which}"
    plotting.reconstructions(vae._as_pictures(images), vae._as_pictures(means), args.output, title)
    print_written(args.output)
