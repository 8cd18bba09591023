"""Model files: named arrays and a JSON description in one safetensors file, without pickle."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cvae.io.files import replaced_file

KEY = "cvae"  # where the description stands in the file's metadata
FORMAT = 2  # of the description; a reader takes its own and older ones

Array = npt.NDArray[Any]


def write(path: str | os.PathLike[str], arrays: Mapping[str, Array], description: Mapping[str, Any]) -> None:
    """Write a model file; an older file of that name is replaced only when the new one is complete.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {KEY: json.dumps({"format": FORMAT, **description}, default=_plain)}
    with replaced_file(path) as file:
        file.write(save(contiguous, metadata))


def _plain(value: Any) -> Any:
    """NumPy's scalars and arrays as JSON has them."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"a model file can hold numbers, text, lists and dicts, got {value!r}")


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays and the description of a model file.

    Raises
    ------
    FileNotFoundError, OSError
        If the file cannot be read.
    ValueError
        If it is not a model file of cvae, or one of a newer version.
    """
    with open(path, "rb"):  # the errors of a missing or unreadable file, as Python words them
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        description = json.loads(metadata[KEY])
        found = description["format"]
    except (SafetensorError, KeyError, AttributeError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{os.fspath(path)} is not a model file of cvae: {error}") from None
    if not isinstance(found, int) or found > FORMAT:
        raise ValueError(f"{os.fspath(path)} has the model format {found}, but this cvae reads up to {FORMAT}")
    return arrays, description
