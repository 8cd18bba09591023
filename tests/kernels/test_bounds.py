"""Compiled free bits and the importance-weighted bound, held against the plain references."""

import numpy as np
import oracles
import pytest
from kernel_checks import assert_close, assert_margins_untouched, each_dtype, exact, normal, output, read_only

from cvae._kernels import bounds, losses
from cvae.runtime.programs import run

EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}


def copied(array):
    """Return a copy with margins, for arrays that are read and written."""
    copy = output(array.shape, array.dtype)
    copy[:] = array
    return copy


# ------------------------------------------------------------------ free bits


def free_bits(mean, log_var, weights, least, n_threads=2):
    """The total, and the gradients of `gaussian_kl` after the gate."""
    total, dmean, dlog_var = output((1,), np.float64), *(output(mean.shape, mean.dtype) for _ in range(2))
    run(losses.gaussian_kl, np.empty(len(mean)), dmean, dlog_var, mean, log_var, weights)
    run(bounds.free_bits, total, dmean, dlog_var, mean, log_var, weights, least, n_threads=n_threads)
    assert_margins_untouched(total, dmean, dlog_var)
    return total[0], dmean, dlog_var


def narrowing(rng, shape, dtype):
    """Means and log variances whose KL divergence falls from one column to the next."""
    scale = np.linspace(1.5, 0, shape[1])
    return [read_only((normal(rng, shape, dtype) * scale).astype(dtype)) for _ in range(2)]


@each_dtype
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3), (128, 10), (33, 40)], ids=str)
@pytest.mark.parametrize("least", [0, 0.2, 100])
def test_free_bits_equal_the_reference(shape, least, dtype):
    rng = np.random.default_rng(1)
    mean, log_var = narrowing(rng, shape, dtype)
    weights = read_only(rng.uniform(0.1, 2, shape[0]) / shape[0])
    total, dmean, dlog_var = free_bits(mean, log_var, weights, least)
    expected, is_open = oracles.free_bits(*exact(mean, log_var), weights, least)
    assert total == pytest.approx(expected, rel=1e-12)
    _, to_mean, to_log_var = oracles.kl_divergence(*exact(mean, log_var), weights)
    np.testing.assert_allclose(dmean, to_mean * is_open, rtol=4 * EPS[dtype])
    np.testing.assert_allclose(dlog_var, to_log_var * is_open, rtol=8 * EPS[dtype], atol=1e-15)
    if shape[1] > 3:
        assert is_open.any() == (least < 100)
        assert not is_open.all()


def test_the_gates_gradient_is_the_derivative_of_the_total():
    rng = np.random.default_rng(2)
    mean, log_var = narrowing(rng, (6, 5), np.float64)
    weights = rng.random(6)
    _, dmean, dlog_var = free_bits(mean, log_var, weights, 0.3)
    for i in np.ndindex(6, 5):
        step = np.zeros((6, 5))
        step[i] = 1e-5
        totals = [free_bits(mean + s * step, log_var, weights, 0.3)[0] for s in (1, -1)]
        assert dmean[i] == pytest.approx((totals[0] - totals[1]) / 2e-5 / 6, abs=1e-8)
        totals = [free_bits(mean, log_var + s * step, weights, 0.3)[0] for s in (1, -1)]
        assert dlog_var[i] == pytest.approx((totals[0] - totals[1]) / 2e-5 / 6, abs=1e-8)


@each_dtype
def test_without_free_bits_the_total_is_the_weighted_kl(dtype):
    rng = np.random.default_rng(3)
    mean, log_var = (normal(rng, (9, 4), dtype) for _ in range(2))
    total, *gradients = free_bits(mean, log_var, np.full(9, 0.7 / 9), 0)
    kl, *expected = oracles.kl_divergence(*exact(mean, log_var), np.full(9, 0.7 / 9))
    assert total == pytest.approx(0.7 * kl.sum(), rel=1e-12)
    for got, other in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(got, other, rtol=8 * EPS[dtype], atol=1e-15)


def test_nan_is_not_hidden_by_the_gate():
    mean = np.zeros((3, 2))
    mean[1, 1] = np.nan
    total, dmean, _ = free_bits(mean, np.zeros((3, 2)), np.ones(3), 1.0)
    assert np.isnan(total)
    assert np.isnan(dmean[1, 1])


# ------------------------------------------------------ the importance-weighted bound

CASES = [(1, 1, 1, 1), (1, 5, 3, 20), (7, 1, 2, 33), (4, 3, 5, 100), (20, 50, 10, 90)]  # n, k, t, m
cases = pytest.mark.parametrize("case", CASES, ids=str)
doubly = pytest.mark.parametrize("doubly", [False, True])


def inputs(case, dtype, seed=1):
    """doutputs, reconstruction, z, noise, deviation, log_var and the images' weights, and the means."""
    n, k, t, m = case
    rng = np.random.default_rng(seed)
    mean, log_var, noise = (normal(rng, shape, dtype) for shape in ((n, t), (n, t), (n * k, t)))
    z, deviation, _, _ = oracles.latent_sample(np.hstack(exact(mean, log_var)), noise.astype(np.float64))
    drawn = read_only(z.astype(dtype)), noise, read_only(deviation.astype(dtype)), log_var
    reconstruction = read_only(500 + 2 * rng.standard_normal(n * k))
    return normal(rng, (n * k, m), dtype), reconstruction, *drawn, read_only(rng.random(n)), mean


def importance_weighted(arrays, doubly, n_threads=2):
    """The total, the weights and the gradients doutputs, dmean and dlog_var."""
    doutputs, reconstruction, z, noise, deviation, log_var, image_weights = arrays
    total, weights, scaled = output((1,), np.float64), output(reconstruction.shape, np.float64), copied(doutputs)
    outputs = total, weights, scaled, *(output(log_var.shape, log_var.dtype) for _ in range(2))
    given = reconstruction, z, noise, deviation, log_var, image_weights
    run(bounds.importance_weighted, *outputs, *given, doubly, n_threads=n_threads)
    assert_margins_untouched(*outputs)
    return outputs


@each_dtype
@doubly
@cases
def test_the_bound_equals_the_reference(case, doubly, dtype):
    *arrays, mean = inputs(case, dtype)
    doutputs, reconstruction, _, noise, _, log_var, image_weights = arrays
    total, weights, scaled, *gradients = importance_weighted(arrays, doubly)
    expected = oracles.importance_weighted(reconstruction, *exact(mean, log_var, noise), doubly)
    # z and deviation were rounded.
    error = 100 * EPS[dtype]
    assert total[0] == pytest.approx(expected[0].sum(), rel=error)
    np.testing.assert_allclose(weights, expected[1].ravel(), rtol=0, atol=error)
    np.testing.assert_allclose(scaled, doutputs * expected[1].reshape(-1, 1), rtol=0, atol=5 * error)
    for got, other in zip(gradients, expected[2:], strict=True):
        sizes = np.abs(other).max() + 1
        np.testing.assert_allclose(got, other * image_weights[:, np.newaxis], rtol=0, atol=10 * error * sizes)


@each_dtype
def test_outputs_are_scaled_by_the_weights_and_rounded_once(dtype):
    *arrays, _ = inputs((4, 3, 5, 101), dtype)
    _, weights, scaled, _, _ = importance_weighted(arrays, doubly=False)
    assert_close(scaled, arrays[0] * weights.astype(dtype)[:, np.newaxis].astype(np.float64))
    np.testing.assert_allclose(weights.reshape(4, 3).sum(1), 1, rtol=1e-15)


@pytest.mark.parametrize("case", [(3, 1, 2, 4), (3, 4, 2, 4)], ids=str)
def test_the_gradients_are_the_derivatives_of_the_bound(case):
    """Of the bound with given reconstructions; the other one's expectation alone is the derivative."""
    doutputs, reconstruction, _, noise, _, log_var, _, mean = inputs(case, np.float64)

    def bound(mean, log_var, reconstruction):
        z, deviation, _, _ = oracles.latent_sample(np.hstack([mean, log_var]), noise)
        one = np.ones(len(mean))
        return importance_weighted([doutputs, reconstruction, z, noise, deviation, log_var, one], False)

    _, weights, _, dmean, dlog_var = bound(mean, log_var, reconstruction)
    for i in np.ndindex(mean.shape):
        step = np.zeros(mean.shape)
        step[i] = 1e-5
        totals = [bound(mean + s * step, log_var, reconstruction)[0][0] for s in (1, -1)]
        assert dmean[i] == pytest.approx(-(totals[0] - totals[1]) / 2e-5, abs=1e-6)
        totals = [bound(mean, log_var + s * step, reconstruction)[0][0] for s in (1, -1)]
        assert dlog_var[i] == pytest.approx(-(totals[0] - totals[1]) / 2e-5, abs=1e-6)
    for r in range(len(reconstruction)):
        step = np.zeros(len(reconstruction))
        step[r] = 1e-5
        totals = [bound(mean, log_var, reconstruction + s * step)[0][0] for s in (1, -1)]
        assert weights[r] == pytest.approx(-(totals[0] - totals[1]) / 2e-5, abs=1e-6)


def test_the_bound_of_one_code_is_the_log_weight_itself():
    *arrays, mean = inputs((6, 1, 3, 2), np.float64)
    total, weights, *_ = importance_weighted(arrays, doubly=False)
    expected = oracles.importance_weighted(arrays[1], mean, arrays[5], arrays[3], False)[0]
    np.testing.assert_array_equal(weights, np.ones(6))
    assert total[0] == pytest.approx(expected.sum(), rel=1e-13)


def test_far_apart_weights_neither_overflow_nor_vanish():
    *arrays, _ = inputs((2, 3, 1, 2), np.float64)
    arrays[1] = np.array([1e5, 2e5, 3e5, -1e5, -2e5, -3e5])
    total, weights, *gradients = importance_weighted(arrays, doubly=True)
    np.testing.assert_array_equal(weights, [1, 0, 0, 0, 0, 1])
    assert total[0] == pytest.approx(2e5, rel=1e-4)
    assert all(np.isfinite(array).all() for array in gradients)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_code_without_likelihood_does_not_count_and_nan_spreads_over_its_image_alone(value):
    *arrays, _ = inputs((2, 3, 1, 2), np.float64)
    arrays[1] = np.array([500, 500, value, 500, 500, 500])
    total, weights, *_ = importance_weighted(arrays, doubly=False)
    assert np.isnan(total[0]) == np.isnan(value)
    assert np.isfinite(weights[3:]).all()
    np.testing.assert_array_equal(np.isnan(weights[:3]), [np.isnan(value)] * 3)
    assert np.isnan(value) or weights[2] == 0


@each_dtype
@doubly
def test_bits_do_not_depend_on_the_number_of_threads(doubly, dtype):
    rng = np.random.default_rng(4)
    *arrays, _ = inputs((41, 5, 20, 300), dtype)
    mean, log_var = narrowing(rng, (41, 20), dtype)
    expected = importance_weighted(arrays, doubly, 1), free_bits(mean, log_var, arrays[-1], 0.1, 1)
    for n_threads in (2, 3, 7):
        got = importance_weighted(arrays, doubly, n_threads), free_bits(mean, log_var, arrays[-1], 0.1, n_threads)
        for array, other in zip([*got[0], *got[1]], [*expected[0], *expected[1]], strict=True):
            np.testing.assert_array_equal(array, other)


# ------------------------------------------------------------------ arguments


def gate_arrays(n=4, t=6):
    return [np.zeros(1), *(np.zeros((n, t), np.float32) for _ in range(4)), np.zeros(n)]


def bound_arrays(n=2, k=3, t=4, m=5):
    drawn, own = (lambda: np.zeros((n * k, t), np.float32)), (lambda: np.zeros((n, t), np.float32))
    outputs = [np.zeros(1), np.zeros(n * k), np.zeros((n * k, m), np.float32), own(), own()]
    return [*outputs, np.zeros(n * k), drawn(), drawn(), own(), own(), np.zeros(n)]


CALLS = [
    pytest.param(lambda arrays: run(bounds.free_bits, *arrays, 0.0), gate_arrays, 3, id="free_bits"),
    pytest.param(lambda arrays: run(bounds.importance_weighted, *arrays, False), bound_arrays, 5, id="importance"),
]


@pytest.mark.parametrize(("call", "arrays", "outputs"), CALLS)
def test_every_array_is_checked(call, arrays, outputs):
    call(arrays())
    for i, array in enumerate(arrays()):
        for axis in range(array.ndim):
            for size in (0, array.shape[axis] - 1, array.shape[axis] + 1):
                if call is CALLS[1].values[0] and (i, axis) == (2, 1) and size:
                    continue  # any number of outputs
                good, shape = arrays(), list(array.shape)
                shape[axis] = size
                good[i] = np.zeros(shape, array.dtype)
                with pytest.raises(ValueError, match="must be"):
                    call(good)
        other_type = array.astype(np.float32 if array.dtype == np.float64 else np.float64)
        for value in [other_type, array.tolist(), None, array[np.newaxis], np.repeat(array, 2, -1)[..., ::2]]:
            good = arrays()
            good[i] = value
            if array.shape == (1,) and isinstance(value, np.ndarray) and value.dtype == np.float64 and value.ndim == 1:
                continue  # a slice of one element is contiguous
            with pytest.raises((TypeError, ValueError)):
                call(good)
        good = arrays()
        good[i].flags.writeable = False
        if i < outputs:
            with pytest.raises(ValueError, match="read-only"):
                call(good)
        else:
            call(good)
