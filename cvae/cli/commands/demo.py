"""The subcommand `cvae demo`."""

from __future__ import annotations

import argparse
import itertools
import os
from pathlib import Path
from typing import Any

import cvae
from cvae import plotting
from cvae.cli.arguments import COUNT, DEFAULT_SEED, SEED, add_file, add_force
from cvae.cli.inputs import evaluation_data, set_threads, validation_data
from cvae.cli.output import MODELS, check_new_folder, check_output, log, print_table, print_written
from cvae.cli.saving import Outputs, train_and_save
from cvae.data.dataset import Dataset

_SETTINGS: dict[str, Any] = {"T": 10, "batchsize": 64, "optimizer": "Adam(lr=0.002)"}
_FOLDER = "cvae-demo"
_PICTURES = ("reconstructions.png", "samples.png", "latent.png", "history.png")
HELP = "train on the built-in digits and write a model, its history and pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file(parser, "--out", "default: cvae-demo, or cvae-demo-2, ... if there is one already", "DIR")
    add_force(parser)
    parser.add_argument("--epochs", type=COUNT, metavar="N", default=25, help="default: %(default)s")
    parser.add_argument("--seed", type=SEED, metavar="N", default=DEFAULT_SEED, help="default: %(default)s")


def run(args: argparse.Namespace) -> None:
    set_threads(args)
    if args.out is not None:
        check_new_folder(args.out, "--out")
    folder = _new_folder() if args.out is None else Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    model, history, *pictures = (folder / name for name in ("model.safetensors", "history.csv", *_PICTURES))
    for path in (model, history, *pictures):
        endings = MODELS if path == model else ()
        check_output(path, (), endings, force=args.force, remedy="--out names another folder, --force replaces it")
    try:
        plotting.check_can_plot(pictures[0])
    except ImportError as error:
        log(f"no {', '.join(_PICTURES)}: {error}")
        pictures = []
    dataset = cvae.datasets.load("mnist-sample")
    vae = cvae.BernoulliVAE(**_SETTINGS, n_epochs=args.epochs, random_state=args.seed)
    validation = validation_data(vae, dataset)
    outputs = Outputs(model, history)
    results = train_and_save(vae, dataset, outputs, validation=validation)
    if pictures:
        _draw(vae, dataset, *pictures)
    print_table(results)
    print_written(outputs.model, outputs.history or history, *pictures)


def _new_folder() -> Path:
    """Return the first folder of the demo that does not exist, so that an earlier one stays as it is."""
    names = itertools.chain([_FOLDER], (f"{_FOLDER}-{i}" for i in itertools.count(2)))
    return next(folder for folder in map(Path, names) if not os.path.lexists(folder))


def _draw(
    vae: cvae.VAE,
    dataset: Dataset,
    reconstructions: Path,
    samples: Path,
    latent: Path,
    history: Path,
) -> None:
    images, _, which = evaluation_data(vae, dataset)
    first = images[:40]
    title = f"Reconstructions of {which}"
    plotting.reconstructions(first, vae.reconstruct(first), reconstructions, title)
    plotting.samples(vae.sample(64), samples, "Samples from the prior")
    plotting.latent(vae.transform(images), dataset.test_labels, latent, f"Latent means of {which}")
    plotting.history(vae.history_, history)
