"""The compiled dense products, compared with the plain reference."""

import itertools

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import assert_close, assert_margins_untouched, each_dtype, exact, normal, output, positive

from cvae._kernels import dense, optimizers
from cvae.runtime.programs import run

WORK = 400_000  # largest number of multiplications of a random case
KERNEL_ARGUMENTS = {"n_threads": 2}


@st.composite
def shapes(draw):
    """The sizes of a case: (m examples, n_in, n_out)."""
    sizes = st.integers(1, 20) | st.integers(1, 700)
    m, n_in = draw(st.integers(1, 20) | st.integers(1, 300)), draw(sizes)
    return m, n_in, draw(st.integers(1, max(1, min(700, WORK // (m * n_in)))))


CORNERS = [
    (1, 1, 1),
    *[(5, 9, n) for n in (3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129)],  # panels, pieces of work
    *[(5, n, 9) for n in (63, 64, 65, 96, 97)],  # the same in the gradient of the input
    *[(m, 7, 10) for m in (2, 3, 4, 5, 6, 7, 11, 12, 13, 167, 168, 169, 300, 336, 337)],  # tiles and blocks of examples
    *[(m, 20, 70) for m in (255, 256, 257, 512, 513, 1009)],  # pieces of work of at most 256 examples
    *[(1, n, 20) for n in (7, 8, 9, 257, 513)],  # a single example
    *[(1, 20, n) for n in (511, 512, 513)],
    *[(3, n, 5) for n in (167, 168, 169, 255, 256, 257, 511, 512, 513, 769)],  # parts of the summed dimension
    *[(3, 5, n) for n in (255, 256, 257, 512, 513)],
    (128, 3136, 33),
    (64, 5, 256),
    (30, 256, 784),
]
corners = pytest.mark.parametrize("shape", CORNERS, ids=str)


def forward(x, w, b, relu=False):
    y = output((len(x), len(b)), x.dtype)
    run(dense.dense_forward, y, x, w, b, relu=relu, **KERNEL_ARGUMENTS)
    return y


def check_forward(shape, dtype, rng):
    m, n_in, n_out = shape
    x, w, b = positive(rng, (m, n_in), dtype), positive(rng, (n_in, n_out), dtype), positive(rng, (n_out,), dtype)
    assert_close(forward(x, w, b), oracles.dense_forward(*exact(x, w, b)))


def backward(dy, x, w, *, skip_dead):
    dx, dw, db = output(x.shape, dy.dtype), output(w.shape, dy.dtype), output((dy.shape[1],), dy.dtype)
    run(dense.dense_backward, dx, dw, db, x, dy, w, skip_dead=skip_dead, **KERNEL_ARGUMENTS)
    for array in (dx, dw, db):
        assert_margins_untouched(array)
    return dx, dw, db


def with_zeros(dy, columns):
    dy = dy.copy()
    dy[:, columns] = 0
    return dy


def check_backward(shape, dtype, rng, dead=None):
    """Compare all gradients, those of `dead` units being zero; None disables the search for such units."""
    m, n_in, n_out = shape
    x, w, dy = positive(rng, (m, n_in), dtype), positive(rng, (n_in, n_out), dtype), positive(rng, (m, n_out), dtype)
    dy = with_zeros(dy, rng.permutation(n_out)[: dead or 0])
    skip_dead = dead is not None
    expected_dx, expected_dw, expected_db = oracles.dense_backward(*exact(dy, x, w))
    for array, expected in zip(
        backward(dy, x, w, skip_dead=skip_dead), (expected_dx, expected_dw, expected_db.reshape(-1)), strict=True
    ):
        assert_close(array, expected)


@each_dtype
@corners
def test_forward_at_corners(shape, dtype):
    check_forward(shape, dtype, np.random.default_rng(1))


@each_dtype
@corners
def test_relu_after_forward(shape, dtype):
    m, n_in, n_out = shape
    rng = np.random.default_rng(1)
    x, w, b = normal(rng, (m, n_in), dtype), normal(rng, (n_in, n_out), dtype), normal(rng, (n_out,), dtype)
    y = forward(x, w, b, relu=True)
    assert_margins_untouched(y)
    np.testing.assert_array_equal(y, np.maximum(forward(x, w, b), 0))


@each_dtype
@corners
def test_backward_at_corners(shape, dtype):
    check_backward(shape, dtype, np.random.default_rng(2))


@each_dtype
@given(shape=shapes(), seed=st.integers(0, 2**32 - 1))
def test_forward(shape, seed, dtype):
    check_forward(shape, dtype, np.random.default_rng(seed))


@each_dtype
@given(shape=shapes(), seed=st.integers(0, 2**32 - 1))
def test_backward(shape, seed, dtype):
    check_backward(shape, dtype, np.random.default_rng(seed))


@each_dtype
@corners
@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.9, 1])
def test_backward_with_dead_units_at_corners(shape, part, dtype):
    check_backward(shape, dtype, np.random.default_rng(6), round(part * shape[2]))


@each_dtype
@given(shape=shapes(), part=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_backward_with_dead_units(shape, part, seed, dtype):
    check_backward(shape, dtype, np.random.default_rng(seed), round(part * shape[2]))


@each_dtype
@pytest.mark.parametrize("n_dead", [0, 1, 40, 299, 300])
def test_leaving_out_dead_units_changes_no_bit(n_dead, dtype):
    rng = np.random.default_rng(7)
    x, w, dy = normal(rng, (300, 50), dtype), normal(rng, (50, 300), dtype), normal(rng, (300, 300), dtype)
    dy = with_zeros(np.where(rng.random(dy.shape) < 0.5, dy, 0), rng.permutation(300)[:n_dead])
    for with_all, without in zip(backward(dy, x, w, skip_dead=False), backward(dy, x, w, skip_dead=True), strict=True):
        np.testing.assert_array_equal(with_all, without)


@each_dtype
def test_weights_of_dead_units_do_not_matter_to_the_gradient_of_the_input(dtype):
    rng = np.random.default_rng(8)
    x, w, dy = positive(rng, (5, 6), dtype), positive(rng, (6, 70), dtype), positive(rng, (5, 70), dtype)
    dead = rng.permutation(70)[:40]
    dy = with_zeros(dy, dead)
    expected = oracles.dense_backward(*exact(dy, x, w))[0]
    w = w.copy()
    w[:, dead] = np.nan
    assert_close(backward(dy, x, w, skip_dead=True)[0], expected)


@corners
@each_dtype
def test_the_gradient_of_the_input_may_take_its_place(shape, dtype):
    m, n_in, n_out = shape
    rng = np.random.default_rng(0)
    x, w, dy = positive(rng, (m, n_in), dtype), positive(rng, (n_in, n_out), dtype), positive(rng, (m, n_out), dtype)
    for dead in (0, n_out // 2):
        dy = with_zeros(dy, rng.permutation(n_out)[:dead])
        dx, dw, db = backward(dy, x, w, skip_dead=True)
        over_x, got_dw, got_db = x.copy(), np.empty_like(dw), np.empty_like(db)
        run(dense.dense_backward, over_x, got_dw, got_db, over_x, dy, w, skip_dead=True, **KERNEL_ARGUMENTS)
        for got, expected in ((over_x, dx), (got_dw, dw), (got_db, db)):
            np.testing.assert_array_equal(got, expected)


@each_dtype
def test_each_gradient_is_the_same_without_the_others(dtype):
    rng = np.random.default_rng(9)
    x, w, dy = normal(rng, (70, 90), dtype), normal(rng, (90, 50), dtype), normal(rng, (70, 50), dtype)
    all_of_them = backward(dy, x, w, skip_dead=False)
    for wanted in itertools.product([False, True], repeat=3):
        some = [output(a.shape, dtype) if is_wanted else None for a, is_wanted in zip(all_of_them, wanted, strict=True)]
        run(dense.dense_backward, *some, x, dy, w, skip_dead=False, **KERNEL_ARGUMENTS)
        for got, expected in zip(some, all_of_them, strict=True):
            if got is not None:
                np.testing.assert_array_equal(got, expected)


STEPS = {"sgd": (0.9,), "adagrad": (1e-7,), "rmsprop": (0.9, 1e-7), "adam": (0.9, 0.999, 1e-7, 0.1, 0.001)}


def step(rule, dtype, size):
    states = tuple(np.full(size, 0.5, dtype) for _ in range(2 if rule == "adam" else 1))
    return rule, states, np.array([0.1, 0.7, *STEPS[rule]])


@each_dtype
@pytest.mark.parametrize("rule", STEPS)
@pytest.mark.parametrize("shape", [(5, 7, 10), (70, 90, 50), (3, 33, 128), (300, 20, 300)], ids=str)
@pytest.mark.parametrize("dead", [False, True])
def test_an_update_on_the_way_gives_the_bits_of_one_afterwards(rule, shape, dead, dtype):
    m, n_in, n_out = shape
    rng = np.random.default_rng(10)
    x, w, dy = normal(rng, (m, n_in), dtype), normal(rng, (n_in, n_out), dtype), normal(rng, (m, n_out), dtype)
    if dead:
        dy = with_zeros(dy, rng.permutation(n_out)[: n_out // 2])
    dx, dw, db = backward(dy, x, w, skip_dead=True)
    afterwards, on_the_way, got_dx, got_db = w.copy(), w.copy(), output(dx.shape, dtype), output(db.shape, dtype)
    _, states, scalars = step(rule, dtype, w.size)
    run(optimizers.update, rule, afterwards.reshape(-1), states, dw.reshape(-1), scalars)
    taken = step(rule, dtype, w.size)
    run(dense.dense_backward, got_dx, None, got_db, x, dy, on_the_way, skip_dead=True, update=taken, **KERNEL_ARGUMENTS)
    for got, expected in zip((got_dx, got_db, on_the_way, *taken[1]), (dx, db, afterwards, *states), strict=True):
        np.testing.assert_array_equal(got, expected)


@each_dtype
@pytest.mark.parametrize(
    "shape",
    [(256, 5, 256), (130, 256, 90), (300, 40, 300), (75, 700, 10), (25, 70, 50), (60, 530, 530)],  # wide: the last
    ids=str,
)
@pytest.mark.parametrize("dead", [False, True])
def test_the_same_bits_with_any_number_of_threads(shape, dead, dtype):
    m, n_in, n_out = shape
    rng = np.random.default_rng(11)
    x, w, b = normal(rng, (m, n_in), dtype), normal(rng, (n_in, n_out), dtype), normal(rng, (n_out,), dtype)
    dy = normal(rng, (m, n_out), dtype)
    if dead:
        dy = with_zeros(dy, rng.permutation(n_out)[: n_out // 2])
    results = []
    for n_threads in (1, 2, 3, 7, 64):
        y, dx, db, moved = output((m, n_out), dtype), output(x.shape, dtype), output((n_out,), dtype), w.copy()
        taken = step("adam", dtype, w.size)
        run(dense.dense_forward, y, x, w, b, relu=True, n_threads=n_threads)
        run(dense.dense_backward, dx, None, db, x, dy, moved, skip_dead=True, update=taken, n_threads=n_threads)
        assert_margins_untouched(y)
        assert_margins_untouched(dx)
        results.append((y, dx, db, moved, *taken[1]))
    for of_many in results[1:]:
        for got, expected in zip(of_many, results[0], strict=True):
            np.testing.assert_array_equal(got, expected)


WRONG_STEPS = {
    "rule": lambda rule, states, scalars: ("newton", states, scalars),
    "scalars": lambda rule, states, scalars: (rule, states, scalars[:-1]),
    "arrays of state": lambda rule, states, scalars: (rule, (*states, *states), scalars),
    "array of state, got None|must have 1 arrays": lambda rule, states, scalars: (rule, (None,), scalars),
    "same number of elements": lambda rule, states, scalars: (rule, (states[0][1:],), scalars),
    "mismatch": lambda rule, states, scalars: (rule, (states[0].astype(np.int32),), scalars),
}


@pytest.mark.parametrize("message", WRONG_STEPS)
def test_a_step_is_checked(message):
    x, w, dy = np.ones((4, 5)), np.ones((5, 6)), np.ones((4, 6))
    with pytest.raises(ValueError, match=message):
        run(
            dense.dense_backward, None, None, None, x, dy, w, skip_dead=False,
            update=WRONG_STEPS[message](*step("rmsprop", np.float64, w.size)),
        )  # fmt: skip


@each_dtype
def test_an_example_gives_the_same_bits_in_any_batch(dtype):
    rng = np.random.default_rng(3)
    x, w, b = normal(rng, (600, 700), dtype), normal(rng, (700, 270), dtype), normal(rng, (270,), dtype)
    x = np.where(x > 0, x, 0)  # a single example skips zeros
    for relu in (False, True):
        together = forward(x, w, b, relu=relu)
        for first, last in ((0, 1), (1, 2), (1, 6), (255, 257), (299, 301), (599, 600)):
            np.testing.assert_array_equal(forward(x[first:last], w, b, relu=relu), together[first:last])


@each_dtype
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16, 300])
def test_weights_of_inputs_that_are_zero_do_not_matter_to_a_single_example(count, dtype):
    rng = np.random.default_rng(5)
    x, w, b = np.zeros((1, 300), dtype), np.full((300, 70), np.nan, dtype), positive(rng, (70,), dtype)
    used = rng.permutation(300)[:count]
    x[0, used], w[used] = positive(rng, (count,), dtype), positive(rng, (count, 70), dtype)
    assert_close(forward(x, w, b), oracles.dense_forward(*exact(x[:, used], w[used], b)))
    w[used[:1], 3] = np.inf
    assert np.isinf(forward(x, w, b)).sum() == min(count, 1)


@each_dtype
def test_nan_and_infinity_stay_in_their_rows(dtype):
    rng = np.random.default_rng(4)
    x, w, b = rng.standard_normal((30, 40)).astype(dtype), normal(rng, (40, 50), dtype), normal(rng, (50,), dtype)
    x[7, 3] = np.nan
    for relu in (False, True):
        y = forward(x, w, b, relu=relu)
        assert np.isnan(y[7]).all()
        assert np.isfinite(np.delete(y, 7, axis=0)).all()


# ------------------------------------------------------------------ arguments

# The axes of each pass's arrays, by letter.
PASSES = {
    "dense_forward": (("m", "o"), ("m", "i"), ("i", "o"), ("o",)),
    "dense_backward": (("m", "i"), ("i", "o"), ("o",), ("m", "i"), ("m", "o"), ("i", "o")),
}
OPTIONS = {
    "dense_forward": {"relu": False},
    "dense_backward": {"skip_dead": True},
}
N_GRADIENTS = 3  # the first arrays of dense_backward, each of which may be None
passes = pytest.mark.parametrize("name", PASSES)


def arrays(name, **sizes):
    sizes = {"m": 4, "i": 5, "o": 6} | sizes
    return [np.zeros([sizes[letter] for letter in axes], np.float32) for axes in PASSES[name]]


def call(name, arguments):
    run(getattr(dense, name), *arguments, **KERNEL_ARGUMENTS, **OPTIONS[name])


@passes
def test_every_array_is_checked(name):
    good = arrays(name)
    call(name, good)
    for i, array in enumerate(good):
        for axis in range(array.ndim):
            for change in (-1, 1):
                shape = list(array.shape)
                shape[axis] += change
                with pytest.raises(ValueError, match="shapes do not fit together"):
                    call(name, [*good[:i], np.zeros(shape, np.float32), *good[i + 1 :]])
        wrong = [array.astype(np.float64), array.astype(np.int32), array.tolist(), array[np.newaxis]]
        wrong.append(np.repeat(array, 2, axis=-1)[..., ::2])
        if name == "dense_forward" or i >= N_GRADIENTS:
            wrong.append(None)
        for value in wrong:
            with pytest.raises((TypeError, ValueError)):
                call(name, [*good[:i], value, *good[i + 1 :]])


@passes
@pytest.mark.parametrize("letter", "mio")
def test_empty_arrays_are_refused(name, letter):
    with pytest.raises(ValueError, match="empty"):
        call(name, arrays(name, **{letter: 0}))


@passes
def test_outputs_must_be_writable(name):
    for i in range(N_GRADIENTS if name == "dense_backward" else 1):
        good = arrays(name)
        good[i].flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            call(name, good)
