"""The subcommand `cvae encode`."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

from cvae.cli.arguments import add_data, add_force, add_model, add_output, add_part
from cvae.cli.inputs import evaluation_data, image_names, load
from cvae.cli.output import by_parts, check_output, print_written, write_csv, write_npy
from cvae.io.files import replaced_file

_ENDINGS = (".npy", ".csv", ".npz")
HELP = "write the latent means of the images, by default the training images, as .npy, .csv or .npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_part(parser, "train")
    add_output(parser, "FILE", "means, (n, T), as .npy, with the images' names as .csv, or mean and log_var as .npz")
    add_force(parser)


def run(args: argparse.Namespace) -> None:
    check_output(args.output, (args.model, args.data), _ENDINGS, flag="the output of encode", force=args.force)
    ending = Path(args.output).suffix.lower()
    vae, dataset = load(args)
    images, labels, _ = evaluation_data(vae, dataset, args.part or "train")
    if ending == ".npz":
        mean, log_var = vae.encode(images, labels)
        with replaced_file(args.output) as file:
            np.savez(file, mean=mean, log_var=log_var)
    else:
        means = by_parts(vae.transform, images, labels, "encode")
        if ending == ".npy":
            write_npy(args.output, (len(images), vae.T), vae.dtype, means)
        else:
            names = image_names(dataset, args.part or "train")
            header = ["image", "part", *(f"z{i + 1}" for i in range(vae.T))]
            codes = itertools.chain.from_iterable(mean.tolist() for mean in means)
            write_csv(args.output, header, ((*name, *code) for name, code in zip(names, codes, strict=True)))
    print_written(args.output)
