"""How kernels compute: numbers below the smallest normal one, and the floating-point environment of their callers."""

import ctypes
import platform
import subprocess
import sys

import numpy as np
import oracles
import pytest
from kernel_checks import each_dtype
from program_checks import recorded_sigmoid
from small_vae import parameters, random_images, small_vae, subprocess_environment

from cvae._kernels import dense, dispatch, optimizers
from cvae.runtime.programs import execute
from cvae.runtime.programs import run as run_kernel

# Each rule with the scalars after rate and factor, and what the reference takes.
RULES = {
    "sgd": ((0.9,), {"momentum": 0.9}),
    "adagrad": ((1e-7,), {"eps": 1e-7}),
    "rmsprop": ((0.9, 1e-7), {"decay": 0.9, "eps": 1e-7}),
    "adam": ((0.9, 0.999, 1e-7, 0.1, 0.001), {"decay1": 0.9, "decay2": 0.999, "eps": 1e-7}),
    "adamw": ((0.9, 0.999, 1e-7, 0.1, 0.001, 0.0), {"decay1": 0.9, "decay2": 0.999, "eps": 1e-7, "weight_decay": 0.0}),
}
KEYS = {
    "sgd": ("velocity",),
    "adagrad": ("sum",),
    "rmsprop": ("mean",),
    "adam": ("mean", "var"),
    "adamw": ("mean", "var"),
}
on_x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="other processors have another environment"
)


def around_the_smallest_normal(dtype):
    """Return numbers of both signs, denormal and normal, near the smallest normal one, and 0, 1 and NaN."""
    tiny = np.finfo(dtype).tiny
    sizes = tiny * np.geomspace(1e-6, 1e6, 40)
    return np.concatenate([sizes, -sizes, [0, 1, np.nan, np.finfo(dtype).smallest_subnormal, tiny]]).astype(dtype)


@pytest.mark.parametrize("name", RULES)
@each_dtype
def test_a_state_below_the_smallest_normal_number_becomes_zero(name, dtype):
    constants, arguments = RULES[name]
    start, tiny = around_the_smallest_normal(dtype), np.finfo(dtype).tiny
    start = start if name == "sgd" else np.abs(start)
    states = tuple(start.copy() for _ in KEYS[name])
    param, grad = np.ones_like(start), np.zeros_like(start)
    reference = {key: start.astype(np.longdouble) for key in KEYS[name]}
    run_kernel(optimizers.update, name, param, states, grad, np.array([0.01, 1.0, *constants]))
    getattr(oracles, name)(param, grad, reference, lr=0.01, **arguments)
    for state, expected in zip(states, (reference[key] for key in KEYS[name]), strict=True):
        assert not ((state != 0) & (np.abs(state) < tiny)).any()
        is_small, is_large = np.abs(expected) < 0.999 * tiny, np.abs(expected) > 1.001 * tiny
        assert is_small.sum() > 20
        assert is_large.sum() > 20
        np.testing.assert_array_equal(state[is_small], 0)
        np.testing.assert_allclose(state[is_large], expected[is_large].astype(dtype), rtol=1e-6)
        assert np.isnan(state[np.isnan(start)]).all()


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "adamw"])
@each_dtype
def test_a_state_that_decays_ends_at_zero(name, dtype):
    states = tuple(np.full(100, 1e3 * np.finfo(dtype).tiny, dtype) for _ in KEYS[name])
    scalars = np.array([0.01, 1.0, *RULES[name][0]])
    scalars[2:4] = np.where(scalars[2:4] > 0.5, 0.5, scalars[2:4])  # decays by half
    for _ in range(12):
        run_kernel(optimizers.update, name, np.ones(100, dtype), states, np.zeros(100, dtype), scalars)
    for state in states:
        np.testing.assert_array_equal(state, 0)


STATES = """
import numpy as np, cvae
X = np.random.default_rng(0).random((20, 6, 6))
X[:, :3] = 0  # pixels to whose weights no gradient comes
how = {"T": 2, "n_epochs": 1, "batchsize": 10, "random_state": 0, "verbose": False}
for dtype in ("float32", "float64"):
    tiny = np.finfo(dtype).tiny
    for optimizer in ("SGD(momentum=0.9)", "AdaGrad()", "RMSProp()", "Adam()", "AdamW()"):
        vae = cvae.VAE("mlp", optimizer=optimizer, dtype=dtype, **how).fit(X)
        caches = [cache for layer in vae._layers().values() for cache in layer.optimizer.cache.values()]
        values = [value for cache in caches for value in (cache.values() if isinstance(cache, dict) else [cache])]
        states = [value for value in values if isinstance(value, np.ndarray)]
        for state in states:
            state[...] = tiny / 1000
        vae.partial_fit(X)
        print(len(states) > 4, sum(((state != 0) & (abs(state) < tiny)).sum() for state in states))
"""


@pytest.mark.parametrize("isa", dispatch.available())
def test_no_training_keeps_denormal_states(isa):
    done = subprocess.run(
        [sys.executable, "-c", STATES],
        env={**subprocess_environment(), "CVAE_SIMD": isa},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["True", "0"] * 10, done.stderr


@on_x86
@each_dtype
def test_denormal_numbers_count_as_zero_in_kernels(dtype):
    tiny = np.finfo(dtype).tiny
    x, w = np.full((3, 40), tiny / 8, dtype), np.full((40, 20), 1e4, dtype)
    y = np.full((3, 20), np.nan, dtype)
    for n_threads in (1, 3):
        run_kernel(dense.dense_forward, y, x, w, np.zeros(20, dtype), relu=False, n_threads=n_threads)
        np.testing.assert_array_equal(y, 0)
        run_kernel(dense.dense_forward, y, 8 * x, w, np.zeros(20, dtype), relu=False, n_threads=n_threads)
        np.testing.assert_allclose(y, 40 * 1e4 * float(tiny), rtol=1e-5)


# ------------------------------------------------- the environment of the caller


def environment():
    """Return the floating-point environment, as the C library describes it; its size differs, but is at most 64."""
    memory = ctypes.create_string_buffer(64)
    assert libm().fegetenv(memory) == 0
    return memory.raw


def libm():
    if sys.platform == "win32":
        pytest.skip("the C library of Windows is another")
    return ctypes.CDLL(None)


ENVIRONMENT = """
import ctypes, sys
import numpy as np
libm = ctypes.CDLL(None)
def environment():
    memory = ctypes.create_string_buffer(64)
    assert libm.fegetenv(memory) == 0
    return memory.raw
libm.feclearexcept(61)
first = environment()
import cvae, cvae.layers, cvae.plotting, cvae.export
libm.feclearexcept(61)  # flags of exceptions, which Python's own arithmetic sets
print(environment() == first)
X = np.random.default_rng(0).random((40, 12, 12, 1), np.float32)
vae = cvae.VAE("mlp", T=2, n_epochs=1, batchsize=10, n_threads=3, random_state=0, verbose=False).fit(X)
vae.log_likelihood(X[:2], n_samples=3)
libm.feclearexcept(61)
print(environment() == first)
print(np.float32(1e-40) / np.float32(2) > 0, np.finfo("f8").tiny / 2 > 0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the C library of Windows is another")
def test_neither_the_import_nor_training_changes_the_environment():
    done = subprocess.run(
        [sys.executable, "-c", ENVIRONMENT], env=subprocess_environment(), capture_output=True, text=True
    )
    assert done.stdout.split() == ["True"] * 4, done.stderr


def test_a_program_leaves_the_environment_with_its_flags_as_it_was():
    program, _ = recorded_sigmoid(np.geomspace(1e-44, 1e38, 50_000).astype(np.float32))  # which is inexact
    for clears in (True, False):
        if clears:
            libm().feclearexcept(61)
        before = environment()
        for n_threads in (1, 3):
            execute(program, n_threads)
            assert environment() == before


@pytest.mark.skipif(sys.platform != "linux", reason="the names of rounding modes are those of Linux")
@on_x86
@pytest.mark.parametrize("mode", [0x400, 0x800, 0xC00], ids=["down", "up", "to zero"])
def test_bits_depend_neither_on_the_callers_rounding_nor_on_threads_that_round_otherwise(mode):
    x = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    program, out = recorded_sigmoid(x)
    execute(program, 1)
    expected = out.copy()
    for n_threads in (1, 3):
        assert libm().fesetround(mode) == 0
        try:
            execute(program, n_threads)
            assert libm().fegetround() == mode
        finally:
            libm().fesetround(0)
        np.testing.assert_array_equal(out, expected)


def test_training_is_the_same_where_another_package_flushes_denormal_numbers(tmp_path):
    """As packages that were linked with -ffast-math have it for the thread that loads them."""
    source = tmp_path / "fast.c"
    source.write_text("#include <xmmintrin.h>\nvoid set(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }\n")
    if platform.machine().lower() not in ("x86_64", "amd64") or sys.platform == "win32":
        pytest.skip("this is how x86 does it")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "fast.so", source], check=True)
    code = f"""
import sys
import ctypes, numpy as np
from small_vae import parameters, random_images, small_vae
ctypes.CDLL({str(tmp_path / "fast.so")!r}).set()
np.savez(sys.argv[1], **parameters(small_vae(n_threads=3).fit(random_images())))
"""
    out = tmp_path / "parameters.npz"
    environment = {**subprocess_environment(), "PYTHONWARNINGS": "ignore"}  # NumPy warns of its own limits
    subprocess.run([sys.executable, "-c", code, out], env=environment, check=True)
    expected = parameters(small_vae(n_threads=3).fit(random_images()))
    with np.load(out) as got:
        assert {name: got[name].tobytes() for name in got} == {name: each.tobytes() for name, each in expected.items()}
