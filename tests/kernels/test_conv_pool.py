"""The fused block of convolution, ReLU and max pooling, held against the separate kernels and the plain reference."""

from functools import partial
from typing import NamedTuple

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import assert_margins_untouched, each_dtype, exact, normal, output, positive

from cvae._kernels import conv2d, conv_pool, elementwise, pool2d, winograd
from cvae._kernels.program import Program
from cvae.layers import Conv2D, Pool2D
from cvae.nn.conv_pool import LARGEST_OUTPUT, ConvPool
from cvae.runtime.programs import execute, run

# Relative rms error of sums in another order.
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}


class Case(NamedTuple):
    """Sizes by their letters (kernel_list.h); padding is (top, bottom, left, right)."""

    n: int
    h: int
    w: int
    c: int
    k: int
    r: int
    s: int
    stride: int = 1
    dilation: int = 0
    pad: tuple = oracles.NO_PAD
    pool: tuple = (2, 2)
    pool_stride: int = 2
    pool_pad: tuple = oracles.NO_PAD
    winograd: bool = False

    @property
    def middle_shape(self):
        image = np.empty((self.n, self.h, self.w))
        return self.n, *oracles.output_shape(image, (self.r, self.s), self.stride, self.pad, self.dilation), self.k

    @property
    def y_shape(self):
        image = np.empty(self.middle_shape[:3])
        return self.n, *oracles.output_shape(image, self.pool, self.pool_stride, self.pool_pad, 0), self.k

    def pad_arguments(self):
        return {"pad_top": self.pad[0], "pad_left": self.pad[2]}

    def steps(self):
        return {"stride": self.stride} | ({} if self.winograd else {"dilation": self.dilation})

    def window(self):
        pad = {"pad_top": self.pool_pad[0], "pad_left": self.pool_pad[2]}
        return {"kernel_shape": self.pool, "stride": self.pool_stride, **pad}

    def how(self):
        steps = {"out_shape": self.middle_shape[1:3], "stride": self.stride, "dilation": self.dilation}
        return {"conv": steps | self.pad_arguments(), "pool": self.window(), "winograd": self.winograd}


class Data:
    """Random input of a case; what is summed for the weight gradients is positive, so that sums do not cancel."""

    def __init__(self, case, dtype, seed=0, *, drawing=False):
        rng = np.random.default_rng(seed)
        self.case, self.dtype = case, dtype
        self.x = positive(rng, (case.n, case.h, case.w, case.c), dtype)
        if drawing:
            self.x = self.x * rectangles(rng, *self.x.shape[:3], dtype)
        self.w = normal(rng, (case.r, case.s, case.c, case.k), dtype)
        self.b = normal(rng, (case.k,), dtype)
        self.dy = positive(rng, case.y_shape, dtype)

    def separately(self):
        case, dtype = self.case, self.dtype
        middle, y, argmax = np.empty(case.middle_shape, dtype), np.empty_like(self.dy), np.empty(case.y_shape, np.int32)
        d_middle, dx, dw, db = (
            np.empty_like(middle),
            np.empty_like(self.x),
            np.empty_like(self.w),
            np.empty_like(self.b),
        )
        how = case.steps() | case.pad_arguments()
        forward = winograd.forward if case.winograd else conv2d.conv2d_forward
        run(forward, middle, self.x, self.w, self.b, relu=True, **how)
        run(pool2d.max_forward, y, argmax, middle, **case.window())
        run(pool2d.max_backward, d_middle, self.dy, argmax, **case.window())
        flat = d_middle.reshape(-1)
        run(elementwise.relu_backward, flat, flat, middle.reshape(-1))
        if case.winograd:
            run(winograd.backward, dx, dw, db, self.x, d_middle, self.w, **how)
        else:
            run(conv2d.conv2d_grad_input, dx, d_middle, self.w, **how)
            run(conv2d.conv2d_grad_weight, dw, db, self.x, d_middle, **how)
        return y, argmax, dx, dw, db

    def fused(self, n_threads=2, *, with_dx=True):
        case, dtype = self.case, self.dtype
        y, argmax = output(case.y_shape, dtype), output(case.y_shape, np.uint8)
        argmax.fill(0)  # no place is to be left as it is
        dx = output(self.x.shape, dtype) if with_dx else None
        dw, db = output(self.w.shape, dtype), output(self.b.shape, dtype)
        how = case.how() | {"n_threads": n_threads}
        run(conv_pool.forward, y, argmax, self.x, self.w, self.b, keep_weights=False, **how)
        run(conv_pool.backward, dx, dw, db, self.x, argmax, self.dy.copy(), self.w, **how)
        assert_margins_untouched(y, argmax, dw, db, *([dx] if with_dx else []))
        return y, argmax, dx, dw, db


def rectangles(rng, n, h, w, dtype):
    """Ones in a random rectangle of each image, zeros around it; the first image is empty."""
    mask = np.zeros((n, h, w, 1), dtype)
    for i in range(1, n):
        top, bottom = np.sort(rng.integers(0, h + 1, 2))
        left, right = np.sort(rng.integers(0, w + 1, 2))
        mask[i, top:bottom, left:right] = 1
    return mask


def assert_close(got, expected, tolerance):
    """Hold the rms error to a share of what is summed: terms of order 1, also where all that count are zero."""
    error = np.sqrt(np.mean(np.square(got.astype(np.float64) - expected)))
    assert error <= tolerance * (1 + np.sqrt(np.mean(np.square(expected.astype(np.float64)))))


def check(case, dtype, seed=0, *, drawing=False):
    data = Data(case, dtype, seed, drawing=drawing)
    y, argmax, dx, dw, db = data.separately()
    for with_dx in (True, False):
        got_y, got_argmax, got_dx, got_dw, got_db = data.fused(with_dx=with_dx)
        np.testing.assert_array_equal(got_y, y)
        np.testing.assert_array_equal(got_argmax, np.where(y > 0, argmax, conv_pool.INACTIVE_PLACE))
        if with_dx:
            np.testing.assert_array_equal(got_dx, dx)
        assert_close(got_dw, dw, (5 if case.winograd else 1) * TOLERANCE[dtype])
        assert_close(got_db, db, TOLERANCE[dtype])


CASES = {
    "the default model's first block": Case(7, 28, 28, 1, 32, 5, 5, winograd=True),
    "the first block done directly": Case(7, 28, 28, 1, 32, 5, 5),
    "the default model's second block": Case(7, 12, 12, 32, 64, 5, 5, pool_stride=1, winograd=True),
    "the second block done directly": Case(7, 12, 12, 32, 64, 5, 5, pool_stride=1),
    "three channels, same padding": Case(3, 16, 15, 3, 16, 5, 5, pad=(2, 2, 2, 2)),
    "3x3, winograd, padding": Case(5, 13, 14, 6, 17, 3, 3, pad=(1, 1, 1, 1), winograd=True),
    "stride": Case(4, 17, 19, 3, 8, 5, 3, stride=2, pad=(1, 2, 0, 3)),
    "dilation": Case(4, 17, 19, 2, 8, 3, 3, dilation=1),
    "pooling pads": Case(4, 9, 10, 2, 8, 3, 3, pool=(3, 2), pool_stride=2, pool_pad=(1, 1, 1, 0)),
    "windows that see only the pooling's padding": Case(2, 4, 4, 1, 5, 2, 2, pool_pad=(3, 2, 4, 1)),
    "gaps between windows": Case(3, 15, 15, 1, 9, 2, 2, pool=(2, 1), pool_stride=3),
    "windows overlap": Case(3, 12, 12, 1, 9, 3, 3, pool=(3, 3), pool_stride=2),
    "the largest window": Case(2, 16, 18, 1, 5, 2, 2, pool=(15, 17), pool_stride=1),
    "one pixel": Case(1, 1, 1, 1, 1, 1, 1, pool=(1, 1), pool_stride=1),
    "a window as large as the image": Case(3, 6, 6, 2, 40, 3, 3, pool=(4, 4), pool_stride=1),
    "many images": Case(133, 6, 6, 1, 5, 3, 3),
    "stride 2, winograd": Case(5, 15, 14, 6, 17, 4, 5, stride=2, pad=(1, 2, 2, 1), winograd=True),
    "stride 2, few channels, winograd": Case(5, 29, 28, 3, 16, 5, 5, stride=2, winograd=True),
    "many images, winograd": Case(67, 7, 7, 6, 5, 3, 3, winograd=True),
    "more tiles than a block holds": Case(2, 44, 40, 6, 8, 5, 5, winograd=True),
    "more tiles than a strip holds": Case(2, 44, 90, 3, 40, 3, 5, winograd=True),
    "167 taps": Case(2, 3, 180, 1, 3, 1, 167),
    "168 taps": Case(2, 9, 30, 3, 3, 7, 8),
    "strides that lead nowhere": Case(
        1, 1, 1, 16, 4, 1, 1, stride=2**30, pad=(0, 2**30, 0, 0), pool=(1, 1), pool_stride=2**30
    ),
    "large padding": Case(2, 3, 3, 1, 4, 3, 3, pad=(300, 300, 300, 300), pool_stride=4),
}


NAMES = [
    "the default model's first block",
    "the first block done directly",
    "the default model's second block",
    "stride",
]


@each_dtype
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_block_equals_the_separate_kernels(case, dtype):
    check(case, dtype)


@each_dtype
@pytest.mark.parametrize("name", [name for name in CASES if name != "strides that lead nowhere"])
def test_the_block_equals_the_reference(name, dtype):
    case = CASES[name]
    data = Data(case, dtype)
    how = {
        "conv": {"stride": case.stride, "pad": case.pad, "dilation": case.dilation},
        "pool": {"kernel_shape": case.pool, "stride": case.pool_stride, "pad": case.pool_pad},
    }
    x, w, b, dy = exact(data.x, data.w, data.b, data.dy)
    tolerance = (20 if case.winograd else 5) * TOLERANCE[dtype] * np.sqrt(case.r * case.s * case.c)
    expected_y, expected_argmax = oracles.conv_pool_forward(x, w, b, **how)
    for with_dx in (True, False):
        y, argmax, dx, dw, db = data.fused(with_dx=with_dx)
        assert_close(y, expected_y, tolerance)
        assert (argmax == expected_argmax).mean() > 0.99  # rounding may let another one be the largest
        expected_dx, expected_dw, expected_db = oracles.conv_pool_backward(dy, argmax, x, w, **how)
        if with_dx:
            assert_close(dx, expected_dx, tolerance)
        assert_close(dw, expected_dw, tolerance)
        assert_close(db, expected_db.reshape(-1), tolerance)


@each_dtype
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_images_that_are_empty_in_places(case, dtype):
    check(case, dtype, drawing=True)


@st.composite
def cases(draw):
    small = st.integers(1, 4)
    use_winograd = draw(st.booleans())
    largest = 5 if use_winograd else 6
    r, s = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    stride, dilation = (1, 0) if use_winograd else (draw(st.integers(1, 3)), draw(st.integers(0, 2)))
    pool, pool_stride = (draw(small), draw(small)), draw(small)
    size, pad, pool_pad = [], [], []
    for taps, window in zip((r, s), pool, strict=True):
        windows, pool_before, pool_after = draw(small), draw(st.integers(0, 2)), draw(st.integers(0, 2))
        middle = max(1, (windows - 1) * pool_stride + window + draw(st.integers(0, 1)) - pool_before - pool_after)
        padded = (middle - 1) * stride + taps + (taps - 1) * dilation
        before, after = draw(st.integers(0, padded // 2)), draw(st.integers(0, (padded - 1) // 2))
        size.append(max(1, padded - before - after))
        pad += [before, after]
        pool_pad += [pool_before, pool_after]
    n, c, k = draw(st.integers(1, 12)), draw(st.integers(1, 9)), draw(st.integers(1, 40))
    return Case(n, *size, c, k, r, s, stride, dilation, tuple(pad), pool, pool_stride, tuple(pool_pad), use_winograd)


@each_dtype
@given(case=cases(), seed=st.integers(0, 2**32 - 1), drawing=st.booleans())
def test_random_blocks_equal_the_separate_kernels(case, seed, drawing, dtype):
    check(case, dtype, seed, drawing=drawing)


@each_dtype
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("with_dx", [False, True])
@pytest.mark.parametrize("drawing", [False, True])
def test_the_same_bits_with_any_number_of_threads(name, drawing, with_dx, dtype):
    data = Data(CASES[name]._replace(n=40), dtype, drawing=drawing)
    expected = data.fused(1, with_dx=with_dx)
    for n_threads in (2, 3, 7):
        for got, one in zip(data.fused(n_threads, with_dx=with_dx), expected, strict=True):
            np.testing.assert_array_equal(got, one)


@each_dtype
@pytest.mark.parametrize(
    "case",
    [
        Case(400, 7, 7, 6, 5, 3, 3, winograd=True),
        Case(600, 6, 6, 8, 9, 3, 3, pool_stride=1, winograd=True),
        Case(12, 44, 40, 6, 8, 5, 5, winograd=True),  # more tiles than a block holds
    ],
    ids=str,
)
def test_groups_may_be_added_up_by_other_threads_than_the_ones_before(case, dtype):
    data = Data(case, dtype)
    expected = data.fused(1)
    for n_threads in (3, 5, 16, 40):
        for got, one in zip(data.fused(n_threads), expected, strict=True):
            np.testing.assert_array_equal(got, one)


@each_dtype
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_the_gradient_of_the_input_may_take_its_place(case, n_threads, dtype):
    data = Data(case, dtype)
    _, argmax, dx, dw, db = data.fused()
    over_x, got_dw, got_db = data.x.copy(), np.empty_like(dw), np.empty_like(db)
    arrays = (over_x, got_dw, got_db, over_x, argmax, data.dy.copy(), data.w)
    run(conv_pool.backward, *arrays, **case.how(), n_threads=n_threads)
    for got, expected in ((over_x, dx), (got_dw, dw), (got_db, db)):
        np.testing.assert_array_equal(got, expected)


@each_dtype
@pytest.mark.parametrize("name", NAMES)
def test_kept_weights_are_made_anew_when_the_weights_change(name, dtype):
    data = Data(CASES[name], dtype)
    data.w = data.w.copy()
    y, argmax = np.empty_like(data.dy), np.empty(data.dy.shape, np.uint8)
    program = Program()
    conv_pool.forward(program, y, argmax, data.x, data.w, data.b, keep_weights=True, **data.case.how())
    for change in (0, 0, 1, 0, -2):
        data.w[-1, -1, -1, -1] += change
        y.fill(np.nan)
        execute(program)
        np.testing.assert_array_equal(y, data.fused()[0])


@each_dtype
@pytest.mark.parametrize("name", NAMES[:2])
def test_nan_in_an_image_stays_there(name, dtype):
    data = Data(CASES[name], dtype)
    expected = data.fused()[0]
    data.x = data.x.copy()
    data.x[3, 10, 10] = np.nan
    y = data.fused()[0]
    assert np.isnan(y[3]).any()
    np.testing.assert_array_equal(np.delete(y, 3, axis=0), np.delete(expected, 3, axis=0))


# ------------------------------------------------------------------ arguments


def backward_arrays(case=CASES["stride"]):
    data = Data(case, np.float32)
    y, argmax, dx, dw, db = data.fused()
    return y, [dx, dw, db, data.x, argmax, data.dy.copy(), data.w]


def test_every_array_is_checked():
    case = CASES["stride"]
    y, good = backward_arrays()
    _, _, db, x, argmax, _, w = good
    forward = partial(conv_pool.forward, keep_weights=False)
    for record, arrays in ((forward, [y, argmax, x, w, db]), (conv_pool.backward, good)):
        run(record, *arrays, **case.how())
        for i, array in enumerate(arrays):
            for axis in range(array.ndim):
                if record is forward and ((array is x and axis in (1, 2)) or (array is w and axis < 2)):
                    continue  # images and kernels of any size go with any output: what lies outside is zero
                shape = list(array.shape)
                shape[axis] += 1
                with pytest.raises(ValueError, match="must"):
                    run(record, *arrays[:i], np.zeros(shape, array.dtype), *arrays[i + 1 :], **case.how())
            with pytest.raises((TypeError, ValueError)):
                run(record, *arrays[:i], array.astype(np.float64), *arrays[i + 1 :], **case.how())


@pytest.mark.parametrize("part", ["conv", "pool"])
@pytest.mark.parametrize(("name", "value"), [("stride", 0), ("pad_top", -1), ("pad_left", 2**31), ("stride", 2**31)])
def test_numbers_out_of_range_are_refused(part, name, value):
    how = CASES["stride"].how()
    how[part] = how[part] | {name: value}
    with pytest.raises(ValueError, match=rf"{name}.* must be from .* got .*{value}"):
        run(conv_pool.backward, *backward_arrays()[1], **how)


@pytest.mark.parametrize(
    "changes", [{"stride": 2, "r": 11, "pad": (5, 5, 0, 0)}, {"dilation": 1}, {"r": 6, "pad": (3, 3, 0, 0)}], ids=str
)
def test_winograd_where_it_cannot_be_is_refused(changes):
    case = CASES["stride"]._replace(stride=1, winograd=False)._replace(**changes)
    y, arrays = backward_arrays(case)
    _, _, db, x, argmax, _, w = arrays
    how = case.how() | {"winograd": True}
    with pytest.raises(ValueError, match="winograd must have dilation 0 and weights"):
        run(conv_pool.forward, y, argmax, x, w, db, keep_weights=False, **how)
    with pytest.raises(ValueError, match="winograd must have dilation 0 and weights"):
        run(conv_pool.backward, *arrays, **how)


def test_which_layers_fuse():
    shape = (1, 12, 12, 3)
    relu, pool = Conv2D(4, 3, act_fn="ReLU"), Pool2D(2, stride=2)
    assert ConvPool.suits(relu, pool, shape)
    assert not ConvPool.suits(Conv2D(4, 3, act_fn="Tanh"), pool, shape)
    assert not ConvPool.suits(relu, Pool2D(2, mode="average"), shape)
    assert ConvPool.suits(relu, Pool2D((15, 17)), (1, 30, 30, 3))
    assert not ConvPool.suits(relu, Pool2D((16, 16)), (1, 30, 30, 3))
    side = int((LARGEST_OUTPUT / 4 / 4) ** 0.5)  # four channels of float32
    assert ConvPool.suits(relu, pool, (1, side + 2, side + 2, 3))
    assert not ConvPool.suits(relu, pool, (1, side + 3, side + 2, 3))
