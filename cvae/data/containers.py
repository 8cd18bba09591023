"""Readers of HDF5 and Zarr, where h5py and zarr are installed."""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.data.errors import named_errors
from cvae.data.lazy import Lazy
from cvae.data.naming import MAX_RATIO, Choice, Header, check_headers, choose

Array = npt.NDArray[Any]

# Others may run code, as numcodecs' "pickle" does.
_SAFE_CODECS = {
    "adler32", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset", "fletcher32",
    "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits", "quantize", "sharding_indexed", "shuffle", "transpose",
    "vlen-utf8", "zlib", "zstd",
}  # fmt: skip
_ARRAYS_AT_MOST = 1000
_CHUNK_ALWAYS_READ = 1 << 26  # bytes, more than any writer makes by itself


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr array or group."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def read_hdf5(path: Path, wanted: str | None = None, most: float = math.inf) -> dict[str, Any]:
    """Read the datasets of an HDF5 file that Dataset has fields for; `wanted` names the images.

    What is neither chunked nor compressed is mapped to memory. Images of more than `most` bytes are read later. Data
    outside of the file are not followed.

    Returns
    -------
    dict
        Arrays by field of Dataset, and under "unread" the names of all others.

    Raises
    ------
    ImportError
        If h5py is missing.
    ValueError
        If the file is damaged or it is not clear what the images are.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError("reading HDF5 files needs h5py: pip install h5py") from error
    with named_errors(path, "HDF5 file"), h5py.File(path, "r") as file:
        found: dict[str, Any] = {}

        def note(name: str, item: Any) -> Any:
            if isinstance(item, h5py.Dataset) and item.shape:
                found[name] = item
            return True if len(found) >= _ARRAYS_AT_MOST else None

        file.visititems(note)

        def dtype_of(dataset: Any) -> np.dtype[Any]:
            text = h5py.check_string_dtype(dataset.dtype)
            if text is not None and text.length is None:  # of any length, which h5py reads as objects
                return np.dtypes.StringDType()
            dtype: np.dtype[Any] = dataset.dtype
            return dtype

        stored = path.stat().st_size
        choice, used = _chosen(path, found, wanted, stored, dtype_of)
        for name, dataset in used.items():
            if dataset.is_virtual or dataset.external:
                raise ValueError(f"{name} lies in other files, which are not followed")
        return {
            **{
                field: _hdf5_array(path, used[name], most if "images" in field else math.inf, stored)
                for field, name in choice.fields.items()
            },
            "unread": choice.unread,
        }


def _hdf5_array(path: Path, dataset: Any, most: float, stored: int) -> Array | Lazy:
    if dataset.dtype.hasobject:
        return _text(dataset.name, dataset.asstr("utf-8", "backslashreplace")[...], stored)
    offset = dataset.id.get_offset() if dataset.chunks is None else None
    if offset is not None:
        return np.memmap(path, dataset.dtype, "r", offset, dataset.shape)
    if dataset.nbytes > most:
        return Lazy(dataset.shape, dataset.dtype, _Hdf5Reader(path, dataset.name), dataset.chunks)
    array = np.empty(dataset.shape, dataset.dtype)
    if array.size:
        dataset.read_direct(array)
    return array


class _Hdf5Reader:
    """Reads images from a file that stays open."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._dataset: Any = None

    def __call__(self, start: int, stop: int) -> Array:
        import h5py

        with named_errors(self._path, "HDF5 file"):
            if self._dataset is None:
                self._dataset = h5py.File(self._path, "r")[self._name]
            images: Array = self._dataset[start:stop]
            return images

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hdf5Reader, (self._path, self._name)


def read_zarr(path: Path, wanted: str | None = None, most: float = math.inf) -> dict[str, Any]:
    """Read the arrays of a Zarr folder or ZIP file as `read_hdf5` does; raises ImportError if zarr is missing."""
    try:
        import zarr
    except ImportError as error:
        raise ImportError("reading Zarr needs zarr: pip install zarr") from error
    with named_errors(path, "Zarr store"), contextlib.ExitStack() as opened:
        stored, archive = _stored_bytes(path), None
        if not path.is_dir():
            _check_members(path, stored)
            archive = zarr.storage.ZipStore(path, mode="r")
            opened.callback(archive.close)
        store = zarr.open(str(path) if archive is None else archive, mode="r")
        found = {"array": store} if isinstance(store, zarr.Array) else _zarr_arrays(zarr, store, "")
        choice, used = _chosen(path, found, wanted, stored, lambda array: np.dtype(array.dtype))
        for name, array in used.items():
            _check_codecs(name, array.metadata.to_dict())
        fields = {
            field: _zarr_array(path, used[name], most if "images" in field else math.inf, stored)
            for field, name in choice.fields.items()
        }
        if any(isinstance(values, Lazy) for values in fields.values()):
            opened.pop_all()  # they read from it
        return {**fields, "unread": choice.unread}


def _zarr_array(path: Path, array: Any, most: float, stored: int) -> Array | Lazy:
    if array.dtype.kind == "T":
        return _text(array.name, np.asarray(array[...]), stored)
    if array.nbytes <= most:
        return np.asarray(array[...])

    def read(start: int, stop: int) -> Array:
        with named_errors(path, "Zarr store"):
            return np.asarray(array[start:stop])

    return Lazy(array.shape, array.dtype, read, array.chunks)


def _text(name: str, strings: Array, stored: int) -> Array:
    """Return strings as text of one length, in which each takes the memory of the longest."""
    longest = max(map(len, strings.flat), default=0)
    text = np.dtype(f"U{max(longest, 1)}")
    if text.itemsize * strings.size > max(_CHUNK_ALWAYS_READ, MAX_RATIO * stored):
        raise ValueError(f"{name} has a string of {longest:,} characters, which makes {strings.size:,} too large")
    return strings.astype(text)


def _zarr_arrays(zarr: ModuleType, group: Any, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, member in sorted(group.members()):
        if isinstance(member, zarr.Array):
            found[f"{prefix}{name}"] = member
        elif len(found) < _ARRAYS_AT_MOST and prefix.count("/") < 8:
            found |= _zarr_arrays(zarr, member, f"{prefix}{name}/")
    return found


def _chosen(
    path: Path, found: dict[str, Any], wanted: str | None, stored: int, dtype_of: Callable[[Any], np.dtype[Any]]
) -> tuple[Choice, dict[str, Any]]:
    """Return the names of the arrays to read, and these arrays by name."""
    headers = {name: Header(tuple(array.shape), dtype_of(array)) for name, array in found.items()}
    choice = choose(path, headers, None if wanted is None else wanted.strip("/"))
    used = {name: found[name] for name in choice.fields.values()}
    check_headers(path, {field: headers[name] for field, name in choice.fields.items()}, stored)
    for name, array in used.items():
        _check_chunks(name, array, stored)
    return choice, used


def _check_chunks(name: str, array: Any, stored: int) -> None:
    """Raise ValueError for chunks, of which each takes its memory whole, that no file of this size holds."""
    for part in (array.chunks, getattr(array, "shards", None)):
        n_bytes = np.dtype(array.dtype).itemsize * math.prod(int(size) for size in part or ())
        if n_bytes > max(_CHUNK_ALWAYS_READ, MAX_RATIO * stored):
            raise ValueError(f"{name} has chunks of {n_bytes:,} bytes, which the file of {stored:,} bytes cannot hold")


def _check_members(path: Path, stored: int) -> None:
    """Raise ValueError for a member of a ZIP file that is larger than what the file can hold, and is read whole."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_size > stored or member.file_size > MAX_RATIO * stored:
                size = f"{member.file_size:,} bytes, {member.compress_size:,} of them stored"
                raise ValueError(f"{member.filename} has {size}, which the file of {stored:,} bytes cannot hold")


def _check_codecs(name: str, metadata: Any) -> None:
    """Raise ValueError for codecs, anywhere in an array's metadata, that are not known to be harmless."""
    codecs = [metadata.get("compressor"), *(metadata.get("filters") or ()), *(metadata.get("codecs") or ())]
    for codec in filter(None, codecs):
        kind = codec.get("id") or codec.get("name") or "?" if isinstance(codec, dict) else "?"
        if str(kind).removeprefix("numcodecs.") not in _SAFE_CODECS:
            raise ValueError(f"{name} is encoded by {kind}, which is not read")
        inner = codec.get("configuration") if isinstance(codec, dict) else None
        if isinstance(inner, dict):
            _check_codecs(name, {"codecs": [*inner.get("codecs", ()), *inner.get("index_codecs", ())]})


def _stored_bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)
