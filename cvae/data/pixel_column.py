"""Tables of pixels in text that have all pixels of an image in one cell, as those of FER2013."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import IO

_NAMES = ("pixels", "pixel", "image")


class SpreadLines:
    """The lines of such a table with a cell for each pixel, for one who reads others: a name for each, then the rows.

    Parameters
    ----------
    lines : text file
        At its second line.
    names : list of str
        Of the columns, from the first line.
    pixels : int
        Which of them holds the pixels.
    label_names : tuple of str
        What a column of labels may be called, in lower case.

    Attributes
    ----------
    unread : list of str
        The columns that are neither pixels nor labels.
    """

    def __init__(self, lines: IO[str], names: list[str], pixels: int, label_names: tuple[str, ...]) -> None:
        self._lines, self._pixels = lines, pixels
        self._label = next((i for i, name in enumerate(names) if name.lower() in label_names), None)
        self.unread = [f"the column {name!r}" for i, name in enumerate(names) if i not in (pixels, self._label)]
        self._waiting: list[str] = []
        self._begun = False

    def readline(self, limit: int = -1) -> str:
        """Return the next line, "" at the end."""
        if not self._begun:
            self._begun = True
            row = self._spread(self._lines.readline(limit))
            n = row.rpartition('"')[2].count(",") + (self._label is None)
            names = ["label"] * (self._label is not None) + [f"pixel{i}" for i in range(n)]
            self._waiting.append(row)
            return ",".join(names) + "\n"
        return self._waiting.pop() if self._waiting else self._spread(self._lines.readline(limit))

    def __iter__(self) -> Iterator[str]:
        return iter(self.readline, "")

    def _spread(self, line: str) -> str:
        if not line.strip():
            return line
        cells = _cells(line)
        if len(cells) <= self._pixels:
            return ",".join(cells) + "\n"  # which is then too short
        pixels = re.split(r"[\s,]+", cells[self._pixels].strip("[]() \t"))
        if "..." in pixels:
            raise ValueError("its pixels were cut off when it was written: '...' stands for some of them")
        label = [] if self._label is None else ['"' + cells[self._label].replace('"', "'") + '"']
        return ",".join([*label, *pixels]) + "\n"


def spread(lines: IO[str], label_names: tuple[str, ...], limit: int) -> SpreadLines | None:
    """Return the lines of a table with all pixels of an image in one cell; None, and to the start, for another one."""
    names = _cells(lines.readline(limit))
    at = next((i for i, name in enumerate(names) if name.lower() in _NAMES), None)
    second = [] if at is None else _cells(lines.readline(limit))
    lines.seek(0)
    if at is None or len(second) <= at or len(second[at].split()) < 4:
        return None
    lines.readline()
    return SpreadLines(lines, names, at, label_names)


def _cells(line: str) -> list[str]:
    if '"' not in line:
        return [cell.strip() for cell in line.split(",")]
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, len(line)))  # which a cell of many pixels exceeds
    try:
        return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]
    finally:
        csv.field_size_limit(before)
