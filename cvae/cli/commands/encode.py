"""The subcommand `cvae encode`."""

from __future__ import annotations

import argparse

import numpy as np

from cvae.cli.arguments import add_data, add_model, add_output, add_part
from cvae.cli.inputs import evaluation_data, image_names, load
from cvae.cli.output import check_ending, check_output, print_written, write_csv
from cvae.io.files import replaced_file

_ENDINGS = (".npy", ".csv", ".npz")
HELP = "write the latent means of the images, by default the training images, as .npy, .csv or .npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_part(parser, "train")
    add_output(parser, "FILE", "means, (n, T), as .npy, with the images' names as .csv, or mean and log_var as .npz")


def run(args: argparse.Namespace) -> None:
    check_output(args.output, (args.model, args.data))
    ending = check_ending(args.output, _ENDINGS, "the output of encode")
    vae, dataset = load(args)
    images, labels, _ = evaluation_data(vae, dataset, args.part or "train")
    mean, log_var = vae.encode(images, labels)
    if ending == ".csv":
        names = image_names(dataset, args.part or "train")
        header = ["image", "part", *(f"z{i + 1}" for i in range(vae.T))]
        write_csv(args.output, header, [(*name, *code) for name, code in zip(names, mean.tolist(), strict=True)])
    else:
        with replaced_file(args.output) as file:
            if ending == ".npy":
                np.save(file, mean)
            else:
                np.savez(file, mean=mean, log_var=log_var)
    print_written(args.output)
