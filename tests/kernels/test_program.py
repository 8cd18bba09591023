"""Programs: recording, the order of execution, memory, and the state after an error."""

import gc
import itertools
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from program_checks import CONV, POOL, STRIDED, assert_all_equal, logistic, record, recorded_sigmoid

import cvae
from cvae._kernels import conv2d, dense, elementwise, losses, pool2d, winograd
from cvae._kernels.program import Program
from cvae.runtime.programs import execute, run
from cvae.runtime.threads import limit_threads
from cvae.runtime.workspace import aligned_empty, workspace

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
    execute(program)
    once = logistic(original)
    np.testing.assert_allclose(seen, [original, once, once, logistic(double)], rtol=1e-15)


def test_a_hundred_kernels_run_in_their_order():
    program, x = Program(), np.full((101, 7), np.nan)
    x[0] = np.linspace(-3, 3, 7)
    for before, after in itertools.pairwise(x):
        elementwise.sigmoid(program, after, before)
    execute(program)
    np.testing.assert_allclose(x[1:], logistic(x[:-1]), rtol=1e-15)


def training_step(seed):
    """Return the kernels of a small network, forward and backward, each with its arrays and options."""
    rng = np.random.default_rng(seed)

    def new(*shape, dtype=np.float32):
        return rng.standard_normal(shape).astype(dtype)

    x, w1, b1, w2, b2, w3, b3 = (
        new(*shape) for shape in ((8, 14, 14, 2), (3, 3, 2, 20), (20,), (3, 3, 20, 24), (24,), (384, 70), (70,))
    )
    y1, pooled, y2, logits = new(8, 12, 12, 20), new(8, 6, 6, 20), new(8, 4, 4, 24), new(8, 70)
    places, loss, target = np.zeros(pooled.shape, np.int32), new(8, dtype=np.float64), rng.random((8, 70), np.float32)
    weights = np.full(8, 1 / 8)
    dw1, db1, dw2, db2, dw3, db3 = (np.empty_like(array) for array in (w1, b1, w2, b2, w3, b3))
    dy1, dpooled, dy2, dlogits = (np.empty_like(array) for array in (y1, pooled, y2, logits))
    pool, flat_y2, flat_dy2 = POOL | {"stride": 2}, y2.reshape(8, -1), dy2.reshape(8, -1)
    return [
        (conv2d.conv2d_forward, [y1, x, w1, b1], CONV | {"relu": True}),
        (pool2d.max_forward, [pooled, places, y1], pool),
        (winograd.forward, [y2, pooled, w2, b2], STRIDED | {"relu": True}),
        (dense.dense_forward, [logits, flat_y2, w3, b3], {"relu": False}),
        (losses.bce_with_logits, [loss, dlogits, logits, target, weights], {}),
        (dense.dense_backward, [flat_dy2, dw3, db3, flat_y2, dlogits, w3], {"skip_dead": True}),
        (elementwise.relu_backward, [dy2.reshape(-1), dy2.reshape(-1), y2.reshape(-1)], {}),
        (winograd.backward, [dpooled, dw2, db2, pooled, dy2, w2], STRIDED),
        (pool2d.max_backward, [dy1, dpooled, places], pool),
        (elementwise.relu_backward, [dy1.reshape(-1), dy1.reshape(-1), y1.reshape(-1)], {}),
        (conv2d.conv2d_grad_weight, [dw1, db1, x, dy1], CONV),
    ]


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
        execute(record(steps), n_threads)
        assert_all_equal(arrays_of(steps), arrays_of(alone))


def test_a_program_runs_many_times_and_reads_its_arrays_afresh():
    steps, alone, rng = training_step(seed=2), training_step(seed=2), np.random.default_rng(3)
    program = record(steps)
    for n_threads in (1, 3, 2):
        for inputs in zip(steps[0][1][1:], alone[0][1][1:], strict=True):  # images, weights and bias
            inputs[0][...] = inputs[1][...] = rng.standard_normal(inputs[0].shape)
        execute(program, n_threads)
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
            execute(program, 2)
            assert_all_equal(arrays_of(steps), arrays_of(alone))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))


# ---------------------------------------------------------------- calls


def test_calls_get_their_arguments():
    program, seen, arguments = Program(), [], (object(), 2, {})
    program.call(lambda *got: seen.append(got))
    program.call(lambda *got: seen.append(got), *arguments)
    execute(program)
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
            execute(program)
        assert np.isfinite(before).all()
        assert np.isnan(after).all()
    fails[0] = False
    execute(program)
    np.testing.assert_allclose(after, logistic(before), rtol=1e-15)


def test_a_call_may_use_the_same_workspace_and_more_of_it():
    class Renewed:
        """A workspace that returns different memory in each call and invalidates the previous."""

        memories = ()

        def reserve(self, nbytes):
            for memory in self.memories[-1:]:
                memory.fill(0xFF)
            self.memories = (*self.memories, aligned_empty(nbytes))
            return self.memories[-1]

    large = [np.ones(shape, np.float32) for shape in ((1, 8, 8, 512), (1, 12, 12, 64), (5, 5, 64, 512), (512,))]
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
        program.call(lambda: execute(program))
        return weakref.ref(out)

    out = cycle()
    gc.collect()
    assert out() is None


# ---------------------------------------------------------------- how it runs


def test_an_empty_program_runs():
    execute(Program())
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
    program.run(workspace=workspace, n_threads=4096)  # starts few threads, as there is little work
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
    execute(program)
    assert np.isfinite(y).all()


def test_by_default_programs_run_on_the_threads_of_get_num_threads():
    class Observed:
        def run(self, *, workspace, n_threads):
            self.n_threads = n_threads

    program = Observed()
    for limit in (1, 3):
        with limit_threads(limit):
            execute(program)
            assert program.n_threads == cvae.get_num_threads()
    execute(program, 5)
    assert program.n_threads == 5


# ---------------------------------------------------------------- times


def test_timing_computes_the_same_and_tells_the_time_of_each_piece():
    steps, alone = training_step(seed=4), training_step(seed=4)
    run_one_by_one(alone)
    program = record(steps)
    start = time.perf_counter()
    timed = program.timed(workspace=workspace, n_threads=3)
    whole = time.perf_counter() - start
    assert_all_equal(arrays_of(steps), arrays_of(alone))
    assert len(timed) == program.n_stages > len(steps)
    assert all(seconds >= 0 for prepared, pieces, _ in timed for seconds in (prepared, *pieces))
    assert 0 < sum(prepared + sum(pieces) for prepared, pieces, _ in timed) <= whole


def test_timing_divides_pieces_that_are_done_in_one_call_among_the_threads():
    rng, program = np.random.default_rng(0), Program()
    x, w, b, y = rng.random((64, 40)), rng.random((40, 96)), rng.random(96), np.empty((64, 96))
    dense.dense_forward(program, y, x, w, b, relu=False)
    for n_threads in (1, 2, 5):
        y.fill(np.nan)
        ((_, shares, alone),) = program.timed(workspace=workspace, n_threads=n_threads)
        assert len(shares) == (1 if alone else n_threads)
        np.testing.assert_allclose(y, x @ w + b, rtol=1e-12)


def test_timing_calls_what_is_in_between():
    program, x = Program(), np.array([-2.0, 0.5])
    elementwise.sigmoid(program, x, x)
    program.call(lambda: np.multiply(x, 2, out=x))
    elementwise.sigmoid(program, x, x)
    assert len(program.timed(workspace=workspace, n_threads=1)) == 2
    np.testing.assert_allclose(x, logistic(2 * logistic(np.array([-2.0, 0.5]))), rtol=1e-15)
    with pytest.raises(ValueError, match="n_threads must be from 1"):
        program.timed(workspace=workspace, n_threads=0)
