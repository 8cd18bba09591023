"""What `load` returns: images with their labels and the names of their files, in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvae.data.blocks import Blocks, as_blocks

PARTS = ("", "val_", "test_")  # prefixes of the fields for training, validation and test
_RANGE_IMAGES, _RANGE_VALUES = 10_000, 1 << 24  # that are read, at most, for the range of values


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A set of images, optionally with labels, and with images for validation and testing.

    Attributes
    ----------
    name : str
        The built-in name or the path that the set was loaded from.
    images : ndarray, shape (n, rows, cols, channels)
        In the dtype of the source, where uint8 means 0..255; possibly a read-only memory map, or `Blocks`.
    labels : ndarray, shape (n,), or (n, numbers of a label), or None
    test_images : ndarray, shape (n_test, rows, cols, channels), or None
    test_labels : ndarray, of n_test labels, or None
    class_names : tuple of str, or None
        For a folder with a subfolder per class: ``class_names[i]`` is the name of label i.
    val_images : ndarray, shape (n_val, rows, cols, channels), or None
        Images for choosing between models, where the source has a part of that name.
    val_labels : ndarray, of n_val labels, or None
    filenames, test_filenames, val_filenames : tuple of str, or None
        For pictures: the name of each image's file, relative to the folder that was loaded, with ``/`` between
        folders; with ``[3]`` after it for the image at index 3 of a file of several.

    Raises
    ------
    ValueError
        If the numbers of labels or names and images differ, there are labels without images, or the shapes of the
        images of two parts differ.
    """

    name: str
    images: np.ndarray | Blocks
    labels: np.ndarray | None = None
    test_images: np.ndarray | Blocks | None = None
    test_labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    val_images: np.ndarray | Blocks | None = None
    val_labels: np.ndarray | None = None
    filenames: tuple[str, ...] | None = None
    test_filenames: tuple[str, ...] | None = None
    val_filenames: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for prefix in PARTS:
            name = f"{self.name} ({prefix[:-1]})" if prefix else self.name
            images, filenames = getattr(self, f"{prefix}images"), getattr(self, f"{prefix}filenames")
            check_labels(name, images, getattr(self, f"{prefix}labels"))
            if images is not None and images.shape[1:] != self.images.shape[1:]:
                raise ValueError(
                    f"{self.name}: {prefix[:-1]} images must have the shape of the training images, "
                    f"{self.images.shape[1:]}, got {images.shape[1:]}"
                )
            if filenames is not None and (images is None or len(filenames) != len(images)):
                count = 0 if images is None else len(images)
                raise ValueError(f"{name}: there must be one filename for each of the {count} images")

    def __repr__(self) -> str:
        parts = []
        for prefix in PARTS:
            images, labels = getattr(self, f"{prefix}images"), getattr(self, f"{prefix}labels")
            if images is not None:
                size = "x".join(map(str, images.shape))
                parts.append(f"{prefix}images {size} {described_values(images)}")
            if labels is not None:
                parts.append(f"{prefix}labels {described_labels(labels)[0]}")
        if self.class_names is not None:
            shown = ", ".join(self.class_names[:5]) + ", ..." * (len(self.class_names) > 5)
            parts.append(f"class_names {shown}")
        if self.filenames is not None:
            parts.append(f"filenames {self.filenames[0]}{', ...' * (len(self.filenames) > 1)}")
        return f"Dataset({self.name!r}: {'; '.join(parts)})"


def check_labels(name: str, images: np.ndarray | Blocks | None, labels: np.ndarray | None) -> None:
    """Raise ValueError unless there is a label, or none, for each image."""
    if labels is None:
        return
    if images is None:
        raise ValueError(f"{name}: there are labels but no images")
    shape = np.shape(labels)
    if len(shape) not in (1, 2) or shape[0] != np.shape(images)[0]:
        raise ValueError(
            f"{name}: there must be one label for each of the {len(images)} images, got labels of shape {shape}"
        )


def described_values(images: np.ndarray | Blocks) -> str:
    """Return dtype and range of values, that of every k-th image of many in memory."""
    if as_blocks(images) is not None:
        return f"{images.dtype}, read block by block"
    n_read = max(1, min(_RANGE_IMAGES, _RANGE_VALUES // images[0].size))
    some = images[:: -(-len(images) // n_read)]
    return f"{images.dtype} from {some.min():g} to {some.max():g}"


def described_labels(labels: np.ndarray, class_names: Sequence[str] | None = None) -> tuple[str, Sequence[Any]]:
    """Return what labels are, and which classes, none for numbers."""
    if labels.ndim != 1:
        return f"of {labels.shape[1]} numbers", ()
    if labels.dtype.kind == "f":
        return f"from {labels.min():g} to {labels.max():g}", ()
    classes = np.unique(labels).tolist() if class_names is None else class_names
    return f"{len(classes)} class{'es' * (len(classes) != 1)}", classes
