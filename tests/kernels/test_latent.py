"""The compiled latent code, sampling from it and the gradient back to it, held against the plain reference."""

import numpy as np
import oracles
import pytest
from kernel_checks import assert_margins_untouched, each_dtype, exact, normal, output, read_only

from cvae._kernels import latent
from cvae.runtime.programs import run

EPS = {np.dtype(np.float32): 2.0**-23, np.dtype(np.float64): 2.0**-52}

# n and T around multiples of vectors, and around the least work for several threads: 200 numbers in `sample`, 10,000 in
# `backward`.
SHAPES = [
    (1, 1), (7, 1), (1, 3), (3, 5), (2, 17), (5, 33), (199, 1), (10, 20), (128, 5), (43, 93), (9999, 1), (1000, 10),
    (9, 1200), (1, 10_001),
]  # fmt: skip
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
draws = pytest.mark.parametrize("k", [1, 2, 5])  # rows of z for each code


def sample(code, noise, n_threads=2):
    """z, deviation, mean and log_var."""
    shapes = noise.shape, *[(len(code), noise.shape[1])] * 3
    outputs = [output(shape, code.dtype) for shape in shapes]
    run(latent.sample, *outputs, code, noise, n_threads=n_threads)
    assert_margins_untouched(*outputs)
    return outputs


def backward(dz, noise, deviation, dmean, dlog_var, factors=None, n_threads=2):
    """The gradient with respect to the code."""
    dcode = output((len(deviation), 2 * dz.shape[1]), dz.dtype)
    run(latent.backward, dcode, dz, noise, deviation, dmean, dlog_var, factors, n_threads=n_threads)
    assert_margins_untouched(dcode)
    return dcode


def random_code(rng, shape, dtype, k=1):
    """A code and noise for k draws of it."""
    n, t = shape
    return normal(rng, (n, 2 * t), dtype), normal(rng, (n * k, t), dtype)


def assert_rounded(got, *terms):
    """Assert that each number is within four rounding errors of the largest of its terms."""
    assert got.shape == terms[0].shape
    error = np.abs(got - sum(terms))
    assert (error <= 4 * EPS[got.dtype] * np.max(np.abs(terms), axis=0)).all()


@each_dtype
@draws
@shapes
def test_sample_equals_the_reference(shape, k, dtype):
    code, noise = random_code(np.random.default_rng(1), shape, dtype, k)
    z, deviation, mean, log_var = sample(code, noise)
    np.testing.assert_array_equal(mean, code[:, : shape[1]])
    np.testing.assert_array_equal(log_var, code[:, shape[1] :])
    expected_z, expected_deviation, _, _ = oracles.latent_sample(*exact(code, noise))
    assert_rounded(deviation, expected_deviation)
    means = np.repeat(mean.astype(np.float64), k, axis=0)
    assert_rounded(z, means, expected_z - means)


@each_dtype
@draws
@shapes
def test_backward_equals_the_reference(shape, k, dtype):
    rng = np.random.default_rng(2)
    dz, noise = (normal(rng, (shape[0] * k, shape[1]), dtype) for _ in range(2))
    dmean, dlog_var = (normal(rng, shape, dtype) for _ in range(2))
    deviation = read_only(rng.uniform(0.1, 3, shape).astype(dtype))
    dcode = backward(dz, noise, deviation, dmean, dlog_var)
    inputs = exact(dz, noise, deviation, dmean, dlog_var)
    # Each addition rounds a sum that is at most as large as that of all sizes.
    sizes = oracles.latent_backward(*map(np.abs, inputs))
    assert (np.abs(dcode - oracles.latent_backward(*inputs)) <= 4 * k * EPS[dcode.dtype] * sizes).all()


@each_dtype
@pytest.mark.parametrize("k", [1, 3])
def test_each_row_counts_times_its_factor(k, dtype):
    rng = np.random.default_rng(7)
    dz, noise = (normal(rng, (5 * k, 7), dtype) for _ in range(2))
    deviation, dmean, dlog_var = (normal(rng, (5, 7), dtype) for _ in range(3))
    factors = read_only(rng.uniform(0, 2, 5 * k))
    dcode = backward(dz, noise, deviation, dmean, dlog_var, factors)
    inputs = *exact(dz, noise, deviation, dmean, dlog_var), factors
    sizes = oracles.latent_backward(*map(np.abs, inputs))
    assert (np.abs(dcode - oracles.latent_backward(*inputs)) <= 4 * (k + 1) * EPS[dcode.dtype] * sizes).all()
    same = backward(dz, noise, deviation, dmean, dlog_var, np.ones(5 * k))
    np.testing.assert_array_equal(same, backward(dz, noise, deviation, dmean, dlog_var))


def test_factors_are_checked():
    good = arrays("backward")
    for wrong in (np.ones(N - 1), np.ones(N + 1), np.ones(0)):
        with pytest.raises(ValueError, match=f"factors must fit {N} rows of dz, got {len(wrong)}"):
            run(latent.backward, *good, wrong)
    for wrong in (np.ones(N, np.float32), np.ones((N, 1)), [1.0] * N):
        with pytest.raises((TypeError, ValueError)):
            run(latent.backward, *good, wrong)


@each_dtype
def test_draws_are_added_in_order(dtype):
    """The gradient of several draws is that of the first, to which the next are added one by one."""
    rng = np.random.default_rng(6)
    dz, noise = (normal(rng, (5 * 3, 7), dtype) for _ in range(2))
    deviation, dmean, dlog_var = (normal(rng, (5, 7), dtype) for _ in range(3))
    step = dmean, dlog_var
    for draw in range(3):
        one = backward(dz[draw::3].copy(), noise[draw::3].copy(), deviation, *step)
        step = one[:, :7].copy(), one[:, 7:].copy()
    np.testing.assert_array_equal(backward(dz, noise, deviation, dmean, dlog_var), one)


@pytest.mark.parametrize("k", [1, 3])
def test_backward_is_the_derivative_of_sample(k):
    """Central differences of sum(dz * z) + sum(dmean * mean) + sum(dlog_var * log_var)."""
    rng = np.random.default_rng(3)
    code, noise = random_code(rng, (3, 4), np.float64, k)
    dz, dmean, dlog_var = (normal(rng, (rows, 4), np.float64) for rows in (3 * k, 3, 3))

    def loss(code):
        z, _, mean, log_var = sample(code, noise)
        return np.sum(dz * z) + np.sum(dmean * mean + dlog_var * log_var)

    dcode = backward(dz, noise, sample(code, noise)[1], dmean, dlog_var)
    for i in np.ndindex(code.shape):
        step = np.zeros_like(code)
        step[i] = 1e-5
        assert dcode[i] == pytest.approx((loss(code + step) - loss(code - step)) / 2e-5, abs=1e-8)


@each_dtype
@draws
def test_bits_do_not_depend_on_the_number_of_threads(k, dtype):
    rng = np.random.default_rng(4)
    code, noise = random_code(rng, (601, 17), dtype, k)
    dz, dmean, dlog_var = (normal(rng, (rows, 17), dtype) for rows in (601 * k, 601, 601))

    def compute(n_threads):
        outputs = sample(code, noise, n_threads)
        return *outputs, backward(dz, noise, outputs[1], dmean, dlog_var, n_threads=n_threads)

    expected = compute(1)
    for n_threads in (2, 3, 7):
        for got, array in zip(compute(n_threads), expected, strict=True):
            np.testing.assert_array_equal(got, array)


@each_dtype
def test_large_log_variances_give_infinity_and_small_ones_zero(dtype):
    largest = np.finfo(dtype).max
    log_var = np.array([[2000, largest, -2000, -largest, np.inf, -np.inf]], dtype)
    code, noise = np.concatenate([np.full_like(log_var, 0.5), log_var], axis=1), np.ones_like(log_var)
    z, deviation, _, same = sample(code, noise)
    np.testing.assert_array_equal(same, log_var)
    np.testing.assert_array_equal(deviation, [[np.inf, np.inf, 0, 0, np.inf, 0]])
    np.testing.assert_array_equal(z, [[np.inf, np.inf, 0.5, 0.5, np.inf, 0.5]])
    np.testing.assert_array_equal(sample(code, -noise)[0], [[-np.inf, -np.inf, 0.5, 0.5, -np.inf, 0.5]])
    # The largest possible deviation.
    edge = 2 * np.floor(np.log(largest, dtype=np.float64))
    deviation = sample(np.array([[0, edge]], dtype), np.ones((1, 1), dtype))[1]
    assert deviation.item() == pytest.approx(np.exp(edge / 2), rel=4 * EPS[np.dtype(dtype)])


@each_dtype
def test_nan_stays_where_it_is(dtype):
    code, noise = (np.array(array) for array in random_code(np.random.default_rng(5), (4, 6), dtype))
    code[0, 1] = code[1, 6 + 2] = noise[2, 3] = np.nan
    places = [[0, 1], [1, 2], [2, 3]], [[1, 2]], [[0, 1]], [[1, 2]]
    for array, expected in zip(sample(code, noise), places, strict=True):
        assert np.argwhere(np.isnan(array)).tolist() == expected


# ------------------------------------------------------------------ arguments

N, T = 4, 6
KERNELS = {"sample": [T, T, T, T, 2 * T, T], "backward": [2 * T, T, T, T, T, T]}  # columns of each array
OUTPUTS = {"sample": 4, "backward": 1}
kernels = pytest.mark.parametrize("name", KERNELS)


def arrays(name, rows=N):
    return [np.zeros((rows, columns), np.float32) for columns in KERNELS[name]]


def call(name, arrays):
    run(getattr(latent, name), *arrays)


@kernels
def test_every_array_is_checked(name):
    good = arrays(name)
    call(name, good)
    for i, array in enumerate(good):
        rows, columns = array.shape
        for shape in ((0, columns), (rows - 1, columns), (rows + 1, columns), (rows, 0), (rows, columns - 1),
                      (rows, columns + 1), (rows, columns // 2), (rows, 2 * columns)):  # fmt: skip
            with pytest.raises(ValueError, match=r"for a code \(n, 2t\) the others must be \(n, t\), z and"):
                call(name, [*good[:i], np.zeros(shape, np.float32), *good[i + 1 :]])
        wrong = [array.astype(np.float64), array.astype(np.int32), None, array.tolist(), array[0], array[np.newaxis]]
        wrong += [np.repeat(array, 2, axis=-1)[..., ::2], array.astype(array.dtype.newbyteorder())]
        for value in wrong:
            with pytest.raises((TypeError, ValueError)):
                call(name, [*good[:i], value, *good[i + 1 :]])
        with pytest.raises(TypeError):
            call(name, [*good[:i], None, *good[i + 1 :]])


@pytest.mark.parametrize(("n", "rows"), [(4, 6), (4, 2), (3, 4)])
def test_rows_that_are_no_multiple_of_the_codes_are_refused(n, rows):
    code, others, drawn = (np.zeros(shape, np.float32) for shape in ((n, 4), (n, 2), (rows, 2)))
    with pytest.raises(ValueError, match=r"z and noise \(n \* k, t\)"):
        run(latent.sample, drawn, others.copy(), others.copy(), others.copy(), code, drawn)
    with pytest.raises(ValueError, match=r"z and noise \(n \* k, t\)"):
        run(latent.backward, code, drawn, drawn, others, others, others)


@kernels
def test_empty_arrays_are_refused(name):
    with pytest.raises(ValueError, match="none of them empty"):
        call(name, arrays(name, rows=0))
    with pytest.raises(ValueError, match="none of them empty"):
        call(name, [np.zeros((N, 0), np.float32) for _ in KERNELS[name]])


@kernels
def test_outputs_must_be_writable_and_inputs_need_not_be(name):
    for i in range(OUTPUTS[name]):
        good = arrays(name)
        good[i].flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            call(name, good)
    good = arrays(name)
    for array in good[OUTPUTS[name] :]:
        array.flags.writeable = False
    call(name, good)
