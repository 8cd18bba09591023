"""The compiled appending of labels, in both directions, compared with the plain reference."""

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import assert_margins_untouched, each_dtype, normal, output

from cvae._kernels import condition
from cvae.runtime.programs import run

# Examples, pixels, channels and labels.
CORNERS = [(1, 1, 1, 1), (3, 1, 20, 10), (2, 5, 3, 1), (7, 9, 17, 33), (40, 49, 32, 10)]
corners = pytest.mark.parametrize("sizes", CORNERS, ids=str)


def forward(x, labels, n_threads=2):
    y = output((*x.shape[:2], x.shape[2] + labels.shape[1]), x.dtype)
    run(condition.forward, y, x, labels, n_threads=n_threads)
    assert_margins_untouched(y)
    return y


def backward(dy, n_labels, n_threads=2):
    dx = output((*dy.shape[:2], dy.shape[2] - n_labels), dy.dtype)
    run(condition.backward, dx, dy, n_labels=n_labels, n_threads=n_threads)
    assert_margins_untouched(dx)
    return dx


def check(sizes, dtype, n_threads=2):
    n, pixels, channels, n_labels = sizes
    rng = np.random.default_rng(0)
    x, labels = normal(rng, (n, pixels, channels), dtype), normal(rng, (n, n_labels), dtype)
    dy = normal(rng, (n, pixels, channels + n_labels), dtype)
    np.testing.assert_array_equal(forward(x, labels, n_threads), oracles.condition_forward(x, labels))
    np.testing.assert_array_equal(backward(dy, n_labels, n_threads), oracles.condition_backward(dy, n_labels))


@each_dtype
@corners
@pytest.mark.parametrize("n_threads", [1, 2, 3, 7])
def test_numbers_are_copied_bit_by_bit_on_any_number_of_threads(sizes, dtype, n_threads):
    check(sizes, dtype, n_threads)


@each_dtype
@given(sizes=st.tuples(*[st.integers(1, 9)] * 4))
def test_any_shape(sizes, dtype):
    check(sizes, dtype)


def test_what_does_not_fit_is_refused():
    x, labels = np.ones((2, 3, 4)), np.ones((2, 5))
    for shape in ((2, 3, 8), (2, 2, 9), (1, 3, 9)):
        with pytest.raises(ValueError, match="the arrays with and without 5 labels must be"):
            run(condition.forward, np.ones(shape), x, labels)
    with pytest.raises(ValueError, match="there must be labels for each of 2 examples, got 3"):
        run(condition.forward, np.ones((2, 3, 9)), x, np.ones((3, 5)))
    for shape in ((2, 3, 4), (2, 3, 8), (2, 2, 9), (0, 3, 9)):
        with pytest.raises(ValueError, match="the arrays with and without 5 labels must be"):
            run(condition.backward, x, np.ones(shape), n_labels=5)
    with pytest.raises(ValueError, match="the arrays with and without 0 labels must be"):
        run(condition.backward, x, x, n_labels=0)
