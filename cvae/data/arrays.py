"""Readers of NumPy's files, .npy and .npz. Nothing is unpickled, and no more is read than is needed."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from cvae.data.errors import Refused, named_errors
from cvae.data.naming import OBJECTS, Header, check_headers, choose
from cvae.data.signatures import kind

Array = npt.NDArray[Any]

_CHUNK_BYTES = 1 << 16
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that NumPy writes


def read_npy(path: Path) -> Array:
    """Map an array of a .npy file to memory; raise ValueError if it is damaged or holds no numbers."""
    with named_errors(path, ".npy file"):
        if other := _which_is(path):
            raise ValueError(f"it has no magic string of one{other}")
        with path.open("rb") as file:
            if _read_header(file)[0].dtype.hasobject:
                raise Refused(f"must hold an array of bool, int or float, got {OBJECTS}")
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except MemoryError:  # of the parser of the header; the array itself takes none
            raise ValueError("its header is too complex") from None
        if array.offset + array.nbytes != path.stat().st_size:
            raise ValueError(f"bytes follow the array of shape {array.shape}")
        return array


def read_npz(path: Path, wanted: str | None = None) -> dict[str, Any]:
    """Read the arrays of an .npz file that Dataset has fields for.

    Parameters
    ----------
    path : Path
    wanted : str, optional
        The name of the images.

    Returns
    -------
    dict
        Arrays by field of Dataset, and under "unread" the names of all others.

    Raises
    ------
    ValueError
        If the file is damaged, it is not clear what the images are, or the arrays are no numbers.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not a valid .npz file: it is not a complete zip archive{_which_is(path)}")
    with named_errors(path, ".npz file"), zipfile.ZipFile(path) as archive:
        headers = {}
        for name in dict.fromkeys(archive.namelist()):
            if name.endswith(".npy"):
                with _member(archive, name) as stream:
                    headers[name[:-4]] = _read_header(stream)[0]
        if not headers:
            raise Refused(f"must hold arrays, as numpy.savez writes them, got {_archive_of(archive.namelist())}")
        choice = choose(path, headers, wanted)
        used = {field: headers[name] for field, name in choice.fields.items()}
        check_headers(path, used, path.stat().st_size)
        others = [name for name in archive.namelist() if not name.endswith(".npy")]
        fields = {field: _read_member(archive, f"{name}.npy") for field, name in choice.fields.items()}
        return {**fields, "unread": [*choice.unread, *others]}


def _which_is(path: Path) -> str:
    """Return what a file is whose name is that of another kind, "" if that is not known."""
    found = kind(path)
    return f", but {found.name}" if found.is_known and found.reader not in ("npy", "zip") else ""


def _archive_of(names: list[str]) -> str:
    """Return what a ZIP archive without arrays is, by the names of its files, and what helps."""
    if any(name.endswith("/data.pkl") for name in names):
        return "a PyTorch file; save its tensors by numpy.savez"
    if "[Content_Types].xml" in names:
        return "an Office file; save its table as .csv"
    if "model.weights.h5" in names:
        return "a Keras model"
    return f"a ZIP archive of {', '.join(names[:3]) or 'nothing'}; unpack it"


@contextlib.contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    info = archive.getinfo(name)
    if info.flag_bits & 1:
        raise ValueError(f"{name} is encrypted")
    if info.compress_type not in _METHODS:
        raise ValueError(f"{name} is compressed by method {info.compress_type}, which numpy.savez does not use")
    with archive.open(info) as stream:
        yield stream


def _read_header(stream: IO[bytes]) -> tuple[Header, bool, int]:
    """Return what a .npy file announces, whether it is in Fortran's order, and the size of its header."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"its version {version} is not known")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, is_fortran, dtype = read(stream)
    except MemoryError:
        raise ValueError("its header is too complex") from None
    return Header(shape, dtype), is_fortran, stream.tell()


def _read_member(archive: zipfile.ZipFile, name: str) -> Array:
    """Read an array chunk by chunk into its memory."""
    with _member(archive, name) as stream:
        header, is_fortran, header_bytes = _read_header(stream)
        n_bytes = math.prod(header.shape) * header.dtype.itemsize
        announced = archive.getinfo(name).file_size - header_bytes
        if announced != n_bytes:
            raise ValueError(
                f"{name} of shape {header.shape} must take {n_bytes:,} bytes, got {max(0, announced):,} in the archive"
            )
        array = np.empty(header.shape[::-1] if is_fortran else header.shape, header.dtype)
        buffer = array.reshape(-1).view(np.uint8).data
        filled = 0
        while filled < n_bytes:
            chunk = stream.read(min(_CHUNK_BYTES, n_bytes - filled))
            if not chunk:
                raise ValueError(f"{name} ends after {filled:,} of {n_bytes:,} bytes")
            buffer[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        stream.read(1)  # which checks the sum at the end
        return array.T if is_fortran else array
