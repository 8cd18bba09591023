"""A reader of tables of pixels in text: a row for each image, as Kaggle's and others' MNIST in CSV.

A table may have a line of names, and a column of labels: under one of the names below, or if only the others make a
square image, or one of the shape that was asked for, the column whose name is unlike all others, or without names the
first or the last. A first column that is named as one of row numbers is left out. One cell may hold all pixels
(pixel_column.py).
"""

from __future__ import annotations

import codecs
import csv
import gzip
import itertools
import math
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cvae.data.errors import Refused, named_errors
from cvae.data.pixel_column import SpreadLines, spread

Array = npt.NDArray[Any]

SUFFIXES = (".csv", ".tsv", ".txt")
_LABELS = ("label", "labels", "class", "target", "y", "emotion")
_INDICES = ("", "unnamed: 0", "index", "id")  # of rows, as pandas and R write them in the first column
_ROWS_AT_A_TIME = 1024
_LINE_CHARACTERS = 1 << 26
_HEAD_LINES, _HEAD_CHARACTERS = 100, 1 << 22  # that decide what columns are, beyond the first two


class _Head(NamedTuple):
    """The first lines that are rows or names, and how many lines come before."""

    lines: list[str]
    n_before: int


class _Format(NamedTuple):
    """How a line becomes cells."""

    delimiter: str | None  # None for blanks
    ends_with_delimiter: bool

    @classmethod
    def of(cls, lines: Sequence[str]) -> _Format:
        delimiter = next((mark for mark in "\t;," if mark in lines[0]), None)
        return cls(delimiter, delimiter is not None and all(line.rstrip("\r\n ").endswith(delimiter) for line in lines))

    def cells(self, line: str) -> list[str]:
        """Return the values of a line, of which quoted ones may hold the delimiter."""
        line = self.trimmed(line.rstrip("\r\n"))
        if self.delimiter is None:
            return line.split()
        cells = next(csv.reader([line], delimiter=self.delimiter, skipinitialspace=True), []) or [""]
        return [cell.strip() for cell in cells]

    def trimmed(self, line: str) -> str:
        """Return a line without the delimiter at its end if all have one."""
        return line.rstrip()[:-1] if self.ends_with_delimiter and line.rstrip().endswith(str(self.delimiter)) else line

    def is_number(self, cell: str) -> bool:
        """Return whether a cell is a number, also with a decimal comma where commas do not part cells."""
        try:
            float(cell if self.delimiter == "," else cell.replace(",", "."))
        except ValueError:
            return False
        return True


class _Layout(NamedTuple):
    format: _Format
    has_names: bool
    label: int | None
    image_shape: tuple[int, int, int]
    has_text_labels: bool
    numbering: str | None  # the name of the first column if that numbers the rows
    unread: list[str]


def is_table(path: Path) -> bool:
    """Return whether a file of any name, gzipped or not, begins with a row of numbers."""
    try:
        with _opened(path) as lines:
            line = lines.readline(_LINE_CHARACTERS)
        form = _Format.of([line])
        cells = form.cells(line)
    except (OSError, ValueError, EOFError, zlib.error, csv.Error):
        return False
    return len(cells) > 1 and all(map(form.is_number, cells))


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
    with named_errors(path, "table of pixels"), _opened(path) as file:
        lines = spread(file, _LABELS, _LINE_CHARACTERS) or file
        head = _head(lines)
        layout = _layout(head.lines, image_shape, is_hint)
        if layout.label not in (None, 0) and not layout.has_names:
            warnings.warn(f"{path}: the last column is taken for labels", stacklevel=4)
        rows = itertools.chain(head.lines[layout.has_names :], lines)
        pixels, labels = _read_rows(rows, layout, head.n_before + layout.has_names)
        unread = layout.unread + getattr(lines, "unread", [])
        fields: dict[str, Any] = {"images": pixels.reshape(-1, *layout.image_shape), "unread": unread}
        return fields if layout.label is None else fields | {"labels": labels}


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as file:
        open_any = gzip.open if file.read(2) == b"\x1f\x8b" else open
    with open_any(path, "rb") as file:
        is_wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as spreadsheets and PowerShell write
    text: IO[str] = open_any(path, "rt", encoding="utf-16" if is_wide else "utf-8-sig")
    return text


def _head(lines: IO[str] | SpreadLines) -> _Head:
    """Read the first lines, without empty ones, comments and the line in which spreadsheets name their delimiter."""
    found: list[str] = []
    n_before, comment = 0, ""
    while len(found) < 2 or (len(found) < _HEAD_LINES and sum(map(len, found)) < _HEAD_CHARACTERS):
        if not (line := lines.readline(_LINE_CHARACTERS)):
            break
        is_before = not found and (line.startswith("#") or re.fullmatch(r"sep=.\s*", line, re.IGNORECASE))
        comment = line.lstrip("# ") if is_before and line.startswith("#") else comment
        n_before += bool(is_before or not (found or line.strip()))
        if line.strip() and not is_before:
            found.append(line)
    if not found:
        raise ValueError("its first line is empty")
    form = _Format.of(found)
    if comment.strip() and len(form.cells(comment)) == len(form.cells(found[0])) > 1:  # names, as numpy.savetxt writes
        return _Head([comment, *found], n_before - 1)
    return _Head(found, n_before)


def _layout(head: list[str], image_shape: Sequence[int] | None, is_hint: bool) -> _Layout:
    form = _Format.of(head)
    names = [name.strip("\"'") for name in form.cells(head[0])]
    rows = [form.cells(line) for line in head]
    words = [i for i, name in enumerate(names) if not form.is_number(name)]
    has_names = _are_names(names, words, rows[1:])
    row = (rows[1] if len(rows) > 1 else form.cells("")) if has_names else names
    if has_names and len(row) != len(names):
        raise ValueError(f"its line of names has {len(names)} columns and the next one {len(row)}")
    label = next((i for i, name in enumerate(names) if name.lower() in _LABELS), None) if has_names else None
    index = names[0] if has_names and label != 0 and names[0].lower() in _INDICES else None
    n = len(names) - (label is not None) - (index is not None)
    if label is None and not _shape(n, image_shape, is_hint) and _shape(n - 1, image_shape, is_hint):
        if has_names and words:
            label = _unlike_others(names, first=index is not None)
        else:
            label = words[0] if words else _unnamed_label(rows[has_names:])
        n -= label is not None
    if not (shape := _shape(n, image_shape, is_hint)):
        if image_shape is not None and not is_hint:
            expected = f"{math.prod(image_shape)} pixels to match image_shape {(*image_shape,)}"
            raise Refused(f"its rows must have {expected}, got {n}")
        raise Refused(
            f"its rows hold {n} pixels, which make no square image; pass image_shape=(rows, cols) or "
            "(rows, cols, channels) (--image-shape on the command line)"
        )
    unread = [] if index is None else [f"the column {index!r}"]
    if has_names and not words:
        unread.append(f"the line of names {', '.join(names[:3])}, ...")
    is_text = label is not None and not form.is_number(row[label])
    return _Layout(form, has_names, label, shape, is_text, index, unread)


def _are_names(first: list[str], words: list[int], rows: list[list[str]]) -> bool:
    """Return whether the cells of the first line are names, of which those at `words` are no numbers.

    Raises
    ------
    ValueError
        If it is a row of numbers with something else among them.
    """
    are_words = {*words}
    numbers = [cell for i, cell in enumerate(first) if i not in are_words]
    if not words:  # pandas names columns so, or by the first row, where those of the same name get .1, .2, ...
        goes_on = bool(rows) and rows[0] == [str(len(first) + i) for i in range(len(first))]
        return (_counts(numbers) and len(numbers) > 15 and not goes_on) or _are_mangled(numbers)
    if len(words) > len(numbers) or _counts(numbers):
        return True
    if words in ([0], [len(first) - 1]) and first[words[0]]:  # a label that is a word
        return False
    raise ValueError(f"line 1 must hold numbers or names, got {first[words[0]]!r} in column {words[0] + 1}")


def _counts(cells: list[str]) -> bool:
    return any(cells == [str(start + i) for i in range(len(cells))] for start in (0, 1))


def _are_mangled(cells: list[str]) -> bool:
    """Return whether numbers are 0, 0.1, 0.2, ..., as pandas tells columns of the same name apart."""
    seen: Counter[str] = Counter()
    for cell in cells:
        base = cell.partition(".")[0]
        if cell != (f"{base}.{seen[base]}" if seen[base] else base):
            return False
        seen[base] += 1
    return len(seen) < len(cells)


def _unlike_others(names: list[str], *, first: int) -> int | None:
    """Return which name, from the one of number `first` on, is unlike all others but for their numbers."""
    kinds = [re.sub("[0-9]+", "0", name) for name in names]
    [(_, n_alike)] = Counter(kinds[first:]).most_common(1)
    if n_alike != len(names) - first - 1:
        return None
    return next(i for i in range(first, len(names)) if kinds.count(kinds[i]) == 1)


def _unnamed_label(rows: list[list[str]]) -> int:
    """Return which of the first and the last column holds labels: the first, unless only the last can be that."""
    first, last = ({row[i] for row in rows if row} for i in (0, -1))
    are_few = 1 < len(last) <= len(rows) / 2 and all(re.fullmatch("[0-9]+", cell) for cell in last)
    return len(rows[0]) - 1 if are_few and first in ({"0"}, {"0.0"}) else 0


def _shape(n: int, image_shape: Sequence[int] | None, is_hint: bool) -> tuple[int, int, int] | None:
    """Return the shape of images of n pixels: `image_shape`, or a square."""
    if image_shape is not None and n == math.prod(image_shape):
        return image_shape[0], image_shape[1], image_shape[2]
    root = _root(n) if image_shape is None or is_hint else 0
    return (root, root, 1) if root else None


def _read_rows(lines: Iterable[str], layout: _Layout, n_before: int) -> tuple[Array, Array]:
    """Return pixels (n, features) and labels (n,), read some rows at a time; `n_before` lines come before."""
    lines, delimiter = iter(lines), layout.format.delimiter
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    buffer, labels = bytearray(), []
    n_features = math.prod(layout.image_shape)
    codes: dict[str, int] = {}  # of labels that are words
    converters: dict[int | None, Any] = {}
    if layout.has_text_labels:
        converters[layout.label] = lambda word: codes.setdefault(word, len(codes))
    if layout.numbering is not None:
        converters[0] = lambda word: 0  # names of rows may be words
    options: Any = {"comments": None, "delimiter": delimiter, "quotechar": '"', "converters": converters or None}
    for start in itertools.count(1 + n_before, _ROWS_AT_A_TIME):
        some = [line for line in itertools.islice(lines, _ROWS_AT_A_TIME) if line.strip()]
        if not some:
            break
        if layout.format.ends_with_delimiter:
            some = [*map(layout.format.trimmed, some)]
        if delimiter != "," and not layout.has_text_labels:
            some = [line.replace(",", ".") for line in some]
        try:
            rows = np.loadtxt(some, np.float64, ndmin=2, **options)
        except ValueError as error:
            message = re.sub(r"; use `usecols`.*", "", str(error))
            raise ValueError(f"in the rows from line {start}: {message}") from None
        others = [0] * (layout.numbering is not None) + ([] if layout.label is None else [layout.label])
        if others and rows.shape[1] != n_features + len(others):
            raise ValueError(f"line {start} has {rows.shape[1]} columns, not {n_features + len(others)}")
        if layout.label is not None:
            labels.append(rows[:, layout.label])
        rows = np.delete(rows, others, axis=1) if others else rows
        if rows.shape[1] != n_features:
            raise ValueError(f"line {start} has {rows.shape[1]} pixels, not {n_features}")
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


def _root(n: int) -> int:
    """Return the square root of a square, 0 for others and for 0 and 1."""
    root = math.isqrt(max(n, 0))
    return root if root > 1 and root * root == n else 0
