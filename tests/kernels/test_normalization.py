"""The compiled normalization, with its statistics and gradients, compared with the plain reference."""

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import DTYPES, assert_margins_untouched, each_dtype, exact, normal, output, positive

from cvae._kernels import elementwise, normalization
from cvae.runtime.programs import run

# The shape (B, M, C), and the number of groups.
CORNERS = [
    *(((3, 10, c), c) for c in (1, 2, 3, 5, 16, 17, 63, 64, 65, 130)),
    ((2, 7, 12), 4),
    ((2, 7, 12), 1),
    ((4, 1, 6), 2),
    ((1, 1, 5), 5),
    ((1, 20_000, 3), 3),
    ((2, 9_001, 24), 3),
    ((1, 5, 20_001), 20_001),
]
corners = pytest.mark.parametrize(("shape", "groups"), CORNERS, ids=str)
EPSILON = 1e-3
# Of the largest element or, where sums cancel, of the largest term.
TOLERANCE = {np.dtype(np.float32): 3e-6, np.dtype(np.float64): 1e-12}


def assert_near(got, expected, terms=0):
    assert got.shape == expected.shape
    assert_margins_untouched(got)
    largest = max(np.abs(expected).max(), np.max(terms))
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE[got.dtype] * largest)


def assert_gradients_near(got, expected, dY, X, mean, variance, S):
    inverse = 1 / np.sqrt(variance[:, np.newaxis] + EPSILON)
    steep = np.abs(dY * inverse * (X - mean[:, np.newaxis])).sum((0, 1))
    for array, other, terms in zip(got, expected, (np.abs(dY * S * inverse), steep, np.abs(dY)), strict=True):
        assert_near(array, other, terms)


def inputs(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = normal(rng, shape, dtype) + dtype(2)
    return x, positive(rng, shape[2:], dtype), normal(rng, shape[2:], dtype), normal(rng, shape, dtype)


def forward(x, scaler, intercept, groups, relu=False, n_threads=2):
    B, _, C = x.shape
    y, mean, variance = (output(shape, x.dtype) for shape in (x.shape, (B, C), (B, C)))
    arrays = y, mean, variance, x, scaler, intercept
    run(normalization.forward, *arrays, groups=groups, epsilon=EPSILON, relu=relu, n_threads=n_threads)
    return arrays[:3]


def backward(dy, x, mean, variance, scaler, groups, measured, n_threads=2):
    results = tuple(output(shape, x.dtype) for shape in (x.shape, scaler.shape, scaler.shape))
    how = {"groups": groups, "epsilon": EPSILON, "measured": measured, "n_threads": n_threads}
    run(normalization.backward, *results, dy, x, mean, variance, scaler, **how)
    return results


def check(shape, groups, dtype, seed=0):
    x, scaler, intercept, dy = inputs(shape, dtype, seed)
    y, mean, variance = forward(x, scaler, intercept, groups)
    X, S, b, dY = exact(x, scaler, intercept, dy)
    expected = oracles.normalization_statistics(X, groups)
    for got, statistic in zip((mean, variance), expected, strict=True):
        assert_near(got, statistic)
    # A group of equal values is left without scale: nothing but rounding errors would be compared.
    if expected[1].min() > 0.1:
        assert_near(y, oracles.normalize(X, *expected, S, b, EPSILON), np.abs(b))
        got = backward(dy, x, mean, variance, scaler, groups, True)
        gradients = oracles.normalize_backward(dY, X, *expected, S, EPSILON, groups)
        assert_gradients_near(got, gradients, dY, X, *expected, S)


@each_dtype
@corners
def test_at_corners(shape, groups, dtype):
    check(shape, groups, dtype)


@each_dtype
@given(st.integers(1, 4), st.integers(1, 60), st.integers(1, 20), st.integers(1, 5))
def test_any_shape(dtype, B, M, groups, width):
    check((B, M, groups * width), groups, dtype)


@each_dtype
@pytest.mark.parametrize("one", [True, False], ids=["of all images", "of each image"])
def test_given_statistics_count_as_constants(dtype, one):
    shape = (3, 50, 7)
    x, scaler, intercept, dy = inputs(shape, dtype)
    rng = np.random.default_rng(5)
    mean, variance = (positive(rng, (1 if one else 3, 7), dtype) for _ in range(2))
    y = output(shape, dtype)
    run(normalization.apply, y, x, mean, variance, scaler, intercept, epsilon=EPSILON, relu=False)
    X, S, b, dY, M, V = exact(x, scaler, intercept, dy, mean, variance)
    assert_near(y, oracles.normalize(X, M, V, S, b, EPSILON), np.abs(b))
    got = backward(dy, x, mean, variance, scaler, 7, False)
    assert_gradients_near(got, oracles.normalize_backward(dY, X, M, V, S, EPSILON), dY, X, M, V, S)


@each_dtype
@corners
def test_relu_cuts_off_the_same_numbers(shape, groups, dtype):
    x, scaler, intercept, _ = inputs(shape, dtype)
    y, relu = forward(x, scaler, intercept, groups)[0], forward(x, scaler, intercept, groups, relu=True)[0]
    np.testing.assert_array_equal(relu, np.maximum(y, 0))


@each_dtype
@corners
def test_the_number_of_threads_does_not_matter(shape, groups, dtype):
    x, scaler, intercept, dy = inputs(shape, dtype)
    first = forward(x, scaler, intercept, groups, n_threads=1)
    gradients = backward(dy, x, *first[1:], scaler, groups, True, n_threads=1)
    for n_threads in (2, 3, 7):
        for got, expected in zip(forward(x, scaler, intercept, groups, n_threads=n_threads), first, strict=True):
            np.testing.assert_array_equal(got, expected)
        again = backward(dy, x, *first[1:], scaler, groups, True, n_threads=n_threads)
        for got, expected in zip(again, gradients, strict=True):
            np.testing.assert_array_equal(got, expected)


@each_dtype
def test_an_image_is_normalized_in_the_same_way_in_any_batch(dtype):
    x, scaler, intercept, _ = inputs((5, 700, 24), dtype)
    together = forward(x, scaler, intercept, 3)
    for n in range(5):
        for got, expected in zip(forward(x[n : n + 1].copy(), scaler, intercept, 3), together, strict=True):
            np.testing.assert_array_equal(got[0], expected[n])


@each_dtype
@pytest.mark.parametrize("place", ["x", "dy"])
def test_the_gradient_may_take_the_place_of_what_it_is_computed_from(place, dtype):
    x, scaler, intercept, dy = inputs((2, 300, 12), dtype)
    _, mean, variance = forward(x, scaler, intercept, 4)
    expected = backward(dy, x, mean, variance, scaler, 4, True)[0]
    x, dy = x.copy(), dy.copy()
    dx = x if place == "x" else dy
    run(normalization.backward, dx, None, None, dy, x, mean, variance, scaler, groups=4, epsilon=EPSILON, measured=True)
    np.testing.assert_array_equal(dx, expected)


@each_dtype
def test_a_large_mean_leaves_the_variance_right(dtype):
    offset = {np.float32: 3e3, np.float64: 1e9}[dtype]
    x = normal(np.random.default_rng(0), (1, 40_000, 3), dtype) + dtype(offset)
    _, mean, variance = forward(x, np.ones(3, dtype), np.zeros(3, dtype), 3)
    exact_x = x.astype(np.longdouble)
    np.testing.assert_allclose(mean[0], exact_x.mean((0, 1)), rtol=np.finfo(dtype).eps)
    np.testing.assert_allclose(
        variance[0], exact_x.var((0, 1)).astype(float), rtol={np.float32: 5e-7, np.float64: 1e-13}[dtype]
    )


def test_nan_and_infinity_show():
    for value in (np.nan, np.inf):
        x = np.ones((2, 5, 4))
        x[0, 3, 1] = value
        y, _, _ = forward(x, np.ones(4), np.zeros(4), 4)
        assert np.isnan(y[0, :, 1]).all()
        assert np.isnan(y).sum() == 5


@each_dtype
def test_running_statistics_move_once_for_what_was_kept(dtype):
    rng = np.random.default_rng(0)
    kept, is_kept = np.zeros((2, 5), dtype), np.zeros(1)
    mean, variance, running_mean, running_var = (positive(rng, (5,), dtype).copy() for _ in range(4))
    before = running_mean.copy(), running_var.copy()
    run(normalization.move_running, running_mean, running_var, kept, is_kept, 0.75)
    np.testing.assert_array_equal((running_mean, running_var), before)
    run(normalization.keep_statistics, kept, is_kept, mean, variance)
    for _ in range(2):
        run(normalization.move_running, running_mean, running_var, kept, is_kept, 0.75)
    expected = oracles.running_average(before[0], mean, 0.75), oracles.running_average(before[1], variance, 0.75)
    np.testing.assert_allclose((running_mean, running_var), expected, rtol=2 * np.finfo(dtype).eps)


def test_what_does_not_fit_is_refused():
    x, row, statistic = np.ones((2, 3, 4)), np.ones(4), np.ones((2, 4))
    how = {"groups": 4, "epsilon": 1e-5, "relu": False}
    for arrays in (
        (np.ones((2, 3, 5)), statistic, statistic, x, row, row), (x.copy(), np.ones((3, 4)), statistic, x, row, row),
        (x.copy(), statistic, np.ones((1, 5)), x, row, row), (x.copy(), statistic, statistic, x, np.ones(3), row),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="the others must be"):
            run(normalization.forward, *arrays, **how)
    with pytest.raises(ValueError, match="mean and variance must have 2 rows, got 1 and 2"):
        run(normalization.forward, x.copy(), np.ones((1, 4)), statistic, x, row, row, **how)
    for groups in (0, 3, 5):
        with pytest.raises(ValueError, match="C a multiple of groups"):
            run(normalization.forward, x.copy(), statistic, statistic, x, row, row, **how | {"groups": groups})
    with pytest.raises(ValueError, match=r"kept must be \(2, C\), is_kept \(1,\) and the others"):
        run(normalization.keep_statistics, np.ones((2, 3)), np.zeros(1), row, row)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
@pytest.mark.parametrize("size", [1, 7, 64, 40_001])
@pytest.mark.parametrize("relu", [True, False])
def test_add(size, relu, dtype):
    rng = np.random.default_rng(0)
    a, b = normal(rng, (size,), dtype), normal(rng, (size,), dtype)
    out = output((size,), dtype)
    run(elementwise.add, out, a, b, relu=relu)
    np.testing.assert_array_equal(out, oracles.add(a, b, relu))
    assert_margins_untouched(out)
    run(elementwise.copy, out, a)
    np.testing.assert_array_equal(out, a)
    run(elementwise.scale, out, a, 0.3)
    np.testing.assert_array_equal(out, oracles.scale(a, dtype(0.3)))
    assert_margins_untouched(out)
    assert_margins_untouched(out)
    with pytest.raises(ValueError, match="must have the same size"):
        run(elementwise.add, out, a, np.ones(size + 1, dtype), relu=relu)
    with pytest.raises(ValueError, match="must have the same size"):
        run(elementwise.copy, out, np.ones(size + 1, dtype))
