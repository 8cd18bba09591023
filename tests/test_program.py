"""Programs: what kernels record, in which order and with which memory it runs, and what an error leaves behind."""

import gc
import itertools
import math
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import cvae
from cvae._kernels import conv2d, conv_pool, dense, dispatch, elementwise, latent, losses, optimizers, pool2d, winograd
from cvae._kernels.program import Program
from cvae.programs import run, start
from cvae.threads import limit_threads
from cvae.workspace import ALIGNMENT, aligned_empty, workspace

# Every kernel with the shapes of its arrays, of float32 unless another type is given, and its options.  There is enough
# work that threads share it.
X, W, Y, B = (6, 9, 8, 3), (3, 3, 3, 20), (6, 7, 6, 20), (20,)
PAD = {"pad_top": 0, "pad_left": 0}
CONV, POOL = {**PAD, "stride": 1, "dilation": 0}, {**PAD, "stride": 1, "kernel_shape": (2, 2)}
POOLED = (6, 6, 5, 20)
PLACES, BYTES = (POOLED, np.int32), (POOLED, np.uint8)
DIRECT = {"conv": {**CONV, "out_shape": Y[1:3]}, "pool": POOL, "winograd": False}
FAST, KEPT = DIRECT | {"winograd": True}, {"keep_weights": True}
ROWS, CODE, TOTALS, FLAT = (9, 500), (9, 1000), ((9,), np.float64), (40_001,)
KERNELS = {
    "conv2d_forward": (conv2d.conv2d_forward, [Y, X, W, B], {**CONV, "relu": True}),
    "conv2d_grad_input": (conv2d.conv2d_grad_input, [X, Y, W], CONV),
    "conv2d_grad_weight": (conv2d.conv2d_grad_weight, [W, B, X, Y], CONV),
    "winograd_forward": (winograd.forward, [Y, X, W, B], {**PAD, "relu": True}),
    "winograd_backward": (winograd.backward, [X, W, B, X, Y, W], PAD),
    "conv_pool_forward": (conv_pool.forward, [POOLED, BYTES, X, W, B], DIRECT | KEPT),
    "conv_pool_backward": (conv_pool.backward, [X, W, B, X, POOLED, BYTES, POOLED, W], DIRECT),
    "conv_pool_forward_winograd": (conv_pool.forward, [POOLED, BYTES, X, W, B], FAST | KEPT),
    "conv_pool_backward_winograd": (conv_pool.backward, [X, W, B, X, POOLED, BYTES, POOLED, W], FAST),
    "max_forward": (pool2d.max_forward, [POOLED, PLACES, Y], POOL),
    "max_backward": (pool2d.max_backward, [Y, POOLED, PLACES], POOL),
    "average_forward": (pool2d.average_forward, [POOLED, Y], POOL),
    "average_backward": (pool2d.average_backward, [Y, POOLED], POOL),
    "dense_forward": (dense.dense_forward, [(40, 50), (40, 60), (60, 50), (50,)], {"relu": True}),
    "dense_grad_input": (dense.dense_grad_input, [(40, 60), (40, 50), (60, 50)], {"skip_dead": True}),
    "dense_grad_weight": (dense.dense_grad_weight, [(60, 50), (50,), (40, 60), (40, 50)], {"skip_dead": True}),
    "relu_backward": (elementwise.relu_backward, [FLAT] * 3, {}),
    "sigmoid": (elementwise.sigmoid, [(10_001,)] * 2, {}),
    "gather": (elementwise.gather, [(50, 701), (4, 701), ((50,), np.intp)], {}),
    "gather_bytes": (elementwise.gather_bytes, [(50, 701), ((4, 701), np.uint8), ((50,), np.intp)], {}),
    "bce_with_logits": (losses.bce_with_logits, [TOTALS, ROWS, ROWS, ROWS], {"scale": 0.5}),
    "gaussian_kl": (losses.gaussian_kl, [TOTALS, ROWS, ROWS, ROWS, ROWS], {"scale": 0.5}),
    "latent_sample": (latent.sample, [ROWS, ROWS, ROWS, ROWS, CODE, ROWS], {}),
    "latent_backward": (latent.backward, [CODE, ROWS, ROWS, ROWS, ROWS, ROWS], {}),
    "sgd": (optimizers.sgd, [FLAT, FLAT, FLAT, ((3,), np.float64)], {}),
    "adagrad": (optimizers.adagrad, [FLAT, FLAT, FLAT, ((3,), np.float64)], {}),
    "rmsprop": (optimizers.rmsprop, [FLAT, FLAT, FLAT, ((4,), np.float64)], {}),
    "adam": (optimizers.adam, [FLAT, FLAT, FLAT, FLAT, ((7,), np.float64)], {}),
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


def assert_all_equal(got, expected):
    for array, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(array, other)


def logistic(x):
    return 1 / (1 + np.exp(-x))


def recorded_sigmoid(x):
    """A program that writes sigmoid(x) to an array, and that array."""
    program, out = Program(), np.full_like(x, np.nan)
    elementwise.sigmoid(program, out, x)
    return program, out


# ---------------------------------------------------------------- order


def test_kernels_and_calls_take_their_turns():
    program, x, seen = Program(), np.array([-2.0, 0.5, 3.0]), []
    original, double = x.copy(), np.full(3, 2.0)

    def look():
        seen.append(x.copy())

    program.call(look)
    elementwise.sigmoid(program, x, x)
    program.call(look)
    program.call(look)
    elementwise.relu_backward(program, x, double, x)
    elementwise.sigmoid(program, x, x)
    program.call(look)
    assert_all_equal([x], [original])  # recorded, not run
    start(program)
    once = logistic(original)
    np.testing.assert_allclose(seen, [original, once, once, logistic(double)], rtol=1e-15)


def test_a_hundred_kernels_run_in_their_order():
    program, x = Program(), np.full((101, 7), np.nan)
    x[0] = np.linspace(-3, 3, 7)
    for before, after in itertools.pairwise(x):
        elementwise.sigmoid(program, after, before)
    start(program)
    np.testing.assert_allclose(x[1:], logistic(x[:-1]), rtol=1e-15)


def training_step(seed):
    """The kernels of a small network, forward and backward, each with its arrays and options."""
    rng = np.random.default_rng(seed)

    def new(*shape, dtype=np.float32):
        return rng.standard_normal(shape).astype(dtype)

    x, w1, b1, w2, b2, w3, b3 = (
        new(*shape) for shape in ((8, 14, 14, 2), (3, 3, 2, 20), (20,), (3, 3, 20, 24), (24,), (384, 70), (70,))
    )
    y1, pooled, y2, logits = new(8, 12, 12, 20), new(8, 6, 6, 20), new(8, 4, 4, 24), new(8, 70)
    places, loss, target = np.zeros(pooled.shape, np.int32), new(8, dtype=np.float64), rng.random((8, 70), np.float32)
    dw1, db1, dw2, db2, dw3, db3 = (np.empty_like(array) for array in (w1, b1, w2, b2, w3, b3))
    dy1, dpooled, dy2, dlogits = (np.empty_like(array) for array in (y1, pooled, y2, logits))
    pool, flat_y2, flat_dy2 = POOL | {"stride": 2}, y2.reshape(8, -1), dy2.reshape(8, -1)
    return [
        (conv2d.conv2d_forward, [y1, x, w1, b1], CONV | {"relu": True}),
        (pool2d.max_forward, [pooled, places, y1], pool),
        (winograd.forward, [y2, pooled, w2, b2], PAD | {"relu": True}),
        (dense.dense_forward, [logits, flat_y2, w3, b3], {"relu": False}),
        (losses.bce_with_logits, [loss, dlogits, logits, target], {"scale": 1 / 8}),
        (dense.dense_grad_weight, [dw3, db3, flat_y2, dlogits], {"skip_dead": True}),
        (dense.dense_grad_input, [flat_dy2, dlogits, w3], {"skip_dead": True}),
        (elementwise.relu_backward, [dy2.reshape(-1), dy2.reshape(-1), y2.reshape(-1)], {}),
        (winograd.backward, [dpooled, dw2, db2, pooled, dy2, w2], PAD),
        (pool2d.max_backward, [dy1, dpooled, places], pool),
        (elementwise.relu_backward, [dy1.reshape(-1), dy1.reshape(-1), y1.reshape(-1)], {}),
        (conv2d.conv2d_grad_weight, [dw1, db1, x, dy1], CONV),
    ]


def record(steps):
    program = Program()
    for kernel, arrays, options in steps:
        kernel(program, *arrays, **options)
    return program


def run_one_by_one(steps, n_threads=None):
    for kernel, arrays, options in steps:
        run(kernel, *arrays, **options, n_threads=n_threads)


def arrays_of(steps):
    return [array for _, arrays, _ in steps for array in arrays]


def test_a_program_computes_what_its_kernels_compute_one_by_one_with_any_number_of_threads():
    alone = training_step(seed=1)
    run_one_by_one(alone, n_threads=1)
    assert all(np.isfinite(array).all() for array in arrays_of(alone))
    for n_threads in (1, 2, 3, 7):
        steps = training_step(seed=1)
        start(record(steps), n_threads)
        assert_all_equal(arrays_of(steps), arrays_of(alone))


def test_a_program_runs_many_times_and_reads_its_arrays_afresh():
    steps, alone, rng = training_step(seed=2), training_step(seed=2), np.random.default_rng(3)
    program = record(steps)
    for n_threads in (1, 3, 2):
        for inputs in zip(steps[0][1][1:], alone[0][1][1:], strict=True):  # images, weights and bias
            inputs[0][...] = inputs[1][...] = rng.standard_normal(inputs[0].shape)
        start(program, n_threads)
        run_one_by_one(alone)
        assert_all_equal(arrays_of(steps), arrays_of(alone))


def test_python_threads_may_run_programs_at_the_same_time():
    everyone = threading.Barrier(3)

    def work(seed):
        steps, alone = training_step(seed), training_step(seed)
        program = record(steps)
        run_one_by_one(alone)
        everyone.wait()
        for _ in range(20):
            start(program, 2)
            assert_all_equal(arrays_of(steps), arrays_of(alone))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))


# ---------------------------------------------------------------- every kernel


class Guarded:
    """A workspace of exactly as many bytes as are asked for, all bits set as in NaN, with a guard on both sides."""

    def reserve(self, nbytes):
        self.memory = aligned_empty(ALIGNMENT + nbytes + ALIGNMENT)
        self.memory.fill(0xFF)
        return self.memory[ALIGNMENT:-ALIGNMENT]

    def assert_guards_untouched(self):
        assert (self.memory[:ALIGNMENT] == 0xFF).all()
        assert (self.memory[-ALIGNMENT:] == 0xFF).all()


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
    kernel, shapes, options = KERNELS["conv2d_grad_input"]
    one, three = Guarded(), Guarded()
    for n_threads, guarded in ((1, one), (3, three)):
        record([(kernel, random_arrays(shapes), options)]).run(workspace=guarded, n_threads=n_threads)
    size = (three.memory.size - one.memory.size) // 2
    scratch = three.memory[-ALIGNMENT - 3 * size : -ALIGNMENT].reshape(3, size)
    assert (scratch != 0xFF).any(axis=1).all()


@each_kernel
def test_arrays_live_as_long_as_the_program(kernel, shapes, options):
    def recorded():
        arrays = random_arrays(shapes)
        return record([(kernel, arrays, options)]), [weakref.ref(array.base) for array in arrays]

    program, memories = recorded()
    gc.collect()
    assert all(memory() is not None for memory in memories)
    start(program)
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
    start(program)
    np.testing.assert_allclose([out, twice], [logistic(x), logistic(out)], rtol=1e-15)


@each_kernel
def test_only_programs_record(kernel, shapes, options):
    for wrong in (None, object(), [], "program", 1):
        with pytest.raises((TypeError, AttributeError)):
            kernel(wrong, *random_arrays(shapes), **options)


# ---------------------------------------------------------------- calls


def test_calls_get_their_arguments():
    program, seen, arguments = Program(), [], (object(), 2, {})
    program.call(lambda *got: seen.append(got))
    program.call(lambda *got: seen.append(got), *arguments)
    start(program)
    assert seen == [(), arguments]


def test_an_exception_of_a_call_comes_out_and_the_program_runs_again():
    x = np.linspace(-3, 3, 5)
    program, before = recorded_sigmoid(x)
    after, fails = np.full_like(x, np.nan), [True]

    def fail():
        if fails[0]:
            raise KeyError("in a call")

    program.call(fail)
    elementwise.sigmoid(program, after, before)
    for _ in range(2):
        with pytest.raises(KeyError, match="in a call"):
            start(program)
        assert np.isfinite(before).all()
        assert np.isnan(after).all()
    fails[0] = False
    start(program)
    np.testing.assert_allclose(after, logistic(before), rtol=1e-15)


def test_a_call_may_use_the_same_workspace_and_more_of_it():
    class Renewed:
        """A workspace whose memory is somewhere else at each call; what it gave before is lost."""

        memories = ()

        def reserve(self, nbytes):
            for memory in self.memories[-1:]:
                memory.fill(0xFF)
            self.memories = (*self.memories, aligned_empty(nbytes))
            return self.memories[-1]

    large = [np.ones(shape, np.float32) for shape in ((1, 1, 1, 512), (1, 5, 5, 64), (5, 5, 64, 512), (512,))]
    inner, renewed = record([(conv2d.conv2d_forward, large, CONV | {"relu": False})]), Renewed()
    steps, alone, program = training_step(seed=4)[:3], training_step(seed=4)[:3], Program()
    for kernel, arrays, options in steps:
        kernel(program, *arrays, **options)
        program.call(lambda: inner.run(workspace=renewed, n_threads=2))
    program.run(workspace=renewed, n_threads=2)
    run_one_by_one(alone)
    assert_all_equal(arrays_of(steps), arrays_of(alone))
    assert (large[0] == 5 * 5 * 64 + 1).all()
    *used, _ = renewed.memories
    assert used[0].size < used[1].size
    assert all((memory == 0xFF).all() for memory in used)


def test_a_program_whose_call_refers_to_it_is_collected():
    def cycle():
        program, out = recorded_sigmoid(np.zeros(3))
        program.call(lambda: start(program))
        return weakref.ref(out)

    out = cycle()
    gc.collect()
    assert out() is None


# ---------------------------------------------------------------- how it runs


def test_an_empty_program_runs():
    start(Program())
    Program().run(workspace=None, n_threads=1)  # it needs no memory
    program, seen = Program(), []
    program.call(seen.append, 1)
    program.run(workspace=None, n_threads=1)
    assert seen == [1]


def test_numbers_of_threads_out_of_range_are_refused():
    program, out = recorded_sigmoid(np.zeros(3))
    for n_threads in (0, -1, 4097, 2**31 - 1):
        for refusing in (program, Program()):
            with pytest.raises(ValueError, match=f"n_threads must be from 1 to 4096, got {n_threads}$"):
                refusing.run(workspace=workspace, n_threads=n_threads)
    for n_threads in ("1", None, [1], 2**31, 2**64, -(2**64)):
        with pytest.raises((TypeError, OverflowError)):
            program.run(workspace=workspace, n_threads=n_threads)
    assert np.isnan(out).all()
    program.run(workspace=workspace, n_threads=4096)  # as there is little to do, it does not start them
    assert (out == 0.5).all()


@pytest.mark.parametrize("size", [None, 0, 1, 1000, "one less"])
def test_a_workspace_that_is_too_small_is_refused(size):
    class Small:
        def reserve(self, nbytes):
            return None if size is None else aligned_empty(nbytes - 1 if size == "one less" else size)

    steps = training_step(seed=5)[:1]
    program, y = record(steps), steps[0][1][0]
    y.fill(np.nan)
    with pytest.raises(ValueError, match=r"workspace must reserve at least \d+ bytes$"):
        program.run(workspace=Small(), n_threads=2)
    assert np.isnan(y).all()
    start(program)
    assert np.isfinite(y).all()


def test_by_default_programs_run_on_the_threads_of_get_num_threads():
    class Observed:
        def run(self, *, workspace, n_threads):
            self.n_threads = n_threads

    program = Observed()
    for limit in (1, 3):
        with limit_threads(limit):
            start(program)
            assert program.n_threads == cvae.get_num_threads()
    start(program, 5)
    assert program.n_threads == 5
