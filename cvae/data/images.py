"""Validation of image arrays, and gathering of batches from them.

A set of images is an array ``(n, rows, cols, channels)`` with the values that a likelihood takes, such as those in
[0, 1], or of dtype ``uint8`` with values in 0..255, or those that a model maps to them. A set may be a memory map
larger than RAM, so no function here allocates a temporary of the set's size: shapes are changed by views, values are
checked block by block, and images are mapped batch by batch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cvae._kernels import pixelwise
from cvae._kernels.program import Program
from cvae.data.mapping import PixelMapping, identity
from cvae.runtime.programs import execute, run

_BLOCK_VALUES = 1 << 16  # values checked or copied at a time, so that they stay in cache
_ROUNDING = 3  # units in the last place by which values may miss a range


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
        ``(n, rows, cols, channels)``, ``(n, rows, cols)`` for one channel, or ``(n, features)`` with
        `image_shape`, the features in row, column, channel order.
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
    try:
        array = np.asarray(X)
    except ValueError as error:  # nested lists of unequal lengths
        raise ValueError(f"{name} must be an array of images: {error}") from None
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must be an array of bool, int or float, got dtype {array.dtype}")
    if array.ndim not in (2, 3, 4):
        raise ValueError(
            f"{name} must have the shape (n, rows, cols, channels), (n, rows, cols) or (n, features), got {array.shape}"
        )
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one image, got the shape {array.shape}")
    wanted = None if image_shape is None else resolve_image_shape(image_shape)
    if array.ndim == 2:
        return _unflatten(array, wanted, name)
    images = array[..., np.newaxis] if array.ndim == 3 else array
    if wanted is not None and images.shape[1:] != wanted:
        raise ValueError(f"{name} must hold images of shape {wanted}, got {images.shape[1:]}")
    return images


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
        )
    return array.reshape(n, *wanted)


def check_range(X: np.ndarray, *, name: str = "X", value_range: tuple[float, float] | None = None) -> None:
    """Check that all values of a set of images lie in [0, 1], or in another range, up to rounding.

    Floats may be outside by a few units in the last place of the range's larger end, as scikit-learn's scalers leave
    them: a likelihood changes as little as the values do.

    Arrays of bool and of ``uint8`` (0..255) are valid by their dtype and are not read. All others are read
    once, in blocks of constant size.

    Parameters
    ----------
    X : ndarray, shape (n, rows, cols, channels)
        Images as returned by `as_images`.
    name : str
        The name of the array in the error message.
    value_range : (low, high), optional
        The range, in which uint8 counts as the numbers from 0 to 255. Default: [0, 1].

    Raises
    ------
    ValueError
        If a value is further outside the range or NaN; the message gives the first one and its position.

    Examples
    --------
    >>> check_range(np.full((2, 3, 3, 1), 0.5))
    >>> check_range(np.full((2, 3, 3, 1), 128.0))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: X must hold values in [0, 1] (only uint8 means 0..255), got 128.0 in image 0 at ...
    """
    if value_range is None:
        if X.dtype in (np.bool_, np.uint8):
            return
        if _is_plain(X):
            outside = np.empty(1, np.uint8)
            run(pixelwise.is_in_unit_range, outside, X.reshape(-1))
            if not outside[0]:
                return
        low, high = 0.0, 1.0
        expected = f"{name} must hold values in [0, 1] (only uint8 means 0..255)"
    else:
        low, high = map(float, value_range)
        expected = f"{name} must hold values in the value_range from {low} to {high}"
    rounding = _ROUNDING * float(np.finfo(X.dtype).eps) * max(abs(low), abs(high)) if X.dtype.kind == "f" else 0.0

    def is_valid(block: np.ndarray) -> np.ndarray:
        values = block.astype(np.float64)
        found: np.ndarray = (values >= low - rounding) & (values <= high + rounding)
        return found

    _check_blocks(X, is_valid, expected)


def check_finite(X: np.ndarray, *, name: str = "X") -> None:
    """Check that all values of a set of images are finite as float32, the smallest dtype of a model.

    Integers other than ``uint8`` (0..255, scaled to [0, 1]) count as the numbers that they are.

    Parameters
    ----------
    X, name
        As in `check_range`.

    Raises
    ------
    ValueError
        If a value is NaN or larger than 3.4e38; the message gives the first one and its position.

    Examples
    --------
    >>> check_finite(np.full((2, 3, 3, 1), -128.0))
    >>> check_finite(np.full((2, 3, 3, 1), np.nan))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: X must hold finite values, at most 3.4e+38 in size, got nan in image 0 at ...
    """
    if X.dtype.kind == "f":
        largest = np.finfo(np.float32).max
        expected = f"{name} must hold finite values, at most 3.4e+38 in size"
        _check_blocks(X, lambda block: np.abs(block) <= largest, expected)


def check_bytes(X: np.ndarray, *, name: str = "X") -> None:
    """Check that all values of a set of images are 0/255, 1/255, ... or 255/255, up to rounding.

    Parameters
    ----------
    X, name
        As in `check_range`; arrays of bool and of ``uint8`` are valid by their dtype.

    Raises
    ------
    ValueError
        If a value is another one; the message gives the first one and its position.

    Examples
    --------
    >>> check_bytes(np.arange(0, 256).reshape(1, 16, 16, 1) / 255)
    >>> check_bytes(np.full((2, 3, 3, 1), 0.5))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: X must hold multiples of 1/255, as uint8 divided by 255 gives, got 0.5 in image 0 at ...
    """
    check_range(X, name=name)
    if X.dtype.kind == "f":
        # Rounding errors of values near 1, of float16 or computed in float32.
        error = 255 * max(np.finfo(X.dtype).eps, 4 * np.finfo(np.float32).eps)
        expected = f"{name} must hold multiples of 1/255, as uint8 divided by 255 gives"
        _check_blocks(X, lambda block: _distance_from_integers(block * block.dtype.type(255)) <= error, expected)


def _distance_from_integers(x: np.ndarray) -> np.ndarray:
    distance: np.ndarray = np.abs(x - np.rint(x))
    return distance


def _check_blocks(X: np.ndarray, is_valid: Callable[[np.ndarray], np.ndarray], expected: str) -> None:
    """Raise ValueError for the first value for which `is_valid`, called with blocks of values, is not true."""
    # A buffered iterator yields small native blocks of any array, strided and byte-swapped ones included.
    blocks = np.nditer(
        X,
        flags=["external_loop", "buffered"],
        op_dtypes=[X.dtype.newbyteorder("=")],
        casting="equiv",
        order="C",
        buffersize=_BLOCK_VALUES,
    )
    n_checked = 0
    for chunk in blocks:
        block = np.asarray(chunk)
        valid = is_valid(block)
        if not valid.all():
            first = int(np.argmin(valid))
            image, row, col, channel = np.unravel_index(n_checked + first, X.shape)
            raise ValueError(
                f"{expected}, got {block[first]} in image {image} at row {row}, column {col}, channel {channel}"
            )
        n_checked += block.size


def gather(
    X: np.ndarray, indices: np.ndarray | slice, out: np.ndarray, mapping: PixelMapping | None = None
) -> np.ndarray:
    """Write the images ``X[indices]`` to `out`, mapped to the units of a model.

    Without a mapping ``uint8`` values are divided by 255, and all others only converted to the dtype of `out`.
    Temporaries hold at most 65,536 values, or one image if that is larger.

    Parameters
    ----------
    X : ndarray, shape (n, rows, cols, channels)
        Images as returned by `as_images`.
    indices : ndarray of ints, shape (m,), or slice
        The images to take, in this order; each index in 0..n-1.
    out : ndarray, shape (m, rows, cols, channels)
        float32 or float64, C-contiguous, in native byte order. Overwritten.
    mapping : PixelMapping, optional

    Returns
    -------
    ndarray
        `out`.

    Raises
    ------
    TypeError
        If `indices` are not ints, or `out` is neither float32 nor float64.
    ValueError
        If `out` has the wrong shape or is not C-contiguous.
    IndexError
        If an index is outside 0..n-1.

    Examples
    --------
    >>> X = np.arange(0, 250, 51, dtype=np.uint8).reshape(5, 1, 1, 1)
    >>> gather(X, np.array([2, 0]), np.empty((2, 1, 1, 1))).ravel()
    array([0.4, 0. ])
    """
    mapping = mapping or identity(X.shape[-1])
    if isinstance(indices, slice):
        if (mapping.is_identity and X.dtype != np.uint8) or out.size < _BLOCK_VALUES:
            selected = X[indices]
            _check_out(out, selected.shape)
            mapping.copied(selected, out)
            return out
        indices = np.arange(*indices.indices(len(X)))
    indices = np.asarray(indices)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise TypeError(
            f"indices must be a slice or a 1-D array of ints, got {indices.ndim} dimensions of dtype {indices.dtype}"
        )
    _check_out(out, (indices.size, *X.shape[1:]))
    if indices.size and not (indices.min() >= 0 and indices.max() < len(X)):
        raise IndexError(f"indices must lie in 0..{len(X) - 1}, got {indices.min()}..{indices.max()}")
    if out.size and _has_kernel(X):
        run(_record_gather, X, np.ascontiguousarray(indices, np.intp), out, mapping)
        return out
    images_per_block = max(1, _BLOCK_VALUES // X[0].size)
    for first in range(0, indices.size, images_per_block):
        block = slice(first, first + images_per_block)
        mapping.copied(X[indices[block]], out[block])
    return out


class Gatherer:
    """Repeated calls of `gather` with the same images and output, recorded once for each batch size.

    Parameters
    ----------
    X : ndarray, shape (n, rows, cols, channels)
        Images as returned by `as_images`.
    out : ndarray, shape (m, rows, cols, channels)
        As in `gather`, for batches of up to m images.
    mapping : PixelMapping, optional
    then : callable, optional
        Records what follows, called with a program and the part of `out` that holds a batch.
    """

    def __init__(
        self,
        X: np.ndarray,
        out: np.ndarray,
        mapping: PixelMapping | None = None,
        then: Callable[[Program, np.ndarray], None] | None = None,
    ) -> None:
        self._images, self._out, self._mapping, self._then = X, out, mapping or identity(X.shape[-1]), then
        self._indices = np.zeros(len(out), np.intp)
        self._programs: dict[int, Program] = {}  # by batch size

    def load(self, indices: np.ndarray) -> None:
        """Write the images ``X[indices]`` to the start of `out`; the indices are not checked."""
        n = len(indices)
        self._indices[:n] = indices
        if n not in self._programs:
            self._programs[n] = self._record(n)
        execute(self._programs[n])

    def _record(self, n: int) -> Program:
        X, out, indices, program = self._images, self._out[:n], self._indices[:n], Program()
        if _has_kernel(X):
            _record_gather(program, X, indices, out, self._mapping)
        else:
            program.call(gather, X, indices, out, self._mapping)
        if self._then is not None:
            self._then(program, out)
        return program


def _has_kernel(X: np.ndarray) -> bool:
    """Return whether a kernel can gather from `X`, or it needs converting by NumPy."""
    is_plain = X.dtype.isnative and X.flags.c_contiguous and X.flags.aligned
    return is_plain and (X.dtype == np.bool_ or X.dtype.name in pixelwise.pixel_types())


def _record_gather(
    program: Program, X: np.ndarray, indices: np.ndarray, out: np.ndarray, mapping: PixelMapping
) -> None:
    """Record the kernel that gathers from `X` to `out`."""
    rows, images = out.reshape(len(out), -1), X.reshape(len(X), -1)
    if mapping.is_identity and X.dtype == np.uint8:
        pixelwise.gather_bytes(program, rows, images, indices)
    elif mapping.is_identity and X.dtype == out.dtype:
        pixelwise.gather(program, rows, images, indices)
    else:
        name = "uint8" if X.dtype == np.bool_ else X.dtype.name
        if X.dtype == np.uint8 and mapping.divides_bytes:
            name = "fraction"
        offset, scale = mapping.tiled_offset, mapping.tiled_scale
        pixelwise.gather_mapped(program, rows, images.view(np.uint8), indices, name, offset, scale)


def _is_plain(X: np.ndarray) -> bool:
    """Return whether the kernels can read an array without conversion."""
    return X.dtype in (np.float32, np.float64) and X.dtype.isnative and X.flags.c_contiguous and X.flags.aligned


def _check_out(out: np.ndarray, shape: tuple[int, ...]) -> None:
    if out.dtype not in (np.float32, np.float64):
        raise TypeError(f"out must be float32 or float64 in native byte order, got {out.dtype!r}")
    if out.shape != shape or not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous of shape {shape}, got shape {out.shape}")
