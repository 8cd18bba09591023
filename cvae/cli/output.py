"""What the command writes: checks of output files, messages and tables."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae import plotting
from cvae.data.blocks import release
from cvae.data.errors import printable
from cvae.io.files import as_path, check_writable, is_model, replaced_file
from cvae.plotting.figures import FORMATS

NATS = "nats per image"
_PART = 1024  # images whose results are written at a time
_PATIENCE = 2  # seconds
PICTURES = FORMATS
MODELS = (".safetensors", "")
_FILES = (*PICTURES, ".safetensors", ".npy", ".npz", ".csv", ".html", ".htm", ".onnx", ".c", ".toml", ".h5")
_TOLD = "told"  # a note on exceptions
_OWN = (".safetensors",)  # what may lie in a folder of data and be replaced there


def check_output(
    path: str | Path,
    inputs: Sequence[str | None] = (),
    endings: Sequence[str] = (),
    *,
    force: bool,
    flag: str = "the output",
    remedy: str = "--force replaces it",
) -> None:
    """Check, before any long work, that an output can be written and that nothing is lost by that.

    An existing file is replaced with `force` alone, and an input never. Inputs may be folders of pictures: no output
    takes the place of a file in them, and no picture is added to them. Only a model takes the place of a model.

    Parameters
    ----------
    path : path
    inputs : sequence of paths or None
        What is read, and what else is written.
    endings : sequence of str, optional
        Those that the name may have, in lower case; "" stands for none.
    force : bool
    flag : str
        What messages call an output of a wrong ending.
    remedy : str
        What the message about an existing file advises.
    """
    name = as_path(path)
    if not name:
        raise ValueError("the output must be the name of a file, got ''")
    if name == "-":
        raise ValueError("the output must be the name of a file, got '-': nothing is written to standard output")
    if name.endswith(os.sep) or (os.path.exists(path) and not os.path.isfile(path)):
        raise ValueError(f"the output must be a regular file, got {name!r}")
    for other in inputs:
        if other is not None:
            _check_different(name, as_path(other))
    exists = os.path.exists(path)
    if exists and tuple(endings) != MODELS and is_model(path):
        raise ValueError(f"the output must not take the place of a model, got {name!r}")
    _check_folder(os.path.dirname(os.path.realpath(path)))
    check_writable(path)
    if endings and check_ending(name, endings, flag) in PICTURES:
        plotting.check_can_plot(path)
    if exists and not force:
        raise ValueError(f"the file {shown(path)} exists; {remedy}")


def check_new_folder(path: str, flag: str) -> None:
    """Check, before any long work, that files can be written to a folder, which may be a new one in new ones.

    `flag` is what names it in messages.
    """
    name = as_path(path)
    if not name:
        raise ValueError(f"{flag} must be the name of a folder, got ''")
    is_folder = os.path.isdir(name)
    if os.path.lexists(name) and not is_folder:
        raise ValueError(f"{flag} must be a folder, got {name!r}")
    if not is_folder and Path(name).suffix.lower() in _FILES:
        raise ValueError(f"{flag} must be a folder, got {name!r}, which has the ending of a file")
    folder = os.path.realpath(name)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    _check_folder(folder)


def _check_folder(folder: str) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"cannot write to the folder {folder}: {error.strerror}") from None


def _check_different(output: str, other: str) -> None:
    """Raise ValueError if an output is an input, or a file of a folder that is one."""
    target = os.path.realpath(output)
    both_exist = os.path.exists(output) and os.path.exists(other)
    if target == os.path.realpath(other) or (both_exist and os.path.samefile(output, other)):
        raise ValueError(f"inputs and outputs must be different files, got {output!r} twice")
    if not os.path.isdir(other):
        return
    is_within = Path(os.path.realpath(other)) in Path(target).parents
    if is_within and Path(output).suffix.lower() in PICTURES:
        raise ValueError(f"the output must not be a picture in the folder of the data, got {output!r}")
    if os.path.exists(output) and not output.endswith(_OWN) and not is_history(output) and _holds(other, output):
        raise ValueError(f"inputs and outputs must be different files, got {output!r}, which is in {other!r}")


def _holds(folder: str, path: str) -> bool:
    """Return whether a file is in a folder or below, also under another name or through a link."""
    wanted = os.stat(path)
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(os.path.join(parent, name)), wanted):
                    return True
    return False


def is_history(path: str | Path) -> bool:
    """Return whether a file is a history that the command has written."""
    with open(path, "rb") as file:
        return file.read(6) == b"epoch,"


def check_space(path: str | Path, size: int) -> None:
    """Raise OSError unless there is room for a file of so many bytes beside the one it replaces."""
    free = shutil.disk_usage(os.path.dirname(os.path.realpath(path))).free
    if size > free:
        raise OSError(f"{shown(path)}: the model needs {amount(size)}, but only {amount(free)} are free")


def amount(n_bytes: int) -> str:
    """Return a number of bytes for people."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes} bytes"


def shown(path: str | Path) -> str:
    """Return a file's name as text that can be printed and drawn, whatever its bytes are."""
    return printable(os.fsencode(path).decode("utf-8", "replace"))


def listed(names: Iterable[Any], most: int = 10) -> str:
    """Return names in a line, of many the first ones and the last one.

    Examples
    --------
    >>> listed(range(100), 4)
    '0, 1, 2, ..., 99'
    """
    words = [printable(str(name)) for name in names]
    return ", ".join(words if len(words) <= most else [*words[: most - 1], "...", words[-1]])


def check_ending(path: str | Path, endings: Sequence[str], name: str) -> str:
    """Return the ending of a file's name in lower case, or raise ValueError unless it is one of these.

    "" among the endings allows names without one.
    """
    ending = Path(path).suffix.lower()
    if ending not in endings:
        named = [each for each in endings if each]
        wanted = " or ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
        rest = " or have no ending" if "" in endings else ""
        hint = "; cvae export writes other formats" if "" in endings else ""
        raise ValueError(f"{name} must end with {wanted}{rest}, got {os.fspath(path)!r}{hint}")
    return ending


def log(message: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # a closed log is no reason to stop training
            print(f"cvae: {message}", file=sys.stderr, flush=True)


def tell_interrupt(error: KeyboardInterrupt, message: str) -> None:
    """Write what became of the work that a signal has ended; otherwise `main` says that it was interrupted."""
    log(f"interrupted{message}")
    error.add_note(_TOLD)


def is_told(error: KeyboardInterrupt) -> bool:
    return _TOLD in getattr(error, "__notes__", ())


def print_table(rows: Mapping[str, Any]) -> None:
    width = max(map(len, rows)) + 2
    for name, value in rows.items():
        print(f"{name:{width}}{printable(str(value))}")


def print_json(values: Mapping[str, Any]) -> None:
    """Print an object of JSON, in which numbers that are not finite are null."""
    print(json.dumps(_finite(values), allow_nan=False))


def _finite(value: Any) -> Any:
    """Return a value of JSON with None in the place of numbers that are not finite."""
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [*map(_finite, value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_written(*paths: str | Path) -> None:
    for path in paths:
        print(f"wrote {shown(path)}")


def write_npy(path: str | Path, shape: Sequence[int], dtype: Any, parts: Iterable[npt.NDArray[Any]]) -> None:
    """Write an array whose rows come a part at a time."""
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(shape)}
    with replaced_file(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype).data)


def by_parts(
    compute: Callable[[Any, Any], npt.NDArray[Any]], images: Any, labels: Any, what: str
) -> Iterator[npt.NDArray[Any]]:
    """Yield what is computed from some images at a time and their labels, if any.

    A progress bar, called `what`, is shown on a terminal where that takes long.
    """
    from tqdm import tqdm  # as in `fit`

    shows = sys.stderr is not None and sys.stderr.isatty()
    with tqdm(total=len(images), desc=what, delay=_PATIENCE, unit=" images", disable=not shows, leave=False) as bar:
        for start in range(0, len(images), _PART):
            some = images[start : start + _PART]
            yield compute(some, None if labels is None else labels[start : start + _PART])
            bar.update(len(some))
            release(some)


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table; names of files that are no valid text keep their bytes."""
    with replaced_file(path) as file, io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(header)
        writer.writerows(rows)
