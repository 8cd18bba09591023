"""Data sets with names: where they are on this machine, and downloading them."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import NamedTuple

from cvae.data.idx import find_idx

SAMPLE = "mnist-sample"
SAMPLE_FILE = Path(__file__).parent / "mnist_sample.npz"


class _Known(NamedTuple):
    """A data set of four IDX files.

    Attributes
    ----------
    folder : str
        Its name where torchvision keeps it.
    mirrors : tuple of str
        Addresses of the folder with the files, in the order of trying.
    sha256 : dict of str to str
        Checksums of the files as they are downloaded, the training images last: where these are, all are.
    """

    folder: str
    mirrors: tuple[str, ...]
    sha256: dict[str, str]


_KNOWN = {
    "mnist": _Known(
        "MNIST",
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        {
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        },
    ),
    "fashion-mnist": _Known(
        "FashionMNIST",
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        {
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        },
    ),
}


def names() -> tuple[str, ...]:
    """Return the built-in names that `load` accepts.

    Examples
    --------
    >>> names()
    ('mnist-sample', 'mnist', 'fashion-mnist')
    """
    return (SAMPLE, *_KNOWN)


def find_or_download(name: str) -> Path:
    """Return the folder or .npz file of "mnist" or "fashion-mnist", downloaded if it is not on this machine.

    Raises
    ------
    FileNotFoundError
        If it is not on this machine, and pooch, which downloads it, is not installed.
    OSError
        If it cannot be downloaded, or what came has another checksum.
    """
    places = (os.environ.get("CVAE_DATA"), "/usr/share/datasets", "~/.keras/datasets", _cache())
    roots = [Path(place).expanduser() for place in places if place]
    for root in roots:
        for folder in (root / name, root / _KNOWN[name].folder / "raw"):
            if find_idx(folder, "train-images-idx3-ubyte"):
                return folder
        if (root / f"{name}.npz").is_file():
            return root / f"{name}.npz"
    remedy = (
        f"put its four IDX files (train-images-idx3-ubyte.gz, ...) in a folder {name!r} and set the environment "
        "variable CVAE_DATA to its parent folder"
    ) + " (or install Debian's package dataset-fashion-mnist)" * (name == "fashion-mnist")
    try:
        import pooch
    except ImportError:
        raise FileNotFoundError(
            f"{name} is not in {', '.join(map(str, roots))}: pip install pooch to have it downloaded, or {remedy}"
        ) from None
    target = Path(os.environ.get("CVAE_DATA") or _cache()).expanduser() / name
    pooch.get_logger().setLevel(logging.WARNING)
    for file, checksum in _KNOWN[name].sha256.items():
        _download(pooch, name, file, checksum, target, remedy)
    return target


def _cache() -> str:
    """Return the folder for what is downloaded, by the conventions of the system."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return os.path.join(base, "cvae")


def _download(pooch: object, name: str, file: str, checksum: str, target: Path, remedy: str) -> None:
    """Download a file from the first mirror that has it, unless it is in the folder `target` already."""
    failures = []
    for mirror in _KNOWN[name].mirrors:
        try:
            # Written under another name first, and checked before it is renamed.
            pooch.retrieve(mirror + file, f"sha256:{checksum}", file, target, progressbar=_shows_progress())  # type: ignore[attr-defined]
            return
        except Exception as error:  # of requests, pooch and the system
            failures.append(f"{mirror}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    raise OSError(f"{name} is not on this machine and could not be downloaded ({'; '.join(failures)}); {remedy}")


def _shows_progress() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
