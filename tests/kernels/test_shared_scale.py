"""The compiled losses with one scale for all pixels, learnt or the best of a batch, and the column that holds it."""

import functools

import numpy as np
import oracles
import pytest
from kernel_checks import assert_margins_untouched, each_dtype, exact, normal, output, read_only
from scipy import stats

from cvae._kernels import elementwise, losses
from cvae._kernels.program import Program
from cvae.runtime.programs import execute, run

BOUND, LEAST = 8.0, 0.01
KINDS = {
    f"{kind}_{name}": (limit, functools.partial(reference, gaussian=kind == "gaussian", **{keyword: limit}))
    for kind in ("gaussian", "laplace")
    for name, reference, keyword, limit in (
        ("shared", oracles.shared_scale, "bound", BOUND),
        ("optimal", oracles.optimal_scale, "least", LEAST),
    )
}
each_kind = pytest.mark.parametrize("name", KINDS)
each_optimal = pytest.mark.parametrize("name", [name for name in KINDS if name.endswith("optimal")])


def case(shape, dtype, per_target=1, seed=1):
    """Return outputs, whose last column is one number, pixels and weights."""
    rng = np.random.default_rng(seed)
    outputs = np.array(normal(rng, (per_target * shape[0], shape[1] + 1), dtype))
    outputs[:, -1] = 0.4
    return read_only(outputs), normal(rng, shape, dtype), read_only(rng.uniform(0.1, 2, len(outputs)))


def compute(name, outputs, y, weights, n_threads=2, limit=None):
    loss, doutputs = output(outputs.shape[:1], np.float64), output(outputs.shape, outputs.dtype)
    limit = KINDS[name][0] if limit is None else limit
    run(getattr(losses, name), loss, doutputs, outputs, y, weights, limit, n_threads=n_threads)
    assert_margins_untouched(loss, doutputs)
    return loss, doutputs


def evaluate(name, outputs, y, limit=None):
    """Return the loss outside training."""
    loss = output(outputs.shape[:1], np.float64)
    run(getattr(losses, name), loss, None, outputs, y, None, KINDS[name][0] if limit is None else limit)
    assert_margins_untouched(loss)
    return loss


@each_kind
@each_dtype
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 784), (300, 16), (2, 5000)], ids=str)
@pytest.mark.parametrize("per_target", [1, 5])
def test_loss_and_gradient_equal_the_reference(name, shape, per_target, dtype):
    outputs, y, weights = case(shape, dtype, per_target)
    loss, doutputs = compute(name, outputs, y, weights)
    expected, gradient = KINDS[name][1](*exact(outputs, y), weights)
    rtol = 2e-5 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(loss, expected, rtol=rtol, atol=rtol)
    # The derivative with respect to the scale is a difference of numbers as large as the row is long.
    atol = rtol * np.abs(gradient).mean(), rtol * shape[1] * 2
    np.testing.assert_allclose(doutputs[:, :-1], gradient[:, :-1], rtol=rtol, atol=atol[0])
    np.testing.assert_allclose(doutputs[:, -1], gradient[:, -1], rtol=rtol, atol=atol[1])


@pytest.mark.parametrize("s", [-3.0, 0.0, 0.5, 7.0, 1e4])
def test_a_learnt_scale_gives_scipys_densities(s):
    outputs, y, _ = case((6, 50), np.float64)
    outputs = np.array(outputs)
    outputs[:, -1] = s
    for name, density in (("gaussian_shared", stats.norm), ("laplace_shared", stats.laplace)):
        expected = -density.logpdf(y, outputs[:, :-1], np.exp(8 * np.tanh(s / 8))).sum(1)
        np.testing.assert_allclose(evaluate(name, outputs, y), expected, rtol=1e-6)


@each_kind
def test_gradients_are_finite_differences(name):
    outputs, y, weights = case((4, 7), np.float64)
    if name.endswith("optimal"):
        weights = np.full(4, 0.25)  # of equal rows it is the best scale for which the derivative vanishes
    gradient = compute(name, outputs, y, weights)[1]
    columns = outputs.shape[1] - (1 if name.endswith("optimal") else 0)
    for index in np.ndindex(len(outputs), columns):
        total = []
        for sign in (1, -1):
            moved = np.array(outputs)
            moved[index] += sign * 1e-6
            total.append(compute(name, moved, y, weights)[0] @ weights)
        assert gradient[index] == pytest.approx((total[0] - total[1]) / 2e-6, rel=1e-6, abs=1e-8), index


@each_optimal
def test_the_best_scale_gives_the_analytic_loss_and_no_other_a_smaller_one(name):
    outputs, y, weights = case((6, 50), np.float64)
    loss = compute(name, outputs, y, weights)[0].sum()
    distance = np.abs(outputs[:, :-1] - y)
    if name == "gaussian_optimal":
        expected = y.size / 2 * np.log(2 * np.pi * np.e * np.square(distance).mean())
        fixed, best = losses.gaussian, np.sqrt(np.square(distance).mean())
    else:
        expected = y.size * np.log(2 * np.e * distance.mean())
        fixed, best = losses.laplace, distance.mean()
    assert loss == pytest.approx(expected, rel=1e-12)
    of_rows = np.empty(6)
    for factor in (0.99, 1.01):
        run(fixed, of_rows, None, outputs[:, :-1].copy(), y, None, factor * best)
        assert of_rows.sum() > loss


@each_optimal
@each_dtype
def test_outside_training_the_last_column_gives_the_scale(name, dtype):
    outputs, y, _ = case((6, 50), dtype)
    fixed, spread = (losses.gaussian, 0.3**2) if name == "gaussian_optimal" else (losses.laplace, 0.3)
    outputs, expected = np.array(outputs), np.empty(6)
    for number, scale in ((spread, 0.3), (0, LEAST)):
        outputs[:, -1] = number
        run(fixed, expected, None, outputs[:, :-1].copy(), y, None, scale)
        np.testing.assert_allclose(evaluate(name, outputs, y), expected, rtol=1e-6)


@each_optimal
@each_dtype
def test_exact_outputs_do_not_make_the_scale_zero(name, dtype):
    _, y, weights = case((6, 50), dtype)
    outputs = np.hstack([y, np.ones((6, 1), dtype)])
    loss, gradient = compute(name, outputs, y, weights)
    constant = np.log(2 * np.pi) / 2 if name == "gaussian_optimal" else np.log(2)
    np.testing.assert_allclose(loss, 50 * (np.log(LEAST) + constant), rtol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)


@each_kind
@each_dtype
def test_bits_do_not_depend_on_the_number_of_threads(name, dtype):
    outputs, y, weights = case((13, 784), dtype, 3)
    expected = compute(name, outputs, y, weights, 1)
    for n_threads in (2, 3, 7):
        for array, other in zip(compute(name, outputs, y, weights, n_threads), expected, strict=True):
            np.testing.assert_array_equal(array, other)


@each_kind
@each_dtype
def test_the_gradient_may_take_the_place_of_the_outputs(name, dtype):
    outputs, y, weights = case((20, 301), dtype)
    loss, doutputs = compute(name, outputs, y, weights)
    over, got = np.array(outputs), np.empty(20)
    run(getattr(losses, name), got, over, over, y, weights, KINDS[name][0], n_threads=2)
    np.testing.assert_array_equal(got, loss)
    np.testing.assert_array_equal(over, doutputs)


@each_kind
def test_nan_makes_the_loss_nan(name):
    outputs, y, weights = case((5, 40), np.float32)
    wrong = np.array(outputs)
    wrong[2, 7] = np.nan
    loss = compute(name, wrong, y, weights)[0]
    assert (
        np.isnan(loss).all()
        if name.endswith("optimal")
        else np.isnan(loss).tolist() == [False, False, True, False, False]
    )


@each_kind
def test_arrays_that_do_not_fit(name):
    for columns in (5, 6, 8):
        arrays = np.zeros(2), np.zeros((2, columns)), np.zeros((2, columns)), np.zeros((2, 6)), np.zeros(2)
        with pytest.raises(ValueError, match=rf"y must fit outputs of shape \(2, {columns}\), got \(2, 6\)"):
            run(getattr(losses, name), *arrays, 1.0)
    run(getattr(losses, name), np.zeros(0), np.zeros((0, 7)), np.zeros((0, 7)), np.zeros((0, 6)), np.zeros(0), 1.0)


def test_a_constant_is_added():
    values = output((5,), np.float64)
    values[:] = np.arange(5)
    run(losses.add_constant, values, -1.5)
    assert_margins_untouched(values)
    np.testing.assert_array_equal(values, np.arange(5) - 1.5)


# -------------------------------------------------------------------- the column


@each_dtype
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 5), (300, 784), (5, 0)])
def test_a_column_is_appended_and_split_off(n, m, dtype):
    x, number = normal(np.random.default_rng(0), (n, m), dtype), np.array([0.7], dtype)
    y = output((n, m + 1), dtype)
    run(elementwise.append_column, y, x, number, n_threads=2)
    np.testing.assert_array_equal(y, np.hstack([x, np.full((n, 1), 0.7, dtype)]))
    y[:, -1] = normal(np.random.default_rng(1), (n,), dtype)
    below, total = output((n, m), dtype), output((1,), dtype)
    run(elementwise.split_column, below, total, y, n_threads=2)
    assert_margins_untouched(y, below, total)
    np.testing.assert_array_equal(below, x)
    np.testing.assert_allclose(total[0], y[:, -1].astype(np.float64).sum(), rtol=1e-6)


def test_columns_that_do_not_fit():
    for shapes in [((3, 5), (3, 5), (1,)), ((3, 6), (2, 5), (1,)), ((3, 6), (3, 5), (2,)), ((3, 6), (3, 5), (0,))]:
        wide, narrow, number = map(np.zeros, shapes)
        for call in (
            [elementwise.append_column, wide, narrow, number],
            [elementwise.split_column, narrow, number, wide],
        ):
            with pytest.raises(
                ValueError, match=r"arrays must have the shapes \(n, m \+ 1\), \(n, m\) and \(1,\), got"
            ):
                run(*call)


@each_dtype
def test_a_running_average_forgets_its_start_and_then_weighs_later_values_more(dtype):
    average, count, value = np.array([1e3], dtype), np.zeros(1, dtype), np.empty(1, dtype)
    program, values, expected = Program(), np.random.default_rng(0).random(1000), 0.0
    elementwise.move_average(program, average, count, value, 0.01)
    for step, new in enumerate(values, 1):
        value[:] = new
        execute(program)
        expected += max(0.01, 2 / (step + 1)) * (new - expected)
        assert average[0] == pytest.approx(expected, rel=1e-4 if dtype == np.float32 else 1e-10)
        assert count[0] == step
    before = average[0]
    execute(program)  # without a new value
    assert np.isnan(value[0])
    assert (average[0], count[0]) == (before, 1000)
    with pytest.raises(ValueError, match="average, count and value must have 1 element, got 1, 1 and 2"):
        run(elementwise.move_average, average, count, np.zeros(2, dtype), 0.01)
