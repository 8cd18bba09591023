"""What holds for each kernel in a program: when it works, on how many threads, with which memory, and after errors."""

import ctypes
import gc
import math
import threading
import weakref

import numpy as np
import pytest
from program_checks import CONV, POOL, STRIDED, Guarded, assert_all_equal, logistic, record, recorded_sigmoid

from cvae._kernels import (
    bounds,
    condition,
    conv2d,
    conv_pool,
    dense,
    dispatch,
    elementwise,
    latent,
    losses,
    normalization,
    optimizers,
    pixelwise,
    pool2d,
    upsample2d,
    winograd,
)
from cvae.runtime.programs import execute, run

# Every kernel with the shapes of its arrays, of float32 unless another type is given, and its options.
X, W, Y, B = (40, 9, 8, 3), (3, 3, 3, 20), (40, 7, 6, 20), (20,)
POOLED, HALVED = (40, 6, 5, 20), (40, 4, 3, 20)
DEEP, FEW, TO_FEW, FROM_FEW = (40, 9, 8, 16), (40, 7, 6, 2), (3, 3, 16, 2), (3, 3, 2, 16)
MANY, MANY_HALVED = (160, *X[1:]), (160, *HALVED[1:])  # of which vectors of all widths make several pieces
PLACES, BYTES = (POOLED, np.int32), (POOLED, np.uint8)
DIRECT = {"conv": {**CONV, "out_shape": Y[1:3]}, "pool": POOL, "winograd": False}
FAST, KEPT, MADE = DIRECT | {"winograd": True}, {"keep_weights": True}, {"keep_weights": False}
ROWS, PAIRS, CODES, VALUES, FLAT = (9, 1200), (9, 2400), (3, 1200), ((9,), np.float64), (40_001,)
WIDER = (9, 1201)
TOTAL = ((1,), np.float64)


def sgd(program, param, velocity, grad, scalars):
    optimizers.update(program, "sgd", param, (velocity,), grad, scalars)


def clipped_sgd(program, param, velocity, grad, scalars):
    optimizers.clip(program, grad, scalars, 1.0)
    sgd(program, param, velocity, grad, scalars)


def adam(program, param, mean, variance, grad, scalars):
    optimizers.update(program, "adam", param, (mean, variance), grad, scalars)


def gather_int16(program, out, images, indices, offset, scale):
    pixelwise.gather_mapped(program, out, images.view(np.uint8), indices, "int16", offset, scale)


KERNELS = {
    "conv2d_forward": (conv2d.conv2d_forward, [Y, X, W, B], {**CONV, "relu": True}),
    "conv2d_grad_input": (conv2d.conv2d_grad_input, [X, Y, W], CONV),
    "conv2d_transpose": (conv2d.conv2d_transpose, [X, Y, W, (3,)], {**CONV, "relu": True}),
    "conv2d_grad_weight": (conv2d.conv2d_grad_weight, [W, B, X, Y], CONV),
    "few_outputs_forward": (conv2d.conv2d_forward, [FEW, DEEP, TO_FEW, (2,)], {**CONV, "relu": True}),
    "few_outputs_grad_input": (conv2d.conv2d_grad_input, [(40, 9, 8, 2), (40, 7, 6, 16), FROM_FEW], CONV),
    "few_outputs_transpose": (
        conv2d.conv2d_transpose,
        [(40, 9, 8, 2), (40, 7, 6, 16), FROM_FEW, (2,)],
        {**CONV, "relu": False},
    ),
    "winograd_forward": (winograd.forward, [Y, X, W, B], {**STRIDED, "relu": True}),
    "winograd_transpose": (winograd.transpose, [X, Y, W, (3,)], {**STRIDED, "relu": True}),
    "winograd_backward": (winograd.backward, [X, W, B, X, Y, W], STRIDED),
    "polyphase_forward": (winograd.forward, [MANY_HALVED, MANY, W, B], {**STRIDED, "stride": 2, "relu": True}),
    "polyphase_transpose": (winograd.transpose, [X, HALVED, W, (3,)], {**STRIDED, "stride": 2, "relu": True}),
    "polyphase_backward": (winograd.backward, [X, W, B, X, HALVED, W], {**STRIDED, "stride": 2}),
    "conv_pool_forward": (conv_pool.forward, [POOLED, BYTES, X, W, B], DIRECT | KEPT),
    "conv_pool_forward_own": (conv_pool.forward, [POOLED, BYTES, X, W, B], DIRECT | MADE),
    "conv_pool_backward": (conv_pool.backward, [X, W, B, X, BYTES, POOLED, W], DIRECT),
    "conv_pool_forward_winograd": (conv_pool.forward, [POOLED, BYTES, X, W, B], FAST | KEPT),
    "conv_pool_forward_winograd_own": (conv_pool.forward, [POOLED, BYTES, X, W, B], FAST | MADE),
    "conv_pool_backward_winograd": (conv_pool.backward, [X, W, B, X, BYTES, POOLED, W], FAST),
    "max_forward": (pool2d.max_forward, [POOLED, PLACES, Y], POOL),
    "max_backward": (pool2d.max_backward, [Y, POOLED, PLACES], POOL),
    "average_forward": (pool2d.average_forward, [POOLED, Y], POOL),
    "average_backward": (pool2d.average_backward, [Y, POOLED], POOL),
    "upsample_forward": (upsample2d.forward, [(9, 12, 30, 20), (9, 6, 10, 20)], {"factor": (2, 3), "bilinear": True}),
    "upsample_backward": (upsample2d.backward, [(9, 6, 10, 20), (9, 12, 30, 20)], {"factor": (2, 3), "bilinear": True}),
    "normalization_forward": (
        normalization.forward,
        [(3, 900, 20), (3, 20), (3, 20), (3, 900, 20), (20,), (20,)],
        {"groups": 4, "epsilon": 0.1, "relu": True},
    ),
    "normalization_apply": (
        normalization.apply,
        [(3, 900, 20), (3, 900, 20), (1, 20), (1, 20), (20,), (20,)],
        {"epsilon": 0.1, "relu": True},
    ),
    "normalization_backward": (
        normalization.backward,
        [(3, 900, 20), (20,), (20,), (3, 900, 20), (3, 900, 20), (3, 20), (3, 20), (20,)],
        {"groups": 4, "epsilon": 0.1, "measured": True},
    ),
    "condition_forward": (condition.forward, [(9, 60, 80), (9, 60, 70), (9, 10)], {}),
    "condition_backward": (condition.backward, [(9, 60, 70), (9, 60, 80)], {"n_labels": 10}),
    "dense_forward": (dense.dense_forward, [(90, 80), (90, 100), (100, 80), (80,)], {"relu": True}),
    "dense_backward": (
        dense.dense_backward,
        [(2000, 40), (40, 300), (300,), (2000, 40), (2000, 300), (40, 300)],
        {"skip_dead": True},
    ),
    "column_sums": (elementwise.column_sums, [(20,), (5000, 20)], {}),
    "add": (elementwise.add, [FLAT] * 3, {"relu": True}),
    "copy": (elementwise.copy, [FLAT] * 2, {}),
    "scale": (elementwise.scale, [FLAT] * 2, {"factor": 0.3}),
    "relu_backward": (elementwise.relu_backward, [FLAT] * 3, {}),
    "sigmoid": (elementwise.sigmoid, [(10_001,)] * 2, {}),
    "continuous_bernoulli_mean": (pixelwise.continuous_bernoulli_mean, [(10_001,)] * 2, {}),
    "first_columns": (pixelwise.first_columns, [(40, 1001), (40, 1001)], {"low": -1.0, "high": 0.5}),
    "first_of_pairs": (
        pixelwise.first_columns,
        [(40, 1001), (40, 2002)],
        {"low": -1.0, "high": 0.5, "pairs": True},
    ),
    "append_column": (elementwise.append_column, [(40, 1002), (40, 1001), (1,)], {}),
    "split_column": (elementwise.split_column, [(40, 1001), (1,), (40, 1002)], {}),
    "gather": (pixelwise.gather, [(50, 701), (4, 701), ((50,), np.intp)], {}),
    "gather_bytes": (pixelwise.gather_bytes, [(50, 701), ((4, 701), np.uint8), ((50,), np.intp)], {}),
    "gather_mapped": (
        gather_int16,
        [(50, 701), ((4, 701), np.int16), ((50,), np.intp)],
        {"offset": np.arange(7.0), "scale": np.arange(1.0, 8.0)},
    ),
    "bce_with_logits": (losses.bce_with_logits, [VALUES, ROWS, ROWS, CODES, VALUES], {}),
    "continuous_bernoulli": (losses.continuous_bernoulli, [VALUES, ROWS, ROWS, CODES, VALUES], {}),
    "gaussian": (losses.gaussian, [VALUES, ROWS, ROWS, CODES, VALUES], {"scale": 0.5}),
    "laplace": (losses.laplace, [VALUES, ROWS, ROWS, CODES, VALUES], {"scale": 0.5}),
    "gaussian_per_pixel": (losses.gaussian_per_pixel, [VALUES, PAIRS, PAIRS, CODES, VALUES], {"bound": 16}),
    "laplace_per_pixel": (losses.laplace_per_pixel, [VALUES, PAIRS, PAIRS, CODES, VALUES], {"bound": 8}),
    "discretized_logistic": (losses.discretized_logistic, [VALUES, PAIRS, PAIRS, CODES, VALUES], {"bound": 8}),
    "gaussian_shared": (losses.gaussian_shared, [VALUES, WIDER, WIDER, CODES, VALUES], {"bound": 8}),
    "laplace_shared": (losses.laplace_shared, [VALUES, WIDER, WIDER, CODES, VALUES], {"bound": 8}),
    "gaussian_optimal": (losses.gaussian_optimal, [VALUES, WIDER, WIDER, CODES, VALUES], {"least": 0.1}),
    "laplace_optimal": (losses.laplace_optimal, [VALUES, WIDER, WIDER, CODES, VALUES], {"least": 0.1}),
    "gaussian_kl": (losses.gaussian_kl, [VALUES, ROWS, ROWS, ROWS, ROWS, VALUES], {}),
    "free_bits": (bounds.free_bits, [TOTAL, ROWS, ROWS, ROWS, ROWS, VALUES], {"least": 0.1}),
    "importance_weighted": (
        bounds.importance_weighted,
        [TOTAL, VALUES, (9, 6000), CODES, CODES, VALUES, ROWS, ROWS, CODES, CODES, ((3,), np.float64)],
        {"doubly": True},
    ),
    "latent_sample": (latent.sample, [ROWS, CODES, CODES, CODES, (3, 2400), ROWS], {}),
    "latent_backward": (latent.backward, [(3, 2400), ROWS, ROWS, CODES, CODES, CODES], {}),
    "sgd": (sgd, [FLAT, FLAT, FLAT, ((3,), np.float64)], {}),
    "binarize": (pixelwise.binarize, [(9, 1001), (9, 1001), ((1,), np.uint64)], {"by_content": True}),
    "threshold": (pixelwise.threshold, [(40_001,)] * 2, {"limit": 0.5}),
    "is_in_unit_range": (pixelwise.is_in_unit_range, [((1,), np.uint8), FLAT], {}),
    "clipped_sgd": (clipped_sgd, [FLAT, FLAT, FLAT, ((3,), np.float64)], {}),
    "adam": (adam, [FLAT, FLAT, FLAT, FLAT, ((7,), np.float64)], {}),
}
each_kernel = pytest.mark.parametrize(("kernel", "shapes", "options"), KERNELS.values(), ids=KERNELS.keys())


def random_arrays(shapes):
    """Arrays in the middle of memory of their own; integers, from 0 to 3, are places, images or indices."""
    rng = np.random.default_rng(0)
    arrays = []
    for item in shapes:
        shape, dtype = item if isinstance(item[0], tuple) else (item, np.float32)
        size = math.prod(shape) + 2
        memory = rng.uniform(0.1, 1, size) if np.dtype(dtype).kind == "f" else rng.integers(0, 4, size)
        arrays.append(memory.astype(dtype)[1:-1].reshape(shape))
    return arrays


class Stage(ctypes.Structure):
    """As in stages.pxd."""

    _fields_ = (
        ("run", ctypes.c_void_p), ("run_range", ctypes.c_void_p), ("prepare", ctypes.c_void_p),
        ("work", ctypes.c_void_p), ("pieces", ctypes.c_ssize_t), ("alone", ctypes.c_int),
    )  # fmt: skip


class StageList(ctypes.Structure):
    """As in stages.pxd."""

    _fields_ = (
        ("stages", ctypes.POINTER(Stage)), ("count", ctypes.c_ssize_t), ("capacity", ctypes.c_ssize_t),
        ("shared", ctypes.c_ssize_t), ("scratch", ctypes.c_ssize_t),
    )  # fmt: skip


def list_of(program):
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.POINTER(StageList), (ctypes.py_object, ctypes.c_char_p)
    return pointer(program.stages, b"cvae._kernels.program.stages").contents


def stages_of(program):
    found = list_of(program)
    return found.stages[: found.count]


@each_kernel
def test_there_is_enough_work_for_threads_to_share_it(kernel, shapes, options):
    """The tests below would show less otherwise."""
    pieces = [stage for stage in stages_of(record([(kernel, random_arrays(shapes), options)])) if stage.pieces > 1]
    assert pieces
    assert not any(stage.alone for stage in pieces)


@each_kernel
def test_a_kernel_only_records_and_then_needs_no_more_memory_than_it_asked_for(kernel, shapes, options):
    expected = random_arrays(shapes)
    run(kernel, *expected, **options, n_threads=1)
    for n_threads in (1, 3):
        arrays, guarded = random_arrays(shapes), Guarded()
        program = record([(kernel, arrays, options)])
        assert_all_equal(arrays, random_arrays(shapes))
        program.run(workspace=guarded, n_threads=n_threads)
        guarded.assert_guards_untouched()
        assert_all_equal(arrays, expected)


@pytest.mark.skipif(not dispatch.has_openmp(), reason="the kernels were built without OpenMP")
def test_each_thread_has_scratch_memory_of_its_own():
    """A stage whose three pieces wait for each other, so that each is done by another thread."""
    kernel, shapes, options = KERNELS["conv2d_forward"]
    program = record([(kernel, random_arrays(shapes), options)])
    found, seen, together = list_of(program), [], threading.Barrier(3, timeout=60)

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p)
    def note(work, index, shared, scratch):
        seen.append((scratch, shared, index))
        together.wait()

    last = found.stages[found.count - 1]
    last.run, last.pieces, last.alone = ctypes.cast(note, ctypes.c_void_p), 3, False
    program.run(workspace=Guarded(), n_threads=3)
    scratch, shared, indices = zip(*sorted(seen), strict=True)
    assert sorted(indices) == [0, 1, 2]
    assert len(set(shared)) == 1
    assert found.scratch > 0
    assert np.diff(scratch).tolist() == [found.scratch] * 2
    assert scratch[0] >= shared[0] + found.shared


@pytest.fixture(scope="module")
def few_objects():
    """Have garbage collection look at new objects alone: there are millions of others when all tests run."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@each_kernel
def test_arrays_live_as_long_as_the_program(kernel, shapes, options, few_objects):
    def recorded():
        arrays = random_arrays(shapes)
        return record([(kernel, arrays, options)]), [weakref.ref(array.base) for array in arrays]

    program, memories = recorded()
    gc.collect()
    assert all(memory() is not None for memory in memories)
    execute(program)
    del program
    gc.collect()
    assert all(memory() is None for memory in memories)


@each_kernel
def test_a_kernel_that_raises_leaves_what_was_recorded_before(kernel, shapes, options):
    x = np.linspace(-3, 3, 5)
    program, out = recorded_sigmoid(x)
    wrong = random_arrays(shapes)
    wrong[0] = np.zeros((*wrong[0].shape[:-1], wrong[0].shape[-1] + 1), wrong[0].dtype)
    with pytest.raises(ValueError, match=r"must|do not fit"):
        kernel(program, *wrong, **options)
    twice = np.full_like(x, np.nan)
    elementwise.sigmoid(program, twice, out)
    execute(program)
    np.testing.assert_allclose([out, twice], [logistic(x), logistic(out)], rtol=1e-15)


@each_kernel
def test_only_programs_record(kernel, shapes, options):
    for wrong in (None, object(), [], "program", 1):
        with pytest.raises((TypeError, AttributeError)):
            kernel(wrong, *random_arrays(shapes), **options)
