"""The command `cvae`: train, evaluate and use a model without writing Python.

Results go to standard output, progress and errors to standard error. The exit code is 0 for
success, 2 for an error of the user's (one line says which), 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import cvae
from cvae import plotting
from cvae._kernels import dispatch
from cvae.cli.arguments import DEFAULT_SEED, make_parser, settings
from cvae.core import KEEP_PARAMETERS
from cvae.data.loading import Dataset
from cvae.io.files import replaced_file
from cvae.runtime.threads import check_num_threads

_DEMO_SETTINGS: dict[str, Any] = {"T": 10, "batchsize": 64, "optimizer": "Adam(lr=0.002)"}
_DEMO_PICTURES = ("reconstructions.png", "samples.png", "latent.png", "history.png")
_NATS = "nats per image"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the command's name; those of the process if None.

    Returns
    -------
    int
        The exit code: 0, 2 after an error, 130 after Ctrl-C, 141 if nobody reads the output.

    Raises
    ------
    SystemExit
        After --help and --version (0) and for arguments that cannot be parsed (2).
    """
    try:
        try:
            args = make_parser().parse_args(argv)
            _COMMANDS[args.command](args)
        finally:
            print(end="", flush=True)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # What is left in the buffer would raise again when the interpreter flushes it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, FloatingPointError, MemoryError, ImportError) as error:
        if isinstance(error, ImportError) and error.name is not None:
            raise  # no message about an extra that is missing, but a module of our own
        print(f"cvae: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


# The commands


def _demo(args: argparse.Namespace) -> None:
    _set_threads(args)
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    model, history, *pictures = (folder / name for name in ("model.safetensors", "history.csv", *_DEMO_PICTURES))
    for path in (model, history, *pictures):
        _check_output(path)
    try:
        plotting.check_can_plot(pictures[0])
    except ImportError as error:
        _log(f"no {', '.join(_DEMO_PICTURES)}: {error}")
        pictures = []
    dataset = cvae.data.loading.load("mnist-sample")
    vae = cvae.BernoulliVAE(**_DEMO_SETTINGS, n_epochs=args.epochs, random_state=args.seed)
    results = _train_and_save(vae, dataset, model, history)
    if pictures:
        _draw_demo(vae, dataset, *pictures)
    _print_table(results)
    _print_written(model, history, *pictures)


def _draw_demo(
    vae: cvae.VAE,
    dataset: Dataset,
    reconstructions: Path,
    samples: Path,
    latent: Path,
    history: Path,
) -> None:
    images, which = _evaluation_images(dataset)
    first = images[:40]
    title = f"Reconstructions of {which}"
    plotting.reconstructions(first, vae.reconstruct(first), reconstructions, title)
    plotting.samples(vae.sample(64), samples, "Samples from the prior")
    plotting.latent(vae.transform(images), dataset.test_labels, latent, f"Latent means of {which}")
    plotting.history(vae.history_, history)


def _train(args: argparse.Namespace) -> None:
    _set_threads(args)
    outputs = [path for path in (args.output, args.history) if path is not None]
    for path in outputs:
        _check_output(path, inputs=(args.data,))
    if args.history is not None:
        _check_output(args.history, inputs=(args.output, args.resume))
    known = settings()
    given = {name: value for name, value in vars(args).items() if name in known}
    if args.resume is None:
        vae: cvae.VAE = cvae.BernoulliVAE(**{"random_state": DEFAULT_SEED, **given})
        shape = vae.image_shape
    else:
        fixed = [known[name].flag for name in given if name not in KEEP_PARAMETERS]
        if fixed:
            raise ValueError(f"{', '.join(fixed)} cannot be changed with --resume")
        vae = cvae.load(args.resume).set_params(**given)
        shape = vae._require_fitted()
    dataset = cvae.data.loading.load(args.data, image_shape=shape)
    results = _train_and_save(vae, dataset, args.output, args.history, quiet=args.quiet)
    _print_table(results)
    _print_written(*outputs)


def _train_and_save(
    vae: cvae.VAE,
    dataset: Dataset,
    model: str | Path,
    history: str | Path | None,
    quiet: bool = False,
) -> dict[str, str]:
    """Train, write the model and its history, also after Ctrl-C; returns results to be printed."""
    first = len(vae.history_.get("loss", ()))
    is_terminal = sys.stderr.isatty()  # tqdm's bar there, in a log file a line for each epoch
    try:
        vae.fit(
            dataset.images,
            validation_data=dataset.test_images,
            verbose=is_terminal and not quiet,
            callbacks=() if is_terminal or quiet else (_log_epoch,),
        )
        _write_model(vae, model, history)
    except KeyboardInterrupt:
        if vae.__sklearn_is_fitted__():
            _write_model(vae, model, history)
            n_epochs = len(vae.history_.get("loss", ()))
            _log(f"interrupted after {n_epochs} complete epochs; what was trained is in {model}")
        raise
    except FloatingPointError:
        if len(vae.history_.get("loss", ())) > first:  # not where training never got under way
            _write_model(vae, model, history)
            _log(f"what was trained before that is in {model}")
        raise
    seconds = vae.history_["seconds"][first:]
    elbos = _negative_elbos({name: values[-1] for name, values in vae.history_.items()})
    return {
        **{f"{name} negative ELBO": f"{value:.2f} {_NATS}" for name, value in elbos.items()},
        "training speed": f"{len(seconds) * len(dataset.images) / sum(seconds):,.0f} images/s",
    }


def _log_epoch(vae: cvae.VAE, epoch: int, entry: Mapping[str, float]) -> None:
    elbos = ", ".join(f"{name} {value:.2f}" for name, value in _negative_elbos(entry).items())
    speed = f"{entry['images_per_second']:,.0f} images/s"
    _log(f"epoch {epoch}: negative ELBO {elbos} {_NATS}, {speed}")


def _negative_elbos(entry: Mapping[str, float]) -> dict[str, float]:
    """The negative ELBOs of one epoch; unlike the loss they do not depend on `beta`."""
    elbos = {}
    for name, prefix in (("training", ""), ("test", "val_")):
        value = entry.get(f"{prefix}reconstruction", math.nan) + entry.get(f"{prefix}kl", math.nan)
        if not math.isnan(value):  # NaN stands for an epoch without test images
            elbos[name] = value
    return elbos


def _write_model(vae: cvae.VAE, model: str | Path, history: str | Path | None) -> None:
    vae.save(model)
    if history is not None:
        n_epochs = len(vae.history_.get("loss", ()))
        with replaced_file(history) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
            writer = csv.writer(text)
            writer.writerow(["epoch", *vae.history_])
            writer.writerows(zip(range(1, n_epochs + 1), *vae.history_.values(), strict=True))


def _evaluate(args: argparse.Namespace) -> None:
    vae, dataset = _load(args)
    images, which = _evaluation_images(dataset)
    reconstruction, kl = vae.elbo_terms(images)
    results = {
        "elbo": float(-(reconstruction + kl).mean()),
        "reconstruction": float(reconstruction.mean()),
        "kl": float(kl.mean()),
    }
    if args.log_likelihood is not None:
        estimate = vae.log_likelihood(images, n_samples=args.log_likelihood)
        results["log_likelihood"] = float(estimate.mean())
    if args.json:
        print(json.dumps({"data": args.data, "images": len(images), **results, "unit": _NATS}))
        return
    labels = {
        "elbo": "ELBO",
        "reconstruction": "reconstruction loss",
        "kl": "KL divergence",
        "log_likelihood": f"log-likelihood ({args.log_likelihood} samples)",
    }
    lines = {labels[name]: f"{value:.2f} {_NATS}" for name, value in results.items()}
    _print_table({"data": f"{len(images):,} {which}", **lines})


def _sample(args: argparse.Namespace) -> None:
    _check_output(args.output, (args.model,), picture=True)
    _set_threads(args)
    images = cvae.load(args.model).sample(args.n, random_state=args.seed)
    plotting.samples(images, args.output, f"Samples of {Path(args.model).name}")
    _print_written(args.output)


def _reconstruct(args: argparse.Namespace) -> None:
    _check_output(args.output, (args.model, args.data), picture=True)
    vae, dataset = _load(args)
    images, which = _evaluation_images(dataset)
    images = images[: args.n]
    title = f"Reconstructions of {which}"
    plotting.reconstructions(images, vae.reconstruct(images), args.output, title)
    _print_written(args.output)


def _encode(args: argparse.Namespace) -> None:
    _check_output(args.output, (args.model, args.data))
    vae, dataset = _load(args)
    means = vae.transform(dataset.images)
    with replaced_file(args.output) as file:
        np.save(file, means)
    _print_written(args.output)


def _info(args: argparse.Namespace) -> None:
    _set_threads(args)
    vae = None if args.model is None else cvae.load(args.model)
    _print_table(
        {
            "cvae": cvae.__version__,
            "instruction set": dispatch.instruction_set(),
            "available": ", ".join(dispatch.available()),
            "threads": cvae.get_num_threads(),
            "OpenMP": "yes" if dispatch.has_openmp() else "no",
            "NumPy": np.__version__,
            "Python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        }
    )
    if vae is not None:
        layers = vae._layers().values()
        sizes = [np.size(x) for layer in layers for x in layer.parameters.values() if x is not None]
        print()
        _print_table(
            {
                "model": args.model,
                "images": "x".join(map(str, vae._require_fitted())),
                "parameters": f"{sum(sizes):,}",
                "epochs trained": len(vae.history_.get("loss", ())),
                **vae.get_params(),
            }
        )


# What the commands share


def _load(args: argparse.Namespace) -> tuple[cvae.VAE, Dataset]:
    """Load the model and the data, which may be flat: the model knows the images' shape."""
    _set_threads(args)
    vae = cvae.load(args.model)
    return vae, cvae.data.loading.load(args.data, image_shape=vae._require_fitted())


def _evaluation_images(dataset: Dataset) -> tuple[np.ndarray, str]:
    """The test images if there are any, otherwise all images, and what to call them."""
    name = Path(dataset.name).name
    if dataset.test_images is not None:
        return dataset.test_images, f"test images of {name}"
    return dataset.images, f"images of {name}"


def _set_threads(args: argparse.Namespace) -> None:
    if args.threads is not None:
        cvae.set_num_threads(check_num_threads(args.threads, "--threads"))


def _check_output(path: str | Path, inputs: Sequence[str | None] = (), picture: bool = False) -> None:
    """Check before any long work that a file can be written, and that none of the others would be lost by it."""
    if picture:
        plotting.check_can_plot(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"the output must be a file, got {os.fspath(path)!r}, which is none")
    for other in inputs:
        if other is not None and os.path.realpath(other) == os.path.realpath(path):
            raise ValueError(f"an output must be a file of its own, got {os.fspath(path)!r} twice")
    folder = os.path.dirname(os.path.realpath(path))
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"cannot write to the folder {folder}: {error.strerror}") from None


def _log(message: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody reads it: no reason to stop training
        print(f"cvae: {message}", file=sys.stderr)


def _print_table(rows: Mapping[str, Any]) -> None:
    width = max(map(len, rows)) + 2
    for name, value in rows.items():
        print(f"{name:{width}}{value}")


def _print_written(*paths: str | Path) -> None:
    for path in paths:
        print(f"wrote {path}")


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "demo": _demo,
    "train": _train,
    "evaluate": _evaluate,
    "sample": _sample,
    "reconstruct": _reconstruct,
    "encode": _encode,
    "info": _info,
}
