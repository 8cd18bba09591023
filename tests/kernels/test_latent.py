"""The compiled sampling of latent codes and its gradient, compared with plain NumPy in float64."""

import numpy as np
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


def sample(code, noise, n_threads=2):
    """Return z, deviation, mean and log_var."""
    outputs = [output(noise.shape, code.dtype) for _ in range(4)]
    run(latent.sample, *outputs, code, noise, n_threads=n_threads)
    assert_margins_untouched(*outputs)
    return outputs


def backward(dz, noise, deviation, dmean, dlog_var, n_threads=2):
    """Return the gradient with respect to the code."""
    dcode = output((len(dz), 2 * dz.shape[1]), dz.dtype)
    run(latent.backward, dcode, dz, noise, deviation, dmean, dlog_var, n_threads=n_threads)
    assert_margins_untouched(dcode)
    return dcode


def random_code(rng, shape, dtype):
    """Return a random code and noise."""
    return normal(rng, (shape[0], 2 * shape[1]), dtype), normal(rng, shape, dtype)


def assert_rounded(got, *terms):
    """Assert that each number is within four rounding errors of the largest of its terms."""
    assert got.shape == terms[0].shape
    error = np.abs(got - sum(terms))
    assert (error <= 4 * EPS[got.dtype] * np.max(np.abs(terms), axis=0)).all()


@each_dtype
@shapes
def test_sample_equals_the_reference(shape, dtype):
    code, noise = random_code(np.random.default_rng(1), shape, dtype)
    z, deviation, mean, log_var = sample(code, noise)
    np.testing.assert_array_equal(mean, code[:, : shape[1]])
    np.testing.assert_array_equal(log_var, code[:, shape[1] :])
    mean, log_var, noise = exact(mean, log_var, noise)
    assert_rounded(deviation, np.exp(log_var / 2))
    assert_rounded(z, mean, noise * np.exp(log_var / 2))


@each_dtype
@shapes
def test_backward_equals_the_reference(shape, dtype):
    rng = np.random.default_rng(2)
    dz, noise, dmean, dlog_var = (normal(rng, shape, dtype) for _ in range(4))
    deviation = read_only(rng.uniform(0.1, 3, shape).astype(dtype))
    dcode = backward(dz, noise, deviation, dmean, dlog_var)
    to_mean, to_log_var = np.ascontiguousarray(dcode[:, : shape[1]]), np.ascontiguousarray(dcode[:, shape[1] :])
    dz, noise, deviation, dmean, dlog_var = exact(dz, noise, deviation, dmean, dlog_var)
    assert_rounded(to_mean, dz, dmean)
    assert_rounded(to_log_var, dz * noise * deviation / 2, dlog_var)


def test_backward_is_the_derivative_of_sample():
    """Compare with central differences of sum(dz * z) + sum(dmean * mean) + sum(dlog_var * log_var)."""
    rng = np.random.default_rng(3)
    code, noise = random_code(rng, (3, 4), np.float64)
    dz, dmean, dlog_var = (normal(rng, (3, 4), np.float64) for _ in range(3))

    def loss(code):
        z, _, mean, log_var = sample(code, noise)
        return np.sum(dz * z + dmean * mean + dlog_var * log_var)

    dcode = backward(dz, noise, sample(code, noise)[1], dmean, dlog_var)
    for i in np.ndindex(code.shape):
        step = np.zeros_like(code)
        step[i] = 1e-5
        assert dcode[i] == pytest.approx((loss(code + step) - loss(code - step)) / 2e-5, abs=1e-8)


@each_dtype
def test_bits_do_not_depend_on_the_number_of_threads(dtype):
    rng = np.random.default_rng(4)
    code, noise = random_code(rng, (601, 17), dtype)
    dz, dmean, dlog_var = (normal(rng, noise.shape, dtype) for _ in range(3))

    def compute(n_threads):
        outputs = sample(code, noise, n_threads)
        return *outputs, backward(dz, noise, outputs[1], dmean, dlog_var, n_threads)

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
            with pytest.raises(ValueError, match=r"for a code \(n, 2t\) the others must be \(n, t\)"):
                call(name, [*good[:i], np.zeros(shape, np.float32), *good[i + 1 :]])
        wrong = [array.astype(np.float64), array.astype(np.int32), None, array.tolist(), array[0], array[np.newaxis]]
        wrong += [np.repeat(array, 2, axis=-1)[..., ::2], array.astype(array.dtype.newbyteorder())]
        for value in wrong:
            with pytest.raises((TypeError, ValueError)):
                call(name, [*good[:i], value, *good[i + 1 :]])
        with pytest.raises(TypeError):
            call(name, [*good[:i], None, *good[i + 1 :]])


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
