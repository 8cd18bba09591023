"""The compiled losses of likelihoods other than Bernoulli's, against plain references, SciPy and many digits."""

import decimal
import functools
from decimal import Decimal

import numpy as np
import oracles
import pytest
from kernel_checks import assert_margins_untouched, each_dtype, exact, normal, output, read_only
from scipy import integrate, stats

from cvae._kernels import losses, pixelwise
from cvae._kernels.program import Program
from cvae.runtime.programs import execute, run

# Each kernel's arguments, and how many outputs belong to a pixel.
ARGUMENTS = {
    "continuous_bernoulli": ((), 1),
    "gaussian": ((0.3,), 1),
    "laplace": ((0.3,), 1),
    "gaussian_per_pixel": ((16.0,), 2),
    "laplace_per_pixel": ((8.0,), 2),
    "discretized_logistic": ((8.0,), 2),
}
each_kernel = pytest.mark.parametrize("name", ARGUMENTS)
WITH_SCALES = [name for name, (_, per_pixel) in ARGUMENTS.items() if per_pixel == 2]


def compute(name, outputs, y, weights=None, n_threads=2, arguments=None):
    """Return the loss of each row and the gradient of the outputs; the weights are 1 if they are not given."""
    weights = np.ones(len(outputs)) if weights is None else weights
    loss, doutputs = output(outputs.shape[:1], np.float64), output(outputs.shape, outputs.dtype)
    arguments = ARGUMENTS[name][0] if arguments is None else arguments
    run(getattr(losses, name), loss, doutputs, outputs, y, weights, *arguments, n_threads=n_threads)
    assert_margins_untouched(loss, doutputs)
    return loss, doutputs


def of_pixels(name, outputs, y, arguments=None):
    """Return the loss of each pixel of one row of outputs (m,) or (2, m), and the gradient of its shape."""
    outputs, y = np.asarray(outputs), np.asarray(y)
    columns = outputs.reshape(-1, y.size).T.copy()
    loss, doutputs = compute(name, columns, y.reshape(-1, 1).copy(), arguments=arguments)
    return loss, doutputs.T.reshape(outputs.shape)


def random_case(name, shape, dtype, per_target=1, seed=1):
    """Return outputs of a few units and pixels in [0, 1], for the discretized likelihood multiples of 1/255."""
    rng, per_pixel = np.random.default_rng(seed), ARGUMENTS[name][1]
    outputs = normal(rng, (per_target * shape[0], per_pixel * shape[1]), dtype)
    y = rng.integers(0, 256, shape) / 255
    y.reshape(-1)[::5] = rng.integers(0, 2, y.size)[::5]
    return outputs, read_only(y.astype(dtype)), read_only(rng.uniform(-1, 2, len(outputs)))


@each_kernel
@each_dtype
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 784), (300, 16), (2, 5000)], ids=str)
@pytest.mark.parametrize("per_target", [1, 2, 5])
def test_loss_and_gradient_equal_the_reference(name, shape, per_target, dtype):
    outputs, y, weights = random_case(name, shape, dtype, per_target)
    loss, doutputs = compute(name, outputs, y, weights)
    keywords = dict(zip(["bound" if name in WITH_SCALES else "scale"], ARGUMENTS[name][0], strict=False))
    expected, gradient = getattr(oracles, name)(*exact(outputs, y), weights, **keywords)
    rtol = 2e-5 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(loss, expected, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(doutputs, gradient, rtol=rtol, atol=rtol * np.abs(gradient).mean())


# ------------------------------------------------------------ densities known to SciPy, in float64

SIZES = np.array([0.0, 1e-9, 1e-5, 1e-3, 0.03, 0.3, 0.999, 1.001, 3.0, 10.0, 37.0, 100.0, 700.0, 1e5])
VALUES = np.concatenate([-SIZES[:0:-1], SIZES])


def assert_equals_scipy(loss, log_density):
    np.testing.assert_allclose(loss, -log_density, rtol=1e-6, atol=1e-13)


def laplace_logpdf(x, median, scale):
    """Return SciPy's log density, and beyond where its density is 0 the exponent that it does not underflow."""
    with np.errstate(divide="ignore"):
        log_density = stats.laplace.logpdf(x, median, scale)
    exponent = -np.abs(x - median) / scale
    return np.where(exponent > -700, log_density, exponent - np.log(2 * scale))


@pytest.mark.parametrize("x", [0.0, 1e-6, 0.2, 0.5, 0.75, 1.0])
def test_continuous_bernoulli_is_a_truncated_exponential_distribution(x):
    logits = VALUES[np.abs(VALUES) > 1e-3]
    a = np.abs(logits)
    log_density = stats.truncexpon.logpdf(np.where(logits < 0, x, 1 - x), a, scale=1 / a)
    assert_equals_scipy(of_pixels("continuous_bernoulli", logits, np.full(logits.size, x))[0], log_density)


@pytest.mark.parametrize("scale", [1e-6, 0.05, 1.0, 30.0, 1e6])
def test_gaussian_and_laplace_equal_scipys(scale):
    means, x = (grid.ravel() for grid in np.meshgrid(VALUES, [-1e4, -2.5, 0.0, 0.1, 1.0, 300.0]))
    for name, log_density in (("gaussian", stats.norm.logpdf), ("laplace", laplace_logpdf)):
        loss, _ = of_pixels(name, means, x, (scale,))
        assert_equals_scipy(loss, log_density(x, means, scale))


def test_scales_of_pixels_equal_scipys():
    means, s, x = (grid.ravel() for grid in np.meshgrid(VALUES, VALUES, [-1e4, -2.5, 0.0, 0.1, 1.0, 300.0]))
    loss, _ = of_pixels("gaussian_per_pixel", [means, s], x)
    assert_equals_scipy(loss, stats.norm.logpdf(x, means, np.exp(8 * np.tanh(s / 16))))
    loss, _ = of_pixels("laplace_per_pixel", [means, s], x)
    assert_equals_scipy(loss, laplace_logpdf(x, means, np.exp(8 * np.tanh(s / 8))))


def test_discretized_logistic_equals_differences_of_scipys():
    means, s, k = (grid.ravel() for grid in np.meshgrid(VALUES, VALUES, [0, 1, 2, 100, 127, 254, 255]))
    scale = np.exp(8 * np.tanh(s / 8))
    lower, upper = np.where(k == 0, -np.inf, (k - 0.5) / 255), np.where(k == 255, np.inf, (k + 0.5) / 255)
    # In whichever tail is smaller, so that the difference keeps its digits.
    flip = (lower - means) > 0
    low = np.where(flip, stats.logistic.logsf(upper, means, scale), stats.logistic.logcdf(lower, means, scale))
    high = np.where(flip, stats.logistic.logsf(lower, means, scale), stats.logistic.logcdf(upper, means, scale))
    log_probability = high + np.log(-np.expm1(low - high))
    loss, _ = of_pixels("discretized_logistic", [means, s], k / 255)
    assert_equals_scipy(loss, log_probability)
    assert (loss >= 0).all()


# ------------------------------------------------------------------ many digits


def precise_continuous_bernoulli(z, x):
    """Return the negative log density and the mean, as Decimals."""
    z, x = Decimal(z), Decimal(x)
    if z == 0:
        return Decimal(0), Decimal("0.5")
    a = abs(z)
    mass, mean = (1 - (-a).exp()) / a, 1 / a - (-a).exp() / (1 - (-a).exp())  # of exp(-a x)
    return a * (x if z < 0 else 1 - x) + mass.ln(), mean if z < 0 else 1 - mean


def precise_discretized_logistic(mean, s, k):
    """Return the negative log probability, as a Decimal."""
    decay = (-abs(Decimal(s)) / 4).exp()
    scale = (Decimal(8).copy_sign(Decimal(s)) * (1 - decay) / (1 + decay)).exp()
    lower, upper = (((k + Decimal(half)) / 255 - Decimal(mean)) / scale for half in ("-0.5", "0.5"))
    lower, upper = Decimal("-inf") if k == 0 else lower, Decimal("inf") if k == 255 else upper
    if lower + upper > 0:  # the left tail keeps its digits
        lower, upper = -upper, -lower
    return -(1 / (1 + (-upper).exp()) - 1 / (1 + (-lower).exp())).ln()


@each_dtype
@pytest.mark.parametrize("x", [0.0, 0.25, 0.5, 1.0])
def test_continuous_bernoulli_keeps_its_digits_near_one_half_and_far_from_it(x, dtype):
    logits = np.concatenate([VALUES, [-1e30, -1e9, 1e9, 1e30]]).astype(dtype)
    loss, gradient = of_pixels("continuous_bernoulli", logits, np.full(logits.size, x, dtype))
    eps = float(np.finfo(dtype).eps)
    with decimal.localcontext(prec=60):
        for i, z in enumerate(logits.tolist()):
            expected, mean = precise_continuous_bernoulli(z, x)
            # Terms are as precise as they are large: the density of a pixel may be 1, its logarithm 0.
            assert loss[i] == pytest.approx(float(expected), rel=8 * eps, abs=2 * eps * min(abs(z), 1)), z
            # The difference of mean and pixel is as precise as both, or as their distances from 1.
            error = 4 * eps * float(min(mean, 1 - mean))
            assert gradient[i] == pytest.approx(float(mean - Decimal(x)), rel=8 * eps, abs=error), z


@each_dtype
def test_the_mean_of_continuous_bernoulli_keeps_its_digits(dtype):
    logits = np.concatenate([VALUES, [-1e30, 1e30]]).astype(dtype)
    out = output(logits.shape, dtype)
    run(pixelwise.continuous_bernoulli_mean, out, logits)
    assert_margins_untouched(out)
    with decimal.localcontext(prec=60):
        expected = [float(precise_continuous_bernoulli(z, 0)[1]) for z in logits.tolist()]
    np.testing.assert_allclose(out, expected, rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_allclose(out, oracles.continuous_bernoulli_mean(*exact(logits)), rtol=1e-6)


@each_dtype
def test_discretized_logistic_keeps_its_digits_in_the_tails(dtype):
    values = np.array([-20.0, -3.0, -1.0, 0.0, 0.3, 0.5, 1.0, 2.0, 10.0])
    means, s, k = (grid.ravel() for grid in np.meshgrid(values, values, [0, 1, 77, 128, 254, 255]))
    means, s = means.astype(dtype), s.astype(dtype)
    loss, _ = of_pixels("discretized_logistic", np.array([means, s]), (k / 255).astype(dtype))
    eps = float(np.finfo(dtype).eps)
    with decimal.localcontext(prec=60, Emin=-999_999_999, Emax=999_999_999):
        expected = [
            float(precise_discretized_logistic(*bin_))
            for bin_ in zip(means.tolist(), s.tolist(), k.tolist(), strict=True)
        ]
    # Log scales, up to 8, are rounded, and pixels and means, which are then divided by the scale.
    error = eps * (50 + 50 * np.abs(expected) + np.exp(-8 * np.tanh(s / 8)))
    assert (np.abs(loss - expected) <= error).all()


# ------------------------------------------------------------------------ gradients


@each_kernel
def test_gradients_are_finite_differences(name):
    rng, (_, per_pixel) = np.random.default_rng(3), ARGUMENTS[name]
    means = np.concatenate([rng.normal(size=40), [-3.0, 0.5, 3.0], VALUES[np.abs(VALUES) < 30]])
    y = rng.integers(0, 256, means.size) / 255
    y[:4] = 0, 1, 0, 1
    outputs = means[np.newaxis] if per_pixel == 1 else np.array([means, rng.permutation(means)])
    _, gradient = of_pixels(name, outputs, y)
    for part in range(per_pixel):
        step = np.zeros_like(outputs)
        step[part] = 1e-6 * np.maximum(np.abs(outputs[part]), 0.1)
        kink = (name.startswith("laplace") and part == 0) & (np.abs(outputs[0] - y) < 1e-5)
        up, down = (of_pixels(name, outputs + sign * step, y)[0] for sign in (1, -1))
        difference = (up - down) / (2 * step[part])
        np.testing.assert_allclose(gradient[part][~kink], difference[~kink], rtol=1e-5, atol=2e-6)


@each_kernel
def test_float32_is_as_precise_as_float32_can_be(name):
    outputs, y, weights = random_case(name, (30, 200), np.float32)
    loss, doutputs = compute(name, outputs, y, weights)
    expected, gradient = compute(name, *exact(outputs, y), weights)
    np.testing.assert_allclose(loss, expected, rtol=2e-6)
    np.testing.assert_allclose(doutputs, gradient, rtol=2e-5, atol=2e-6 * np.abs(gradient).mean())


@pytest.mark.parametrize("name", WITH_SCALES)
@each_dtype
def test_scales_are_bounded_and_saturate(name, dtype):
    s = np.array([-1e30, -1e4, 1e4, 1e30], dtype)
    loss, gradient = of_pixels(name, np.array([np.full(4, 0.25), s], dtype), np.full(4, 51 / 255, dtype))
    assert np.isfinite(loss).all()
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(loss[[0, 3]], loss[[1, 2]])
    np.testing.assert_array_equal(gradient[1], 0)


# -------------------------------------------------------------------- normalisation


@pytest.mark.parametrize("logit", [-200.0, -5.0, -0.7, 0.0, 1e-8, 0.99, 3.0, 50.0])
def test_continuous_bernoulli_integrates_to_one_with_its_mean(logit):
    x = np.concatenate([[0], np.geomspace(1e-6, 0.5, 4001)])
    x = np.unique(np.concatenate([x, 1 - x]))
    density = np.exp(-of_pixels("continuous_bernoulli", np.full(x.size, logit), x)[0])
    mean = np.empty(1)
    run(pixelwise.continuous_bernoulli_mean, mean, np.array([logit]))
    assert integrate.simpson(density, x=x) == pytest.approx(1, rel=1e-6)
    assert integrate.simpson(density * x, x=x) == pytest.approx(mean[0], rel=1e-6)


@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_gaussian_and_laplace_integrate_to_one(scale):
    right = np.linspace(0, 40 * scale, 20_001)
    x = 0.3 + np.concatenate([-right[:0:-1], right])
    s = np.log(scale)
    cases = [
        ("gaussian", [np.full(x.size, 0.3)], (scale,)),
        ("laplace", [np.full(x.size, 0.3)], (scale,)),
        ("gaussian_per_pixel", [np.full(x.size, 0.3), np.full(x.size, 16 * np.arctanh(s / 8))], None),
        ("laplace_per_pixel", [np.full(x.size, 0.3), np.full(x.size, 8 * np.arctanh(s / 8))], None),
    ]
    for name, outputs, arguments in cases:
        density = np.exp(-of_pixels(name, outputs, x, arguments)[0])
        assert integrate.simpson(density, x=x) == pytest.approx(1, rel=1e-6), name


@pytest.mark.parametrize("mean", [-2.0, 0.0, 0.3337, 0.5, 1.0, 7.0])
@pytest.mark.parametrize("s", [-100.0, -8.0, -4.0, -1.0, 0.0, 3.0, 100.0])
def test_the_256_probabilities_of_discretized_logistic_add_up_to_one(mean, s):
    x = np.arange(256) / 255
    loss, gradient = of_pixels("discretized_logistic", np.repeat([[mean], [s]], 256, axis=1), x)
    assert np.exp(-loss).sum() == pytest.approx(1, rel=1e-12)
    # Of which the gradients do not change the sum.
    np.testing.assert_allclose((np.exp(-loss) * gradient).sum(1), 0, atol=1e-9 * np.abs(gradient).max())


@each_dtype
def test_discretized_logistic_takes_the_nearest_multiple(dtype):
    rng = np.random.default_rng(4)
    outputs, k = normal(rng, (3, 600), dtype), rng.integers(0, 256, (3, 300))
    off = np.clip(k + rng.uniform(-0.2, 0.2, k.shape), 0, 255) / 255
    for got, expected in zip(
        compute("discretized_logistic", outputs, off.astype(dtype)),
        compute("discretized_logistic", outputs, (k / 255).astype(dtype)),
        strict=True,
    ):
        np.testing.assert_array_equal(got, expected)


# ---------------------------------------------------------- threads, weights, memory


@each_kernel
@each_dtype
def test_bits_do_not_depend_on_the_number_of_threads(name, dtype):
    outputs, y, weights = random_case(name, (13, 784), dtype, 3)
    expected = compute(name, outputs, y, weights, 1)
    for n_threads in (2, 3, 7):
        for array, other in zip(compute(name, outputs, y, weights, n_threads), expected, strict=True):
            np.testing.assert_array_equal(array, other)


@each_kernel
@each_dtype
def test_weights_are_read_when_the_program_runs(name, dtype):
    outputs, y, _ = random_case(name, (3, 30), dtype, 2)
    weights, loss, doutputs, program = np.empty(6), np.empty(6), np.empty_like(outputs), Program()
    getattr(losses, name)(program, loss, doutputs, outputs, y, weights, *ARGUMENTS[name][0])
    for seed in range(3):
        weights[:] = np.random.default_rng(seed).random(6)
        execute(program)
        np.testing.assert_array_equal(doutputs, compute(name, outputs, y, weights)[1])


@each_kernel
@each_dtype
def test_the_gradient_may_take_the_place_of_the_outputs_or_be_left_out(name, dtype):
    outputs, y, weights = random_case(name, (20, 301), dtype)
    loss, doutputs = compute(name, outputs, y, weights)
    kernel, over, got = getattr(losses, name), outputs.copy(), np.empty(20)
    run(kernel, got, over, over, y, weights, *ARGUMENTS[name][0], n_threads=2)
    np.testing.assert_array_equal(got, loss)
    np.testing.assert_array_equal(over, doutputs)
    for unused in (None, weights):
        alone = output((20,), np.float64)
        run(kernel, alone, None, outputs, y, unused, *ARGUMENTS[name][0], n_threads=2)
        assert_margins_untouched(alone)
        np.testing.assert_array_equal(alone, loss)


@each_kernel
@each_dtype
def test_nan_in_a_row_makes_its_loss_nan_and_no_other(name, dtype):
    outputs, y, _ = random_case(name, (5, 40), dtype)
    outputs = np.array(outputs)
    for column in range(7, outputs.shape[1], 40):
        wrong = outputs.copy()
        wrong[2, column] = np.nan
        loss, doutputs = compute(name, wrong, y)
        assert np.isnan(loss).tolist() == [False, False, True, False, False]
        assert np.isnan(doutputs[2, column])
        assert not np.isnan(np.delete(doutputs, 2, axis=0)).any()


def test_the_gradient_of_laplace_is_zero_where_output_and_pixel_are_equal():
    x = np.array([0.0, 0.5, -0.0])
    np.testing.assert_array_equal(of_pixels("laplace", x, x)[1], 0)
    np.testing.assert_array_equal(of_pixels("laplace_per_pixel", [x, np.ones(3)], x)[1][0], 0)


# ------------------------------------------------------------------ arguments


def arrays_of(name, n=4, m=6):
    wide = ARGUMENTS[name][1] * m
    return [
        np.zeros(n),
        *(np.zeros((n, wide), np.float32) for _ in range(2)),
        np.zeros((n, m), np.float32),
        np.zeros(n),
    ]


@each_kernel
def test_every_array_is_checked(name):
    call = functools.partial(run, getattr(losses, name))
    arguments, good = ARGUMENTS[name][0], arrays_of(name)
    call(*good, *arguments)
    for i, array in enumerate(good):
        for axis in range(array.ndim):
            for size in (0, array.shape[axis] - 1, array.shape[axis] + 1):
                shape = list(array.shape)
                shape[axis] = size
                with pytest.raises(ValueError, match="must fit"):
                    call(*good[:i], np.zeros(shape, array.dtype), *good[i + 1 :], *arguments)
        wrong = [array.tolist(), array[np.newaxis], np.repeat(array, 2, -1)[..., ::2], array.astype(np.int32)]
        for value in wrong if i == 1 else [*wrong, None]:
            with pytest.raises((TypeError, ValueError)):
                call(*good[:i], value, *good[i + 1 :], *arguments)
    for i in range(2):
        arrays = arrays_of(name)
        arrays[i].flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            call(*arrays, *arguments)


@each_kernel
def test_rows_that_are_no_multiple_of_the_targets_are_refused(name):
    arrays = arrays_of(name, 6)
    arrays[3] = np.zeros((4, 6), np.float32)
    with pytest.raises(ValueError, match=r"y must fit (logits|outputs) of shape \(6, \d+\), got \(4, 6\)"):
        run(getattr(losses, name), *arrays, *ARGUMENTS[name][0])


@each_kernel
@pytest.mark.parametrize(("n", "m"), [(0, 6), (0, 0)])
def test_no_rows_give_no_losses(name, n, m):
    run(getattr(losses, name), *arrays_of(name, n, m), *ARGUMENTS[name][0])


# ------------------------------------------------------------- the first columns


@each_dtype
@pytest.mark.parametrize(("n", "m", "wide"), [(1, 1, 1), (3, 5, 10), (70, 784, 1568), (4, 3, 4)])
def test_first_columns_are_clipped_copies(n, m, wide, dtype):
    x = normal(np.random.default_rng(0), (n, wide), dtype)
    for low, high in ((-0.5, 0.25), (-np.inf, np.inf)):
        out = output((n, m), dtype)
        run(pixelwise.first_columns, out, x, low, high, n_threads=2)
        assert_margins_untouched(out)
        np.testing.assert_array_equal(out, oracles.clip(x[:, :m], low, high).astype(dtype))


@each_dtype
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 5), (70, 784), (2, 33)])
def test_the_first_columns_of_pairs(n, m, dtype):
    x, out = normal(np.random.default_rng(0), (n, 2 * m), dtype), output((n, m), dtype)
    run(pixelwise.first_columns, out, x, -0.5, 0.25, pairs=True, n_threads=2)
    assert_margins_untouched(out)
    np.testing.assert_array_equal(out, oracles.clip(x[:, ::2], -0.5, 0.25).astype(dtype))
    with pytest.raises(ValueError, match=r"x must have as many rows as out and no fewer columns, got \("):
        run(pixelwise.first_columns, out, x[:, :-1].copy(), -0.5, 0.25, pairs=True)


def test_first_columns_may_be_clipped_in_place():
    x = np.array([[-1.0, 0.5, np.nan, 2.0]])
    run(pixelwise.first_columns, x, x, 0.0, 1.0)
    np.testing.assert_array_equal(x, [[0, 0.5, np.nan, 1]])


def test_the_arrays_of_first_columns_are_checked():
    for out, x in [((3, 5), (3, 4)), ((3, 5), (2, 5)), ((3, 5), (4, 5))]:
        with pytest.raises(ValueError, match=r"x must have as many rows as out and no fewer columns, got \("):
            run(pixelwise.first_columns, np.zeros(out), np.zeros(x), 0.0, 1.0)
    with pytest.raises(ValueError, match="out and z must have the same size, got 3 and 4"):
        run(pixelwise.continuous_bernoulli_mean, np.zeros(3), np.zeros(4))
