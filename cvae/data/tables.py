"""A reader of tables of pixels in text: a row for each image, as Kaggle's and others' MNIST in CSV.

A table may have a line of names, and a column of labels: under one of the names below, or without names the first, if
only the others make a square image, or one of the shape that was asked for. A first column that is named as one of row
numbers is left out.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cvae.data.errors import Refused, named_errors

Array = npt.NDArray[Any]

SUFFIXES = (".csv", ".tsv", ".txt")
_LABELS = ("label", "labels", "class", "target", "y")
_INDICES = ("", "unnamed: 0", "index", "id")  # of rows, as pandas and R write them in the first column
_ROWS_AT_A_TIME = 1024
_LINE_CHARACTERS = 1 << 26


class _Layout(NamedTuple):
    delimiter: str | None  # None for blanks
    has_names: bool
    label: int | None
    image_shape: tuple[int, int, int]
    has_text_labels: bool
    numbering: str | None  # the name of the first column if that numbers the rows


def read_table(path: Path, image_shape: Sequence[int] | None, *, is_hint: bool = False) -> dict[str, Any]:
    """Read images, and labels if there are any, from lines of numbers.

    Pixels that are all integers from 0 to 255 become uint8, others float64.

    Parameters
    ----------
    path : Path
        Possibly compressed by gzip.
    image_shape : sequence of 3 ints, optional
        (rows, cols, channels). Default: square images of one channel.
    is_hint : bool
        Whether rows of other lengths may still be square images.

    Returns
    -------
    dict
        "images", (n, rows, cols, channels), and perhaps "labels", (n,).

    Raises
    ------
    ValueError
        If a line is no row of numbers or has another length, or it is not clear what the images' shape is.
    """
    with named_errors(path, "table of pixels"), _opened(path) as lines:
        first, second = lines.readline(_LINE_CHARACTERS), lines.readline(_LINE_CHARACTERS)
        layout = _layout(first, second, image_shape, is_hint)
        head = [second] if layout.has_names else [first, second]
        pixels, labels = _read_rows(itertools.chain(head, lines), layout)
        fields: dict[str, Any] = {"images": pixels.reshape(-1, *layout.image_shape)}
        if layout.numbering is not None:
            fields["unread"] = [f"the column {layout.numbering!r}"]
        return fields if layout.label is None else fields | {"labels": labels}


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    return (gzip.open if is_gzip else open)(path, "rt", encoding="utf-8-sig")


def _layout(first: str, second: str, image_shape: Sequence[int] | None, is_hint: bool) -> _Layout:
    if not first.strip():
        raise ValueError("its first line is empty")
    delimiter = next((mark for mark in "\t;," if mark in first), None)
    names = [name.strip("\"'") for name in _cells(first, delimiter)]
    has_names = not all(map(_is_number, names))
    row = _cells(second, delimiter) if has_names else names
    if has_names and len(row) != len(names):
        raise ValueError(f"its line of names has {len(names)} columns and the next one {len(row)}")
    label = next((i for i, name in enumerate(names) if name.lower() in _LABELS), None) if has_names else None
    is_text = label is not None and not _is_number(row[label])
    index = names[0] if has_names and label != 0 and names[0].lower() in _INDICES else None
    n = len(names) - (label is not None) - (index is not None)
    if image_shape is not None:
        shape = image_shape[0], image_shape[1], image_shape[2]
        if label is None and not has_names and n == math.prod(shape) + 1:
            return _Layout(delimiter, has_names, 0, shape, False, None)
        if n == math.prod(shape):
            return _Layout(delimiter, has_names, label, shape, is_text, index)
        if not is_hint:
            raise Refused(f"its rows must have {math.prod(shape)} pixels to match image_shape {shape}, got {n}")
    if label is None and not has_names and not _root(n) and _root(n - 1):
        label, n = 0, n - 1
    if not _root(n):
        raise Refused(
            f"its rows hold {n} pixels, which make no square image; pass image_shape=(rows, cols) or "
            "(rows, cols, channels) (--image-shape on the command line)"
        )
    return _Layout(delimiter, has_names, label, (_root(n), _root(n), 1), is_text, index)


def _cells(line: str, delimiter: str | None) -> list[str]:
    """Return the values of a line, of which quoted ones may hold the delimiter."""
    line = line.rstrip("\r\n")
    if delimiter is None:
        return line.split()
    cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []) or [""]
    return [cell.strip() for cell in cells]


def _read_rows(lines: Any, layout: _Layout) -> tuple[Array, Array]:
    """Return pixels (n, features) and labels (n,), read some rows at a time."""
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    buffer, labels = bytearray(), []
    n_features = math.prod(layout.image_shape)
    codes: dict[str, int] = {}  # of labels that are words
    converters: dict[int | None, Any] = {}
    if layout.has_text_labels:
        converters[layout.label] = lambda word: codes.setdefault(word, len(codes))
    if layout.numbering is not None:
        converters[0] = lambda word: 0  # names of rows may be words
    options: Any = {"comments": None, "delimiter": layout.delimiter, "quotechar": '"', "converters": converters or None}
    for n_before in itertools.count(1 + layout.has_names, _ROWS_AT_A_TIME):
        some = [line for line in itertools.islice(lines, _ROWS_AT_A_TIME) if line.strip()]
        if not some:
            break
        try:
            rows = np.loadtxt(some, np.float64, ndmin=2, **options)
        except ValueError as error:
            message = re.sub(r"; use `usecols`.*", "", str(error))
            raise ValueError(f"in the rows from line {n_before}: {message}") from None
        others = [0] * (layout.numbering is not None) + ([] if layout.label is None else [layout.label])
        if others and rows.shape[1] != n_features + len(others):
            raise ValueError(f"line {n_before} has {rows.shape[1]} columns, not {n_features + len(others)}")
        if layout.label is not None:
            labels.append(rows[:, layout.label])
        rows = np.delete(rows, others, axis=1) if others else rows
        if rows.shape[1] != n_features:
            raise ValueError(f"line {n_before} has {rows.shape[1]} pixels, not {n_features}")
        if dtype == np.uint8 and not ((rows >= 0) & (rows <= 255) & (rows == np.rint(rows))).all():
            dtype = np.dtype(np.float64)
            buffer = bytearray(np.frombuffer(buffer, np.uint8).astype(dtype).tobytes())
        buffer += rows.astype(dtype).tobytes()
    pixels = np.frombuffer(buffer, dtype).reshape(-1, n_features)
    numbers = _as_labels(np.concatenate(labels) if labels else np.empty(0))
    return pixels, np.array(list(codes))[numbers] if codes else numbers


def _as_labels(labels: Array) -> Array:
    """Return labels as integers if that is what they are."""
    whole = labels.astype(np.int64) if np.isfinite(labels).all() and (np.abs(labels) < 2**53).all() else labels
    return whole if (whole == labels).all() else labels


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _root(n: int) -> int:
    """Return the square root of a square, 0 for others and for 0 and 1."""
    root = math.isqrt(max(n, 0))
    return root if root > 1 and root * root == n else 0
