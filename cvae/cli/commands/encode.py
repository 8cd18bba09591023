"""The subcommand `cvae encode`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cvae.cli.arguments import add_data, add_model, add_output, add_part
from cvae.cli.inputs import evaluation_data, image_names, load
from cvae.cli.output import check_output, print_written, write_csv
from cvae.io.files import replaced_file

HELP = "write the latent means of the images, by default the training images, as .npy or .csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_part(parser, "train")
    add_output(parser, "FILE", "array to write, (n, T), .npy, or table with the images' names, .csv")


def run(args: argparse.Namespace) -> None:
    check_output(args.output, (args.model, args.data))
    vae, dataset = load(args)
    images, labels, _ = evaluation_data(vae, dataset, args.part or "train")
    means = vae.transform(images, labels)
    if Path(args.output).suffix.lower() == ".csv":
        rows = zip(image_names(dataset, args.part or "train"), means.tolist(), strict=True)
        header = ["image", "part", *(f"z{i + 1}" for i in range(vae.T))]
        write_csv(args.output, header, [(*name, *code) for name, code in rows])
    else:
        with replaced_file(args.output) as file:
            np.save(file, means)
    print_written(args.output)
