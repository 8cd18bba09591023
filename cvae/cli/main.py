"""The command `cvae`: train, evaluate and use a model from the shell.

Results are written to standard output, progress and errors to standard error. A user error is reported in one
line; `main` documents the exit codes.
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
from cvae.cli.arguments import make_parser, settings
from cvae.cli.models import new_model
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
        The command-line arguments without the program's name. Default: those of the process.

    Returns
    -------
    int
        The exit code: 0 for success, 2 for an error, 130 after Ctrl-C, 141 for a broken pipe.

    Raises
    ------
    SystemExit
        With code 0 after --help and --version, with code 2 for invalid arguments.
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
        # The interpreter flushes standard output again at exit, which would raise another BrokenPipeError.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, FloatingPointError, MemoryError, ImportError) as error:
        if isinstance(error, ImportError) and error.name is not None:
            raise  # a failed import of our own, not the message about a missing extra
        print(f"cvae: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


# The subcommands


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
    dataset = cvae.datasets.load("mnist-sample")
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
    images, _, which = _evaluation_data(vae, dataset)
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
        _check_output(path, inputs=(args.data, args.config))
    if args.history is not None:
        _check_output(args.history, inputs=(args.output, args.resume))
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
    dataset = cvae.datasets.load(args.data, image_shape=shape)
    if args.resume is None and not args.quiet and any(isinstance(part, str) for part in (vae.encoder, vae.decoder)):
        labels = _labels_for(vae, dataset.labels, dataset)
        _log(f"the model\n{vae.summary(dataset.images.shape[1:], y=labels)}")
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
    """Train, write the model and its history, also after Ctrl-C, and return the results to print."""
    n_before = _n_epochs(vae)
    labels, validation = _labels_for(vae, dataset.labels, dataset), None
    if dataset.test_images is not None:
        validation = dataset.test_images, _labels_for(vae, dataset.test_labels, dataset)
    is_terminal = sys.stderr.isatty()  # show a progress bar there, elsewhere log a line per epoch
    try:
        vae.fit(
            dataset.images,
            labels,
            validation_data=validation,
            verbose=is_terminal and not quiet,
            callbacks=() if is_terminal or quiet else (_log_epoch,),
        )
        _write_model(vae, model, history)
    except KeyboardInterrupt:
        if vae.__sklearn_is_fitted__():
            _write_model(vae, model, history)
            _log(f"interrupted after {_n_epochs(vae)} complete epochs; the model was saved to {model}")
        raise
    except FloatingPointError:
        if _n_epochs(vae) > n_before:  # an older file is worth more than a model that never trained
            _write_model(vae, model, history)
            _log(f"training failed after {_n_epochs(vae)} complete epochs; the model was saved to {model}")
        raise
    seconds = vae.history_["seconds"][n_before:]
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
    """Return the negative ELBOs of an epoch; unlike the loss they do not depend on `beta`."""
    elbos = {}
    for name, prefix in (("training", ""), ("test", "val_")):
        value = entry.get(f"{prefix}reconstruction", math.nan) + entry.get(f"{prefix}kl", math.nan)
        if not math.isnan(value):  # NaN if there were no test images
            elbos[name] = value
    return elbos


def _write_model(vae: cvae.VAE, model: str | Path, history: str | Path | None) -> None:
    vae.save(model)
    if history is not None:
        with replaced_file(history) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
            writer = csv.writer(text)
            writer.writerow(["epoch", *vae.history_])
            writer.writerows(zip(range(1, _n_epochs(vae) + 1), *vae.history_.values(), strict=True))


def _n_epochs(vae: cvae.VAE) -> int:
    """Return the number of epochs that a model was trained for."""
    return len(vae.history_.get("loss", ()))


def _evaluate(args: argparse.Namespace) -> None:
    vae, dataset = _load(args)
    images, labels, which = _evaluation_data(vae, dataset)
    reconstruction, kl = vae.elbo_terms(images, y=labels)
    results = {
        "elbo": float(-(reconstruction + kl).mean()),
        "reconstruction": float(reconstruction.mean()),
        "kl": float(kl.mean()),
    }
    if args.log_likelihood is not None:
        estimate = vae.log_likelihood(images, n_samples=args.log_likelihood, y=labels)
        results["log_likelihood"] = float(estimate.mean())
    if args.json:
        print(json.dumps({"data": args.data, "images": len(images), **results, "unit": _NATS}))
        return
    names = {
        "elbo": "ELBO",
        "reconstruction": "reconstruction loss",
        "kl": "KL divergence",
        "log_likelihood": f"log-likelihood ({args.log_likelihood} samples)",
    }
    lines = {names[name]: f"{value:.2f} {_NATS}" for name, value in results.items()}
    _print_table({"data": f"{len(images):,} {which}", **lines})


def _sample(args: argparse.Namespace) -> None:
    _check_output(args.output, (args.model,), picture=True)
    _set_threads(args)
    vae, title = cvae.load(args.model), f"Samples of {Path(args.model).name}"
    if vae.condition == "classes" and args.label is None:
        # A row for each class, the same codes in all rows.
        seed = args.seed if args.seed is not None else np.random.SeedSequence().entropy
        n = max(1, args.n // len(vae.classes_))
        images = np.stack([vae.sample(n, random_state=seed, y=label) for label in vae.classes_])
        plotting.class_samples(vae._as_pictures(images), vae.classes_.tolist(), args.output, title)
    else:
        images = vae.sample(args.n, random_state=args.seed, y=_label(vae, args.label))
        plotting.samples(vae._as_pictures(images), args.output, title)
    _print_written(args.output)


def _label(vae: cvae.VAE, text: str | None) -> Any:
    """Return the label that --label names, None for a model without condition."""
    if vae.condition is None:
        if text is not None:
            raise ValueError(f"--label must be left out for a model without condition, got {text!r}")
        return None
    if text is None:
        raise ValueError("--label must be given for a model with values as labels")
    if vae.condition == "classes":
        known = {str(label): label for label in vae.classes_.tolist()}
        if text not in known:
            raise ValueError(f"--label must be one of {', '.join(known)}, got {text!r}")
        return known[text]
    try:
        return [float(value) for value in text.split(",")]
    except ValueError:
        raise ValueError(f"--label must be numbers joined by commas, got {text!r}") from None


def _reconstruct(args: argparse.Namespace) -> None:
    _check_output(args.output, (args.model, args.data), picture=True)
    vae, dataset = _load(args)
    images, labels, which = _evaluation_data(vae, dataset)
    images = images[: args.n]
    means = vae.reconstruct(images, None if labels is None else labels[: args.n])
    title = f"Reconstructions of {which}"
    plotting.reconstructions(vae._as_pictures(images), vae._as_pictures(means), args.output, title)
    _print_written(args.output)


def _encode(args: argparse.Namespace) -> None:
    _check_output(args.output, (args.model, args.data))
    vae, dataset = _load(args)
    means = vae.transform(dataset.images, _labels_for(vae, dataset.labels, dataset))
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
                "epochs trained": _n_epochs(vae),
                **vae.get_params(),
            }
        )
        print()
        print(vae.summary())


# Shared by the subcommands


def _load(args: argparse.Namespace) -> tuple[cvae.VAE, Dataset]:
    """Load the model and the data; flat images get the image shape of the model."""
    _set_threads(args)
    vae = cvae.load(args.model)
    return vae, cvae.datasets.load(args.data, image_shape=vae._require_fitted())


def _evaluation_data(vae: cvae.VAE, dataset: Dataset) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Return the test images if there are any, otherwise all images, the labels if needed, and a description."""
    name = Path(dataset.name).name
    if dataset.test_images is not None:
        return dataset.test_images, _labels_for(vae, dataset.test_labels, dataset), f"test images of {name}"
    return dataset.images, _labels_for(vae, dataset.labels, dataset), f"images of {name}"


def _labels_for(vae: cvae.VAE, labels: np.ndarray | None, dataset: Dataset) -> np.ndarray | None:
    """Return labels if the model is conditional, otherwise None; raise ValueError if it does not take these."""
    if vae.condition is None:
        return None
    if labels is None:
        raise ValueError(f"{dataset.name} must hold labels of all images for a conditional model, got none")
    try:
        vae._as_labels(labels, len(labels), f"the labels of {dataset.name}")
    except TypeError as error:  # the file has the wrong dtype
        raise ValueError(str(error)) from None
    return labels


def _set_threads(args: argparse.Namespace) -> None:
    if args.threads is not None:
        cvae.set_num_threads(check_num_threads(args.threads, "--threads"))


def _check_output(path: str | Path, inputs: Sequence[str | None] = (), picture: bool = False) -> None:
    """Check, before any long work, that an output can be written and would not overwrite an input."""
    if picture:
        plotting.check_can_plot(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"the output must be a regular file, got {os.fspath(path)!r}")
    for other in inputs:
        if other is not None and os.path.realpath(other) == os.path.realpath(path):
            raise ValueError(f"inputs and outputs must be different files, got {os.fspath(path)!r} twice")
    folder = os.path.dirname(os.path.realpath(path))
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"cannot write to the folder {folder}: {error.strerror}") from None


def _log(message: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # a closed log is no reason to stop training
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
