"""Which array of a file is which field of `Dataset`, by the names that Keras, MedMNIST and others use."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cvae.data.dataset import check_labels

# By field; compared in lower case, with _ for / and -.
_KNOWN = {
    "images": ("images", "x_train", "train_images", "train_x", "train_data", "x", "imgs", "data", "arr_0"),
    "labels": ("labels", "y_train", "train_labels", "train_y", "train_target", "y", "target", "targets"),
    "val_images": ("val_images", "x_val", "val_x", "x_valid", "valid_images"),
    "val_labels": ("val_labels", "y_val", "val_y", "y_valid", "valid_labels"),
    "test_images": ("test_images", "x_test", "test_x", "test_data"),
    "test_labels": ("test_labels", "y_test", "test_y", "test_target"),
}
OBJECTS = (
    "Python objects, whose reading could run any code; load them where you trust them, by numpy.load(..., "
    "allow_pickle=True), and save numpy.stack(images), or images and labels by numpy.savez"
)
_OF_LABELS = "buifUST"  # kinds of dtypes
# Beyond the size of what was compressed: deflate's upper bound, 258 bytes from 2 bits.
MAX_RATIO = 1032


class Header(NamedTuple):
    """What is known of an array before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Choice(NamedTuple):
    """The names of the arrays to read by field of Dataset, and those of all others."""

    fields: dict[str, str]
    unread: list[str]


def choose(path: Path, found: Mapping[str, Header], wanted: str | None) -> Choice:
    """Choose the arrays of a file by their names.

    Parameters
    ----------
    path : Path
        For messages.
    found : mapping of name to Header
    wanted : str or None
        The name of the images if it was given.

    Raises
    ------
    ValueError
        If there is no array that is sure to be the images, two of them, or the arrays do not fit together.
    """
    if wanted is not None:
        if wanted not in found:
            raise ValueError(f"{path}: must hold an array {wanted!r}, got {_listed(found)}")
        return Choice({"images": wanted} | _labels_of(wanted, found), [])
    fields: dict[str, str] = {}
    no_labels = {}
    for name in found:
        for field, known in _KNOWN.items():
            if _plain(name) in known:
                if field.endswith("labels") and found[name].dtype.kind not in _OF_LABELS:
                    no_labels[name] = f"{name} of the type {found[name].dtype}"
                    continue
                if field in fields:
                    raise ValueError(
                        f"{path}: must hold one array of {field}, got {fields[field]} and {name}; "
                        f"name one of them after a colon, {path.name}:{name}"
                    )
                fields[field] = name
    if "images" not in fields:
        likely = [name for name, header in found.items() if len(header.shape) in (3, 4) and name not in fields.values()]
        if len(likely) != 1 or "test_images" in fields or "val_images" in fields:
            remedy = f"; name the images after a colon, {path.name}:NAME" if found else ""
            raise ValueError(
                f"{path}: must hold images under one of the names {' '.join(_KNOWN['images'])}, "
                f"got {_listed(found)}{remedy}"
            )
        fields["images"] = likely[0]
    for field, name in [*fields.items()]:
        shape, images = found[name].shape, fields.get(field.replace("labels", "images"), name)
        if field.endswith("labels") and len(shape) > 2 and shape[:1] == found[images].shape[:1]:  # masks
            no_labels[name] = f"{fields.pop(field)} of shape {shape}"
    return Choice(fields, [no_labels.get(name, name) for name in found if name not in fields.values()])


def _labels_of(images: str, found: Mapping[str, Header]) -> dict[str, str]:
    """Return the name of the labels of images of a known name, "test_labels" of "test_images", if there are any."""
    for field in ("images", "val_images", "test_images"):
        if _plain(images) not in _KNOWN[field]:
            continue
        for name, header in found.items():
            is_label = header.dtype.kind in _OF_LABELS and len(header.shape) in (1, 2)
            is_theirs = _plain(name) in _KNOWN[field.replace("images", "labels")]
            if is_label and is_theirs and header.shape[:1] == found[images].shape[:1]:
                return {"labels": name}
    return {}


def _plain(name: str) -> str:
    return re.sub("[/-]", "_", name.lower().strip("/"))


def check_headers(path: Path, headers: Mapping[str, Header], stored: int) -> None:
    """Refuse, before anything is read, arrays that are no numbers, do not fit or that no file of this size holds.

    Parameters
    ----------
    path : Path
        For messages.
    headers : mapping of str to Header
        By field of Dataset, of the arrays to read.
    stored : int
        The size of the file in bytes.
    """
    for field, header in headers.items():
        if not field.endswith("labels") and header.dtype.kind not in "buif":
            kind = OBJECTS if header.dtype.kind == "O" else header.dtype
            raise ValueError(f"{path}: {field} must be an array of bool, int or float, got {kind}")
        n_bytes = header.dtype.itemsize * math.prod(int(size) for size in header.shape)
        if n_bytes > MAX_RATIO * stored:
            raise ValueError(
                f"{path}: {field} of shape {header.shape} would take {n_bytes:,} bytes, which the file of {stored:,} "
                "bytes cannot hold"
            )
        images = headers.get(field.replace("labels", "images"))
        if field.endswith("labels"):
            check_labels(str(path), _placeholder(images) if images else None, _placeholder(header))


def _placeholder(header: Header) -> np.ndarray:
    """Return an array of a shape and dtype that takes no memory."""
    return np.broadcast_to(np.zeros((), header.dtype), header.shape)


def _listed(found: Mapping[str, Header]) -> str:
    if not found:
        return "no arrays"
    listed = [f"{name} {header.shape} {header.dtype}" for name, header in found.items()]
    return ", ".join(listed[:8]) + f" and {len(listed) - 8} more" * (len(listed) > 8)
