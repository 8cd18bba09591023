"""Loading of image sets: what a source is, which reader takes it, and what all of them have in common.

Nothing is unpickled. An invalid file raises a ValueError that names it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cvae.data import arrays, containers, folders, idx, known, picture_sets, tables
from cvae.data.adjustment import Adjustment, adjustment
from cvae.data.blocks import LARGE, Blocks
from cvae.data.checks import likely_axes
from cvae.data.dataset import PARTS, Dataset
from cvae.data.images import as_images, resolve_image_shape, shape_hint
from cvae.data.known import names
from cvae.data.lazy import Lazy
from cvae.data.pictures import SUFFIXES as PICTURE_SUFFIXES
from cvae.data.pillow import image_module
from cvae.data.signatures import check_regular, kind
from cvae.warning import warn

__all__ = ["Dataset", "load", "names"]

_TAKEN = "a picture, a folder of pictures, .npy, .npz, IDX (.gz too), .csv, HDF5 or Zarr"  # where something else came
_NAMES_SHOWN = 3


def load(
    source: str | os.PathLike[str],
    *,
    image_shape: Sequence[int] | None = None,
    crop: Literal["fit"] | int | Sequence[int] | None = None,
    resize: int | Sequence[int] | None = None,
    grey: bool | None = None,
    background: str | Sequence[int] | None = None,
    stream: bool | None = False,
) -> Dataset:
    """Load a set of images from a built-in name, a file or a folder.

    ==================== =========================================================================
    source               what is loaded
    ==================== =========================================================================
    "mnist-sample"       5,000 training and 1,000 test digits of MNIST, uint8 ``(n, 28, 28, 1)``,
                         with labels; included in the package
    "mnist",             the four IDX files or Keras's ``.npz`` file, from the folder named by the
    "fashion-mnist"      environment variable CVAE_DATA, the folder of Debian's package
                         dataset-fashion-mnist, Keras's download folder or the user's cache; where
                         pooch is installed, downloaded to CVAE_DATA or the cache, and checked
    a folder of pictures png, jpg, webp, bmp, gif, tif, ppm, pgm, jp2, avif, or heic with pillow-heif,
                         in natural order of their names (2.png before 10.png); or a subfolder of
                         these for each class, with labels 0, 1, ... in natural order of the names;
                         or these in ``train`` and ``test``, ``val`` (also ``training``,
                         ``testing``, ``eval``, ``valid``, ``validation``, ``dev``, or names with
                         these words, such as ``test1``, ``seg_train``, ``val_images``); folders
                         that hold but one folder of them are gone through; needs Pillow
    a picture            a set of that one picture, or of all pages of a TIFF and frames of a GIF
    a folder with        ``train-images-idx3-ubyte`` and, if present,
    MNIST's IDX files    ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
                         ``t10k-labels-idx1-ubyte``; gzipped or not; -idx may be .idx; or those of
                         another set, such as ``emnist-digits-train-images-idx3-ubyte``
    ``.npy`` file        an array of images, memory-mapped
    ``.npz`` file,       images, named ``images``, ``x_train``, ``train_images``, ``x`` or
    HDF5, Zarr           ``arr_0``, or the only array of 3 or 4 dimensions; optionally labels
                         (``labels``, ``y_train``, ``train_labels``, ``y``), and the same for
                         ``test`` and ``val``; in upper or lower case, with - or / for _; labels may
                         be text; ``file.h5:name`` names the images; needs h5py or zarr
    .csv, .tsv, .txt     a row of numbers for each image, with or without a line of names; labels in
                         the column ``label``, or the only one whose name is unlike those of the
                         pixels; without names in the first or the last, where the others make a
                         square; or all pixels of an image in one cell; other columns, row numbers
                         and names of files are left out; pixels are in the order of the numbers in
                         their names; those that are all 0 or 1 become float64; gzipped or not;
                         decimal commas where commas part no columns
    any other file       an IDX file of images, or such a table, gzipped or not
    ==================== =========================================================================

    Pictures are turned upright as EXIF says. 16 bits stay 16 bits (uint16), also of colours; pictures with a palette
    are grey if all others are, and their palettes too; of a camera's MPO or HEIC the first picture is read, and of a
    TIFF no reduced copies. Hidden files, and those that systems leave (Thumbs.db, __MACOSX), are ignored; of everything
    else that is not read, one warning tells.

    Parameters
    ----------
    source : str or path
        A built-in name takes precedence over a file of that name; write "./mnist" for the file. ``~`` is the home.
    image_shape : sequence of 2 or 3 ints, optional
        (rows, cols) or (rows, cols, channels). Required for flat images ``(n, features)`` in a .npy, .npz or
        IDX file; otherwise the images must match it, as they are after the changes below.
    crop : (rows, cols), int or "fit", optional
        The middle of each image that is kept, in pixels; "fit" keeps all that has the proportions of `resize`.
    resize : (rows, cols) or int, optional
        The size to which images are scaled, after `crop`; needs Pillow.
    grey : bool, optional
        True for one channel (ITU-R BT.601 luma), False for three. Default: as the images are, which must agree.
    background : colour name, "#rrggbb" or (red, green, blue), optional
        What shows through transparent parts of pictures, which are refused otherwise; each of 0..255.
    stream : bool, optional
        Whether pictures and the images of HDF5 and Zarr are read when a model trains on them: they become
        `cvae.datasets.Blocks`, and IDX files are memory-mapped. None does so with more than 1 GiB.

    Returns
    -------
    Dataset
        Arrays of integers of 32 and 64 bits that lie in 0..255, and are not all 0 or 1, become uint8.

    Warns
    -----
    UserWarning
        If files of a folder, or arrays of a file, were not read; their number and the first names. If it is not sure
        what a folder or a column is; what it was taken for.

    Raises
    ------
    TypeError
        If `source` is neither a str nor a path, or an option has the wrong type.
    FileNotFoundError
        If there is no such name, file or folder, a link in the folder leads nowhere, or "mnist" or "fashion-mnist" is
        not on this machine and cannot be downloaded.
    ValueError
        If a file is damaged or does not contain images, images differ in size, channels or dtype, or the numbers of
        labels and images differ.
    ImportError
        If Pillow, h5py or zarr is required but not installed.

    Examples
    --------
    >>> load("mnist-sample", resize=(14, 14)).test_images.shape
    (1000, 14, 14, 1)
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be a built-in name or a path, got {type(source).__name__}")
    if stream is not None and not isinstance(stream, bool | np.bool_):
        raise TypeError(f"stream must be True, False or None, got {stream!r}")
    most = LARGE if stream is None else 0 if stream else math.inf  # bytes of images that are read at once
    wanted_shape = None if image_shape is None else resolve_image_shape(image_shape)
    changes, colour = adjustment(crop, resize, grey), _colour(background)
    name = os.fspath(source)
    if source == known.SAMPLE:
        fields = arrays.read_npz(known.SAMPLE_FILE)
    elif source in names():
        fields = _read(known.find_or_download(name), None, None, changes, colour, most)
    else:
        path, key = _split(source)
        fields = _read(path, key, wanted_shape, changes, colour, most)
    unread, notes = fields.pop("unread", []), fields.pop("notes", [])
    dataset = Dataset(name, **_finished(fields, name, wanted_shape, changes))
    if unread:
        shown = ", ".join(unread[:_NAMES_SHOWN]) + ", ..." * (len(unread) > _NAMES_SHOWN)
        notes.append(f"{len(unread)} in it not read, as no images: {shown}")
    for note in notes:
        warn(f"{name}: {note}")
    return dataset


def _split(source: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """Return the path of a source, and the name of an array in it if there is one after a colon."""
    name = os.fspath(source)
    if "\0" not in name and name:
        path = Path(source)
        if not os.path.lexists(path) and name.startswith("~"):
            name = os.path.expanduser(name)
            path = Path(name)
        if os.path.lexists(path):
            check_regular(path)
            return path, None
        file, colon, key = name.rpartition(":")
        if colon and key and os.path.exists(file):
            return Path(file), key
    raise FileNotFoundError(
        f"source must be a file, a folder or one of {', '.join(names())}, got {name!r}, which does not exist"
    )


def _colour(background: Any) -> tuple[int, int, int] | None:
    """Return a colour by name or numbers as (red, green, blue)."""
    if background is None:
        return None
    message = f"background must be a colour such as 'white' or '#ffffff', or 3 ints from 0 to 255, got {background!r}"
    if isinstance(background, str):
        image_module("reading pictures")
        from PIL import ImageColor

        try:
            found = ImageColor.getrgb(background)[:3]
        except ValueError:
            raise ValueError(message) from None
    else:
        try:
            found = tuple(background)
        except TypeError:
            raise TypeError(message) from None
    if len(found) != 3 or not all(isinstance(part, int | np.integer) and 0 <= part <= 255 for part in found):
        raise ValueError(message)
    return int(found[0]), int(found[1]), int(found[2])


# Choosing a reader


def _read(
    path: Path,
    key: str | None,
    image_shape: tuple[int, int, int] | None,
    changes: Adjustment,
    colour: Any,
    most: float,
) -> dict[str, Any]:
    """Read a file or folder into fields of Dataset, whose values are not validated yet.

    "unread" is what is left, and "notes" say what was taken for what where one may doubt it. Images of more than `most`
    bytes become `Lazy` where that is possible.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in PICTURE_SUFFIXES:
        reader = "folder" if path.is_dir() else "picture"
        if path.is_dir() and containers.is_zarr(path):
            reader = "zarr"
    elif suffix in (".npy", ".npz"):
        reader = {"npy": "npy", "zip": "npz"}.get(kind(path).reader, suffix[1:])  # one may have the name of the other
    else:
        reader = kind(path).reader
        name = path.name.lower()
        if Path(name.removesuffix(".gz")).suffix in tables.SUFFIXES and reader in ("", "gzip"):
            reader = "table"
        elif name.removesuffix(".gz").endswith("-ubyte"):
            reader = "idx"  # MNIST's, even if it is damaged
        elif reader == "zip":
            reader = "zarr" if ".zarr" in name else "npz"
        elif not reader and tables.is_table(path):
            reader = "table"
    takes_key: dict[str, Callable[[Path, str | None], dict[str, Any]]] = {
        "npz": arrays.read_npz,
        "hdf5": partial(containers.read_hdf5, most=most),
        "zarr": partial(containers.read_zarr, most=most),
    }
    if reader in takes_key:
        return takes_key[reader](path, key)
    if key is not None:
        raise ValueError(f"{path}: must be .npz, HDF5 or Zarr for a name after a colon, got {key!r}")
    if reader == "folder":
        place = idx.idx_folder(path)
        if place:
            return dict(idx.read_idx_folder(place, most))
        return _read_pictures(path, folders.scan(path), changes, colour, most)
    if reader == "picture":
        return _read_pictures(path, folders.Tree({"": folders.Part({"": [path]})}, [], []), changes, colour, most)
    if reader == "npy":
        return {"images": arrays.read_npy(path)}
    if reader == "table":
        return tables.read_table(path, image_shape, is_hint=not changes.changes_nothing)
    if reader in ("idx", "gzip"):
        images = idx.read_idx(path, most)
        if images.ndim == 1:
            raise ValueError(f"{path}: holds labels (1 dimension), not images (3 or 4 dimensions)")
        return {"images": images}
    raise ValueError(f"{path}: must be {_TAKEN}, got {kind(path).name}")


def _read_pictures(path: Path, tree: folders.Tree, changes: Adjustment, colour: Any, most: float) -> dict[str, Any]:
    """Read the pictures of all parts, which have one format in common."""
    inspected = {prefix: picture_sets.inspect(part.files) for prefix, part in tree.parts.items()}
    common = picture_sets.common_format([file for files in inspected.values() for file in files], changes)
    classes = sorted({name for part in tree.parts.values() for name in part.classes} - {""}, key=folders.natural)
    fields: dict[str, Any] = {"class_names": tuple(classes) or None, "is_adjusted": True}
    for prefix, part in tree.parts.items():
        files = inspected[prefix]
        by_path: dict[Path, str] = {}
        for name, paths in part.classes.items():
            by_path |= dict.fromkeys(paths, name)
        fields[f"{prefix}images"] = picture_sets.read(files, common, changes, colour, most)
        fields[f"{prefix}filenames"] = tuple(
            folders.relative_name(file.path, path) + f"[{i}]" * (len(file.images) > 1)
            for file in files
            for i in range(len(file.images))
        )
        if "" not in part.classes:
            labels = [classes.index(by_path[file.path]) for file in files for _ in file.images]
            fields[f"{prefix}labels"] = np.array(labels)
    unread = [folders.relative_name(other, path) + "/" * other.is_dir() for other in tree.unread]
    return {**fields, "unread": unread, "notes": tree.notes}


# What all have in common


def _finished(
    fields: dict[str, Any], name: str, image_shape: tuple[int, int, int] | None, changes: Adjustment
) -> dict[str, Any]:
    """Return fields of Dataset from what a reader gave: images in 4 dimensions, adjusted; labels in one if possible.

    Labels that are bytes become the text that they are in UTF-8.
    """
    is_adjusted = fields.pop("is_adjusted", False)
    if not is_adjusted:
        _narrow(fields)
    for prefix in PARTS:
        key = f"{prefix}images"
        if fields.get(key) is None:
            continue
        images = fields[key]
        finish = partial(_images, f"{name}: {key}", image_shape, changes, is_adjusted)
        fields[key] = Blocks(images.mapped(finish)) if isinstance(images, Lazy) else finish(images)
        labels = fields.get(f"{prefix}labels")
        if labels is not None and labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels is not None and labels.dtype.kind == "S":
            labels = np.char.decode(labels, "utf-8", "backslashreplace")
        fields[f"{prefix}labels"] = labels
    return fields


def _images(
    name: str, image_shape: tuple[int, int, int] | None, changes: Adjustment, is_adjusted: bool, array: np.ndarray
) -> np.ndarray:
    """Return images in 4 dimensions, adjusted; messages call them `name`."""
    try:
        is_flat = np.ndim(array) == 2  # the shape is then that of the rows, before any change
        shape = image_shape if changes.changes_nothing or is_flat else None
        images = as_images(array, shape, name=name)
    except TypeError as error:  # the file has the wrong dtype, not the caller's argument
        raise ValueError(str(error)) from None
    except ValueError as error:
        is_told = image_shape is not None and shape_hint(np.shape(array), image_shape, name) != ""
        raise ValueError(f"{error}{'' if is_told else _remedy(array, image_shape)}") from None
    if not is_adjusted:
        _check_channels(images, changes, name)
        images = changes.apply_to_all(images, name)
    if image_shape is not None and images.shape[1:] != image_shape and not is_flat:
        message = f"{name} must hold images of shape {image_shape}, got {images.shape[1:]}"
        raise ValueError(message + _remedy(images, image_shape))
    return images


def _check_channels(images: np.ndarray, changes: Adjustment, name: str) -> None:
    """Refuse to scale or cut images whose channels do not come last, which would no longer show."""
    axes = likely_axes(images)
    if (changes.resize or changes.crop) and axes is not None:
        rows, cols, channels = images.shape[1:]
        raise ValueError(
            f"{name} holds images of {rows}x{cols} pixels with {channels} channels, which are not scaled or cut: "
            f"channels come last, so save array.transpose{axes}"
        )


def _remedy(images: np.ndarray, image_shape: tuple[int, int, int] | None) -> str:
    """Return what brings images to the shape that is wanted, for the end of a message."""
    if image_shape is None or images.ndim < 3:
        return ""
    rows, cols, channels = image_shape
    found = images.shape[1:] if images.ndim == 4 else (*images.shape[1:], 1)
    options = []
    if found[:2] != (rows, cols):
        options.append(f"resize=({rows}, {cols}) (--resize {rows}x{cols} on the command line)")
    if (found[2], channels) in ((1, 3), (3, 1)):
        options.append(f"grey={channels == 1} (--{'no-' if channels == 3 else ''}grey)")
    return f"; pass {' and '.join(options)}" if options else ""


def _narrow(fields: dict[str, Any]) -> None:
    """Make arrays of wide integers uint8 if all of them hold bytes, as tables and other libraries' defaults do."""
    keys = [f"{prefix}images" for prefix in PARTS if fields.get(f"{prefix}images") is not None]
    if any(isinstance(fields[key], Lazy) for key in keys):
        return  # which would read all of them
    if not all(fields[key].dtype.kind in "iu" and fields[key].dtype.itemsize >= 4 and fields[key].size for key in keys):
        return
    ends = [(int(fields[key].min()), int(fields[key].max())) for key in keys]
    if min(low for low, _ in ends) >= 0 and 1 < max(high for _, high in ends) <= 255:
        for key in keys:
            fields[key] = fields[key].astype(np.uint8)
