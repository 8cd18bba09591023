"""The compiled upsampling, both ways and in both directions, compared with the plain reference."""

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import assert_close, assert_margins_untouched, each_dtype, normal, output, positive

from cvae._kernels import upsample2d
from cvae.runtime.programs import run

MODES = ["nearest", "bilinear"]
each_mode = pytest.mark.parametrize("mode", MODES)

# The input's shape, and the factors.
CORNERS = [
    *(((2, 3, 4, c), (2, 3)) for c in (1, 2, 3, 4, 7, 8, 15, 16, 17, 33)),
    ((1, 1, 1, 5), (4, 3)),
    ((3, 1, 6, 2), (5, 1)),
    ((2, 5, 4, 3), (1, 1)),
    ((40, 7, 7, 32), (2, 2)),
]
corners = pytest.mark.parametrize(("x_shape", "factor"), CORNERS, ids=str)


def shape_of_y(x_shape, factor):
    n, rows, cols, channels = x_shape
    return n, rows * factor[0], cols * factor[1], channels


def forward(x, factor, mode, n_threads=2):
    y = output(shape_of_y(x.shape, factor), x.dtype)
    run(upsample2d.forward, y, x, factor=factor, bilinear=mode == "bilinear", n_threads=n_threads)
    assert_margins_untouched(y)
    return y


def backward(dy, x_shape, factor, mode, n_threads=2):
    dx = output(x_shape, dy.dtype)
    run(upsample2d.backward, dx, dy, factor=factor, bilinear=mode == "bilinear", n_threads=n_threads)
    assert_margins_untouched(dx)
    return dx


def check(x_shape, factor, mode, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x, dy = positive(rng, x_shape, dtype), positive(rng, shape_of_y(x_shape, factor), dtype)
    assert_close(forward(x, factor, mode), oracles.upsample2d_forward(x.astype(np.float64), factor, mode))
    expected = oracles.upsample2d_backward(dy.astype(np.float64), x_shape, factor, mode)
    assert_close(backward(dy, x_shape, factor, mode), expected)


@each_dtype
@each_mode
@corners
def test_at_corners(x_shape, factor, mode, dtype):
    check(x_shape, factor, mode, dtype)


@each_dtype
@each_mode
@given(
    x_shape=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7), st.integers(1, 40)),
    factor=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_any_shape(x_shape, factor, mode, dtype):
    check(x_shape, factor, mode, dtype)


@each_dtype
@corners
def test_nearest_copies_bits(x_shape, factor, dtype):
    x = normal(np.random.default_rng(1), x_shape, dtype)
    expected = x.repeat(factor[0], axis=1).repeat(factor[1], axis=2)
    np.testing.assert_array_equal(forward(x, factor, "nearest"), expected)


@each_dtype
@each_mode
@corners
def test_the_number_of_threads_does_not_matter(x_shape, factor, mode, dtype):
    rng = np.random.default_rng(2)
    x, dy = normal(rng, x_shape, dtype), normal(rng, shape_of_y(x_shape, factor), dtype)
    y, dx = forward(x, factor, mode, 1), backward(dy, x_shape, factor, mode, 1)
    for n_threads in (2, 3, 7):
        np.testing.assert_array_equal(forward(x, factor, mode, n_threads), y)
        np.testing.assert_array_equal(backward(dy, x_shape, factor, mode, n_threads), dx)


@each_mode
def test_what_does_not_fit_is_refused(mode):
    x = np.ones((2, 3, 4, 5))
    for shape in ((2, 6, 8, 4), (1, 6, 8, 5), (2, 6, 4, 5), (2, 3, 8, 5)):
        for kernel, arrays in ((upsample2d.forward, (np.ones(shape), x)), (upsample2d.backward, (x, np.ones(shape)))):
            with pytest.raises(ValueError, match="output and input must be"):
                run(kernel, *arrays, factor=(2, 2), bilinear=mode == "bilinear")
    for factor in ((0, 1), (1, -1), (1 << 40, 1)):
        with pytest.raises(ValueError, match="factor must be from 1 to"):
            run(upsample2d.forward, np.ones((2, 3, 4, 5)), x, factor=factor, bilinear=False)
