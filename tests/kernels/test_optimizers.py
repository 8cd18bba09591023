"""The compiled optimizer updates, compared with the plain reference over several steps."""

import math
from functools import partial

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import assert_margins_untouched, each_dtype, exact, normal, output, read_only

from cvae._kernels import optimizers
from cvae._kernels.program import Program
from cvae.runtime.programs import execute
from cvae.runtime.programs import run as run_kernel

# Around multiples of vectors, of pieces (8192) and of the least work for several threads (32768).
SIZES = [0, 1, 3, 15, 16, 17, 33, 8191, 8192, 8193, 32767, 32768, 40001]
EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}
# Each kernel with its number of state arrays and its constants, in the order of its arguments.
KERNELS = {
    "sgd": (1, {"momentum": 0.9}),
    "adagrad": (1, {"eps": 1e-7}),
    "rmsprop": (1, {"decay": 0.9, "eps": 1e-7}),
    "adam": (2, {"decay1": 0.9, "decay2": 0.999, "eps": 1e-7}),
    "adamw": (2, {"decay1": 0.9, "decay2": 0.999, "eps": 1e-7, "weight_decay": 0.1}),
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
    corrections = [1 - constants[key] ** step for key in ("decay1", "decay2")] if name.startswith("adam") else []
    first, rest = list(constants.values())[:3], list(constants.values())[3:]
    return np.array([lr, grad_scale, *first, *corrections, *rest])


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
        execute(self.program, 2)
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
        ("adamw", {"lr": 0.5, "weight_decay": 0.9}),
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
    run = Run(name, param, **({"weight_decay": 0.0} if name == "adamw" else {}))
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


# ------------------------------------------------------------------ clipping


def clip(grad, limit, n_threads=2):
    """What the gradient is multiplied by."""
    scalars = np.array([0.1, np.nan, 0.9])
    run_kernel(optimizers.clip, grad, scalars, limit, n_threads=n_threads)
    assert (scalars[0], scalars[2]) == (0.1, 0.9)
    return scalars[1]


@each_dtype
@pytest.mark.parametrize("size", [*SIZES, 256 * 8192, 256 * 8192 + 1])
def test_clip_equals_the_reference(size, dtype):
    grad = normal(np.random.default_rng(6), (size,), dtype)
    norm = np.sqrt(np.square(exact(grad)[0]).sum())  # numpy adds in pairs, which rounds little
    for limit in (norm / 3, norm / 1.001, 1.001 * norm + 1):
        expected = oracles.clipped(exact(grad)[0], limit)
        np.testing.assert_allclose(clip(grad, limit) * exact(grad)[0], expected, rtol=1e-13)
    assert clip(grad, 1.001 * norm + 1) == 1


@each_dtype
def test_bits_of_clip_do_not_depend_on_the_number_of_threads(dtype):
    for size in (40_001, 256 * 8192 + 1):
        grad = normal(np.random.default_rng(7), (size,), dtype)
        assert len({clip(grad, 0.5, n_threads) for n_threads in range(1, 8)}) == 1


def test_clip_sums_parts_one_after_another_in_float64():
    grad = normal(np.random.default_rng(8), (40_001,), np.float32)
    sums = [sum(x * x for x in part.tolist()) for part in np.split(grad, range(8192, 40_001, 8192))]
    assert clip(grad, 0.5) == pytest.approx(0.5 / math.sqrt(sum(sums)), rel=1e-15)


def test_clip_at_special_values():
    for limit, grad, factor in (
        (0, np.zeros(3), 1),
        (0, np.ones(3), 0),
        (1, np.array([np.nan]), 1),
        (1, np.array([np.inf]), 0),
        (5, np.array([3.0, -4.0]), 1),
        (2.5, np.array([3.0, -4.0]), 0.5),
        (1, np.full(4, 1e30, np.float32), 0.5e-30),  # whose squares overflow in float32
    ):
        assert clip(grad, limit) == pytest.approx(factor, rel=1e-7, abs=0)


def clip_together(grads, limit, n_threads=2):
    """What each of several gradients is multiplied by."""
    scalars = tuple(np.array([0.1, np.nan, 0.9]) for _ in grads)
    run_kernel(optimizers.clip_together, tuple(grads), scalars, limit, n_threads=n_threads)
    return [each[1] for each in scalars]


@each_dtype
def test_gradients_are_clipped_together_as_one_vector(dtype):
    rng = np.random.default_rng(10)
    grads = [normal(rng, (size,), dtype) for size in (1, 40_001, 8193, 256 * 8192 + 1, 3)]
    norm = np.sqrt(sum(np.square(exact(grad)[0]).sum() for grad in grads))
    assert len({*clip_together(grads, 1.001 * norm), 1.0}) == 1
    for limit in (0.0, norm / 3):
        found = {factor for n in range(1, 5) for factor in clip_together(grads, limit, n)}
        assert len(found) == 1
        assert found.pop() == pytest.approx(limit / norm, rel=1e-13)
    assert clip_together(grads[:1], 0.25 * abs(grads[0][0])) == [clip(grads[0], 0.25 * abs(grads[0][0]))]
    assert clip_together([], 1.0) == []


def test_gradients_that_are_clipped_together_have_scalars_each():
    grad, scalars = np.ones(3), np.ones(3)
    with pytest.raises(ValueError, match="scalars for each of 2 gradients, got 1"):
        run_kernel(optimizers.clip_together, (grad, grad), (scalars,), 1.0)
    with pytest.raises(ValueError, match="at least 2 elements, got 1"):
        run_kernel(optimizers.clip_together, (grad,), (scalars[:1],), 1.0)
    for wrong in (grad.astype(np.float16), grad.astype(np.int32), grad[np.newaxis]):
        with pytest.raises(ValueError):  # noqa: PT011
            run_kernel(optimizers.clip_together, (wrong,), (scalars,), 1.0)


@each_dtype
@each_kernel
def test_a_program_clips_and_updates_again_and_again(name, dtype):
    rng = np.random.default_rng(9)
    states, constants = KERNELS[name]
    param, grad = rng.standard_normal((2, 40_001)).astype(dtype)
    kept, (expected,), reference = [np.zeros_like(param) for _ in range(states)], exact(param), {}
    given, program = scalars(name, 1, 0.01, 1.0, constants), Program()
    optimizers.clip(program, grad, given, 30.0)
    optimizers.update(program, name, param, tuple(kept), grad, given)
    for step, size in enumerate((1, 1e-3, 2, 0, 1), start=1):  # some are clipped, others are not
        grad[:] = size * rng.standard_normal(grad.shape)
        given[:] = scalars(name, step, 0.01, np.nan, constants)
        execute(program, 2)
        arguments = constants | {"lr": 0.01, "clip_norm": 30.0}
        expected = getattr(oracles, name)(expected, exact(grad)[0], reference, **arguments)
    np.testing.assert_allclose(param, expected, rtol=0, atol=100 * EPS[dtype])


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


def test_the_arrays_of_clip_are_checked():
    good = np.zeros(10, np.float32), np.zeros(3)
    for value in of_wrong_types(good[0]):
        with pytest.raises((TypeError, ValueError)):
            run_kernel(optimizers.clip, value, good[1], 1.0)
    for value in [*of_wrong_types(good[1]), good[1].astype(np.float32), read_only(np.zeros(3)), np.zeros(1)]:
        with pytest.raises((TypeError, ValueError)):
            run_kernel(optimizers.clip, good[0], value, 1.0)


def test_rules_are_known_by_name():
    expected = {name: (states, 2 + len(constants)) for name, (states, constants) in KERNELS.items()}
    assert optimizers.rules() == expected | {"adam": (2, 7), "adamw": (2, 8)}  # the corrections too
    with pytest.raises(ValueError, match="rule must be one of sgd, adagrad, rmsprop, adam, adamw, got 'lion'"):
        run_kernel(optimizers.update, "lion", np.zeros(1), (np.zeros(1),), np.zeros(1), np.zeros(3))
    for name, (states, _) in KERNELS.items():
        param, *rest = arrays(name)
        for wrong in ((), tuple(rest[:states]) * 2):
            with pytest.raises(ValueError, match=f"{name} must have {states} arrays of state, got {len(wrong)}"):
                run_kernel(optimizers.update, name, param, wrong, *rest[states:])


@each_kernel
def test_parameter_and_state_must_be_writable(name):
    for i in range(KERNELS[name][0] + 1):
        good = arrays(name)
        good[i].flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            call(name, good)
