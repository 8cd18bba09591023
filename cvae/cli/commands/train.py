"""The subcommand `cvae train`."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence

import numpy as np

import cvae
from cvae.cli.arguments import COUNT, add_data, add_file, add_force, add_output, add_settings, settings
from cvae.cli.inputs import Images, Validation, evaluation_data, labels_for, load_data, set_threads, validation_data
from cvae.cli.models import new_model
from cvae.cli.output import (
    MODELS,
    amount,
    check_output,
    check_space,
    is_history,
    listed,
    log,
    print_table,
    print_written,
    shown,
)
from cvae.cli.processes import communicator, is_heard, silent_unless_first
from cvae.cli.saving import Outputs, n_epochs, train, train_and_save
from cvae.data.blocks import as_blocks
from cvae.data.dataset import Dataset, described_labels, described_values
from cvae.memory import available_bytes
from cvae.team import Team, team_of, together

HELP = "train a model; Ctrl-C, SIGTERM and SIGHUP stop the training and save the model"
_SCARCE = 0.8  # share of the available memory from which on there is a warning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data(parser)
    add_output(parser, "MODEL", "file to write, .safetensors")
    add_force(parser)
    add_file(parser, "--history", "also write the history, .csv")
    add_file(parser, "--resume", "continue training this model, to the end of what was interrupted", "MODEL")
    add_file(parser, "--config", "arguments of the model by name, .toml; flags override them")
    add_file(parser, "--validation", "images to validate with (default: those of DATA)", "DATA")
    parser.add_argument("--val-split", type=_fraction, metavar="X", help="share of the images to validate with instead")
    parser.add_argument(
        "--checkpoint-every",
        type=_interval,
        default="10m",
        metavar="N",
        help="save the model after so much training, such as 10m, 90s, 1h or 500b, batches, or never (default: 10m)",
    )
    parser.add_argument(
        "--no-optimizer-state", action="store_true", help="write a smaller file, of a model that is not to be resumed"
    )
    parser.add_argument(
        "--accumulate", type=COUNT, metavar="N", help="batches that go into a step, which takes the memory of one"
    )
    parser.add_argument(
        "--shards",
        type=COUNT,
        metavar="N",
        help="parts of a batch, a power of 2, that processes started by mpirun share (default: 8 there)",
    )
    parser.add_argument("--quiet", action="store_true", help="do not show progress")
    add_settings(parser)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be a number in (0, 1), got {text!r}")
    return value


def _interval(text: str) -> dict[str, float]:
    """Return the arguments of `ModelCheckpoint` for an interval such as 10m."""
    if text == "never":
        return {}
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhb])", text)
    if match is None or float(match[1]) == 0 or (match[2] == "b" and "." in match[1]):
        raise argparse.ArgumentTypeError(f"must be a number with its unit, such as 10m, 90s, 1h or 500b, got {text!r}")
    if match[2] == "b":
        return {"every_batches": int(match[1])}
    return {"every_minutes": float(match[1]) * {"s": 1 / 60, "m": 1, "h": 60}[match[2]]}


def run(args: argparse.Namespace) -> None:
    comm = communicator()
    with team_of(comm) as team, silent_unless_first(team):
        with together(team):
            set_threads(args)
            if is_heard(team):
                _check_outputs(args)
            vae, n_more = _model(args)
            shape = vae.image_shape if args.resume is None else vae._require_fitted()
            dataset = load_data(args.data, args, shape)
            validation = _validation(args, vae, dataset, shape)
            if is_heard(team):
                _announce(vae, dataset, validation, args, team)
        outputs = Outputs(
            args.output, args.history, args.resume, not args.no_optimizer_state, checkpoint=args.checkpoint_every
        )
        how = {
            "validation_fraction": args.val_split,
            "accumulate": args.accumulate,
            "n_shards": args.shards,
            "comm": comm,
        }
        with together(team):  # the others wait for the first one, which saves
            if not is_heard(team):
                train(vae, dataset, validation=validation, n_more=n_more, **how)
                return
            results = train_and_save(
                vae, dataset, outputs, validation=validation, n_more=n_more, quiet=args.quiet, **how
            )
        print_table(results)
        print_written(*(path for path in (outputs.model, outputs.history) if path is not None))


def _validation(
    args: argparse.Namespace, vae: cvae.VAE, dataset: Dataset, shape: Sequence[int] | None
) -> Validation | None:
    """Return the images to validate with, unless they are a share of the others."""
    if args.validation is not None:
        images, labels, _ = evaluation_data(vae, load_data(args.validation, args, shape))
        return Validation("validation", images, labels)
    return validation_data(vae, dataset) if args.val_split is None else None


def _check_outputs(args: argparse.Namespace) -> None:
    """Raise ValueError or OSError unless the outputs can be written and nothing is lost by that."""
    if args.validation is not None and args.val_split is not None:
        raise ValueError("--val-split must be left out with --validation")
    inputs = (args.data, args.validation, args.config)
    resumes = args.resume is not None and os.path.exists(args.resume)
    goes_on = resumes and os.path.exists(args.output) and os.path.samefile(args.output, args.resume)
    remedy = "--resume goes on training it, --force replaces it"
    check_output(args.output, inputs, MODELS, flag="a model file", force=args.force or goes_on, remedy=remedy)
    if args.history is not None:
        goes_on = resumes and os.path.isfile(args.history) and is_history(args.history)
        others = (*inputs, args.output, args.resume)
        check_output(args.history, others, [".csv"], flag="--history", force=args.force or goes_on)


def _model(args: argparse.Namespace) -> tuple[cvae.VAE, int | None]:
    """Return the model to train, and for how many epochs if its own number does not count."""
    known = settings()
    given = {name: value for name, value in vars(args).items() if name in known}
    if args.resume is None:
        return new_model(given, args.config), None
    fixed = [known[name].flag for name in given if name not in cvae.BernoulliVAE._keeps_parameters]
    if fixed:
        raise ValueError(f"{', '.join(fixed)} cannot be changed with --resume")
    if args.config is not None:
        raise ValueError("--config must be left out with --resume")
    vae = cvae.load(args.resume).set_params(**given)
    left = 0 if vae._position is None or "n_epochs" in given else vae._position.until - n_epochs(vae)
    return vae, left if left > 0 else None


def _announce(
    vae: cvae.VAE, dataset: Dataset, validation: Validation | None, args: argparse.Namespace, team: Team | None
) -> None:
    """Say what is read and what the training takes; raise MemoryError or OSError if there is too little of it."""
    is_large = as_blocks(dataset.images) is not None
    vae._as_images(dataset.images[:1] if is_large else dataset.images, first=0 if is_large else None)
    labels = labels_for(vae, dataset.labels, dataset)
    summary = vae.summary(dataset.images.shape[1:], y=labels, batchsize=min(vae.batchsize, len(dataset.images)))
    if not args.quiet:
        if team is not None:
            log(f"{team.size} process{'es' * (team.size != 1)}")
        log(f"{shown(args.data)}: {_described(dataset.images)}{_labels(dataset)}")
        if args.validation is not None and validation is not None:
            log(f"{shown(args.validation)}: {_described(validation.images)}, to validate with")
        elif validation is not None:
            log(f"{len(validation.images):,} {validation.name} images to validate with")
        elif args.val_split is not None:
            log(f"{args.val_split:.0%} of them to validate with")
        if args.resume is None and any(isinstance(part, str) for part in (vae.encoder, vae.decoder)):
            log(f"the model\n{summary}")
        log(
            f"{summary.parameters:,} parameters; training takes about {amount(summary.training_bytes)} of memory, "
            f"the file {amount(summary.file_bytes)}"
        )
    if args.resume is None and vae.condition == "classes" and labels is not None and len(np.unique(labels)) == 1:
        log(f"warning: all images of {shown(args.data)} have the same label, by which a model learns nothing")
    available = available_bytes()
    if available is not None and summary.training_bytes > _SCARCE * available:
        message = f"training takes about {amount(summary.training_bytes)}, and {amount(available)} are available"
        if summary.training_bytes > available:
            raise MemoryError(f"{message}; a smaller --batchsize or smaller layers take less")
        log(f"warning: {message}")
    check_space(args.output, summary.file_bytes)


def _described(images: Images) -> str:
    n, *shape = images.shape
    return f"{n:,} image{'s' * (n != 1)} of {'x'.join(map(str, shape))}, {described_values(images)}"


def _labels(dataset: Dataset) -> str:
    """Return what there is to say of the labels of the images, which a model without condition does not see."""
    if dataset.labels is None:
        return ""
    what, classes = described_labels(dataset.labels, dataset.class_names)
    return f", in {what}: {listed(classes)}" if classes else f", labels {what}"
