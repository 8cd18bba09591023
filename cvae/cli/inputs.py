"""What the command reads: models, data, labels and the number of threads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import cvae
from cvae.data.loading import Dataset
from cvae.runtime.threads import check_num_threads


def set_threads(args: argparse.Namespace) -> None:
    if args.threads is not None:
        cvae.set_num_threads(check_num_threads(args.threads, "--threads"))


def load(args: argparse.Namespace) -> tuple[cvae.VAE, Dataset]:
    """Load the model and the data; flat images get the image shape of the model."""
    set_threads(args)
    vae = cvae.load(args.model)
    return vae, cvae.datasets.load(args.data, image_shape=vae._require_fitted())


def evaluation_data(vae: cvae.VAE, dataset: Dataset) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Return the test images if there are any, otherwise all images, the labels if needed, and a description."""
    name = Path(dataset.name).name
    if dataset.test_images is not None:
        return dataset.test_images, labels_for(vae, dataset.test_labels, dataset), f"test images of {name}"
    return dataset.images, labels_for(vae, dataset.labels, dataset), f"images of {name}"


def labels_for(vae: cvae.VAE, labels: np.ndarray | None, dataset: Dataset) -> np.ndarray | None:
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


def label(vae: cvae.VAE, text: str | None) -> Any:
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
