"""A reader for IDX, the format of MNIST's files (http://yann.lecun.com/exdb/mnist/).

An IDX file consists of two zero bytes, a type code, the number of dimensions (a byte each), the dimensions
as big-endian uint32, and the values.
"""

import gzip
import io
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from cvae.data.dataset import check_labels
from cvae.data.naming import MAX_RATIO

_FILES = {  # images and labels, by prefix of Dataset's fields
    "": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test_": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK_BYTES = 1 << 20


def read_idx(path: Path, most: float = math.inf) -> np.ndarray:
    """Read an IDX file, gzipped or not, into an array in native byte order.

    Parameters
    ----------
    path : Path
    most : int
        Files of more bytes that are not gzipped are mapped to memory, in their own byte order.

    Returns
    -------
    ndarray
        With the dimensions and the dtype given in the file.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a valid IDX file. A header that announces more than the file can contain is rejected
        before any memory is allocated.
    """
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        max_bytes = path.stat().st_size * (MAX_RATIO if is_gzip else 1)
        try:
            if not is_gzip and max_bytes > most:
                return _map_idx(path, file)
            with gzip.GzipFile(fileobj=file) if is_gzip else file as stream:
                return _parse_idx(stream, max_bytes)
        except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: not a valid IDX file: {error}") from None


def idx_folder(folder: Path) -> Path | None:
    """Return the folder of MNIST's files, which is `folder` or where torchvision keeps them in it, or None."""
    names = [name for split in _FILES.values() for name in split]
    for place in (folder, folder / "raw", folder / "MNIST" / "raw", folder / "FashionMNIST" / "raw"):
        if any(find_idx(place, name) for name in names) or _sets(place):
            return place
    return None


def find_idx(folder: Path, name: str) -> Path | None:
    """Return the path of an IDX file, gzipped or not, spelled like train-images.idx3-ubyte, in a folder of its name.

    Those of other sets, such as EMNIST's, say "test" for "t10k".
    """
    tested = name.replace("t10k-", "test-") if name.partition("t10k-")[0] else name
    for spelling in dict.fromkeys(
        each.replace("-idx", separator) for separator in ("-idx", ".idx") for each in (name, tested)
    ):
        for path in (folder / spelling, folder / f"{spelling}.gz", folder / spelling / spelling):
            if path.is_file():
                return path
    return None


def read_idx_folder(folder: Path, most: float = math.inf) -> dict[str, np.ndarray]:
    """Read the files of MNIST's names in a folder into fields of Dataset.

    Raises
    ------
    ValueError
        If a file is damaged, images are missing beside others, or the numbers of labels and images differ.
    """
    parts = {}
    sets = [""] if any(find_idx(folder, name) for split in _FILES.values() for name in split) else _sets(folder)
    if len(sets) > 1:
        raise ValueError(f"{folder}: must hold IDX files of one set, got those of {', '.join(sets)}; move others away")
    for prefix, names in _FILES.items():
        images_name, labels_name = (f"{sets[0]}{name}" for name in names)
        images_path, labels_path = find_idx(folder, images_name), find_idx(folder, labels_name)
        if images_path:
            parts[f"{prefix}images"] = read_idx(images_path, most)
        elif labels_path or not prefix:
            raise ValueError(f"{folder}: {images_name} is missing beside the other IDX files")
        if labels_path:
            parts[f"{prefix}labels"] = read_idx(labels_path)
            check_labels(str(labels_path), parts[f"{prefix}images"], parts[f"{prefix}labels"])
    return parts


def _sets(folder: Path) -> list[str]:
    """Return what the names of IDX files for training begin with where that is more than "train", as EMNIST's are."""
    pattern = r"(.+[-_])train-images[-.]idx3-ubyte(\.gz)?"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return list(dict.fromkeys(match[1] for name in names if (match := re.fullmatch(pattern, name))))


def _parse_header(stream: io.BufferedReader | gzip.GzipFile) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and the dtype that a stream announces."""
    magic = stream.read(4)
    if len(magic) < 4:
        raise ValueError(f"it is truncated in its header, after {len(magic)} bytes")
    type_code, n_dims = magic[2:]
    if magic[:2] != bytes(2) or type_code not in _DTYPES or not 1 <= n_dims <= 4:
        raise ValueError(
            f"it must start with 00 00, a type code of 08 09 0b 0c 0d 0e and 1 to 4 dimensions, got {magic.hex(' ')}"
        )
    dtype = np.dtype(_DTYPES[type_code])
    sizes = stream.read(4 * n_dims)
    if len(sizes) < 4 * n_dims:
        raise ValueError(f"it is truncated in its header, after {4 + len(sizes)} bytes")
    return struct.unpack(f">{n_dims}I", sizes), dtype


def _map_idx(path: Path, file: io.BufferedReader) -> np.ndarray:
    """Map the values of an IDX file to memory."""
    shape, dtype = _parse_header(file)
    announced, found = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
    if announced != found:
        raise ValueError(f"its header, shape {shape}, announces {announced} bytes of values, but it holds {found}")
    return np.memmap(path, dtype, "r", file.tell(), shape)


def _parse_idx(stream: io.BufferedReader | gzip.GzipFile, max_bytes: int) -> np.ndarray:
    """Parse a stream of at most `max_bytes` bytes, in chunks, so that only the result is large."""
    shape, dtype = _parse_header(stream)
    n_bytes = math.prod(shape) * dtype.itemsize
    truncated = f"it is truncated: its header, shape {shape}, announces {n_bytes} bytes of values"
    if n_bytes > max_bytes:
        raise ValueError(truncated)
    array = np.empty(shape, dtype)
    buffer = array.reshape(-1).view(np.uint8).data
    filled = 0
    while filled < n_bytes:
        n_read = stream.readinto(buffer[filled : filled + _CHUNK_BYTES])
        if n_read == 0:
            raise ValueError(f"{truncated}, but it holds {filled}")
        filled += n_read
    if stream.read(1):
        raise ValueError(f"bytes follow the values that its header, shape {shape}, announces")
    return array if dtype.isnative else array.byteswap(inplace=True).view(dtype.newbyteorder("="))
