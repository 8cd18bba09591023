"""The subcommand `cvae explore`."""

from __future__ import annotations

import argparse
from pathlib import Path

from cvae import explorer
from cvae.cli.arguments import READING, add_data, add_force, add_model, add_output, add_part, given
from cvae.cli.inputs import class_labels, evaluation_data, image_names, load_data, load_model, set_threads
from cvae.cli.output import check_output, print_written

HELP = "write a page with sliders for the code, a map of images' codes and interpolation, which needs no network"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_output(parser, "FILE", "page to write, .html")
    add_force(parser)
    add_data(parser, "--data")
    add_part(parser, "test, or what there is")


def run(args: argparse.Namespace) -> None:
    useless = given(args, ("part", *READING)) if args.data is None else []
    if useless:
        raise ValueError(f"{', '.join(useless)} must be left out without --data")
    flag = "the output of explore"
    check_output(args.output, (args.model, args.data), [".html", ".htm"], flag=flag, force=args.force)
    set_threads(args)
    vae, title = load_model(args.model), Path(args.model).stem
    if args.data is None:
        explorer.write(vae, args.output, title=title)
    else:
        dataset = load_data(args.data, args, vae._require_fitted())
        images, of_model, _ = evaluation_data(vae, dataset, args.part)
        labels = of_model if of_model is not None else class_labels(dataset, args.part)
        names = [name for name, _ in image_names(dataset, args.part)]
        explorer.write(vae, args.output, images, labels, names=names, title=title)
    print_written(args.output)
