"""Sets of images: arrays ``(n, rows, cols, channels)``, and the shapes that users have.

Their values are those that a likelihood takes, such as those in [0, 1], or of dtype ``uint8`` with values in 0..255,
or those that a model maps to them (`cvae.data.checks`). A set may be a memory map larger than RAM, so shapes are
changed by views.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cvae.data.intake import as_numbers


def resolve_image_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the shape of an image as (rows, cols, channels).

    Parameters
    ----------
    image_shape : sequence of 2 or 3 ints >= 1
        (rows, cols) for one channel, or (rows, cols, channels).

    Returns
    -------
    tuple of 3 ints

    Raises
    ------
    TypeError
        If `image_shape` is not a sequence of ints.
    ValueError
        If it does not have 2 or 3 entries, or an entry is less than 1.

    Examples
    --------
    >>> resolve_image_shape((28, 28))
    (28, 28, 1)
    """
    try:
        sizes = [operator.index(size) for size in image_shape]
    except TypeError:
        raise TypeError(f"image_shape must be 2 or 3 ints >= 1, got {image_shape!r}") from None
    if len(sizes) not in (2, 3) or min(sizes) < 1:
        raise ValueError(f"image_shape must be 2 or 3 ints >= 1, got {image_shape!r}")
    rows, cols, channels = (*sizes, 1)[:3]
    return rows, cols, channels


def as_images(X: npt.ArrayLike, image_shape: Sequence[int] | None = None, *, name: str = "X") -> np.ndarray:
    """View an array as images ``(n, rows, cols, channels)`` after checking its dtype and shape.

    The values of an array are neither read nor copied: the result is a view with the dtype and byte order of
    `X`, which may be strided, read-only or memory-mapped. Use `check_range` to check the values.

    Parameters
    ----------
    X : array_like of bool, int or float
        See `cvae.data.intake`. ``(n, rows, cols, channels)``, ``(n, rows, cols)`` for one channel, or
        ``(n, features)`` with `image_shape`, the features in row, column, channel order.
    image_shape : sequence of 2 or 3 ints, optional
        (rows, cols) for one channel, or (rows, cols, channels). Required for ``(n, features)``; otherwise the
        images must match it.
    name : str
        The name of the array in error messages.

    Returns
    -------
    ndarray, shape (n, rows, cols, channels)

    Raises
    ------
    TypeError
        If the dtype is not bool, int or float.
    ValueError
        If the shape is none of the above or does not match `image_shape`, or the array is empty.

    Examples
    --------
    >>> as_images(np.zeros((10, 28, 28))).shape
    (10, 28, 28, 1)
    >>> as_images(np.zeros((10, 192)), image_shape=(8, 8, 3)).shape
    (10, 8, 8, 3)
    """
    array = as_numbers(X, name)
    _check_shape(array, name)
    wanted = None if image_shape is None else resolve_image_shape(image_shape)
    if array.ndim == 2:
        return _unflatten(array, wanted, name)
    images = array[..., np.newaxis] if array.ndim == 3 else array
    if wanted is not None and images.shape[1:] != wanted:
        hint = shape_hint(array.shape, wanted, name)
        raise ValueError(f"{name} must hold images of shape {wanted}, got {images.shape[1:]}{hint}")
    return images


def shape_hint(shape: tuple[int, ...], wanted: tuple[int, int, int], name: str) -> str:
    """Return what to do with an array of this shape that should have held images of another."""
    rows, cols, channels = wanted
    if shape == wanted or (shape, channels) == ((rows, cols), 1):
        return f": pass {name}[np.newaxis] for one image"
    if shape[1:] == (channels, rows, cols):
        return f": channels come last, as in {name}.transpose(0, 2, 3, 1)"
    if shape[:-1] == wanted:
        return f": images come first, as in {name}.transpose(3, 0, 1, 2)"
    return ""


def _check_shape(array: np.ndarray, name: str) -> None:
    """Raise ValueError unless an array has pixels and as many dimensions as sets of images have."""
    if array.ndim == 2 and len(array) and array.size == 0:  # in scikit-learn's words
        raise ValueError(
            f"{name} must hold pixels, got 0 feature(s) (shape={array.shape}) while a minimum of 1 is required."
        )
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one image, got the shape {array.shape}")
    if array.ndim not in (2, 3, 4):
        expected = "(n, rows, cols, channels), (n, rows, cols) or (n, features)"
        hint = f". Reshape your data: {name}.reshape(1, -1) is a single image" if array.ndim == 1 else ""
        raise ValueError(f"{name} must have the shape {expected}, got {array.shape}{hint}")


def _unflatten(array: np.ndarray, wanted: tuple[int, int, int] | None, name: str) -> np.ndarray:
    """View (n, features) as (n, rows, cols, channels), which never copies."""
    n, features = array.shape
    if wanted is None:
        raise ValueError(
            f"{name} of shape (n, features) needs image_shape, (rows, cols) or "
            f"(rows, cols, channels), got {array.shape} without image_shape"
        )
    if features != wanted[0] * wanted[1] * wanted[2]:
        raise ValueError(
            f"{name} must have rows * cols * channels features to match image_shape {wanted}, got {features}"
            f"{shape_hint(array.shape, wanted, name)}"
        )
    return array.reshape(n, *wanted)
