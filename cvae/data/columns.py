"""Names and number of the columns of rows of pixels, which must stay those of the first `fit`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cvae.data.intake import remedy_of_shapeless
from cvae.warning import warn

_MOST_SHOWN = 5
_NO_PIXELS = ("", "unnamed: 0", "label")


class Columns(NamedTuple):
    """What there is to know about the columns of images that come as rows (n, features).

    Attributes
    ----------
    names : tuple of str, or None
        Those of a data frame; None if it has none that are strings, or there is no data frame.
    are_rows : bool
        Whether the images are rows; otherwise there are no columns.
    """

    names: tuple[str, ...] | None = None
    are_rows: bool = False

    @classmethod
    def of(cls, X: Any) -> Columns:
        """Return what a set of images says; raise TypeError if only some of its columns' names are strings."""
        if len(shape_of(X)) != 2:
            return cls()
        names = list(getattr(X, "columns", ()))
        n_strings = sum(isinstance(name, str) for name in names)
        if n_strings not in (0, len(names)):
            kinds = sorted({type(name).__name__ for name in names})
            raise TypeError(f"X must have strings as names of all columns, or of none, got {' and '.join(kinds)}")
        return cls(tuple(names) if n_strings else None, True)

    def warn_of_others(self) -> None:
        """Warn of columns that are probably no pixels: an index or labels that came from a file with them."""
        for name in self.names or ():
            if name.lower() in _NO_PIXELS:
                remedy = "; pandas.read_csv(..., index_col=0) makes an index of it" if name != "label" else ""
                warn(f"X has a column {name!r}, which counts as a pixel: drop it if it is none{remedy}")

    def check(self, X: Any, name: str, model: str, image_shape: tuple[int, ...]) -> None:
        """Compare the columns of other images, which are rows, with these; warn if only one of both has names.

        Raises
        ------
        ValueError
            If the names differ, or come in another order, or there is not one for each pixel of an image.
        """
        other = Columns.of(X)
        if self.names and other.names:
            if self.names != other.names:
                raise ValueError(f"{name}: {_difference(self.names, other.names)}")
        elif self.are_rows and name == "X" and (self.names or other.names):
            has = "has feature names" if other.names else "does not have valid feature names"
            was = "without" if other.names else "with"
            warn(f"X {has}, but {model} was fitted {was} feature names")
        given, n_features = shape_of(X), math.prod(image_shape)
        if given[1] != n_features:
            hint = f": pass {name}[np.newaxis] for one image" if (*given, 1) == image_shape else ""
            raise ValueError(
                f"{name} has {given[1]} features, but {model} is expecting {n_features} features as input{hint}"
            )

    def check_input(self, names: Any, n_features: int) -> None:
        """Raise ValueError, in scikit-learn's words, unless these may be the names of the columns."""
        given = np.asarray(names, dtype=object)
        if self.names is not None and given.tolist() != [*self.names]:
            raise ValueError("input_features is not equal to feature_names_in_")
        if given.shape != (n_features,):
            raise ValueError(
                f"input_features should have length equal to number of features ({n_features}), got {given.size}"
            )


def check_order(frame: Any, names: Sequence[str], name: str) -> None:
    """Raise ValueError for a data frame whose columns have these names in another order; others count by place."""
    given = list(frame.columns)
    if given != names and sorted(map(str, given)) == sorted(names):
        raise ValueError(
            f"{name}: The feature names should match those of get_feature_names_out, in the same order, got "
            f"{', '.join(given[:_MOST_SHOWN])}{', ...' if len(given) > _MOST_SHOWN else ''}"
        )


def warn_of_other_order(X: Any, values: Any, name: str = "y", of: str = "X") -> None:
    """Warn of labels or weights whose index has the names of the images' rows in another order: rows count by place.

    `of` is the name of the images, or codes.
    """
    ours, theirs = getattr(X, "index", None), getattr(values, "index", None)
    if ours is None or theirs is None or not (hasattr(ours, "equals") and hasattr(theirs, "equals")):
        return
    if not ours.equals(theirs) and {*ours} == {*theirs}:
        warn(f"{name} has the index of {of} in another order, and counts by place: pass {name}.loc[{of}.index]")


def shape_of(X: Any) -> tuple[int, ...]:
    """Return the shape of an array or of nested lists, of which the first elements count; () if it is not known."""
    if remedy_of_shapeless(X, ""):
        return ()
    if hasattr(X, "shape"):
        return tuple(X.shape)
    if hasattr(X, "__array__"):
        return np.asarray(X).shape
    return (len(X), *shape_of(X[0])) if isinstance(X, (list, tuple)) and X else ()


def _difference(known: tuple[str, ...], given: tuple[str, ...]) -> str:
    """Return how the names of columns differ, in words that those who use scikit-learn know."""
    parts = ["The feature names should match those that were passed during fit."]
    for title, names in (
        ("Feature names unseen at fit time:", sorted({*given} - {*known})),
        ("Feature names seen at fit time, yet now missing:", sorted({*known} - {*given})),
    ):
        if names:
            shown = names if len(names) <= _MOST_SHOWN else [*names[:_MOST_SHOWN], "..."]
            parts += [title, *(f"- {name}" for name in shown)]
    if len(parts) == 1:
        parts.append("Feature names must be in the same order as they were in fit.")
    return "\n".join(parts)
