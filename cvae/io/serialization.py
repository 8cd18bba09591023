"""Model files: named arrays and a JSON description in a safetensors file, without pickle."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cvae.io.files import replaced_file

KEY = "cvae"  # the description's key in the file's metadata
FORMAT = 3  # version of the description's format; older versions can be read, newer ones cannot

Array = npt.NDArray[Any]


def write(path: str | os.PathLike[str], arrays: Mapping[str, Array], description: Mapping[str, Any]) -> None:
    """Write a model file; an existing file is replaced only by a complete new one.

    Parameters
    ----------
    path : str or path
    arrays : mapping of str to ndarray
    description : mapping
        Numbers, text, lists and dicts, as JSON can represent them; NumPy values are converted.

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError
        If the description contains anything else.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {KEY: json.dumps({"format": FORMAT, **description}, default=_plain)}
    with replaced_file(path) as file:
        file.write(save(contiguous, metadata))


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
    OSError
        If the file cannot be read.
    ValueError
        If it is not a model file of cvae or has a newer format.
    """
    with open(path, "rb"):  # raises Python's own errors for a missing or unreadable file
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        description = json.loads(metadata[KEY])
        version = description["format"]
    except (SafetensorError, KeyError, AttributeError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{os.fspath(path)} is not a model file of cvae: {error}") from None
    if not isinstance(version, int) or version > FORMAT:
        raise ValueError(f"{os.fspath(path)} has the model format {version}, but this cvae reads up to {FORMAT}")
    return arrays, description
