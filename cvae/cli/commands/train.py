"""The subcommand `cvae train`."""

from __future__ import annotations

import argparse

import cvae
from cvae.cli.arguments import add_data, add_output, add_settings, settings
from cvae.cli.inputs import labels_for, load_data, set_threads
from cvae.cli.models import new_model
from cvae.cli.output import check_output, log, print_table, print_written
from cvae.cli.saving import train_and_save

HELP = "train a model; Ctrl-C stops the training and saves the model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data(parser)
    add_output(parser, "MODEL", "file to write, .safetensors")
    parser.add_argument("--history", metavar="FILE", help="also write the history, .csv")
    parser.add_argument("--resume", metavar="MODEL", help="continue training this model")
    parser.add_argument("--config", metavar="FILE", help="arguments of the model by name, .toml; flags override them")
    parser.add_argument("--quiet", action="store_true", help="do not show progress")
    add_settings(parser)


def run(args: argparse.Namespace) -> None:
    set_threads(args)
    outputs = [path for path in (args.output, args.history) if path is not None]
    for path in outputs:
        check_output(path, inputs=(args.data, args.config))
    if args.history is not None:
        check_output(args.history, inputs=(args.output, args.resume))
    known = settings()
    given = {name: value for name, value in vars(args).items() if name in known}
    if args.resume is None:
        vae = new_model(given, args.config)
        shape = vae.image_shape
    else:
        fixed = [known[name].flag for name in given if name not in cvae.VAE._keeps_parameters]
        if fixed:
            raise ValueError(f"{', '.join(fixed)} cannot be changed with --resume")
        if args.config is not None:
            raise ValueError("--config must be left out with --resume")
        vae = cvae.load(args.resume).set_params(**given)
        shape = vae._require_fitted()
    dataset = load_data(args.data, args, shape)
    if args.resume is None and not args.quiet and any(isinstance(part, str) for part in (vae.encoder, vae.decoder)):
        labels = labels_for(vae, dataset.labels, dataset)
        log(f"the model\n{vae.summary(dataset.images.shape[1:], y=labels)}")
    results = train_and_save(vae, dataset, args.output, args.history, quiet=args.quiet)
    print_table(results)
    print_written(*outputs)
