"""Which columns of a table hold pixels and labels, and which are left out, by their names and the first rows."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cvae.data.cells import Format
from cvae.data.errors import Refused

LABELS = ("label", "labels", "class", "target", "y", "emotion")
_INDICES = ("", "unnamed: 0", "index", "id")  # of rows, as pandas and R write them in the first column
_NO_LABELS = ("usage", "split", "set", "subset", "fold", "partition", *_INDICES)
_FILES = ("file", "filename", "file_name", "path", "image", "img", "img_name", "image_name", "name")
_MANY_ROWS = 10  # more than can be told apart, or in order, by chance
_FEWEST_ALIKE = 4
_MOST_ODD = 9  # columns, each of a name of its own kind, that are pixels without a word


class Wanted(NamedTuple):
    """The shape that images should have, (rows, cols, channels), None for a square; squares do too for a hint."""

    image_shape: Sequence[int] | None
    is_hint: bool

    def shape(self, n: int) -> tuple[int, int, int] | None:
        """Return the shape of images of n pixels."""
        if self.image_shape is not None and n == math.prod(self.image_shape):
            return self.image_shape[0], self.image_shape[1], self.image_shape[2]
        root = _root(n) if self.image_shape is None or self.is_hint else 0
        return (root, root, 1) if root else None

    def told(self, n: int) -> bool:
        """Return whether somebody who knows the table said that all n columns are pixels."""
        return self.image_shape is not None and not self.is_hint and n == math.prod(self.image_shape)


class Columns(NamedTuple):
    """Which columns are what.

    Attributes
    ----------
    pixels : list of int
        In the order of the pixels.
    label : int or None
    left_out : list of int
    image_shape : tuple of 3 ints
    unread : list of str
        What is left out, in words.
    notes : list of str
        What was taken for what, where one may doubt it.
    """

    pixels: list[int]
    label: int | None
    left_out: list[int]
    image_shape: tuple[int, int, int]
    unread: list[str]
    notes: list[str]


def of_names(names: list[str], rows: list[list[str]], form: Format, wanted: Wanted) -> Columns:
    """Return what columns with names are.

    Pixels are those whose names are alike but for digits and marks, if these are more than half, in the order of the
    numbers in their names.
    """
    label = next((i for i, name in enumerate(names) if name.lower() in LABELS), None)
    index = 0 if label != 0 and names[0].lower() in _INDICES else None
    notes: list[str] = []
    rest = [i for i in range(len(names)) if i not in (label, index)]
    words = _of_words(rest, rows, form)
    kinds = {i: re.sub(r"[\W\d_]+", "", names[i].lower()) for i in _without(rest, words)}
    kind, n_alike = Counter(kinds.values()).most_common(1)[0] if kinds else ("", 0)
    is_clear = n_alike >= _FEWEST_ALIKE and 2 * n_alike > len(kinds)
    pixels = [i for i in kinds if kinds[i] == kind or not is_clear]
    if not is_clear and len(pixels) >= _MOST_ODD:
        notes.append(f"the columns {_listed(names, pixels)} are taken for pixels")
    if not wanted.shape(len(pixels)) and len(pixels) < len(kinds) and wanted.told(len(kinds)):
        notes.append(f"the columns {_listed(names, _without([*kinds], pixels))} are taken for pixels, too")
        pixels = [*kinds]
    placed = _in_order(names, pixels)
    if placed != pixels:
        notes.append(f"its pixels are put in the order of the numbers in their names, {_listed(names, placed)}")
        pixels = placed
    others = _without(rest, pixels)
    if label is None:
        label = label_among({i: (names[i], [row[i] for row in rows]) for i in others}, form)
    n = len(pixels)
    if label is None and is_clear and not wanted.shape(n) and wanted.shape(n - 1):
        at, is_sure = _at_an_edge(rows, pixels)
        if is_sure:
            label = at
            n -= 1
            is_usual = at == pixels[0] and not kind  # names that are numbers say nothing
            notes += [] if is_usual else [f"the column {names[at]!r} is taken for labels"]
            pixels = _without(pixels, [at])
    left_out = [i for i in [*([] if index is None else [index]), *others] if i != label]
    if not (shape := wanted.shape(n)):
        raise Refused(_no_shape(n, wanted, _beside(names, rows, words, others)))
    return Columns(pixels, label, left_out, shape, [f"the column {names[i]!r}" for i in left_out], notes)


def without_names(rows: list[list[str]], form: Format, wanted: Wanted) -> Columns:
    """Return what columns without names are: one of words, the first or the last may hold labels, the first count."""
    everything = [*range(len(rows[0]))]
    words = _of_words(everything, rows, form)
    rest = _without(everything, words)
    label = label_among({i: ("", [row[i] for row in rows]) for i in words}, form, are_named=False)
    left_out = [i for i in words if i != label]
    unread, notes = [f"column {i + 1}, of words" for i in left_out], []
    if rest and _count_rows([row[rest[0]] for row in rows]):
        n = len(rest) - 1  # without them
        if wanted.shape(n) or (label is None and wanted.shape(n - 1)):
            unread.append(f"column {rest[0] + 1}, of row numbers")
            left_out.append(rest.pop(0))
        elif wanted.shape(n + 1) and not wanted.told(n + 1):
            raise Refused(f"its column {rest[0] + 1} counts the rows; {_no_shape(n, wanted, '')}")
    n = len(rest)
    is_sure = True
    if label is None and not wanted.shape(n) and wanted.shape(n - 1):
        label, is_sure = _at_an_edge(rows, rest)
        n -= 1
    if label is not None and label == len(rows[0]) - 1:
        notes.append("the last column is taken for labels")
    elif label is not None and not is_sure:
        notes.append(f"column {label + 1} is taken for labels")
    if not (shape := wanted.shape(n)):
        names = [str(i + 1) for i in everything]
        raise Refused(_no_shape(n, wanted, _beside(names, rows, words, [])))
    pixels = _without(rest, [] if label is None else [label])
    return Columns(pixels, label, left_out, shape, unread, notes)


def _in_order(names: list[str], columns: list[int]) -> list[int]:
    """Return columns in the order of the numbers in their names: that of the pixel, or of row, column and channel.

    They stay as they are unless all names are alike but for the numbers, of which none is left out or comes twice, and
    where they count already, with whichever number first.
    """
    if len({re.sub("[0-9]+", "0", names[i]) for i in columns}) != 1:
        return columns
    axes = [*zip(*(map(int, re.findall("[0-9]+", names[i])) for i in columns), strict=True)]
    n_places, n_found = math.prod(max(axis) - min(axis) + 1 for axis in axes), len({*zip(*axes, strict=True)})
    if len(axes) > 3 or not n_places == n_found == len(columns):
        return columns
    orders = [
        [i for _, i in sorted(zip(zip(*some, strict=True), columns, strict=True))]
        for some in itertools.permutations(axes)
    ]
    return columns if columns in orders else orders[0]


def label_among(columns: Mapping[int, tuple[str, list[str]]], form: Format, *, are_named: bool = True) -> int | None:
    """Return which of some columns, with their names and first values, holds labels, if only one can.

    Without names, that is one whose values differ, where there are others.
    """
    found = [i for i, (name, values) in columns.items() if not _are_no_labels(name, values, form, are_named)]
    if len(found) > 1 and not are_named:
        found = [i for i in found if len({*columns[i][1]}) > 1]
    return found[0] if len(found) == 1 else None


def _are_no_labels(name: str, values: list[str], form: Format, is_named: bool) -> bool:
    if is_named and name.lower() in (*_NO_LABELS, *_FILES):
        return True
    if len(values) <= _MANY_ROWS:
        return False
    are_names = len({*values}) == len(values) and not all(map(form.is_number, values))
    return are_names or _count_rows(values)


def _count_rows(values: list[str]) -> bool:
    """Return whether values are the numbers of rows, from 0 or 1."""
    return len(values) > _MANY_ROWS and any(values == [str(start + i) for i in range(len(values))] for start in (0, 1))


def _of_words(columns: list[int], rows: list[list[str]], form: Format) -> list[int]:
    """Return which columns have a word in every row."""
    likely = [i for i in columns if rows[0][i] and not form.is_number(rows[0][i])]
    return [i for i in likely if not any(len(row) > i and form.is_number(row[i]) for row in rows)]


def _at_an_edge(rows: list[list[str]], columns: list[int]) -> tuple[int, bool]:
    """Return which of the first and the last column holds labels, and whether it looks like that.

    It is the first, unless only the last has some integers, again and again, or both have, and only those of the last
    leave none out.
    """
    values = [row[columns[0]] for row in rows]
    first, last = _kept(values), _kept([row[columns[-1]] for row in rows])
    if last and (not first or (_leave_none_out(last) and not _leave_none_out(first))):
        return columns[-1], True
    return columns[0], bool(first) or len({*values}) == 1 or len(rows) <= _MANY_ROWS


def _kept(values: list[str]) -> set[int]:
    """Return the values of a column if they are integers, more than one, and each comes twice on average."""
    found = {*values}
    if not 1 < len(found) <= len(values) / 2 or not all(
        re.fullmatch(r"[-+]?[0-9]{1,18}(\.0*)?", value) for value in found
    ):
        return set()
    return {int(value.partition(".")[0]) for value in found}


def _leave_none_out(values: set[int]) -> bool:
    return max(values) - min(values) == len(values) - 1


def _without(columns: list[int], others: list[int]) -> list[int]:
    taken = {*others}
    return [i for i in columns if i not in taken]


def _no_shape(n: int, wanted: Wanted, beside: str) -> str:
    """Say why n pixels are no image, and what helps."""
    if n == 0:
        return f"it must hold columns of pixels, got none{beside}"
    if wanted.image_shape is not None and not wanted.is_hint:
        expected = f"{math.prod(wanted.image_shape)} pixels to match image_shape {(*wanted.image_shape,)}"
        return f"its rows must have {expected}, got {n}{beside}"
    root = _root(n // 3) if n % 3 == 0 else 0
    colours = f", such as ({root}, {root}, 3)" if root else ""
    return (
        f"its rows hold {n} pixels, which make no square image{beside}; pass image_shape=(rows, cols) or "
        f"(rows, cols, channels){colours} (--image-shape on the command line)"
    )


def _beside(names: list[str], rows: list[list[str]], words: list[int], others: list[int]) -> str:
    """Say which columns are not counted as pixels, for the end of a message."""
    if words:
        return f", beside words such as {rows[0][words[0]]!r} in the column {names[words[0]]!r}"
    return f", beside the column{'s' * (len(others) != 1)} {_listed(names, others)}" if others else ""


def _listed(names: list[str], columns: list[int]) -> str:
    return ", ".join(repr(names[i]) for i in columns[:3]) + ", ..." * (len(columns) > 3)


def _root(n: int) -> int:
    """Return the square root of a square, 0 for others and for 0 and 1."""
    root = math.isqrt(max(n, 0))
    return root if root > 1 and root * root == n else 0
