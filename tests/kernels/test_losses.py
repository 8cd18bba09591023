"""The compiled loss and its gradients, also where naive formulas overflow or cancel."""

import math

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kernel_checks import assert_close, assert_margins_untouched, each_dtype, exact, normal, output

from cvae._kernels import losses
from cvae.runtime.programs import run

LARGEST = {np.float32: 3e38, np.float64: 1e308}
EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}


def bce(logits, y, scale=1.0):
    """Return the loss of each row and its gradient."""
    reconstruction, dlogits = output(logits.shape[:1], np.float64), output(logits.shape, logits.dtype)
    run(losses.bce_with_logits, reconstruction, dlogits, logits, y, scale=scale, n_threads=2)
    assert_margins_untouched(reconstruction, dlogits)
    return reconstruction, dlogits


def bce_of_one(logit, y, dtype):
    row = [np.array([[value]], dtype) for value in (logit, y)]
    return tuple(array.item() for array in bce(*row))


def kl(mean, log_var, scale=1.0):
    """Return the divergence of each row and its gradients."""
    divergence = output(mean.shape[:1], np.float64)
    dmean, dlog_var = output(mean.shape, mean.dtype), output(mean.shape, mean.dtype)
    run(losses.gaussian_kl, divergence, dmean, dlog_var, mean, log_var, scale=scale)
    assert_margins_untouched(divergence, dmean, dlog_var)
    return divergence, dmean, dlog_var


@each_dtype
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 784), (7, 784), (300, 16), (2, 5000)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1 / 3])
def test_bce_equals_the_reference(shape, scale, dtype):
    rng = np.random.default_rng(1)
    logits, y = 3 * normal(rng, shape, dtype), rng.random(shape).astype(dtype)
    y.reshape(-1)[::3] = rng.integers(0, 2, y.size)[::3]
    reconstruction, dlogits = bce(logits, y, scale)
    expected, gradient = oracles.bce_with_logits(*exact(logits, y))
    # The terms are positive, so that their sum is as precise as they are, and of order 1, like the gradients.
    np.testing.assert_allclose(reconstruction, expected, rtol=max(1e-13, 8 * EPS[dtype]))
    np.testing.assert_allclose(dlogits, scale * gradient, rtol=0, atol=2 * scale * EPS[dtype])


@each_dtype
def test_the_gradient_may_take_the_place_of_the_logits(dtype):
    rng = np.random.default_rng(2)
    logits, y = normal(rng, (20, 301), dtype), rng.random((20, 301)).astype(dtype)
    reconstruction, dlogits = bce(logits, y)
    over, got = logits.copy(), np.empty(20)
    run(losses.bce_with_logits, got, over, over, y, scale=1.0, n_threads=2)
    np.testing.assert_array_equal(got, reconstruction)
    np.testing.assert_array_equal(over, dlogits)


@each_dtype
def test_gradients_may_be_left_out(dtype):
    rng = np.random.default_rng(2)
    logits, y = normal(rng, (20, 300), dtype), rng.random((20, 300)).astype(dtype)
    reconstruction, _ = bce(logits, y)
    alone = output((20,), np.float64)
    run(losses.bce_with_logits, alone, None, logits, y, scale=1.0, n_threads=2)
    assert_margins_untouched(alone)
    np.testing.assert_array_equal(alone, reconstruction)


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
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_kl_equals_the_reference(shape, scale, dtype):
    rng = np.random.default_rng(4)
    mean, log_var = normal(rng, shape, dtype), 2 * normal(rng, shape, dtype)
    divergence, dmean, dlog_var = kl(mean, log_var, scale)
    expected, expected_dmean, expected_dlog_var = oracles.kl_divergence(*exact(mean, log_var))
    np.testing.assert_allclose(divergence, expected, rtol=1e-13)
    assert_close(dmean, scale * expected_dmean)
    np.testing.assert_allclose(dlog_var, scale * expected_dlog_var, rtol=8 * EPS[dtype], atol=EPS[np.float64])


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
    return [np.zeros(n), *(np.zeros((n, m), np.float32) for _ in range(3))]


def kl_arrays(n=4, t=6):
    return [np.zeros(n), *(np.zeros((n, t), np.float32) for _ in range(4))]


def call_bce(arrays):
    run(losses.bce_with_logits, *arrays, scale=1.0)


def call_kl(arrays):
    run(losses.gaussian_kl, *arrays, scale=1.0)


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


# ---------------------------------------------------------------- both terms of a batch


@pytest.mark.parametrize("n", [1, 7, 300])
def test_totals_are_the_sums_of_both_terms(n):
    terms = np.random.default_rng(5).random((2, n)) * 1000
    totals = np.full(2, np.nan)
    run(losses.total, totals, *terms)
    np.testing.assert_allclose(totals, terms.sum(1), rtol=n * EPS[np.float64])


@pytest.mark.parametrize(("n_totals", "n", "n_kl"), [(1, 4, 4), (3, 4, 4), (2, 4, 3)])
def test_totals_of_wrong_sizes(n_totals, n, n_kl):
    with pytest.raises(ValueError, match="totals must have 2 elements and kl"):
        run(losses.total, np.zeros(n_totals), np.zeros(n), np.zeros(n_kl))
