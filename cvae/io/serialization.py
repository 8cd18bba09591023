"""Model files: named arrays and a JSON description in a safetensors file, without pickle."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from cvae.data.errors import one_line
from cvae.data.signatures import kind
from cvae.io.files import KEY, as_path, check_regular, replaced_file

FORMAT = 5  # version of the description's format; older versions can be read, newer ones cannot
_DTYPES = {np.dtype(np.float64): "F64", np.dtype(np.float32): "F32"}  # by the names of the format

Array = npt.NDArray[Any]


def write(path: str | os.PathLike[str], arrays: Mapping[str, Array], description: Mapping[str, Any]) -> None:
    """Write a model file; an existing file is replaced only by a complete new one.

    Arrays are written one after another, without a copy of them all in memory.

    Parameters
    ----------
    path : str or path
    arrays : mapping of str to ndarray
        Of float32 and float64.
    description : mapping
        Numbers, text, lists and dicts, as JSON can represent them; NumPy values are converted.

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError
        If the description contains anything else, or an array is of another dtype.
    """
    header, names = _header(arrays, as_text(description))
    with replaced_file(path, by_model=True) as file:
        file.write(header)
        for name in names:
            for part in _parts(arrays[name]):
                file.write(part.data)


def as_text(description: Mapping[str, Any]) -> str:
    """Return a description as it is written, JSON with the version of its format; TypeError as `write`."""
    return json.dumps({"format": FORMAT, **description}, default=_plain)


def _header(arrays: Mapping[str, Array], text: str) -> tuple[bytes, list[str]]:
    """Return the first bytes of a safetensors file, and the names of its arrays in their order.

    The format: the length of the JSON as 8 bytes, the JSON, and the arrays; https://github.com/huggingface/safetensors.
    Larger elements come first, so that all are aligned.
    """
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    entries: dict[str, Any] = {"__metadata__": {KEY: text}}
    end = 0
    for name in names:
        array, begin = arrays[name], end
        if array.dtype not in _DTYPES:
            raise TypeError(f"{name} must be an array of float32 or float64, got {array.dtype}")
        end += array.nbytes
        entries[name] = {"dtype": _DTYPES[array.dtype], "shape": array.shape, "data_offsets": (begin, end)}
    json_text = json.dumps(entries, separators=(",", ":")).encode()
    json_text += b" " * (-len(json_text) % 8)
    return len(json_text).to_bytes(8, "little") + json_text, names


def _parts(array: Array) -> Iterator[Array]:
    """Yield an array's elements in the file's order, little-endian and contiguous, without copying them all."""
    little = array.dtype.newbyteorder("<")
    if array.flags.c_contiguous and array.dtype == little:
        yield array.reshape(-1)
    elif array.ndim == 0:
        yield array.astype(little).reshape(-1)
    else:
        for row in array:
            yield from _parts(row)


def _plain(value: Any) -> Any:
    """Convert NumPy scalars and arrays to types that JSON can represent."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"description must consist of numbers, text, lists and dicts, got {value!r}")


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the arrays and the description of a model file.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    arrays : dict of str to ndarray
    description : dict

    Raises
    ------
    TypeError
        If `path` is neither.
    OSError
        If the file cannot be read.
    ValueError
        If it is not a model file of cvae or has a newer format.
    """
    name = as_path(path)
    check_regular(name)  # a fifo would block
    with open(name, "rb"):  # raises Python's own errors for an unreadable file
        pass
    try:
        with safe_open(name, framework="numpy") as file:
            if KEY not in (metadata := file.metadata() or {}):
                raise ValueError("it is a safetensors file of another program, or of weights alone")
            description = json.loads(metadata[KEY])
            version = description["format"]
            is_known = type(version) is int and version <= FORMAT
            # Only of a model, since a file of another program may be of any size.
            arrays = {key: file.get_tensor(key) for key in file.keys()} if is_known else {}  # noqa: SIM118 - no dict
    except (SafetensorError, LookupError, AttributeError, TypeError, ValueError, RecursionError) as error:
        what = kind(Path(name))
        other = f"it is {what.name.partition(';')[0]}" if what.is_known else one_line(error)
        raise ValueError(f"{name} is not a model file of cvae: {other}") from None
    if not is_known:
        raise ValueError(f"{name} has the model format {version}, but this cvae reads up to {FORMAT}")
    return arrays, description
