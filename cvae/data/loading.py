"""Loading of image sets: a built-in sample of MNIST, IDX files, .npy, .npz and pictures.

Nothing is downloaded or unpickled. An invalid file raises a ValueError that names it.
"""

from __future__ import annotations

import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvae.data.idx import read_idx
from cvae.data.images import as_images, resolve_image_shape

_SAMPLE = "mnist-sample"
_TORCHVISION_FOLDERS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}

_IDX_FILES = {  # images and labels, by prefix of Dataset's fields
    "": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test_": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

_NPZ_KEYS = {  # by field of Dataset; compared in lower case
    "images": ("images", "x_train", "train_images", "x", "arr_0"),
    "labels": ("labels", "y_train", "train_labels", "y"),
    "test_images": ("test_images", "x_test"),
    "test_labels": ("test_labels", "y_test"),
}
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
# What NumPy raises for a damaged .npy header.
_NPY_ERRORS = (ValueError, TypeError, OverflowError, SyntaxError, tokenize.TokenError)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A set of images, optionally with labels and test images.

    Attributes
    ----------
    name : str
        The built-in name or the path that the set was loaded from.
    images : ndarray, shape (n, rows, cols, channels)
        In the dtype of the source, where uint8 means 0..255; possibly a read-only memory map.
    labels : ndarray, shape (n,), or (n, numbers of a label), or None
    test_images : ndarray, shape (n_test, rows, cols, channels), or None
    test_labels : ndarray, of n_test labels, or None
    class_names : tuple of str, or None
        For a folder with a subfolder per class: ``class_names[i]`` is the name of label i.

    Raises
    ------
    ValueError
        If the numbers of labels and images differ, there are test labels without test images, or the shapes
        of training and test images differ.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    test_images: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_labels(self.name, self.images, self.labels)
        _check_labels(f"{self.name} (test)", self.test_images, self.test_labels)
        if self.test_images is not None and self.test_images.shape[1:] != self.images.shape[1:]:
            raise ValueError(
                f"{self.name}: test images must have the shape of the training images, "
                f"{self.images.shape[1:]}, got {self.test_images.shape[1:]}"
            )

    def __repr__(self) -> str:
        n, rows, cols, channels = self.images.shape
        parts = [f"{n} images {rows}x{cols}x{channels} {self.images.dtype}"]
        if self.labels is not None:
            parts.append("labels")
        if self.test_images is not None:
            parts.append(f"{len(self.test_images)} test images")
        if self.test_labels is not None:
            parts.append("test labels")
        return f"<Dataset {self.name!r}: {', '.join(parts)}>"


def _check_labels(name: str, images: np.ndarray | None, labels: np.ndarray | None) -> None:
    if labels is None:
        return
    if images is None:
        raise ValueError(f"{name}: there are labels but no images")
    shape = np.shape(labels)
    if len(shape) not in (1, 2) or shape[0] != len(images):
        raise ValueError(
            f"{name}: there must be one label for each of the {len(images)} images, got labels of shape {shape}"
        )


def names() -> tuple[str, ...]:
    """Return the built-in names that `load` accepts.

    Examples
    --------
    >>> names()
    ('mnist-sample', 'mnist', 'fashion-mnist')
    """
    return (_SAMPLE, *_TORCHVISION_FOLDERS)


def load(source: str | os.PathLike[str], *, image_shape: Sequence[int] | None = None) -> Dataset:
    """Load a set of images from a built-in name, a file or a folder.

    ==================== =========================================================================
    source               what is loaded
    ==================== =========================================================================
    "mnist-sample"       5,000 training and 1,000 test digits of MNIST, uint8 ``(n, 28, 28, 1)``,
                         with labels; included in the package
    "mnist",             the four IDX files or Keras's ``.npz`` file, from the folder named by the
    "fashion-mnist"      environment variable CVAE_DATA, the folder of Debian's package
                         dataset-fashion-mnist, or Keras's download folder
    a folder with        ``train-images-idx3-ubyte`` and, if present,
    MNIST's IDX files    ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
                         ``t10k-labels-idx1-ubyte``; gzipped or not; -idx may be .idx
    a folder of pictures png, jpg, bmp, gif, ppm, pgm or tif, sorted by name, all of the same size
                         and all grey or all RGB; or a subfolder of these for each class, sorted by
                         name, with the labels 0, 1, ...; requires Pillow
    a picture            a set of that one picture
    ``.npy`` file        an array of images, memory-mapped
    ``.npz`` file        images, named ``images``, ``x_train``, ``train_images``, ``x`` or
                         ``arr_0``; optionally labels (``labels``, ``y_train``, ``train_labels``,
                         ``y``), test images (``test_images``, ``x_test``) and test labels
                         (``test_labels``, ``y_test``); in upper or lower case; no other arrays
    any other file       an IDX file of images, gzipped or not
    ==================== =========================================================================

    Parameters
    ----------
    source : str or path
        A built-in name takes precedence over a file of that name; write "./mnist" for the file.
    image_shape : sequence of 2 or 3 ints, optional
        (rows, cols) or (rows, cols, channels). Required for flat images ``(n, features)`` in a .npy, .npz or
        IDX file; otherwise the images must match it.

    Returns
    -------
    Dataset

    Raises
    ------
    TypeError
        If `source` is neither a str nor a path.
    FileNotFoundError
        If there is no such name, file or folder, or "mnist" or "fashion-mnist" is not on this machine.
    ValueError
        If a file is damaged or does not contain images, or the numbers of labels and images differ.
    ImportError
        If Pillow is required but not installed.

    Examples
    --------
    >>> load("mnist-sample")
    <Dataset 'mnist-sample': 5000 images 28x28x1 uint8, labels, 1000 test images, test labels>
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be a built-in name or a path, got {type(source).__name__}")
    if image_shape is not None:
        image_shape = resolve_image_shape(image_shape)
    if source == _SAMPLE:
        parts = _read_npz(Path(__file__).parent / "mnist_sample.npz")
    elif source in _TORCHVISION_FOLDERS:
        parts = _read_path(_find_known(str(source)))
    elif os.path.exists(source):
        parts = _read_path(Path(source))
    else:
        raise FileNotFoundError(
            f"source must be a file, a folder or one of {', '.join(names())}, "
            f"got {os.fspath(source)!r}, which does not exist"
        )
    for key in [key for key in ("images", "test_images") if key in parts]:
        try:
            parts[key] = as_images(parts[key], image_shape, name=f"{source}: {key}")
        except TypeError as error:  # the file has the wrong dtype, not the caller's argument
            raise ValueError(str(error)) from None
    return Dataset(str(source), **parts)


def _find_known(name: str) -> Path:
    """Return the folder or .npz file of "mnist" or "fashion-mnist" on this machine."""
    places = (os.environ.get("CVAE_DATA"), "/usr/share/datasets", "~/.keras/datasets")
    roots = [Path(os.path.expanduser(place)) for place in places if place]
    for root in roots:
        for folder in (root / name, root / _TORCHVISION_FOLDERS[name] / "raw"):
            if _find_idx(folder, "train-images-idx3-ubyte"):
                return folder
        if (root / f"{name}.npz").is_file():
            return root / f"{name}.npz"
    debian = " (or install Debian's package dataset-fashion-mnist)" * (name == "fashion-mnist")
    raise FileNotFoundError(
        f"{name} is not in {', '.join(map(str, roots))}: put its four IDX files "
        f"(train-images-idx3-ubyte.gz, ...) in a folder {name!r} and set the environment variable "
        f"CVAE_DATA to its parent folder{debian}"
    )


def _read_path(path: Path) -> dict[str, Any]:
    """Read a file or folder into fields of Dataset, whose values are not validated yet."""
    suffix = path.suffix.lower()
    if path.is_dir():
        is_idx = any(_find_idx(path, name) for split in _IDX_FILES.values() for name in split)
        return _read_idx_folder(path) if is_idx else _read_picture_folder(path)
    if suffix == ".npy":
        return {"images": _read_npy(path)}
    if suffix == ".npz":
        return _read_npz(path)
    if suffix in _PICTURES:
        return {"images": _read_pictures([path])}
    images = read_idx(path)
    if images.ndim == 1:
        raise ValueError(f"{path}: holds labels (1 dimension), not images (3 or 4 dimensions)")
    return {"images": images}


# Folders of IDX files


def _find_idx(folder: Path, name: str) -> Path | None:
    """Return the path of an IDX file, gzipped or not, also spelled like train-images.idx3-ubyte."""
    for spelling in (name, name.replace("-idx", ".idx")):
        for path in (folder / spelling, folder / f"{spelling}.gz"):
            if path.is_file():
                return path
    return None


def _read_idx_folder(folder: Path) -> dict[str, Any]:
    parts = {}
    for prefix, (images_name, labels_name) in _IDX_FILES.items():
        images_path, labels_path = _find_idx(folder, images_name), _find_idx(folder, labels_name)
        if images_path:
            parts[f"{prefix}images"] = read_idx(images_path)
        elif labels_path or not prefix:
            raise ValueError(f"{folder}: {images_name} is missing beside the other IDX files")
        if labels_path:
            parts[f"{prefix}labels"] = read_idx(labels_path)
            _check_labels(str(labels_path), parts[f"{prefix}images"], parts[f"{prefix}labels"])
    return parts


# NumPy files


def _read_npy(path: Path) -> np.ndarray:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except _NPY_ERRORS as error:  # arrays of objects, which require unpickling, included
        raise ValueError(f"{path}: not a valid .npy file: {error}") from None
    if array.offset + array.nbytes != path.stat().st_size:
        raise ValueError(f"{path}: bytes follow the array of shape {array.shape}")
    return array


def _read_npz(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not a valid .npz file: it is not a complete zip archive")
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = _npz_keys(archive.files)
            return {field: archive[key] for field, key in keys.items()}
    except (*_NPY_ERRORS, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: not a valid .npz file of images: {error}") from None


def _npz_keys(found: list[str]) -> dict[str, str]:
    """Return the key in an .npz file for each field of Dataset that it contains."""
    keys = {}
    for key in found:
        for field, known in _NPZ_KEYS.items():
            if key.lower() in known and field not in keys:
                keys[field] = key
    if "images" not in keys or len(keys) != len(found):
        allowed = "; ".join(f"{field}: {' '.join(known)}" for field, known in _NPZ_KEYS.items())
        raise ValueError(f"its arrays must be named ({allowed}), at most one of each, got {found}")
    return keys


# Pictures


def _read_picture_folder(folder: Path) -> dict[str, Any]:
    subfolders = [path for path in _visible(folder) if path.is_dir()]
    groups = [(path, _picture_files(path)) for path in subfolders or [folder]]
    if subfolders and _picture_files(folder):
        raise ValueError(f"{folder}: must hold pictures or subfolders, got pictures and subfolders")
    for path, files in groups:
        if not files:
            raise ValueError(f"{path}: holds no pictures ({' '.join(_PICTURES)})")
    images = _read_pictures([file for _, files in groups for file in files])
    if not subfolders:
        return {"images": images}
    labels = np.repeat(np.arange(len(groups)), [len(files) for _, files in groups])
    return {"images": images, "labels": labels, "class_names": tuple(p.name for p in subfolders)}


def _visible(folder: Path) -> list[Path]:
    paths = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(paths, key=lambda path: path.name)  # paths themselves compare differently on Windows


def _picture_files(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.suffix.lower() in _PICTURES and path.is_file()]


def _read_pictures(files: list[Path]) -> np.ndarray:
    """Read pictures of the same size and mode as uint8: (n, rows, cols) grey or (n, rows, cols, 3) RGB."""
    first = _read_picture(files[0])
    images = np.empty((len(files), *first.shape), np.uint8)
    images[0] = first
    for i, path in enumerate(files[1:], start=1):
        picture = _read_picture(path)
        if picture.shape != first.shape:
            raise ValueError(
                f"{path}: must have the size and mode of {files[0].name}, {first.shape}, got {picture.shape}"
            )
        images[i] = picture
    return images


def _read_picture(path: Path) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("reading pictures needs Pillow: pip install 'cvae-cpu[plot]'") from error
    with path.open("rb") as stream:
        try:
            picture = Image.open(stream)
            mode, n_frames = picture.mode, getattr(picture, "n_frames", 1)
            if mode == "P":  # a palette of 8-bit greys or colours, which converts without loss
                palette = np.array(picture.getpalette() or []).reshape(-1, 3)
                mode = "L" if (palette == palette[:, :1]).all() else "RGB"
            elif mode == "1":
                mode = "L"
            if mode in ("L", "RGB") and n_frames == 1 and "transparency" not in picture.info:
                return np.asarray(picture.convert(mode))
        except Exception as error:  # Pillow's decoders raise anything from OSError to struct.error
            raise ValueError(f"{path}: not a valid picture: {error}") from None
    raise ValueError(
        f"{path}: must be one 8-bit grey or RGB picture without transparency, got {n_frames} of mode {picture.mode}"
    )
