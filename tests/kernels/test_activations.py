"""The compiled activation functions and their derivatives, held against the NumPy formulas in float64."""

import numpy as np
import pytest
from kernel_checks import assert_margins_untouched, each_dtype, normal, output, read_only

from cvae._kernels import elementwise
from cvae.activations import (
    ELU,
    GELU,
    SELU,
    ActivationBase,
    Affine,
    Exponential,
    HardSigmoid,
    LeakyReLU,
    Sigmoid,
    SoftPlus,
    Tanh,
)
from cvae.runtime.programs import run

ALL = [
    Sigmoid(), LeakyReLU(), LeakyReLU(alpha=-2), GELU(), GELU(approximate=False), Tanh(), ELU(), ELU(alpha=0.7),
    Affine(slope=2, intercept=-0.5), Affine(slope=0, intercept=1), Exponential(), SELU(), HardSigmoid(), SoftPlus(),
]  # fmt: skip
each_activation = pytest.mark.parametrize("activation", ALL, ids=str)
ULPS = {np.float32: 4, np.float64: 8}  # the float64 formulas are themselves rounded

# Around multiples of vectors, of pieces (4096) and of the least work for several threads (8192).
SIZES = [0, 1, 2, 3, 15, 16, 17, 33, 4095, 4096, 4097, 8191, 8192, 8193, 20_001]


def forward(activation, z, n_threads=2):
    y = output(z.shape, z.dtype)
    run(elementwise.activation_forward, y, z, *activation.compiled, n_threads=n_threads)
    assert_margins_untouched(y)
    return y


def backward(activation, dy, z, n_threads=2):
    dz = output(z.shape, z.dtype)
    run(elementwise.activation_backward, dz, dy, z, *activation.compiled, n_threads=n_threads)
    assert_margins_untouched(dz)
    return dz


def arguments(dtype):
    """Return kinks with their neighbours, values from the smallest to the largest number, and what is no number.

    The smallest number is the smallest normal one, below which kernels may take it for 0.
    """
    info = np.finfo(dtype)
    kinks = np.array([1, 2.5], dtype)
    values = [
        kinks, np.nextafter(kinks, dtype(-9)), np.nextafter(kinks, dtype(9)), [0, 1e4, info.max, np.inf, np.nan],
        np.geomspace(info.tiny, info.max, 3000, dtype=np.longdouble), np.linspace(0, 10, 20_001),
        np.linspace(0, 120 if dtype == np.float32 else 800, 10_001),
    ]  # fmt: skip
    z = np.concatenate(values).astype(dtype)
    return read_only(np.concatenate([z, -z]))


def conditioned(activation, method, z):
    """Return the magnitude to which errors are relative where it exceeds the result's.

    Terms may cancel, and a factor of the result may be subnormal where the result is not.
    """
    small = np.abs(z) < 3
    if isinstance(activation, GELU):
        return np.where(small & (method == "grad"), 0.25, 512 * np.finfo(z.dtype).tiny)
    if isinstance(activation, HardSigmoid | Affine) and method == "fn":
        return np.where(small, 0.5, 0.0)
    return np.full(z.shape, 4 * np.finfo(z.dtype).tiny)


def errors_in_ulps(activation, method, z, got):
    """Return how far the finite results are from the formula in float64; the others must be the same.

    A factor below the smallest normal number may be 0 instead.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        expected = getattr(activation, method)(z.astype(np.float64))
        rounded = expected.astype(z.dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    magnitude = np.maximum(np.abs(rounded), conditioned(activation, method, z))[finite].astype(z.dtype)
    ulp = np.spacing(np.minimum(magnitude, np.finfo(z.dtype).max / 2))
    lost = (4096 if isinstance(activation, GELU) else 8) * np.finfo(z.dtype).tiny
    return z[finite], np.maximum(np.abs(got[finite] - expected[finite]) - lost, 0) / ulp


def without_denormals(x):
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, 0, x)


def allowed(activation, z):
    limit = np.full(z.shape, float(ULPS[z.dtype.type]))
    if isinstance(activation, GELU) and z.dtype == np.float64:
        limit += np.minimum(np.abs(z), 40) ** 4  # exp turns the rounding of its argument into relative errors, in both
    return limit


@each_dtype
@each_activation
def test_values_are_those_of_the_formula(activation, dtype):
    z = arguments(dtype)
    assert isinstance(activation, ActivationBase)
    at, errors = errors_in_ulps(activation, "fn", z, forward(activation, z))
    worst = np.argmax(errors - allowed(activation, at))
    assert errors[worst] <= allowed(activation, at)[worst], (at[worst], errors[worst])


@each_dtype
@each_activation
def test_derivatives_are_those_of_the_formula(activation, dtype):
    z = arguments(dtype)
    at, errors = errors_in_ulps(activation, "grad", z, backward(activation, np.ones_like(z), z))
    worst = np.argmax(errors - allowed(activation, at))
    assert errors[worst] <= allowed(activation, at)[worst], (at[worst], errors[worst])


@each_dtype
@pytest.mark.parametrize(
    ("activation", "kink"),
    [(LeakyReLU(), 0), (Affine(2, -0.5), 0), (ELU(alpha=0.7), 0), (SELU(), 0), (HardSigmoid(), 2.5)],
    ids=str,
)
def test_values_and_derivatives_at_kinks_are_exact(activation, kink, dtype):
    z = np.array([kink, -kink], dtype)
    np.testing.assert_array_equal(forward(activation, z), activation.fn(z))
    np.testing.assert_array_equal(backward(activation, np.ones_like(z), z), activation.grad(z))


@each_dtype
@each_activation
def test_the_gradient_is_multiplied_by_the_derivative(activation, dtype):
    z = arguments(dtype)
    dy = read_only(np.resize(normal(np.random.default_rng(0), (1000,), dtype), z.shape))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        expected = dy * backward(activation, np.ones_like(z), z)
    np.testing.assert_array_equal(without_denormals(backward(activation, dy, z)), without_denormals(expected))


@each_dtype
@each_activation
@pytest.mark.parametrize("size", SIZES)
def test_results_depend_neither_on_threads_nor_on_place(activation, size, dtype):
    rng = np.random.default_rng(size)
    z, dy = read_only(5 * normal(rng, (size,), dtype)), normal(rng, (size,), dtype)
    y, dz = forward(activation, z, 1), backward(activation, dy, z, 1)
    for n_threads in (2, 3, 7):
        np.testing.assert_array_equal(forward(activation, z, n_threads), y)
        np.testing.assert_array_equal(backward(activation, dy, z, n_threads), dz)
    np.testing.assert_array_equal(forward(activation, z[1:].copy()), y[1:])
    np.testing.assert_array_equal(backward(activation, dy[1:].copy(), z[1:].copy()), dz[1:])


@each_dtype
@each_activation
def test_in_place(activation, dtype):
    rng = np.random.default_rng(1)
    z, dy = normal(rng, (9001,), dtype), normal(rng, (9001,), dtype)
    y, dz = forward(activation, z), backward(activation, dy, z)
    in_place = z.copy()
    run(elementwise.activation_forward, in_place, in_place, *activation.compiled, n_threads=2)
    np.testing.assert_array_equal(in_place, y)
    in_place = dy.copy()
    run(elementwise.activation_backward, in_place, in_place, z, *activation.compiled, n_threads=2)
    np.testing.assert_array_equal(in_place, dz)
    in_place = z.copy()
    run(elementwise.activation_backward, in_place, dy, in_place, *activation.compiled, n_threads=2)
    np.testing.assert_array_equal(in_place, dz)


def test_a_subclass_has_no_compiled_function_because_its_formulas_may_differ():
    class Doubled(Tanh):
        def _fn(self, x):
            return 2 * super()._fn(x)

    assert Tanh().compiled == ("tanh", ())
    assert Doubled().compiled is None


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(("record", "count"), [("activation_forward", 2), ("activation_backward", 3)])
def test_every_array_is_checked(record, count):
    def call(arrays):
        run(getattr(elementwise, record), *arrays, "tanh", ())

    good = [np.zeros(10, np.float32) for _ in range(count)]
    call(good)
    for i, array in enumerate(good):
        for size in (0, 9, 11):
            with pytest.raises(ValueError, match="must have the same size"):
                call([*good[:i], np.zeros(size, np.float32), *good[i + 1 :]])
        wrong = [array.astype(np.float64), array.astype(np.int32), None, array.tolist(), array.reshape(2, 5)]
        wrong += [np.repeat(array, 2)[::2], array.astype(array.dtype.newbyteorder())]
        for value in wrong:
            with pytest.raises((TypeError, ValueError)):
                call([*good[:i], value, *good[i + 1 :]])
    good[0].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        call(good)


def test_names_and_constants_are_checked():
    z = np.zeros(3)
    for name in ("relu", "", "Tanh", None):
        with pytest.raises(ValueError, match=r"name must be one of sigmoid, tanh, softplus, .*, got"):
            run(elementwise.activation_forward, z, z, name, ())
    for name, constants in (("elu", ()), ("elu", (1.0, 2.0)), ("affine", (1.0,)), ("tanh", (1.0, 1.0, 1.0))):
        with pytest.raises(ValueError, match=rf"{name} must have \d constants, got {len(constants)}"):
            run(elementwise.activation_backward, z, z, z, name, constants)
    for constants in (None, [1.0], ("1",), (1j,)):
        with pytest.raises(TypeError):
            run(elementwise.activation_forward, z, z, "elu", constants)
