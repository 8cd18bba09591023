"""The subcommand `cvae encode`."""

from __future__ import annotations

import argparse

import numpy as np

from cvae.cli.arguments import add_data, add_model, add_output, add_part
from cvae.cli.inputs import evaluation_data, load
from cvae.cli.output import check_output, print_written
from cvae.io.files import replaced_file

HELP = "write the latent means of the images, by default the training images, as .npy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_part(parser, "train")
    add_output(parser, "FILE", "array to write, (n, T), .npy")


def run(args: argparse.Namespace) -> None:
    check_output(args.output, (args.model, args.data))
    vae, dataset = load(args)
    images, labels, _ = evaluation_data(vae, dataset, args.part or "train")
    means = vae.transform(images, labels)
    with replaced_file(args.output) as file:
        np.save(file, means)
    print_written(args.output)
