"""The compiled pooling, compared with the plain reference; maxima must be equal bit for bit."""

from typing import NamedTuple

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import assert_close, assert_margins_untouched, each_dtype, exact, normal, output, positive

from cvae._kernels import pool2d
from cvae.runtime.programs import run


class Case(NamedTuple):
    """The sizes of a case by the letters of kernels.h; padding is (top, bottom, left, right)."""

    n: int
    h: int
    w: int
    c: int
    r: int
    s: int
    stride: int = 1
    pad: tuple = oracles.NO_PAD

    @property
    def x_shape(self):
        return self.n, self.h, self.w, self.c

    @property
    def y_shape(self):
        size = oracles.output_shape(np.empty(self.x_shape[:3]), (self.r, self.s), self.stride, self.pad)
        return self.n, *size, self.c

    def kernel_arguments(self, n_threads=2):
        return {
            "kernel_shape": (self.r, self.s),
            "stride": self.stride,
            "pad_top": self.pad[0],
            "pad_left": self.pad[2],
            "n_threads": n_threads,
        }

    def oracle_arguments(self):
        return {"kernel_shape": (self.r, self.s), "stride": self.stride, "pad": self.pad}


@st.composite
def cases(draw):
    c = draw(st.integers(1, 9) | st.integers(1, 130))
    kernel_shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    stride = draw(st.integers(1, 3))
    oh, ow = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    n = draw(st.integers(1, min(300, max(1, 4000 // (oh * ow * c)))))
    size, pad = [], []
    for taps, out in zip(kernel_shape, (oh, ow), strict=True):
        padded = (out - 1) * stride + taps + draw(st.integers(0, stride - 1))
        before = draw(st.integers(0, min(9, padded - 1)))
        after = draw(st.integers(0, min(9, padded - 1 - before)))
        size.append(padded - before - after)
        pad += [before, after]
    return Case(n, *size, c, *kernel_shape, stride, tuple(pad))


CORNERS = {
    "1x1": Case(2, 3, 4, 5, 1, 1),
    "1x1 with stride": Case(2, 7, 8, 5, 1, 1, 3),
    "overlapping": Case(2, 9, 8, 6, 3, 4),
    "stride larger than the window": Case(2, 11, 12, 3, 2, 2, 3),
    "the whole image": Case(3, 6, 5, 4, 6, 5),
    "windows that see only padding": Case(2, 2, 3, 4, 2, 2, 2, (5, 4, 6, 3)),
    "same": Case(2, 6, 7, 3, 3, 2, 1, oracles.same_pad((6, 7), (3, 2), 1)),
    "same with stride": Case(2, 6, 7, 3, 3, 2, 2, oracles.same_pad((6, 7), (3, 2), 2)),
    "many windows that overlap": Case(40, 12, 12, 32, 2, 2),
    "300 images": Case(300, 4, 4, 2, 2, 2, 2),
    **{f"{c} channels": Case(2, 5, 5, c, 2, 2) for c in (1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 130)},
}
corners = pytest.mark.parametrize("case", CORNERS.values(), ids=CORNERS.keys())


def max_forward(case, x, n_threads=2):
    y, argmax = output(case.y_shape, x.dtype), output(case.y_shape, np.int32)
    run(pool2d.max_forward, y, argmax, x, **case.kernel_arguments(n_threads))
    assert_margins_untouched(y, argmax)
    return y, argmax


def check_max(case, x, dy):
    y, argmax = max_forward(case, x)
    expected_y, expected_argmax = oracles.pool2d_max_forward(x.astype(np.float64), **case.oracle_arguments())
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(argmax, expected_argmax)

    dx = output(case.x_shape, dy.dtype)
    run(pool2d.max_backward, dx, dy, argmax, **case.kernel_arguments())
    arguments = case.oracle_arguments()
    assert_close(dx, oracles.pool2d_max_backward(dy.astype(np.float64), argmax, case.x_shape, **arguments))


def check_average(case, x, dy):
    y = output(case.y_shape, x.dtype)
    run(pool2d.average_forward, y, x, **case.kernel_arguments())
    x, dy64 = exact(x, dy)
    assert_close(y, oracles.pool2d_average_forward(x, **case.oracle_arguments()))
    dx = output(case.x_shape, dy.dtype)
    run(pool2d.average_backward, dx, dy, **case.kernel_arguments())
    assert_close(dx, oracles.pool2d_average_backward(dy64, case.x_shape, **case.oracle_arguments()))


def with_ties(rng, shape, dtype):
    """Return numbers around 0 with few distinct values, so that maxima occur several times in a window."""
    return rng.integers(-2, 2, shape).astype(dtype)


@each_dtype
@corners
def test_max_at_corners(case, dtype):
    rng = np.random.default_rng(1)
    dy = positive(rng, case.y_shape, dtype)
    check_max(case, normal(rng, case.x_shape, dtype), dy)
    check_max(case, with_ties(rng, case.x_shape, dtype), dy)


@each_dtype
@corners
def test_average_at_corners(case, dtype):
    rng = np.random.default_rng(2)
    check_average(case, positive(rng, case.x_shape, dtype), positive(rng, case.y_shape, dtype))


@each_dtype
@given(case=cases(), seed=st.integers(0, 2**32 - 1), ties=st.booleans())
def test_max(case, seed, ties, dtype):
    rng = np.random.default_rng(seed)
    draw = with_ties if ties else normal
    check_max(case, draw(rng, case.x_shape, dtype), positive(rng, case.y_shape, dtype))


@each_dtype
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_average(case, seed, dtype):
    rng = np.random.default_rng(seed)
    check_average(case, positive(rng, case.x_shape, dtype), positive(rng, case.y_shape, dtype))


@each_dtype
@given(case=cases(), seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.01, 0.1, 0.5, 1.0]))
def test_max_of_windows_with_nan_and_infinities(case, seed, share, dtype):
    rng = np.random.default_rng(seed)
    x = with_ties(rng, case.x_shape, dtype)
    special = rng.choice([np.nan, np.inf, -np.inf], x.shape).astype(dtype)
    check_max(case, np.where(rng.random(x.shape) < share, special, x), positive(rng, case.y_shape, dtype))


def one_window(values, pad=oracles.NO_PAD, dtype=np.float32):
    """Return the maximum of a single window over the rows of `values`, its argmax, and the gradient for dy = 1."""
    x = np.array(values, dtype)[np.newaxis, :, :, np.newaxis]
    case = Case(*x.shape, x.shape[1] + pad[0] + pad[1], x.shape[2] + pad[2] + pad[3], 1, pad)
    y, argmax = max_forward(case, x)
    dx = output(x.shape, dtype)
    run(pool2d.max_backward, dx, np.ones_like(y), argmax, **case.kernel_arguments())
    return y.item(), argmax.item(), dx[0, :, :, 0].tolist()


@each_dtype
def test_the_first_of_equal_maxima_wins(dtype):
    assert one_window([[1, 3], [3, 3]], dtype=dtype) == (3, 1, [[0, 1], [0, 0]])
    assert one_window([[-0.0, 0.0]], dtype=dtype)[1:] == (0, [[1, 0]])
    assert one_window([[2, 2], [2, 2]], dtype=dtype) == (2, 0, [[1, 0], [0, 0]])


@each_dtype
def test_nan_is_the_maximum_and_the_first_one_is_its_place(dtype):
    nan = float("nan")
    for values, place in (([[5, nan], [nan, 9]], 1), ([[nan, 5], [7, 9]], 0), ([[5, 1], [1, nan]], 3)):
        y, argmax, _ = one_window(values, dtype=dtype)
        assert np.isnan(y)
        assert argmax == place
    y, argmax, dx = one_window([[float("inf"), nan]], dtype=dtype)
    assert np.isnan(y)
    assert (argmax, dx) == (1, [[0, 1]])


@each_dtype
def test_minus_infinity_is_a_number_like_others(dtype):
    low = float("-inf")
    assert one_window([[low, low]], dtype=dtype) == (low, 0, [[1, 0]])
    assert one_window([[low, -3e38]], dtype=dtype)[1:] == (1, [[0, 1]])
    assert one_window([[low, low]], pad=(0, 0, 0, 1), dtype=dtype) == (0, 2, [[0, 0]])


@each_dtype
def test_zeros_of_the_padding_win_against_negatives_and_their_gradient_is_dropped(dtype):
    assert one_window([[-1, -2]], pad=(0, 0, 0, 1), dtype=dtype) == (0, 2, [[0, 0]])
    assert one_window([[-1, -2]], pad=(1, 0, 0, 0), dtype=dtype) == (0, 0, [[0, 0]])
    # Of equal values, the first counts, even if it is padding.
    assert one_window([[0, -2]], pad=(0, 1, 0, 0), dtype=dtype) == (0, 0, [[1, 0]])
    assert one_window([[0, -2]], pad=(1, 0, 0, 0), dtype=dtype) == (0, 0, [[0, 0]])
    assert one_window([[1, -2]], pad=(1, 1, 1, 1), dtype=dtype) == (1, 5, [[1, 0]])


@each_dtype
def test_gradients_of_overlapping_windows_add_up(dtype):
    case = Case(1, 3, 3, 1, 2, 2)
    x = np.zeros(case.x_shape, dtype)
    x[0, 1, 1] = 1  # the maximum of all four windows
    y, argmax = max_forward(case, x)
    np.testing.assert_array_equal(argmax.reshape(-1), [3, 2, 1, 0])
    dx = output(case.x_shape, dtype)
    run(pool2d.max_backward, dx, np.array([1, 2, 4, 8], dtype).reshape(y.shape), argmax, **case.kernel_arguments())
    expected = np.zeros(case.x_shape)
    expected[0, 1, 1] = 15
    np.testing.assert_array_equal(dx, expected)


def test_places_that_no_window_has_get_no_gradient():
    case = Case(1, 3, 3, 1, 2, 2)
    dx = output(case.x_shape, np.float32)
    for place in (4, -1, 2**31 - 1, -(2**31)):
        argmax = np.full(case.y_shape, place, np.int32)
        run(pool2d.max_backward, dx, np.ones(case.y_shape, np.float32), argmax, **case.kernel_arguments())
        assert_margins_untouched(dx)
        assert not dx.any()


# ------------------------------------------------------------------ arguments

GOOD = Case(2, 6, 6, 3, 2, 2, 2)
ARGUMENTS = {
    "max_forward": ("y", "argmax", "x"),
    "max_backward": ("x", "y", "argmax"),
    "average_forward": ("y", "x"),
    "average_backward": ("x", "y"),
}
passes = pytest.mark.parametrize("name", ARGUMENTS)


def arrays(name):
    new = {
        "x": lambda: np.zeros(GOOD.x_shape, np.float32),
        "y": lambda: np.zeros(GOOD.y_shape, np.float32),
        "argmax": lambda: np.zeros(GOOD.y_shape, np.int32),
    }
    return [new[argument]() for argument in ARGUMENTS[name]]


def call(name, arguments, **changes):
    run(getattr(pool2d, name), *arguments, **(GOOD.kernel_arguments() | changes))


@passes
def test_every_array_is_checked(name):
    good = arrays(name)
    call(name, good)
    for i, array in enumerate(good):
        is_argmax = array.dtype == np.int32
        for axis in range(4) if is_argmax else (0, 3):
            grown = list(array.shape)
            grown[axis] += 1
            with pytest.raises(ValueError, match="must"):
                call(name, [*good[:i], np.zeros(grown, array.dtype), *good[i + 1 :]])
        wrong = [array.astype(np.int64 if is_argmax else np.float64), None, array.tolist(), array[0]]
        wrong.append(np.repeat(array, 2, axis=-1)[..., ::2])
        wrong.append(array.astype(array.dtype.newbyteorder()))
        for value in wrong:
            with pytest.raises((TypeError, ValueError)):
                call(name, [*good[:i], value, *good[i + 1 :]])


@passes
def test_outputs_must_be_writable(name):
    for i in range(2 if name == "max_forward" else 1):
        good = arrays(name)
        good[i].flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            call(name, good)


@passes
@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("kernel_shape", [(0, 2), (2, -1), (2, 2, 2), (2,), (2**31, 2), (2**20, 2**20), (2**62, 2**62)]),
        ("stride", [0, -1, 2**31, 2**62]),
        ("pad_top", [-1, 2**31, 2**63 - 1]),
        ("pad_left", [-1, 2**31, 2**63 - 1]),
    ],
)
def test_numbers_out_of_range_are_refused(name, argument, values):
    for value in values:
        with pytest.raises(ValueError, match=r"must be|unpack"):
            call(name, arrays(name), **{argument: value})
    for value in ("1", None, 2**64, [2, 2]):
        with pytest.raises((TypeError, OverflowError)):
            call(name, arrays(name), **{argument: value})


@passes
@pytest.mark.parametrize("axis", range(4))
def test_empty_arrays_are_left_alone(name, axis):
    shape = [2, 3, 3, 4]
    shape[axis] = 0
    empty = {"x": np.float32, "y": np.float32, "argmax": np.int32}
    call(name, [np.zeros(shape, empty[argument]) for argument in ARGUMENTS[name]])


@passes
def test_the_largest_steps_reach_only_padding(name):
    good = [array + 1 for array in arrays(name)]
    call(name, good, stride=2**30, pad_top=2**30, pad_left=2**30)
    # Only tap (0, 0) of window (1, 1) and of its right and lower neighbours are in the image.
    output_array = good[0]
    if name.endswith("forward"):
        assert (output_array[:, 1, 1] == 1).all()
        assert np.count_nonzero(output_array) == 2 * 3
    elif name == "average_backward":
        assert (output_array[:, :2, :2] == 0.25).all()
        assert np.count_nonzero(output_array) == 2 * 2 * 2 * 3
    else:  # argmax is 1 everywhere, the upper right pixel of the window
        assert (output_array[:, 0, 1] == 1).all()
        assert np.count_nonzero(output_array) == 2 * 3
