"""What the tests of the compiled kernels share: random input, guarded output, and how close is close enough."""

import math

import numpy as np
import pytest

DTYPES = [np.float32, np.float64]
MARGIN = 37  # elements before and after an output; odd, so that no output lies on a vector's boundary

# The largest relative error of any element, where all terms of all sums are positive.
TOLERANCE = {np.dtype(np.float32): 5e-6, np.dtype(np.float64): 1e-13}

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


def normal(rng, shape, dtype):
    """Standard normal numbers that the kernels may only read."""
    return read_only(rng.standard_normal(shape).astype(dtype))


def positive(rng, shape, dtype):
    """Numbers from 0.5 to 1.5 that the kernels may only read: sums of their products cannot cancel."""
    return read_only(rng.uniform(0.5, 1.5, shape).astype(dtype))


def read_only(array):
    array.flags.writeable = False
    return array


def exact(*arrays):
    """The same numbers in float64, for the plain references."""
    return [array.astype(np.float64) for array in arrays]


def untouched(dtype):
    """What the margins hold."""
    return -12345.0 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max - 12


def output(shape, dtype):
    """An array of NaN for a kernel to fill, with a margin on both sides that `assert_margins_untouched` looks at."""
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
    """Hold every element of an output to the tolerance of its type; `expected` is in float64, from the same input."""
    assert got.shape == expected.shape
    assert_margins_untouched(got)
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE[got.dtype], atol=0)
