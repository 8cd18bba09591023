"""Helpers for tests of the compiled kernels: random inputs, guarded outputs and tolerances."""

import math

import numpy as np
import pytest

DTYPES = [np.float32, np.float64]
MARGIN = 37  # elements before and after an output; odd, so that outputs are not aligned to vectors

# Largest relative error of an element if all terms of all sums are positive.
TOLERANCE = {np.dtype(np.float32): 5e-6, np.dtype(np.float64): 1e-13}

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


def normal(rng, shape, dtype):
    """Return read-only standard normal numbers."""
    return read_only(rng.standard_normal(shape).astype(dtype))


def positive(rng, shape, dtype):
    """Return read-only numbers from 0.5 to 1.5, whose products cannot cancel in a sum."""
    return read_only(rng.uniform(0.5, 1.5, shape).astype(dtype))


def read_only(array):
    array.flags.writeable = False
    return array


def exact(*arrays):
    """Convert to float64, for the plain references."""
    return [array.astype(np.float64) for array in arrays]


def untouched(dtype):
    """Return the value that fills the margins."""
    return -12345.0 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max - 12


def output(shape, dtype):
    """Return an array of NaN with margins on both sides, which `assert_margins_untouched` checks."""
    size = math.prod(shape)
    memory = np.full(MARGIN + size + MARGIN, untouched(dtype), dtype)
    memory[MARGIN : MARGIN + size] = np.nan if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    return memory[MARGIN : MARGIN + size].reshape(shape)


def assert_margins_untouched(*outputs):
    for array in outputs:
        before, after = array.base[:MARGIN], array.base[MARGIN + array.size :]
        assert (before == untouched(array.dtype)).all()
        assert (after == untouched(array.dtype)).all()


def assert_close(got, expected):
    """Assert that each element of an output is within the tolerance of its dtype from `expected`, in float64."""
    assert got.shape == expected.shape
    assert_margins_untouched(got)
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE[got.dtype], atol=0)
