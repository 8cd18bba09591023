"""What the command reads: models, data, labels and the number of threads."""

from __future__ import annotations

import argparse
import os
import re
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import cvae
from cvae.cli.output import listed, shown
from cvae.data.blocks import Blocks, as_blocks
from cvae.data.dataset import Dataset
from cvae.runtime.threads import check_num_threads
from cvae.warning import warn

# Prefixes of the fields of a data set, and what messages call them.
_PARTS = {"train": ("", "images"), "val": ("val_", "validation images"), "test": ("test_", "test images")}
Images = np.ndarray | Blocks


class Validation(NamedTuple):
    """Images to validate with, their labels if the model needs them, and what they are called."""

    name: str
    images: Images
    labels: np.ndarray | None


def set_threads(args: argparse.Namespace) -> None:
    if args.threads is not None:
        cvae.set_num_threads(check_num_threads("--threads", args.threads))


def load(args: argparse.Namespace) -> tuple[cvae.VAE, Dataset]:
    """Load the model and the data; flat images get the image shape of the model."""
    set_threads(args)
    vae = load_model(args.model)
    return vae, load_data(args.data, args, vae._require_fitted())


def load_model(path: str) -> cvae.VAE:
    """Load a model; say where the name of data stands in its place."""
    if not os.path.exists(path) and path in cvae.datasets.names():
        raise ValueError(f"MODEL must be a model file, got the data {path!r}; MODEL stands before DATA")
    return cvae.load(path)


def load_data(source: str, args: argparse.Namespace, image_shape: Sequence[int] | None) -> Dataset:
    """Load data as the flags of `add_data` say; what was not read becomes a line on standard error.

    Large images are read when they are used.
    """
    if any(letter in source for letter in "*?[") and not os.path.exists(source):
        expected = "DATA must be a file, a folder or a built-in name"
        raise ValueError(f"{expected}, got the pattern {source!r}; name the folder of the files")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = cvae.datasets.load(
            source,
            image_shape=image_shape,
            crop=args.crop,
            resize=args.resize,
            grey=args.grey,
            background=args.background,
            stream=None,
        )
    for warning in caught:
        warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
    return dataset


def evaluation_data(vae: cvae.VAE, dataset: Dataset, part: str | None = None) -> tuple[Images, np.ndarray | None, str]:
    """Return images of a part, the labels if needed, and a description.

    Without a part, that is the test images if there are any, or the validation images, or all.
    """
    images, labels, which = part_of(dataset, part)
    return images, labels_for(vae, labels, dataset), f"{which} of {shown(Path(dataset.name).name)}"


def first(n: int, images: Images, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the first n images, which are read, with their labels if there are any."""
    return images[:n], None if labels is None else labels[:n]


def part_of(dataset: Dataset, part: str | None) -> tuple[Images, np.ndarray | None, str]:
    """Return images and labels of a part (train, val, test or all; None for the last that there is), and its name.

    Raises
    ------
    ValueError
        If the data have no such part.
    """
    names = _part_names(dataset, part)
    images = [getattr(dataset, f"{_PARTS[name][0]}images") for name in names]
    labels = [getattr(dataset, f"{_PARTS[name][0]}labels") for name in names]
    which = _PARTS[names[0]][1] if len(names) == 1 else "images"
    if len(names) == 1:
        return images[0], labels[0], which
    all_labels = None if any(each is None for each in labels) else np.concatenate(labels)
    is_large = any(as_blocks(each) is not None for each in images)
    return Blocks(images) if is_large else np.concatenate(images), all_labels, which


def image_names(dataset: Dataset, part: str | None) -> list[tuple[str, str]]:
    """Return the file of each image, or its index where there are no files, and its part, as `part_of` orders them."""
    found = []
    for name in _part_names(dataset, part):
        prefix = _PARTS[name][0]
        files = getattr(dataset, f"{prefix}filenames") or range(len(getattr(dataset, f"{prefix}images")))
        found += [(str(file), name) for file in files]
    return found


def class_labels(dataset: Dataset, part: str | None) -> Any:
    """Return the names, or else the labels, of the classes of images as `part_of` orders them, None without classes."""
    _, labels, _ = part_of(dataset, part)
    if labels is None or labels.ndim != 1:
        return None
    if dataset.class_names is None or labels.dtype.kind not in "iu":
        return labels
    return np.array(dataset.class_names)[labels]


def _part_names(dataset: Dataset, part: str | None) -> list[str]:
    """Return which of train, val and test a part consists of."""
    present = [name for name, (prefix, _) in _PARTS.items() if getattr(dataset, f"{prefix}images") is not None]
    if part not in (None, "all", *present):
        raise ValueError(f"--part must be one of {', '.join(present)} for {dataset.name}, got {part}")
    if part == "all":
        return present
    return [part or present[-1]]


def validation_data(vae: cvae.VAE, dataset: Dataset) -> Validation | None:
    """Return what there is of the data to validate with while training: validation images, or test images."""
    for name, images, labels in (
        ("validation", dataset.val_images, dataset.val_labels),
        ("test", dataset.test_images, dataset.test_labels),
    ):
        if images is not None:
            return Validation(name, images, labels_for(vae, labels, dataset))
    return None


def labels_for(vae: cvae.VAE, labels: np.ndarray | None, dataset: Dataset) -> np.ndarray | None:
    """Return labels if the model is conditional, otherwise None; raise ValueError if it does not take these.

    Those of folders are the folders' names: their numbers depend on what other folders there are.
    """
    if vae.condition is None:
        return None
    if labels is None:
        raise ValueError(f"{dataset.name} must hold labels of all images for a conditional model, got none")
    if dataset.class_names is not None:
        labels = _named(vae, dataset.class_names, dataset.name)[labels]
    try:
        vae._as_labels(labels, len(labels), f"the labels of {dataset.name}")
    except TypeError as error:  # the file has the wrong dtype
        raise ValueError(str(error)) from None
    return labels


def _named(vae: cvae.VAE, class_names: Sequence[str], source: str) -> np.ndarray:
    """Return the label of each folder of a class: its name, or the number that the name is."""
    names = np.array([unicodedata.normalize("NFC", name) for name in class_names])  # macOS spells them in its own way
    if vae.condition == "values":
        try:
            return names.astype(np.float64)
        except ValueError:
            words = ", ".join(map(shown, class_names[:3]))
            raise ValueError(
                f"{source} must have folders whose names are numbers for a model with values as labels, got {words}"
            ) from None
    labels = names.astype(np.int64) if all(re.fullmatch("0|[1-9][0-9]{0,17}", name) for name in names) else names
    known = vae.classes_ if vae._label_kind is not None else labels
    if known.dtype.kind != "U" and known.tolist() == [*range(len(names))] and not np.isin(labels, known).all():
        meant = ", ".join(f"{i} {shown(name)}" for i, name in enumerate(class_names[:5])) + ", ..." * (len(names) > 5)
        warn(f"the model knows its classes by numbers, which are taken to be {meant}")
        return known
    return labels


def label(vae: cvae.VAE, text: str | None) -> Any:
    """Return the label that --label names, None for a model without condition."""
    if vae.condition is None:
        if text is not None:
            raise ValueError(f"--label must be left out for a model without condition, got {text!r}")
        return None
    if vae.condition == "classes":
        known = {str(label): label for label in vae.classes_.tolist()}
        if text is None:
            raise ValueError(f"--label must be given for this model of classes: one of {listed(known)}")
        if text not in known:
            raise ValueError(f"--label must be one of {listed(known)}, got {text!r}")
        return known[text]
    if text is None:
        n = vae._label_kind.n_labels if vae._label_kind is not None else 1
        raise ValueError(f"--label must be given for this model: {n} number{'s joined by commas' * (n != 1)}")
    try:
        return [float(value) for value in text.split(",")]
    except ValueError:
        raise ValueError(f"--label must be numbers joined by commas, got {text!r}") from None
