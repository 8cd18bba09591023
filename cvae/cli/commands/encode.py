"""The subcommand `cvae encode`."""

from __future__ import annotations

import argparse

import numpy as np

from cvae.cli.arguments import add_data, add_model, add_output
from cvae.cli.inputs import labels_for, load
from cvae.cli.output import check_output, print_written
from cvae.io.files import replaced_file

HELP = "write the latent means of the images, test images excluded, as .npy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_output(parser, "FILE", "array to write, (n, T), .npy")


def run(args: argparse.Namespace) -> None:
    check_output(args.output, (args.model, args.data))
    vae, dataset = load(args)
    means = vae.transform(dataset.images, labels_for(vae, dataset.labels, dataset))
    with replaced_file(args.output) as file:
        np.save(file, means)
    print_written(args.output)
