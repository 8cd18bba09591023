"""A reader of tables of pixels in text: a row for each image, as Kaggle's and others' MNIST in CSV.

`table_columns.py` says which columns hold pixels and labels; one cell may hold all pixels (`pixel_column.py`).
"""

from __future__ import annotations

import csv
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cvae.data import pixel_column, table_columns
from cvae.data.cells import UTF8, Format, Line, first_line, head_of, lines_of, opened
from cvae.data.errors import named_errors
from cvae.data.table_columns import Columns, Wanted

Array = npt.NDArray[Any]

SUFFIXES = (".csv", ".tsv", ".txt")
_WINDOWS = "cp1252"
_MISSING = ("", "?", "na", "n/a", "nan", "none", "null")
_ROWS_AT_A_TIME = 1024


class _Layout(NamedTuple):
    format: Format
    names: list[str]  # none if the table has none
    n_columns: int
    columns: Columns
    has_pixel_column: bool

    @property
    def apart(self) -> list[int]:
        """Return which columns hold no pixels."""
        label = self.columns.label
        return [*([] if label is None else [label]), *self.columns.left_out]


def is_table(path: Path) -> bool:
    """Return whether a file of any name, gzipped or not, begins with a row of numbers."""
    try:
        with opened(path) as file:
            line = first_line(file)
        form = Format.of([line])
        cells = form.cells(line)
    except (OSError, ValueError, EOFError, zlib.error, csv.Error):
        return False
    return len(cells) > 1 and all(map(form.is_number, cells))


def read_table(path: Path, image_shape: Sequence[int] | None, *, is_hint: bool = False) -> dict[str, Any]:
    """Read images, and labels if there are any, from lines of numbers.

    Pixels that are all integers from 0 to 255, and not all 0 or 1, become uint8, others float64.

    Parameters
    ----------
    path : Path
        Possibly compressed by gzip; in UTF-8, or UTF-16 with its mark, or else in Windows-1252.
    image_shape : sequence of 3 ints, optional
        (rows, cols, channels). Default: square images of one channel.
    is_hint : bool
        Whether rows of other lengths may still be square images.

    Returns
    -------
    dict
        "images", (n, rows, cols, channels), and perhaps "labels", (n,); "unread", what is left out, and "notes", what
        was taken for what.

    Raises
    ------
    ValueError
        If a line is no row of numbers or has another length, or it is not clear what the images' shape is.
    """
    wanted = Wanted(image_shape, is_hint)
    with named_errors(path, "table of pixels"):
        try:
            return _read(path, wanted, UTF8)
        except UnicodeDecodeError as error:
            if error.encoding != "utf-8":
                raise
        try:
            fields = _read(path, wanted, _WINDOWS)
        except UnicodeDecodeError:
            raise ValueError("its text is neither UTF-8 nor Windows-1252; save it as UTF-8") from None
        fields["notes"].append("its text is not UTF-8, and is read as Windows-1252")
        return fields


def _read(path: Path, wanted: Wanted, encoding: str) -> dict[str, Any]:
    with opened(path, encoding) as file:
        lines = lines_of(file)
        head = head_of(lines)
        unread, notes = [], []
        form = Format.of([line.text for line in head])
        column = pixel_column.find(head, form)
        if column is not None:
            lines = pixel_column.spread(itertools.chain(head[column.has_names :], lines), column)
            head = head_of(lines)
            form = Format.of([line.text for line in head])
            unread, notes = column.unread, column.notes
        layout = _layout(head, form, wanted, has_pixel_column=column is not None)
        pixels, labels = _read_rows(itertools.chain(head[bool(layout.names) :], lines), layout)
    columns = layout.columns
    fields: dict[str, Any] = {
        "images": pixels.reshape(-1, *columns.image_shape),
        "unread": unread + columns.unread,
        "notes": notes + columns.notes,
    }
    return fields if columns.label is None else fields | {"labels": labels}


def _layout(head: list[Line], form: Format, wanted: Wanted, *, has_pixel_column: bool) -> _Layout:
    rows = [form.cells(line.text) for line in head]
    first = [cell.strip("\"'") for cell in rows[0]]
    words = [i for i, cell in enumerate(first) if not form.is_number(cell)]
    if not _are_names(first, words, rows[1:], head[0].number):
        same = [row for row in rows if len(row) == len(first)]
        return _Layout(form, [], len(first), table_columns.without_names(same, form, wanted), has_pixel_column)
    if len(head) < 2:
        raise ValueError(
            f"it holds a line of names, {', '.join(map(repr, first[:3]))}{', ...' * (len(first) > 3)}, and no rows"
        )
    if len(rows[1]) == len(first) + 1:  # as R writes names of rows
        first = ["", *first]
    n = len(first)
    if len(rows[1]) != n:
        raise ValueError(f"its line of names has {n} columns and line {head[1].number} has {len(rows[1])}")
    columns = table_columns.of_names(first, [row for row in rows[1:] if len(row) == n], form, wanted)
    if not words:
        columns.unread.append(f"the line of names {', '.join(first[:3])}, ...")
    return _Layout(form, first, n, columns, has_pixel_column)


def _are_names(first: list[str], words: list[int], rows: list[list[str]], number: int) -> bool:
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
    if rows and all(first[i] and _is_word(row, i) for row in rows for i in words):
        return False
    raise ValueError(f"line {number} must hold numbers or names, got {first[words[0]]!r} in column {words[0] + 1}")


def _is_word(row: list[str], i: int) -> bool:
    return i < len(row) and re.search(r"[^\W\d_]", row[i]) is not None


def _counts(cells: list[str]) -> bool:
    """Return whether cells count from 0 or 1, or are such numbers in the order of words."""
    counted = [[str(start + i) for i in range(len(cells))] for start in (0, 1)]
    return cells in counted or cells in map(sorted, counted)


def _are_mangled(cells: list[str]) -> bool:
    """Return whether numbers are 0, 0.1, 0.2, ..., as pandas tells columns of the same name apart."""
    seen: Counter[str] = Counter()
    for cell in cells:
        base = cell.partition(".")[0]
        if cell != (f"{base}.{seen[base]}" if seen[base] else base):
            return False
        seen[base] += 1
    return len(seen) < len(cells)


def _read_rows(lines: Iterator[Line], layout: _Layout) -> tuple[Array, Array]:
    """Return pixels (n, features) and labels (n,), read some rows at a time."""
    form, apart, pixels, in_place = layout.format, layout.apart, layout.columns.pixels, [*range(layout.n_columns)]
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    buffer = bytearray()
    labels = _Labels(layout)
    converters: dict[int | str, Any] = dict.fromkeys(layout.columns.left_out, lambda word: 0)
    if layout.columns.label is not None:
        converters[layout.columns.label] = labels.code
    options: Any = {"comments": None, "delimiter": form.delimiter, "quotechar": '"', "encoding": None}
    while some := list(itertools.islice(lines, _ROWS_AT_A_TIME)):
        texts = [form.with_points(form.trimmed(line.text), has_words=bool(apart)) for line in some]
        try:
            rows = np.loadtxt(texts, np.float64, ndmin=2, converters=converters or None, **options)
        except ValueError as error:
            raise ValueError(_what_is_wrong(some, layout) or f"from line {some[0].number} on: {error}") from None
        if rows.shape != (len(some), layout.n_columns):
            raise ValueError(_what_is_wrong(some, layout) or f"from line {some[0].number} on: rows of other lengths")
        labels.add(rows, some)
        rows = rows.take(pixels, axis=1) if pixels != in_place else rows
        if dtype == np.uint8 and not ((rows >= 0) & (rows <= 255) & (rows == np.rint(rows))).all():
            dtype = np.dtype(np.float64)
            buffer = bytearray(np.frombuffer(buffer, np.uint8).astype(dtype).tobytes())
        buffer += rows.astype(dtype).tobytes()
    images = np.frombuffer(buffer, dtype).reshape(-1, len(pixels))
    if dtype == np.uint8 and images.max() <= 1:  # black and white, and no 255ths
        images = images.astype(np.float64)
    return images, labels.values()


def _what_is_wrong(lines: Iterable[Line], layout: _Layout) -> str:
    """Return what is wrong with the first of these lines that is no row, "" if all of them seem to be."""
    apart = {*layout.apart}
    for line in lines:
        cells = layout.format.cells(line.text)
        if len(cells) != layout.n_columns:
            n_apart, what = (len(apart), "pixels") if layout.has_pixel_column else (0, "columns")
            return f"line {line.number} has {len(cells) - n_apart} {what}, not {layout.n_columns - n_apart}"
        for i, cell in enumerate(cells):
            if i not in apart and not layout.format.is_number(cell):
                name = f", {layout.names[i]!r}" if layout.names else ""
                place = "among its pixels" if layout.has_pixel_column else f"in column {i + 1}{name}"
                return f"line {line.number} must hold numbers, got {cell!r} {place}"
    return ""


class _Labels:
    """The labels of the rows that are read, each a word that is kept once.

    They are numbers if all words are, otherwise strings.
    """

    def __init__(self, layout: _Layout) -> None:
        self._at, self._format = layout.columns.label, layout.format
        self._codes: dict[str, int] = {}
        self._lines: list[int] = []  # where each word stands first
        self._rows: list[Array] = []

    def code(self, word: str) -> int:
        word = word.strip()
        if len(word) > 2 and word[0] == word[-1] == "'":  # as Weka and OpenML write them
            word = word[1:-1]
        return self._codes.setdefault(word, len(self._codes))

    def add(self, rows: Array, lines: list[Line]) -> None:
        """Take the codes of rows, which came from these lines."""
        if self._at is None:
            return
        codes = rows[:, self._at].astype(np.intp)
        found, first = np.unique(codes, return_index=True)
        is_new = found >= len(self._lines)
        self._lines += [lines[row].number for row in first[is_new].tolist()]
        self._rows.append(codes)

    def values(self) -> Array:
        """Return the labels of all rows."""
        if self._at is None:
            return np.empty(0)
        values: Array = self._meanings([*self._codes])[np.concatenate(self._rows)]
        return values

    def _meanings(self, words: list[str]) -> Array:
        is_number = [self._format.is_number(word) and word.lower() not in _MISSING for word in words]
        if any(is_number) or "" in words:
            for word, line in zip(words, self._lines, strict=True):
                if word.lower() in _MISSING:
                    raise ValueError(f"line {line} must hold a label, got {word!r}")
        if not all(is_number):
            return np.array(words)
        if all(re.fullmatch("[-+]?[0-9]+", word) for word in words):
            return _integers([int(word) for word in words])
        numbers = np.array([self._format.number(word) for word in words])
        is_whole = (
            np.isfinite(numbers).all() and (np.abs(numbers) < 2**53).all() and (numbers == np.rint(numbers)).all()
        )
        return numbers.astype(np.int64) if is_whole else numbers


def _integers(numbers: list[int]) -> Array:
    try:
        return np.array(numbers, np.int64)
    except OverflowError:
        raise ValueError("its labels must be integers from -2**63 to 2**63 - 1, or no numbers") from None
