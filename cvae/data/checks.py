"""Checks of the values of images, block by block: no temporary has the size of a set, which may be a memory map."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cvae._kernels import pixelwise
from cvae.data.intake import BYTES
from cvae.runtime.programs import run
from cvae.warning import warn

_BLOCK_VALUES = 1 << 16  # values checked at a time, so that they stay in cache
_ROUNDING = 4  # units in the last place by which values may miss a range


class WrongPixel(ValueError):
    """A value that is not allowed, and its place in a set of images, whose first one is number `first`."""

    first = 0

    def __init__(self, expected: str, value: str, place: Sequence[int]) -> None:
        super().__init__(expected, value, place)
        self.expected, self.value, self.place = expected, value, place

    def __str__(self) -> str:
        image, row, col, channel = self.place
        where = f"in image {self.first + image} at row {row}, column {col}, channel {channel}"
        return f"{self.expected}, got {self.value} {where}"


def check_range(X: np.ndarray, *, name: str = "X", value_range: tuple[float, float] | None = None) -> None:
    """Check that all values of a set of images lie in [0, 1], or in another range.

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
        If a value is outside the range or NaN; the message gives the first one and its position. See `clipped`.

    Examples
    --------
    >>> check_range(np.full((2, 3, 3, 1), 0.5))
    >>> check_range(np.full((2, 3, 3, 1), 128.0))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    cvae.data.checks.WrongPixel: X must hold values in [0, 1] (only uint8 means 0..255), got 128.0 in image 0 ...
    """
    if value_range is None:
        if X.dtype.char in BYTES:
            return
        if _is_plain(X):
            outside = np.empty(1, np.uint8)
            run(pixelwise.is_in_unit_range, outside, X.reshape(-1))
            if not outside[0]:
                return
        value_range = 0.0, 1.0
        expected = f"{name} must hold values in [0, 1] (only uint8 means 0..255)"
    else:
        expected = "{} must hold values in the value_range from {} to {}".format(name, *map(float, value_range))
    low, high = _ends(X.dtype, value_range)

    def is_valid(block: np.ndarray) -> np.ndarray:
        values = block.astype(np.float64)
        found: np.ndarray = (values >= low) & (values <= high)
        return found

    _check_blocks(X, is_valid, expected)


def clipped(X: np.ndarray, value_range: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Return images whose values miss a range by rounding alone, as scikit-learn's scalers leave them, within it.

    Floats may be outside by a few units in the last place of the range's larger end: of float32, as data of that
    precision are often stored in float64, or of float16. If others are further outside, or NaN, and if all are
    within, the images themselves are returned, otherwise a copy.

    Examples
    --------
    >>> clipped(np.array([-1e-17, 0.5, 1.0000000000000002]))
    array([0. , 0.5, 1. ])
    >>> clipped(np.array([-0.1, 0.5, 1.0000000000000002]))[2]
    np.float64(1.0000000000000002)
    """
    if X.dtype.kind != "f":
        return X
    low, high = _ends(X.dtype, value_range)
    ulp = max(np.finfo(X.dtype).eps, np.finfo(np.float32).eps) * max(abs(low), abs(high))
    smallest, largest = X.min(), X.max()
    misses = max(low - smallest, largest - high)
    return np.clip(X, low, high).astype(X.dtype, copy=False) if 0 < misses <= _ROUNDING * ulp else X


def _ends(dtype: np.dtype, value_range: tuple[float, float]) -> tuple[float, float]:
    """Return the ends of a range with those that an array's type has in their place: in float32, 0.1 is larger."""
    low, high = map(float, value_range)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            low, high = min(low, float(dtype.type(low))), max(high, float(dtype.type(high)))
    return low, high


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
    cvae.data.checks.WrongPixel: X must hold finite values, at most 3.4e+38 in size, got NaN in image 0 at ...
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
    cvae.data.checks.WrongPixel: X must hold multiples of 1/255, as uint8 divided by 255 gives, got 0.5 in image ...
    """
    check_range(X, name=name)
    if X.dtype.kind == "f":
        # Rounding errors of values near 1, of float16 or computed in float32.
        error = 255 * max(np.finfo(X.dtype).eps, 4 * np.finfo(np.float32).eps)
        expected = f"{name} must hold multiples of 1/255, as uint8 divided by 255 gives"
        _check_blocks(X, lambda block: _distance_from_integers(block * block.dtype.type(255)) <= error, expected)


def warn_of_ones(images: np.ndarray, *, name: str = "X") -> None:
    """Warn of uint8 images of 0 and 1, which mean 0 and 1/255, where black and white is probably meant."""
    if images.dtype == np.uint8 and _is_at_most_one(images):
        warn(
            f"{name} has dtype uint8 and holds only 0 and 1, which mean 0 and 1/255: pass {name}.astype(bool) for "
            "black and white, or value_range=(0, 1) (--value-range 0:1 on the command line)",
        )


def likely_axes(images: np.ndarray) -> tuple[int, ...] | None:
    """Return how to transpose images whose channels probably come first, or that are stacked last as in MATLAB's files.

    None for all others.
    """
    n, rows, cols, channels = images.shape
    if rows in (1, 3, 4) and min(cols, channels) >= 8:
        return 0, 2, 3, 1
    return (3, 0, 1, 2) if cols in (1, 3, 4) and channels > 4 and is_like_picture(n, rows) else None


def is_like_picture(rows: int, cols: int) -> bool:
    """Return whether so many rows and columns of pixels are large enough for a picture, and no strip."""
    return min(rows, cols) >= max(8, max(rows, cols) // 4)


def warn_of_transposed(images: np.ndarray, *, name: str = "X") -> None:
    """Warn of images whose axes are probably in another order, and of those that are probably rows of one picture."""
    n, rows, cols, channels = images.shape
    if cols in (3, 4) and channels == 1 and is_like_picture(n, rows):
        warn(
            f"{name} holds {n} images of {rows}x{cols} pixels: if it is one picture of {n}x{rows} pixels with {cols} "
            f"channels, pass {name}[np.newaxis]",
        )
    if (axes := likely_axes(images)) is not None:
        height, width, depth = (images.shape[axis] for axis in axes[1:])
        warn(
            f"{name} holds images of {rows}x{cols} pixels with {channels} channels: channels come last, so if these "
            f"are {height}x{width} pixels with {depth}, pass {name}.transpose{axes}",
        )


def warn_of_single(shape: tuple[int, ...]) -> None:
    """Warn of a first block whose shape, which is taken for that of several images or rows, is probably of one."""
    n, rows, *others = shape
    is_like_picture = min(n, rows) >= 8 and max(n, rows) <= 2 * min(n, rows)
    if (len(shape) == 2 and is_like_picture) or (len(shape) == 3 and others == [1] and is_like_picture):
        taken = f"{n} rows of {rows} numbers" if len(shape) == 2 else f"{n} images of {rows}x1 pixels"
    elif len(shape) == 3 and n in (3, 4) and min(rows, *others) >= 8:
        taken = f"{n} images of {rows}x{others[0]} pixels with one channel"
    else:
        return
    warn(
        f"X gives arrays of shape {shape}, each taken for {taken}: if each is one image, pass a list of them, or give "
        f"{'image.transpose(1, 2, 0)' if len(shape) == 3 and others != [1] else 'image'}[np.newaxis]",
    )


def _is_at_most_one(images: np.ndarray) -> bool:
    """Return whether bytes are 0 and 1, and there is a 1."""
    if images[0].tobytes().strip(b"\0\1"):  # as most are; `max` takes four times as long
        return False
    step = max(1, _BLOCK_VALUES // images[0].size)
    blocks = [images[start : start + step] for start in range(0, len(images), step)]
    return all(int(block.max()) <= 1 for block in blocks) and any(block.any() for block in blocks)


def _distance_from_integers(x: np.ndarray) -> np.ndarray:
    distance: np.ndarray = np.abs(x - np.rint(x))
    return distance


def _check_blocks(X: np.ndarray, is_valid: Callable[[np.ndarray], np.ndarray], expected: str) -> None:
    """Raise WrongPixel for the first value for which `is_valid`, called with blocks of values, is not true."""
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
            place = [int(index) for index in np.unravel_index(n_checked + first, X.shape)]
            raise WrongPixel(expected, "NaN" if block[first] != block[first] else f"{block[first]}", place)
        n_checked += block.size


def _is_plain(X: np.ndarray) -> bool:
    """Return whether the kernels can read an array without conversion."""
    return X.dtype in (np.float32, np.float64) and X.dtype.isnative and X.flags.c_contiguous and X.flags.aligned
