"""The subcommand `cvae reconstruct`."""

from __future__ import annotations

import argparse
from pathlib import Path

from cvae import plotting
from cvae.cli.arguments import COUNT, add_data, add_force, add_model, add_output, add_part
from cvae.cli.inputs import evaluation_data, first, load
from cvae.cli.output import PICTURES, by_parts, check_output, print_written, write_npy

_DRAWN = 40
HELP = "draw the first test images above their reconstructions, or write those of all images as .npy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_part(parser, "test, or what there is")
    add_output(parser, "FILE", "picture to write, .png, or (n, rows, cols, channels) as .npy")
    add_force(parser)
    parser.add_argument("-n", type=COUNT, metavar="N", help="how many images (default: 40, of .npy all)")


def run(args: argparse.Namespace) -> None:
    is_array = Path(args.output).suffix.lower() == ".npy"
    endings = (*PICTURES, ".npy")
    check_output(args.output, (args.model, args.data), endings, flag="the output of reconstruct", force=args.force)
    vae, dataset = load(args)
    images, labels, which = evaluation_data(vae, dataset, args.part)
    if is_array:
        if args.n is not None:
            images, labels = first(args.n, images, labels)
        found = by_parts(vae.reconstruct, images, labels, "reconstruct")
        write_npy(args.output, images.shape, vae.dtype, found)
        print_written(args.output)
        return
    drawn, labels = first(args.n or _DRAWN, images, labels)
    means = vae.reconstruct(drawn, labels)
    title = f"Reconstructions of {which}"
    plotting.reconstructions(vae._as_pictures(drawn), vae._as_pictures(means), args.output, title)
    print_written(args.output)
