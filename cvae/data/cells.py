"""The lines of a table in text, with their numbers in the file, and the cells of a line."""

from __future__ import annotations

import codecs
import csv
import gzip
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

UTF8 = "utf-8-sig"
_LINE_CHARACTERS = 1 << 26
_HEAD_LINES, _HEAD_CHARACTERS = 100, 1 << 22  # that decide what columns are, beyond the first two
_MARKS = "\t;|,"
_OPENS_QUOTE = re.compile(rf'(?:^|[{_MARKS}])\s*"')
_FIELD_LIMIT = threading.Lock()  # which is one for all of Python's csv


class Line(NamedTuple):
    """A line and its number in the file, from 1; several lines, and the first one's number, if a quote goes on."""

    number: int
    text: str


class Format(NamedTuple):
    """How a line becomes cells."""

    delimiter: str | None  # None for blanks
    ends_with_delimiter: bool

    @classmethod
    def of(cls, lines: Sequence[str]) -> Format:
        unquoted = re.sub('"[^"]*"', "", lines[0]) if '"' in lines[0] else lines[0]
        delimiter = next((mark for mark in _MARKS if mark in unquoted), None)
        return cls(delimiter, delimiter is not None and all(line.rstrip("\r\n ").endswith(delimiter) for line in lines))

    def cells(self, text: str) -> list[str]:
        """Return the values of a line, of which quoted ones may hold the delimiter."""
        text = self.trimmed(text.rstrip("\r\n"))
        if self.delimiter is None:
            return text.split()
        return [cell.strip() for cell in (self._unquoted(text) if '"' in text else text.split(self.delimiter))]

    def _unquoted(self, text: str) -> list[str]:
        with _FIELD_LIMIT:
            before = csv.field_size_limit()
            csv.field_size_limit(max(before, len(text)))  # which a cell of many pixels exceeds
            try:
                reader = csv.reader([text], delimiter=str(self.delimiter), skipinitialspace=True)
                return next(reader, []) or [""]
            finally:
                csv.field_size_limit(before)

    def trimmed(self, text: str) -> str:
        """Return a line without the delimiter at its end if all have one."""
        return text.rstrip()[:-1] if self.ends_with_delimiter and text.rstrip().endswith(str(self.delimiter)) else text

    def with_points(self, text: str, *, has_words: bool) -> str:
        """Return a line whose numbers have points where they had decimal commas; words keep their commas."""
        if self.delimiter == "," or "," not in text:
            return text
        if not has_words:
            return text.replace(",", ".")
        end = re.escape(self.delimiter) if self.delimiter else r"\s"
        number = rf'((?:^|{end})[ "]*[-+]?[0-9]*),([0-9]+(?:[eE][-+]?[0-9]+)?[ "]*)(?=[\r\n]|{end}|$)'
        return re.sub(number, r"\1.\2", text)

    def is_number(self, cell: str) -> bool:
        """Return whether a cell is a number, also with a decimal comma where commas do not part cells."""
        try:
            self.number(cell)
        except ValueError:
            return False
        return True

    def number(self, cell: str) -> float:
        if "_" in cell:  # which Python allows
            raise ValueError(f"{cell!r} is no number")
        return float(cell if self.delimiter == "," else cell.replace(",", "."))


def opened(path: Path, encoding: str = UTF8) -> IO[str]:
    """Open a text file, gzipped or not, in this encoding, or in UTF-16 as spreadsheets and PowerShell write it."""
    with path.open("rb") as file:
        open_any = gzip.open if file.read(2) == b"\x1f\x8b" else open
    with open_any(path, "rb") as file:
        is_wide = is_utf_16(file.read(2))
    text: IO[str] = open_any(path, "rt", encoding="utf-16" if is_wide else encoding)
    return text


def is_utf_16(content: bytes) -> bool:
    """Return whether bytes begin with the mark of UTF-16."""
    return content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def first_line(file: IO[str]) -> str:
    return file.readline(_LINE_CHARACTERS)


def lines_of(file: IO[str]) -> Iterator[Line]:
    """Yield all lines that are not blank."""
    number = 0
    while text := file.readline(_LINE_CHARACTERS):
        number += 1
        first = number
        if '"' in text and text.count('"') % 2 and _OPENS_QUOTE.search(text):
            pieces, n_quotes, size = [text], 1, len(text)
            while n_quotes % 2:
                more = file.readline(_LINE_CHARACTERS)
                size += len(more)
                if not more or size > _LINE_CHARACTERS:
                    raise ValueError(f"line {first} opens a quote that nothing closes")
                number += 1
                n_quotes += more.count('"')
                pieces.append(more)
            text = "".join(pieces)
        if not text.isspace():
            yield Line(first, text)


def head_of(lines: Iterable[Line]) -> list[Line]:
    """Return the first lines, without comments and the line in which spreadsheets name their delimiter.

    A comment right before the first row that has as many cells is the line of names that numpy.savetxt writes.
    """
    found: list[Line] = []
    comment = Line(0, "")
    for line in lines:
        if not found and line.text.startswith("#"):
            comment = Line(line.number, line.text.lstrip("# "))
        elif found or not re.fullmatch(r"sep=.\s*", line.text, re.IGNORECASE):
            found.append(line)
            size = sum(len(each.text) for each in found)
            if len(found) >= 2 and (len(found) >= _HEAD_LINES or size >= _HEAD_CHARACTERS):
                break
    if not found:
        raise ValueError("it is empty")
    form = Format.of([line.text for line in found])
    if comment.text.strip() and len(form.cells(comment.text)) == len(form.cells(found[0].text)) > 1:
        return [comment, *found]
    return found
