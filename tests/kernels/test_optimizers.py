"""The compiled optimizer updates, compared with the plain reference over several steps."""

from functools import partial

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import assert_margins_untouched, each_dtype, exact, normal, output, read_only

from cvae._kernels import optimizers
from cvae._kernels.program import Program
from cvae.runtime.programs import run as run_kernel
from cvae.runtime.programs import start

# Around multiples of vectors, of pieces (8192) and of the least work for several threads (32768).
SIZES = [0, 1, 3, 15, 16, 17, 33, 8191, 8192, 8193, 32767, 32768, 40001]
EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}
# Each kernel with its number of state arrays and its constants, in the order of its arguments.
KERNELS = {
    "sgd": (1, {"momentum": 0.9}),
    "adagrad": (1, {"eps": 1e-7}),
    "rmsprop": (1, {"decay": 0.9, "eps": 1e-7}),
    "adam": (2, {"decay1": 0.9, "decay2": 0.999, "eps": 1e-7}),
}
each_kernel = pytest.mark.parametrize("name", KERNELS)


def guarded(array):
    copy = output(array.shape, array.dtype)
    copy[...] = array
    return copy


def update(name, program, param, *rest):
    """Record an update with the given state arrays, gradient and scalars."""
    optimizers.update(program, name, param, rest[:-2], *rest[-2:])


def scalars(name, step, lr, grad_scale, constants):
    """Return the scalars that a kernel reads at this step, counted from 1."""
    corrections = [1 - constants[key] ** step for key in ("decay1", "decay2")] if name == "adam" else []
    return np.array([lr, grad_scale, *constants.values(), *corrections])


class Run:
    """A parameter and its state, updated by a kernel recorded once."""

    def __init__(self, name, param, lr=0.01, grad_scale=1.0, **changes):
        states, constants = KERNELS[name]
        self.name, self.how, self.steps = name, (lr, grad_scale, constants | changes), 0
        self.param, self.grad, self.scalars = guarded(param), np.empty_like(param), scalars(name, 1, *self.how)
        self.states = [guarded(np.zeros_like(param)) for _ in range(states)]
        self.program = Program()
        inputs = read_only(self.grad.view()), read_only(self.scalars.view())
        update(name, self.program, self.param, *self.states, *inputs)

    def __call__(self, grad):
        self.steps += 1
        self.grad[:], self.scalars[:] = grad, scalars(self.name, self.steps, *self.how)
        start(self.program, 2)
        assert_margins_untouched(self.param, *self.states)


def check(name, size, dtype, seed, grad_scale=1.0, **changes):
    rng = np.random.default_rng(seed)
    param = normal(rng, (size,), dtype)
    run = Run(name, param, grad_scale=grad_scale, **changes)
    (expected,), state = exact(param), {}
    for _ in range(4):
        grad = normal(rng, (size,), dtype)
        run(grad)
        arguments = KERNELS[name][1] | {"lr": 0.01} | changes
        before, expected = expected, getattr(oracles, name)(expected, grad_scale * exact(grad)[0], state, **arguments)
    # Each step rounds the parameter, which is of order 1, and a change of at most that size.
    scale = np.maximum(np.abs(expected), np.abs(before))
    np.testing.assert_array_less(np.abs(run.param - expected), 8 * EPS[dtype] * (scale + 1))
    for kept, wanted in zip(run.states, [value for key, value in state.items() if key != "t"], strict=True):
        np.testing.assert_allclose(kept, np.broadcast_to(wanted, kept.shape), rtol=0, atol=32 * EPS[dtype])


@each_dtype
@each_kernel
@pytest.mark.parametrize("size", SIZES)
def test_updates_equal_the_reference(name, size, dtype):
    check(name, size, dtype, seed=1)


@each_dtype
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sgd", {"momentum": 0.0}),
        ("sgd", {"lr": 0.5, "momentum": 0.99}),
        ("adagrad", {"eps": 0.1}),
        ("rmsprop", {"decay": 0.0}),
        ("rmsprop", {"decay": 0.5, "eps": 1e-3}),
        ("adam", {"decay1": 0.0, "decay2": 0.0}),
        ("adam", {"decay1": 0.5, "decay2": 0.6, "eps": 1e-3}),
    ],
)
def test_constants_are_used(name, changes, dtype):
    check(name, 100, dtype, seed=2, **changes)


@each_dtype
@each_kernel
@given(size=st.integers(1, 300), seed=st.integers(0, 2**32 - 1), grad_scale=st.floats(0, 1))
def test_the_gradient_counts_grad_scale_times(name, size, seed, grad_scale, dtype):
    check(name, size, dtype, seed, grad_scale=grad_scale)


@each_dtype
@each_kernel
def test_no_gradient_no_move(name, dtype):
    param = normal(np.random.default_rng(3), (1000,), dtype)
    run = Run(name, param)
    for _ in range(3):
        run(np.zeros(1000, dtype))
    np.testing.assert_array_equal(run.param, param)


@each_dtype
@each_kernel
@pytest.mark.parametrize("magnitude", [1e-30, 1e-15, 1e15, 1e30])
def test_extreme_gradients_leave_the_parameter_finite(name, magnitude, dtype):
    run = Run(name, normal(np.random.default_rng(4), (50,), dtype), lr=1e-3)
    for sign in (1, -1, 1):
        run(np.full(50, sign * magnitude, dtype))
    assert np.isfinite(run.param).all()


@each_dtype
@each_kernel
def test_nan_stays_in_its_element(name, dtype):
    grad = np.array(normal(np.random.default_rng(5), (100,), dtype))
    grad[41] = np.nan
    run = Run(name, np.ones(100, dtype))
    run(grad)
    assert np.flatnonzero(np.isnan(run.param)).tolist() == [41]


@each_dtype
@pytest.mark.parametrize("size", [*SIZES, 256 * 8192, 256 * 8192 + 1])
def test_sum_of_squares(size, dtype):
    x = normal(np.random.default_rng(6), (size,), dtype)
    expected = np.square(exact(x)[0]).sum()  # NumPy's pairwise summation has small rounding errors
    assert optimizers.sum_of_squares(x, n_threads=2) == pytest.approx(expected, rel=1e-13)


def test_sum_of_squares_of_large_float32_numbers_does_not_overflow():
    assert optimizers.sum_of_squares(np.full(4, 1e30, np.float32), n_threads=1) == pytest.approx(4e60)


# ------------------------------------------------------------------ arguments


def arrays(name):
    """Return valid arguments: parameter, state, gradient and scalars."""
    states, constants = KERNELS[name]
    return [*(np.zeros(10, np.float32) for _ in range(states + 2)), scalars(name, 1, 0.1, 1.0, constants)]


def call(name, arguments):
    run_kernel(partial(update, name), *arguments)


def of_wrong_types(array):
    """Return the same numbers in forms that no kernel accepts."""
    wrong = [array.astype(np.int32), array.astype(np.float16), None, array.tolist(), array[np.newaxis]]
    return [*wrong, np.repeat(array, 2)[::2], array.astype(array.dtype.newbyteorder())]


@each_kernel
def test_every_array_is_checked(name):
    good = arrays(name)
    call(name, good)
    for i, array in enumerate(good):
        is_scalars = i == len(good) - 1
        message = rf"scalars of {name} must be {array.size} numbers, got " if is_scalars else "same number of elements"
        for size in (0, array.size - 1, array.size + 1):
            with pytest.raises(ValueError, match=message):
                call(name, [*good[:i], np.zeros(size, array.dtype), *good[i + 1 :]])
        for value in [*of_wrong_types(array), array.astype(np.float32 if is_scalars else np.float64)]:
            with pytest.raises((TypeError, ValueError)):
                call(name, [*good[:i], value, *good[i + 1 :]])


def test_the_array_of_sum_of_squares_is_checked():
    for value in of_wrong_types(np.zeros(10, np.float32)):
        with pytest.raises((TypeError, ValueError)):
            optimizers.sum_of_squares(value, n_threads=2)


@each_kernel
def test_parameter_and_state_must_be_writable(name):
    for i in range(KERNELS[name][0] + 1):
        good = arrays(name)
        good[i].flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            call(name, good)


def test_sum_of_squares_refuses_numbers_of_threads_out_of_range():
    for n_threads in (0, -1, 4097, 2**31 - 1):
        with pytest.raises(ValueError, match=f"n_threads must be from 1 to 4096, got {n_threads}"):
            optimizers.sum_of_squares(np.zeros(100_000, np.float32), n_threads=n_threads)
