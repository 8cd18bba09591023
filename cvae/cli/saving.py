"""Training that saves what was learnt, however it ends."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import cvae
from cvae.cli.inputs import labels_for
from cvae.cli.output import NATS, log
from cvae.data.dataset import Dataset
from cvae.io.files import replaced_file


def train_and_save(
    vae: cvae.VAE,
    dataset: Dataset,
    model: str | Path,
    history: str | Path | None,
    quiet: bool = False,
) -> dict[str, str]:
    """Train, write the model and its history, also after Ctrl-C, and return the results to print."""
    n_before = n_epochs(vae)
    labels, validation = labels_for(vae, dataset.labels, dataset), None
    if dataset.test_images is not None:
        validation = dataset.test_images, labels_for(vae, dataset.test_labels, dataset)
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
            log(f"interrupted after {n_epochs(vae)} complete epochs; the model was saved to {model}")
        raise
    except FloatingPointError:
        if n_epochs(vae) > n_before:  # an older file is worth more than a model that never trained
            _write_model(vae, model, history)
            log(f"training failed after {n_epochs(vae)} complete epochs; the model was saved to {model}")
        raise
    seconds = vae.history_["seconds"][n_before:]
    elbos = _negative_elbos({name: values[-1] for name, values in vae.history_.items()})
    return {
        **{f"{name} negative ELBO": f"{value:.2f} {NATS}" for name, value in elbos.items()},
        "training speed": f"{len(seconds) * len(dataset.images) / sum(seconds):,.0f} images/s",
    }


def _log_epoch(vae: cvae.VAE, epoch: int, entry: Mapping[str, float]) -> None:
    elbos = ", ".join(f"{name} {value:.2f}" for name, value in _negative_elbos(entry).items())
    speed = f"{entry['images_per_second']:,.0f} images/s"
    log(f"epoch {epoch}: negative ELBO {elbos} {NATS}, {speed}")


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
            writer.writerows(zip(range(1, n_epochs(vae) + 1), *vae.history_.values(), strict=True))


def n_epochs(vae: cvae.VAE) -> int:
    """Return the number of epochs that a model was trained for."""
    return len(vae.history_.get("loss", ()))
