"""Tables of pixels in text that have all pixels of an image in one cell, as those of FER2013."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from cvae.data.cells import Format, Line
from cvae.data.table_columns import LABELS, label_among

_NAMES = ("pixels", "pixel", "image")
_FEWEST = 4  # numbers in a cell that are pixels
_BETWEEN = r"[\s,()\[\]]+"
_WHOLE_LINE = Format("\x1f", False)  # a delimiter that no text has


class PixelColumn(NamedTuple):
    """Where the pixels are, and the labels if there are any; what is not read, and what one may doubt."""

    format: Format
    at: int
    label: int | None
    has_names: bool
    unread: list[str]
    notes: list[str]


def find(head: Sequence[Line], form: Format) -> PixelColumn | None:
    """Return which column holds all pixels of an image, by its first rows; None if there is none."""
    if form.delimiter is None:
        if head[0].text.strip("\"' \r\n").lower() not in _NAMES:
            return None
        form = _WHOLE_LINE
    rows = [form.cells(line.text) for line in head[:2]]
    at = next((i for i, cell in enumerate(rows[-1]) if (" " in cell or "," in cell) and _are_pixels(cell)), None)
    if at is None or len(rows) < 2 or len(rows[0]) <= at:
        return None
    has_names = not _are_pixels(rows[0][at])
    rows = [form.cells(line.text) for line in head[has_names:]]
    names = [name.strip("\"'") for name in form.cells(head[0].text)] if has_names else [""] * len(rows[0])
    label = next((i for i, name in enumerate(names) if name.lower() in LABELS and i != at), None)
    others = [i for i in range(len(names)) if i not in (at, label)]
    if label is None:
        columns = {i: (names[i], [row[i] for row in rows if len(row) > i]) for i in others}
        label = label_among(columns, form, are_named=has_names)
    unread = [f"the column {names[i]!r}" if has_names else f"column {i + 1}" for i in others if i != label]
    notes = [] if has_names or label is None else [f"column {label + 1} is taken for labels"]
    return PixelColumn(form, at, label, has_names, unread, notes)


def spread(lines: Iterable[Line], column: PixelColumn) -> Iterator[Line]:
    """Yield the lines of a table with a cell for each pixel: names, and then a row for each of `lines`."""
    is_first = True
    for line in lines:
        cells = column.format.cells(line.text)
        pixels = _pixels(cells[column.at]) if len(cells) > column.at else []
        if "..." in pixels:
            raise ValueError(
                f"line {line.number}: its pixels were cut off when it was written: '...' stands for some of them"
            )
        if is_first:
            names = ["label"] * (column.label is not None) + [f"pixel{i}" for i in range(len(pixels))]
            yield Line(0, ",".join(names) + "\n")
            is_first = False
        label = [] if column.label is None else ['"' + _cell(cells, column.label).replace('"', "'") + '"']
        yield Line(line.number, ",".join([*label, *pixels]) + "\n")


def _cell(cells: list[str], i: int) -> str:
    return cells[i] if i < len(cells) else ""


def _pixels(cell: str) -> list[str]:
    return re.split(_BETWEEN, cell.strip("[](), \t\r\n"))


def _are_pixels(cell: str) -> bool:
    pieces = _pixels(cell)
    return len(pieces) >= _FEWEST and all(re.fullmatch(r"[-+.0-9eE]+", piece) for piece in pieces)
