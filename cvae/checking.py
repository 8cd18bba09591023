"""Checks of arguments: each returns the value that is meant, or says what was expected and what came."""

import numbers
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

MAX_COUNT = (1 << 63) - 1  # the largest number of anything that compiled code can count to
MAX_AXIS = (1 << 31) - 1  # the largest size of an axis of weights or images, products of two of which can be counted


def check_number(name: str, value: Any, interval: str = "(-inf, inf)") -> float:
    """Return `value` as a Python number after checking that it is a real number in `interval`.

    Parameters
    ----------
    name : str
        The argument's name, for error messages.
    value : real number
        A Python or NumPy number; a bool does not count.
    interval : str
        Bounds in the usual notation: ``"[0, 1)"`` includes 0 and excludes 1.

    Returns
    -------
    int or float
        An int for integers of up to 63 bits, otherwise a float; its `repr` is a Python literal.

    Raises
    ------
    TypeError
        If `value` is not a real number.
    ValueError
        If `value` is outside the interval, NaN or too large for a float.

    Examples
    --------
    >>> check_number("decay", 0.9, "[0, 1)")
    0.9
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number in {interval}, got {value!r}")
    try:
        number = int(value) if isinstance(value, numbers.Integral) else float(value)
        as_float = float(number)
    except OverflowError:
        raise ValueError(f"{name} must be a number in {interval}, got one too large for a float") from None
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    above = number >= low if interval.startswith("[") else number > low
    below = number <= high if interval.endswith("]") else number < high
    if not (above and below):
        raise ValueError(f"{name} must be a number in {interval}, got {value!r}")
    return number if abs(number) <= MAX_COUNT else as_float


def check_size(name: str, value: Any, most: int = MAX_COUNT) -> int:
    """Return `value` as an int after checking that it is from 1 to `most`.

    Raises
    ------
    TypeError
        If `value` is not an integer; a bool does not count.
    ValueError
        If it is less than 1 or more than `most`.

    Examples
    --------
    >>> check_size("batchsize", 128)
    128
    """
    message = f"{name} must be an int >= 1, got {value!r}"
    size = _as_int(value, message)
    if size < 1:
        raise ValueError(message)
    if size > most:
        raise ValueError(f"{name} must be an int from 1 to {most}, got {size}")
    return size


def check_count(name: str, value: Any) -> int:
    """Return `value` after checking that it is an int from 0 to 2^63 - 1; raise TypeError or ValueError.

    Examples
    --------
    >>> check_count("step", 0)
    0
    """
    count = _as_int(value, f"{name} must be an int >= 0, got {value!r}")
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"{name} must be an int from 0 to 2^63 - 1, got {count}")
    return count


def _as_int(value: Any, message: str) -> int:
    """Return a number that stands for an int, as in `operator.index`, or raise TypeError; a bool does not count."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(message) from None


def check_bool(name: str, value: Any) -> bool:
    """Return `value` after checking that it is True or False.

    Raises
    ------
    TypeError
        If `value` is not a Python bool.

    Examples
    --------
    >>> check_bool("staircase", True)
    True
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def check_switch(name: str, value: Any) -> bool:
    """Return whether something is on: `value` is a bool, of Python or NumPy, or a level >= 0 as scikit-learn has them.

    Raises
    ------
    TypeError
        If it is none of these.

    Examples
    --------
    >>> check_switch("verbose", 2)
    True
    """
    is_level = isinstance(value, numbers.Integral) and int(value) >= 0
    if not (is_level or isinstance(value, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_mapping(name: str, value: Any) -> dict[str, Any]:
    """Return a copy of a mapping, empty for None, after checking that it is one with strings for keys.

    Raises
    ------
    TypeError
        If `value` is neither a mapping nor None, or a key is not a string.

    Examples
    --------
    >>> check_mapping("cache_dict", None)
    {}
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a dict with strings for keys, got {value!r}")
    return dict(value)
