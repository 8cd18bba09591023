"""The labels of conditional models: from what users have to the numbers that layers read, with all checks."""

from __future__ import annotations

import numbers
import re
from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from cvae.checking import check_size
from cvae.data.gathering import Gatherer
from cvae.data.intake import as_array
from cvae.warning import warn

Array = npt.NDArray[Any]
_LARGE = 10  # the size of values with which training may diverge
_FEW = 20  # images, of which each may well have a class of its own


class Labels(NamedTuple):
    """The labels of some images or codes as numbers, those of number i being ``table[rows[i]]``.

    Attributes
    ----------
    kind : LabelKind
        What the model learnt about labels, or will learn from these.
    table : array, shape (any, L)
        In the model's dtype.
    rows : array of ints, shape (n,)
    """

    kind: LabelKind
    table: Array
    rows: npt.NDArray[np.intp]

    def numbers(self, part: slice = slice(None)) -> Array:
        """Return the numbers of a part of the labels, shape (any, L)."""
        numbers: Array = self.table[self.rows[part]]
        return numbers

    def part(self, part: slice) -> Labels:
        """Return the labels of a part of the images."""
        return self._replace(rows=self.rows[part])


class LabelGatherer:
    """Writes the labels of one batch after another to the same array, as `Gatherer` does the images."""

    def __init__(self, labels: Labels, out: Array) -> None:
        self._rows, self._gatherer = labels.rows, Gatherer(labels.table, out)

    def load(self, indices: npt.NDArray[np.intp]) -> None:
        """Write the labels of the images of these indices to the start of `out`; the indices are not checked."""
        self._gatherer.load(self._rows[indices])


class LabelKind(ABC):
    """What a conditional model knows about its labels, learnt from the first ones.

    Attributes
    ----------
    n_labels : int
        L, how many numbers a label is for the layers.
    expected : str
        What labels are, for error messages.
    """

    n_labels: int
    expected: str

    @classmethod
    @abstractmethod
    def learn(cls, y: Any, name: str) -> Self:
        """Return what there is to learn from the labels y, which error messages call `name`."""

    @abstractmethod
    def labels(self, y: Any, n: int, dtype: npt.DTypeLike, name: str) -> Labels:
        """Return n labels as numbers; a single label is that of all n."""

    def is_single(self, shape: tuple[int, ...]) -> bool:
        """Return whether labels of this shape are one label, for all images."""
        return not shape

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return what makes an equal object, in a form that JSON can represent."""


class Classes(LabelKind):
    """Labels out of a finite set: ints, strings, bools or floats; the numbers of each are 0 but for a 1 of its own.

    Parameters
    ----------
    classes : array, shape (L,)
        Sorted, each once.
    """

    expected = "a class label, or one for each image"

    def __init__(self, classes: Array) -> None:
        self.classes, self.n_labels = classes, len(classes)

    @classmethod
    def learn(cls, y: Any, name: str) -> Classes:
        found = _as_classes(y, name)
        if found.size == 0 or found.ndim == 0:
            raise ValueError(f"{name} must hold a class label for each image, got the shape {np.shape(y)}")
        classes = np.unique(found)
        if len(found) >= _FEW and 2 * len(classes) > len(found):
            remedy = "" if found.dtype.kind == "U" else "; condition='values' takes numbers as they are"
            warn(
                f"{name} holds {len(classes)} classes for {len(found)} images, of which a model learns little{remedy}",
            )
        return cls(classes)

    def labels(self, y: Any, n: int, dtype: npt.DTypeLike, name: str) -> Labels:
        wanted = _as_classes(y, name)
        if wanted.ndim == 0:
            wanted = np.full(n, wanted)
        if len(wanted) != n:
            raise ValueError(f"{name} must be one label, or one for each of {n}, got {len(wanted)} labels")
        known = self.classes
        if (wanted.dtype.kind == "U") != (known.dtype.kind == "U"):
            unseen = np.unique(wanted)
        else:
            rows = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            unseen = np.unique(wanted[known[rows] != wanted])
        if unseen.size:
            raise ValueError(f"{name} must hold labels of the first fit, {_listed(known)}, got {_listed(unseen)}")
        return Labels(self, np.eye(len(known), dtype=dtype), rows.astype(np.intp, copy=False))

    def state(self) -> dict[str, Any]:
        return {"classes": self.classes.tolist(), "dtype": self.classes.dtype.str}


class Values(LabelKind):
    """Labels that are numbers themselves, or vectors of numbers.

    Parameters
    ----------
    n_labels : int
        Numbers of a label.
    names : tuple of str, or None
        Of these numbers, if they came as the columns of a data frame.
    """

    expected = "a number or a vector of numbers, or one for each image"

    def __init__(self, n_labels: int, names: tuple[str, ...] | None = None) -> None:
        self.n_labels, self.names = n_labels, names

    @classmethod
    def learn(cls, y: Any, name: str) -> Values:
        found = _as_numbers(y, name)
        if found.size == 0 or found.ndim == 0:
            raise ValueError(f"{name} must have the shape (n,) or (n, numbers of a label), got {found.shape}")
        largest = float(np.abs(found.astype(np.float64)).max())
        if _LARGE < largest < np.inf:
            warn(
                f"{name} holds numbers of up to {largest:.6g} in size, which go into layers as they are and may make "
                "the training diverge: scale them to a size of about 1",
            )
        return cls(1 if found.ndim == 1 else found.shape[1], _column_names(y))

    def labels(self, y: Any, n: int, dtype: npt.DTypeLike, name: str) -> Labels:
        names = _column_names(y)
        if names is not None and self.names is not None and names != self.names:
            raise ValueError(
                f"{name} must have the columns of the first fit in their order, {', '.join(self.names)}, got "
                f"{', '.join(names)}"
            )
        found, width = _as_numbers(y, name), self.n_labels
        is_single = self.is_single(found.shape)
        table = found.reshape(1, -1) if is_single else found.reshape(len(found), -1)
        if table.shape != (1 if is_single else n, width):
            one = "a number" if width == 1 else f"{width} numbers"
            raise ValueError(f"{name} must be {one}, or {one} for each of {n}, got the shape {found.shape}")
        with np.errstate(over="ignore"):
            table = np.ascontiguousarray(table, dtype)
        if not np.isfinite(table).all():
            raise ValueError(f"{name} must be finite in {table.dtype}, got infinite values or NaN")
        return Labels(self, table, np.zeros(n, np.intp) if is_single else np.arange(n))

    def is_single(self, shape: tuple[int, ...]) -> bool:
        return shape in ((), (self.n_labels,))

    def state(self) -> dict[str, Any]:
        return {"n_labels": self.n_labels} | ({} if self.names is None else {"names": self.names})


KINDS: dict[str, type[Classes | Values]] = {"classes": Classes, "values": Values}


def check_condition(condition: Any) -> None:
    """Raise ValueError unless this is a model's argument `condition`."""
    if condition is not None and (not isinstance(condition, str) or condition not in KINDS):
        raise ValueError(f"condition must be 'classes', 'values' or None, got {condition!r}")


def as_labels(
    condition: str | None, kind: LabelKind | None, y: Any, n: int, dtype: npt.DTypeLike, name: str
) -> Labels | None:
    """Return the labels y of n images or codes, or None for a model without condition.

    Parameters
    ----------
    condition : str or None
        The model's argument.
    kind : LabelKind or None
        What the model has learnt about labels; None to learn it from these.
    y : array or label
    n : int
    dtype : dtype
        The model's.
    name : str
        Of y, for error messages.

    Raises
    ------
    TypeError
        If y is of the wrong type.
    ValueError
        If y is missing, or given to a model without condition, or does not hold n labels such as the model knows.
    """
    if condition is None:
        if y is not None:
            raise ValueError(f"{name} must be None for a model without condition, got {type(y).__name__}")
        return None
    if y is None:
        raise ValueError(f"this model is conditional: {name} must be {KINDS[condition].expected}, got None")
    return (kind or KINDS[condition].learn(y, name)).labels(y, n, dtype, name)


def n_labels(kind: LabelKind | None, y: Any) -> int:
    """Return how many labels y has: 1 if it is a single one."""
    shape = np.shape(y)
    return 1 if kind is None or kind.is_single(shape) else max(1, shape[0])


def of_classes(condition: str | None, known: LabelKind | None, classes: Any) -> LabelKind:
    """Return what a model knows about labels that is told all classes.

    Raises
    ------
    TypeError, ValueError
        If it has no use for them, or they are not those that it knows already.
    """
    if condition != "classes":
        raise ValueError(f"classes must be None for a model with condition={condition!r}, got {classes!r}")
    given = Classes(np.unique(_as_classes(classes, "classes")))
    if known is None:
        return given
    if given.state()["classes"] != known.state()["classes"]:
        raise ValueError(f"classes must be those of the first call, {known.state()['classes']}, got {classes!r}")
    return known


def restored(condition: str, state: dict[str, Any]) -> LabelKind:
    """Return what `LabelKind.state` was called of, with this `condition`; TypeError or ValueError if it is no state."""
    if condition == "values":
        names = state.get("names")
        return Values(check_size("n_labels", state["n_labels"]), None if names is None else tuple(map(str, names)))
    # NumPy would parse any text, and fail in many ways.
    if not isinstance(state["dtype"], str) or re.fullmatch(r"[<>|][biufU]\d{1,10}", state["dtype"]) is None:
        raise ValueError(f"dtype must be that of an array of labels, such as '<i8', got {state['dtype']!r}")
    dtype = np.dtype(state["dtype"])
    # Text gets the width that it needs: the one in a file could be gigabytes.
    classes = np.array(state["classes"], None if dtype.kind == "U" else dtype)
    found = np.unique(_as_classes(classes, "classes"))
    if not found.size or found.dtype.kind != dtype.kind or not np.array_equal(found, classes):
        raise ValueError(f"classes must be sorted, each once, and of the dtype {dtype}, got {state['classes']!r}")
    return Classes(found)


def _as_classes(y: Any, name: str) -> Array:
    """Return labels as an array (n,), or () for a single one, of bool, int, float or str."""
    labels = _as_array(y, name)
    if labels.dtype.kind in "fO" and isinstance(y, (list, tuple)) and all(type(value) is int for value in y):
        labels = _of_large_integers(y, name)  # which floats do not tell apart
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim > 1:
        one_hot = f"; classes are those of {name}.argmax(axis=1)" if _is_one_hot(labels) else ""
        raise ValueError(f"{name} must be a label or have the shape (n,), got {labels.shape}{one_hot}")
    if labels.dtype.kind not in "buifU":
        remedy = f"; {_decoded(name)} makes strings of bytes" if labels.dtype.kind == "S" else ""
        raise TypeError(f"{name} must hold ints, strings, bools or floats as labels, got dtype {labels.dtype}{remedy}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError(f"{name} must hold labels, got infinite values or NaN")
    return labels


def _is_one_hot(labels: Array) -> bool:
    """Return whether each row of an array is 0 but for a single 1."""
    is_table = labels.ndim == 2 and labels.dtype.kind in "buif"
    return is_table and bool(((labels == 1).sum(1) == 1).all() and np.isin(labels, (0, 1)).all())


def _column_names(y: Any) -> tuple[str, ...] | None:
    """Return the names of a data frame's columns, if all of them are strings."""
    names = list(getattr(y, "columns", ()))
    return tuple(names) if names and all(isinstance(name, str) for name in names) else None


def _as_numbers(y: Any, name: str) -> Array:
    """Return values as an array (n,), (n, L), or () for a single one."""
    values = _as_array(y, name)
    if values.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold real numbers, got dtype {values.dtype}")
    if values.ndim > 2:
        raise ValueError(f"{name} must have the shape (n,) or (n, numbers of a label), got {values.shape}")
    return values


def _as_array(y: Any, name: str) -> Array:
    """Return an array of y, of bool, int, float or fixed-width str where objects are all of one such kind."""
    array = np.asarray(y) if isinstance(y, str) else as_array(y, name)
    if array.dtype.kind == "U" and isinstance(y, (list, tuple)):  # in which numbers have become text beside strings
        array = np.asarray(y, object)
    if array.dtype.kind not in "OT":
        return array
    values = array.ravel().tolist()
    # NaN, pandas' NA and None, of which the first differs from itself and the second has no truth.
    missing = [value for value in values if value is None or type(value).__name__ == "NAType" or value != value]
    if missing:
        raise ValueError(f"{name} must not have missing labels, got {len(missing)}, the first of them {missing[0]}")
    if not any(all(isinstance(value, kind) for value in values) for kind in (str, numbers.Real)):
        found = sorted({type(value).__name__ for value in values})
        remedy = f"; {_decoded(name)} makes strings of bytes" if found == ["bytes"] else ""
        raise TypeError(f"{name} must hold labels of one kind, strings or numbers, got {' and '.join(found)}{remedy}")
    return np.array(values).reshape(array.shape)


def _of_large_integers(y: Any, name: str) -> Array:
    try:
        return np.array(y, np.uint64)
    except OverflowError:
        raise ValueError(
            f"{name} must hold integers that fit in int64 or in uint64, got them from {min(y)} to {max(y)}"
        ) from None


def _decoded(name: str) -> str:
    """Return what makes strings of bytes."""
    return f"np.char.decode(np.asarray({name}, 'S'), 'utf-8')"


def _listed(labels: Array) -> str:
    """Return the first labels as text."""
    text = ", ".join(repr(label) for label in labels[:10].tolist())
    return text if len(labels) <= 10 else f"{text}, ... ({len(labels)} in all)"
