"""Sets of images: a sample of MNIST inside the package, and readers for the files images come in.

Reads MNIST's IDX files, NumPy's .npy and .npz, and pictures. Nothing is downloaded and nothing is
unpickled. A file that is not what it should be gives a ValueError that names it.
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

_IDX_FILES = {  # by the prefix of Dataset's fields
    "": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test_": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

_NPZ_KEYS = {  # compared in lower case: X_train is x_train
    "images": ("images", "x_train", "train_images", "x", "arr_0"),
    "labels": ("labels", "y_train", "train_labels", "y"),
    "test_images": ("test_images", "x_test"),
    "test_labels": ("test_labels", "y_test"),
}
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
# What NumPy raises for a .npy header that is damaged.
_NPY_ERRORS = (ValueError, TypeError, OverflowError, SyntaxError, tokenize.TokenError)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A set of images, with labels and test images if there are any.

    Attributes
    ----------
    name : str
        The built-in name or the path that it was loaded from.
    images : ndarray, shape (n, rows, cols, channels)
        With the dtype of the source; uint8 means 0..255. May be a read-only memory map.
    labels : ndarray, shape (n,), or None
    test_images : ndarray, shape (n_test, rows, cols, channels), or None
    test_labels : ndarray, shape (n_test,), or None
    class_names : tuple of str, or None
        For a folder with a subfolder for each class: ``class_names[i]`` is the one of label i.

    Raises
    ------
    ValueError
        If labels and images differ in number, there are test labels without test images, or the
        test images have another shape.
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
                f"{self.name}: test images must have the shape of the training images "
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
    if np.shape(labels) != (len(images),):
        raise ValueError(
            f"{name}: there must be one label for each of the {len(images)} images, "
            f"got labels of shape {np.shape(labels)}"
        )


def names() -> tuple[str, ...]:
    """Give the names that `load` knows.

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
                         with labels; part of the package
    "mnist",             the four IDX files, or MNIST's ``.npz`` of Keras, from the folder that the
    "fashion-mnist"      environment variable CVAE_DATA names, where Debian's package
                         dataset-fashion-mnist puts them, or where Keras keeps them
    a folder with        all of ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
    MNIST's IDX files    ``t10k-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte`` that are there,
                         at least the first; gzipped or not; -idx may be .idx
    a folder of pictures png, jpg, bmp, gif, ppm, pgm or tif, sorted by name, all of one size, all
                         grey or all RGB; or a subfolder of them for each class, sorted by name, the
                         labels 0, 1, ...; needs Pillow
    a picture            that picture alone
    ``.npy`` file        an array of images, memory-mapped
    ``.npz`` file        images, named ``images``, ``x_train``, ``train_images``, ``x`` or
                         ``arr_0``; optionally labels (``labels``, ``y_train``, ``train_labels``,
                         ``y``), test images (``test_images``, ``x_test``) and test labels
                         (``test_labels``, ``y_test``); upper or lower case; nothing else
    any other file       one IDX file of images, gzipped or not
    ==================== =========================================================================

    Parameters
    ----------
    source : str or path
        A built-in name goes before a file of that name: write "./mnist" for the file.
    image_shape : sequence of 2 or 3 ints, optional
        (rows, cols) or (rows, cols, channels). Needed for flat images ``(n, features)`` in a .npy,
        .npz or IDX file; otherwise the images must match it.

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError
        If there is no such name, file or folder, or "mnist" or "fashion-mnist" is not installed.
    ValueError
        If a file is damaged, or does not hold images or as many labels as images.
    ImportError
        If Pillow is needed and missing.

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
        except TypeError as error:  # of the file's dtype: the arguments are right
            raise ValueError(str(error)) from None
    return Dataset(str(source), **parts)


def _find_known(name: str) -> Path:
    """Find the folder or .npz file of "mnist" or "fashion-mnist" on this machine."""
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
        f"(train-images-idx3-ubyte.gz, ...) in a folder {name!r} and let the environment variable "
        f"CVAE_DATA name the folder around it{debian}"
    )


def _read_path(path: Path) -> dict[str, Any]:
    """Read any file or folder; the keys are fields of Dataset, the values not yet checked."""
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


# MNIST's folders


def _find_idx(folder: Path, name: str) -> Path | None:
    """Find an IDX file, gzipped or not, also in the spelling train-images.idx3-ubyte."""
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


# NumPy's files


def _read_npy(path: Path) -> np.ndarray:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except _NPY_ERRORS as error:  # also for an array of objects, which would have to be unpickled
        raise ValueError(f"{path}: not a sound .npy file: {error}") from None
    if array.offset + array.nbytes != path.stat().st_size:
        raise ValueError(f"{path}: bytes follow after the array of shape {array.shape}")
    return array


def _read_npz(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not a sound .npz file: it is no complete zip archive")
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = _npz_keys(archive.files)
            return {field: archive[key] for field, key in keys.items()}
    except (*_NPY_ERRORS, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: not a sound .npz file of images: {error}") from None


def _npz_keys(found: list[str]) -> dict[str, str]:
    """Map fields of Dataset to the keys of an .npz file."""
    keys = {}
    for key in found:
        for field, known in _NPZ_KEYS.items():
            if key.lower() in known and field not in keys:
                keys[field] = key
    if "images" not in keys or len(keys) != len(found):
        allowed = "; ".join(f"{field}: {' '.join(known)}" for field, known in _NPZ_KEYS.items())
        raise ValueError(f"its arrays must be named ({allowed}), one of each at most, got {found}")
    return keys


# Pictures


def _read_picture_folder(folder: Path) -> dict[str, Any]:
    subfolders = [path for path in _visible(folder) if path.is_dir()]
    groups = [(path, _picture_files(path)) for path in subfolders or [folder]]
    if subfolders and _picture_files(folder):
        raise ValueError(f"{folder}: holds pictures and subfolders; either is read, not both")
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
    return sorted(paths, key=lambda path: path.name)


def _picture_files(folder: Path) -> list[Path]:
    paths = (path for path in _visible(folder) if path.suffix.lower() in _PICTURES)
    return [path for path in paths if path.is_file()]


def _read_pictures(files: list[Path]) -> np.ndarray:
    """Read pictures of one size and mode: (n, rows, cols) grey or (n, rows, cols, 3) RGB, uint8."""
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
            if mode == "P":  # a palette of greys or of colours, as in every GIF: nothing is lost
                palette = np.array(picture.getpalette() or []).reshape(-1, 3)
                mode = "L" if (palette == palette[:, :1]).all() else "RGB"
            elif mode == "1":
                mode = "L"
            if mode in ("L", "RGB") and n_frames == 1 and "transparency" not in picture.info:
                return np.asarray(picture.convert(mode))
        except Exception as error:  # Pillow's decoders raise anything from OSError to struct.error
            raise ValueError(f"{path}: not a sound picture: {error}") from None
    raise ValueError(
        f"{path}: must be one grey or RGB picture of 8 bits without transparency, got {n_frames} of mode {picture.mode}"
    )
