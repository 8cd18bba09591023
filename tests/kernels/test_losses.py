"""The compiled loss and its gradients, also where naive formulas overflow or cancel."""

import math

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kernel_checks import assert_close, assert_margins_untouched, each_dtype, exact, normal, output, read_only

from cvae._kernels import losses
from cvae._kernels.program import Program
from cvae.runtime.programs import execute, run

LARGEST = {np.float32: 3e38, np.float64: 1e308}
EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}


def bce(logits, y, weights=None, n_threads=2):
    """Loss of each row and its gradient; the weights are 1 if they are not given."""
    weights = np.ones(len(logits)) if weights is None else weights
    reconstruction, dlogits = output(logits.shape[:1], np.float64), output(logits.shape, logits.dtype)
    run(losses.bce_with_logits, reconstruction, dlogits, logits, y, weights, n_threads=n_threads)
    assert_margins_untouched(reconstruction, dlogits)
    return reconstruction, dlogits


def bce_of_one(logit, y, dtype):
    row = [np.array([[value]], dtype) for value in (logit, y)]
    return tuple(array.item() for array in bce(*row))


def kl(mean, log_var, weights=None, n_threads=2):
    """Divergence of each row and its gradients; the weights are 1 if they are not given."""
    weights = np.ones(len(mean)) if weights is None else weights
    divergence = output(mean.shape[:1], np.float64)
    dmean, dlog_var = output(mean.shape, mean.dtype), output(mean.shape, mean.dtype)
    run(losses.gaussian_kl, divergence, dmean, dlog_var, mean, log_var, weights, n_threads=n_threads)
    assert_margins_untouched(divergence, dmean, dlog_var)
    return divergence, dmean, dlog_var


@each_dtype
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 784), (7, 784), (300, 16), (2, 5000)], ids=str)
@pytest.mark.parametrize("per_target", [1, 2, 5])
def test_bce_equals_the_reference(shape, per_target, dtype):
    rng = np.random.default_rng(1)
    logits = 3 * normal(rng, (per_target * shape[0], shape[1]), dtype)
    y, weights = rng.random(shape).astype(dtype), read_only(rng.uniform(-1, 2, len(logits)))
    y.reshape(-1)[::3] = rng.integers(0, 2, y.size)[::3]
    reconstruction, dlogits = bce(logits, y, weights)
    expected, gradient = oracles.bce_with_logits(*exact(logits, y), weights)
    # Terms are positive: their sum is as precise as they are; they are of order 1, as are the gradients.
    np.testing.assert_allclose(reconstruction, expected, rtol=max(1e-13, 8 * EPS[dtype]))
    np.testing.assert_allclose(dlogits, gradient, rtol=0, atol=4 * EPS[dtype])


@each_dtype
def test_weights_of_one_value_scale_the_gradients(dtype):
    rng = np.random.default_rng(6)
    logits, y = normal(rng, (7, 300), dtype), rng.random((7, 300)).astype(dtype)
    for values, scaled in zip(bce(logits, y), bce(logits, y, np.full(7, 0.25)), strict=True):
        np.testing.assert_array_equal(scaled, values if values.ndim == 1 else values / 4)


@each_dtype
def test_bits_do_not_depend_on_the_number_of_threads(dtype):
    rng = np.random.default_rng(7)
    logits, y, weights = normal(rng, (39, 784), dtype), rng.random((13, 784)).astype(dtype), rng.random(39)
    mean, log_var = normal(rng, (39, 30), dtype), normal(rng, (39, 30), dtype)
    expected = *bce(logits, y, weights, 1), *kl(mean, log_var, weights, 1)
    for n_threads in (2, 3, 7):
        got = *bce(logits, y, weights, n_threads), *kl(mean, log_var, weights, n_threads)
        for array, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(array, other)


@each_dtype
def test_weights_are_read_when_the_program_runs(dtype):
    rng = np.random.default_rng(8)
    logits, y, weights = normal(rng, (6, 30), dtype), rng.random((3, 30)).astype(dtype), np.empty(6)
    reconstruction, divergence, program = np.empty(6), np.empty(6), Program()
    dlogits, dmean, dlog_var = (np.empty_like(logits) for _ in range(3))
    losses.bce_with_logits(program, reconstruction, dlogits, logits, y, weights)
    losses.gaussian_kl(program, divergence, dmean, dlog_var, logits, logits, weights)
    for _ in range(3):
        weights[:] = rng.random(6)
        execute(program)
        np.testing.assert_array_equal(dlogits, bce(logits, y, weights)[1])
        np.testing.assert_array_equal([dmean, dlog_var], kl(logits, logits, weights)[1:])


@each_dtype
def test_the_gradient_may_take_the_place_of_the_logits(dtype):
    rng = np.random.default_rng(2)
    logits, y = normal(rng, (20, 301), dtype), rng.random((20, 301)).astype(dtype)
    reconstruction, dlogits = bce(logits, y)
    over, got = logits.copy(), np.empty(20)
    run(losses.bce_with_logits, got, over, over, y, np.ones(20), n_threads=2)
    np.testing.assert_array_equal(got, reconstruction)
    np.testing.assert_array_equal(over, dlogits)


@each_dtype
def test_gradients_may_be_left_out(dtype):
    rng = np.random.default_rng(2)
    logits, y = normal(rng, (20, 300), dtype), rng.random((20, 300)).astype(dtype)
    reconstruction, _ = bce(logits, y)
    divergence, _, _ = kl(logits, y)
    for weights in (None, np.ones(20)):
        alone, other = output((20,), np.float64), output((20,), np.float64)
        run(losses.bce_with_logits, alone, None, logits, y, weights, n_threads=2)
        run(losses.gaussian_kl, other, None, None, logits, y, weights, n_threads=2)
        assert_margins_untouched(alone, other)
        np.testing.assert_array_equal(alone, reconstruction)
        np.testing.assert_array_equal(other, divergence)


@each_dtype
@pytest.mark.parametrize("target", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_bce_is_right_for_every_size_of_logit(target, sign, dtype):
    sizes = [0.0, 1e-30, 1e-6, 0.1, 1.0, 10.0, 16.0, 17.0, 36.0, 37.0, 40.0, 88.0, 104.0, 710.0, 750.0, 1e5, 1e30]
    for size in [*sizes, LARGEST[dtype]]:
        z = float(dtype(sign * size))
        reconstruction, dlogit = bce_of_one(z, target, dtype)
        small = math.exp(-abs(z))
        expected = (1 - target if z > 0 else -target) * z + math.log1p(small)
        probability = (1 if z >= 0 else small) / (1 + small)
        least = 2 * float(np.finfo(dtype).smallest_normal)  # the kernels' lower bound on exp(-|z|)
        assert reconstruction == pytest.approx(expected, rel=4 * EPS[dtype], abs=least)
        # With target 0, nothing is subtracted from the probability, which keeps all of its digits.
        error = 2 * EPS[dtype] if target else least
        assert dlogit == pytest.approx(probability - target, rel=4 * EPS[dtype], abs=error)


@each_dtype
def test_the_gradient_of_a_saturated_output_is_not_lost(dtype):
    for size in (40.0, 750.0, LARGEST[dtype]):
        assert bce_of_one(size, 0, dtype)[1] == 1
        assert bce_of_one(-size, 1, dtype)[1] == -1
        assert bce_of_one(size, 1, dtype) == (pytest.approx(0, abs=1e-17), 0)
        assert bce_of_one(-size, 0, dtype)[1] == pytest.approx(0, abs=1e-17)


@each_dtype
@given(data=st.data())
def test_bce_and_its_gradient_are_finite_for_every_finite_logit(data, dtype):
    width = 8 * np.dtype(dtype).itemsize
    largest = float(dtype(LARGEST[dtype]))
    finite = st.floats(-largest, largest, width=width)
    logits = data.draw(hnp.arrays(dtype, (2, 3), elements=finite))
    y = data.draw(hnp.arrays(dtype, (2, 3), elements=st.floats(0, 1, width=width)))
    reconstruction, dlogits = bce(logits / 3, y)  # so that a sum of three terms does not overflow either
    assert np.isfinite(reconstruction).all()
    assert (reconstruction >= 0).all()
    assert ((dlogits >= -y) & (dlogits <= 1 - y)).all()  # i.e. the probability is in [0, 1]


@each_dtype
def test_nan_in_a_row_makes_its_loss_nan_and_no_other(dtype):
    rng = np.random.default_rng(3)
    logits, y = np.array(normal(rng, (5, 40), dtype)), rng.random((5, 40)).astype(dtype)
    logits[2, 7] = np.nan
    for array in bce(logits, y):
        bad = np.isnan(array)
        assert bad[2].any()
        assert bad.sum() == 1


@each_dtype
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (300, 2), (4, 100)], ids=str)
def test_kl_equals_the_reference(shape, dtype):
    rng = np.random.default_rng(4)
    mean, log_var = normal(rng, shape, dtype), 2 * normal(rng, shape, dtype)
    for weights in (np.ones(shape[0]), read_only(rng.uniform(-1, 2, shape[0]))):
        divergence, dmean, dlog_var = kl(mean, log_var, weights)
        expected, expected_dmean, expected_dlog_var = oracles.kl_divergence(*exact(mean, log_var), weights)
        np.testing.assert_allclose(divergence, expected, rtol=1e-13)
        assert_close(dmean, expected_dmean)
        np.testing.assert_allclose(dlog_var, expected_dlog_var, rtol=8 * EPS[dtype], atol=2 * EPS[np.float64])


@each_dtype
@pytest.mark.parametrize("log_var", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8])
@pytest.mark.parametrize("sign", [-1, 1])
def test_kl_keeps_its_digits_near_zero(log_var, sign, dtype):
    x = dtype(sign * log_var)
    (divergence,), _, ((dlog_var,),) = kl(np.zeros((1, 1), dtype), np.array([[x]]))
    x = float(x)
    series = sum(x**k / math.factorial(k) for k in range(2, 12)) / 2
    # The relative rounding error of exp(x) - 1 in float64 is amplified when x is subtracted, which leaves x^2 / 2.
    assert divergence == pytest.approx(series, rel=max(1e-13, 4 * EPS[np.float64] / abs(x)))
    assert divergence >= 0
    assert dlog_var == pytest.approx(math.expm1(x) / 2, rel=2 * EPS[dtype])


@each_dtype
def test_kl_is_zero_at_the_prior(dtype):
    zeros = np.zeros((3, 4), dtype)
    for array in kl(zeros, zeros):
        assert not array.any()


@each_dtype
def test_kl_is_finite_as_long_as_float64_can_hold_it(dtype):
    mean, log_var = np.array([[1e15, 0, 0]], dtype), np.array([[0, -1e30, 700]], dtype)
    (divergence,), dmean, _ = kl(mean, log_var)
    expected = 0.5 * (float(mean[0, 0]) ** 2 + 1e30 + math.exp(700))
    assert divergence == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(dmean, mean)


@each_dtype
def test_numerical_gradients(dtype):
    """Compare the gradients in each dtype with central differences of the loss in float64."""
    rng = np.random.default_rng(5)
    logits, y = normal(rng, (2, 3), dtype), rng.random((2, 3)).astype(dtype)
    mean, log_var = normal(rng, (2, 3), dtype), normal(rng, (2, 3), dtype)
    _, dlogits = bce(logits, y)
    _, dmean, dlog_var = kl(mean, log_var)
    logits, y, mean, log_var = exact(logits, y, mean, log_var)
    tolerance = 1e-8 + 4 * EPS[dtype]
    for i in np.ndindex(2, 3):
        step = np.zeros((2, 3))
        step[i] = 1e-5
        difference = (bce(logits + step, y)[0] - bce(logits - step, y)[0]).sum() / 2e-5
        assert dlogits[i] == pytest.approx(difference, abs=tolerance)
        difference = (kl(mean + step, log_var)[0] - kl(mean - step, log_var)[0]).sum() / 2e-5
        assert dmean[i] == pytest.approx(difference, abs=tolerance)
        difference = (kl(mean, log_var + step)[0] - kl(mean, log_var - step)[0]).sum() / 2e-5
        assert dlog_var[i] == pytest.approx(difference, abs=tolerance)


# ------------------------------------------------------------------ arguments


def bce_arrays(n=4, m=6):
    return [np.zeros(n), *(np.zeros((n, m), np.float32) for _ in range(3)), np.zeros(n)]


def kl_arrays(n=4, t=6):
    return [np.zeros(n), *(np.zeros((n, t), np.float32) for _ in range(4)), np.zeros(n)]


def call_bce(arrays):
    run(losses.bce_with_logits, *arrays)


def call_kl(arrays):
    run(losses.gaussian_kl, *arrays)


@pytest.mark.parametrize(("call", "arrays"), [(call_bce, bce_arrays), (call_kl, kl_arrays)], ids=["bce", "kl"])
def test_every_array_is_checked(call, arrays):
    good = arrays()
    call(good)
    for i, array in enumerate(good):
        for axis in range(array.ndim):
            for size in (0, array.shape[axis] - 1, array.shape[axis] + 1):
                shape = list(array.shape)
                shape[axis] = size
                with pytest.raises(ValueError, match="must fit"):
                    call([*good[:i], np.zeros(shape, array.dtype), *good[i + 1 :]])
        other_type = array.astype(np.float32 if array.dtype == np.float64 else np.float64)
        optional = call is call_bce and i == 1
        if i == len(good) - 1:
            other_type = array.astype(np.float32)
        for value in [other_type, array.tolist(), array[np.newaxis], np.repeat(array, 2, -1)[..., ::2]]:
            with pytest.raises((TypeError, ValueError)):
                call([*good[:i], value, *good[i + 1 :]])
        if not optional:
            with pytest.raises(TypeError):
                call([*good[:i], None, *good[i + 1 :]])


@pytest.mark.parametrize(
    ("call", "arrays", "outputs"), [(call_bce, bce_arrays, 2), (call_kl, kl_arrays, 3)], ids=["bce", "kl"]
)
def test_outputs_must_be_writable(call, arrays, outputs):
    for i in range(outputs):
        good = arrays()
        good[i].flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            call(good)


@pytest.mark.parametrize(("n", "m"), [(0, 6), (4, 0), (0, 0)])
def test_empty_arrays_give_zero(n, m):
    for call, arrays in ((call_bce, bce_arrays(n, m)), (call_kl, kl_arrays(n, m))):
        arrays[0].fill(np.nan)
        call(arrays)
        np.testing.assert_array_equal(arrays[0], np.zeros(n))


@pytest.mark.parametrize(("rows", "targets"), [(4, 8), (4, 3), (6, 4), (0, 4), (4, 0)])
def test_rows_that_are_no_multiple_of_the_targets_are_refused(rows, targets):
    arrays = bce_arrays(rows)
    arrays[3] = np.zeros((targets, 6), np.float32)
    with pytest.raises(ValueError, match=rf"y must fit logits of shape \({rows}, 6\), got \({targets}, 6\)"):
        call_bce(arrays)


def test_gradients_need_each_other_and_weights():
    for place in (1, 2):
        arrays = kl_arrays()
        arrays[place] = None
        with pytest.raises(TypeError, match="dmean and dlog_var must both be arrays or both None"):
            call_kl(arrays)
    for call, arrays in ((call_bce, bce_arrays()), (call_kl, kl_arrays())):
        arrays[-1] = None
        with pytest.raises(TypeError, match="weights must be an array if d"):
            call(arrays)


# ---------------------------------------------------------------- the sum over a batch


@pytest.mark.parametrize("n", [0, 1, 7, 300])
def test_total_is_the_sum_one_after_another(n):
    values, total = np.random.default_rng(5).random(n) * 1000, output((1,), np.float64)
    run(losses.total, total, read_only(values))
    assert_margins_untouched(total)
    assert total[0] == sum(values.tolist())


def test_total_is_divided_once():
    values, total = np.random.default_rng(6).random(30), np.empty(1)
    run(losses.total, total, values, 3)
    assert total[0] == sum(values.tolist()) / 3


def test_the_arrays_of_total_are_checked():
    for wrong in (np.zeros(0), np.zeros(2)):
        with pytest.raises(ValueError, match="total must have 1 element, got"):
            run(losses.total, wrong, np.zeros(4))
    for wrong in (np.zeros(1, np.float32), None, np.zeros((1, 1)), read_only(np.zeros(1))):
        with pytest.raises((TypeError, ValueError)):
            run(losses.total, wrong, np.zeros(4))
    for wrong in (np.zeros(4, np.float32), None, np.zeros((4, 1)), np.zeros(8)[::2]):
        with pytest.raises((TypeError, ValueError)):
            run(losses.total, np.zeros(1), wrong)
