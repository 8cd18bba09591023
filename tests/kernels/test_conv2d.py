"""The compiled convolution in its three directions, held against the plain reference."""

from typing import NamedTuple

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import assert_close, assert_margins_untouched, each_dtype, exact, normal, output, positive

from cvae._kernels import conv2d
from cvae.runtime.programs import run

WORK = 200_000  # multiplications of a random case
PIXELS_OF_A_BLOCK = 168


class Case(NamedTuple):
    """Sizes by their letters (kernels.h); padding is (top, bottom, left, right)."""

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

    @property
    def x_shape(self):
        return self.n, self.h, self.w, self.c

    @property
    def w_shape(self):
        return self.r, self.s, self.c, self.k

    @property
    def y_shape(self):
        size = oracles.output_shape(np.empty(self.x_shape[:3]), (self.r, self.s), self.stride, self.pad, self.dilation)
        return self.n, *size, self.k

    def kernel_arguments(self, n_threads=2):
        return {
            "stride": self.stride,
            "dilation": self.dilation,
            "pad_top": self.pad[0],
            "pad_left": self.pad[2],
            "n_threads": n_threads,
        }

    def oracle_arguments(self):
        return {"stride": self.stride, "dilation": self.dilation, "pad": self.pad}


@st.composite
def cases(draw):
    """Cases of all strides, dilations and paddings (four different sides, also wider than the kernel)."""
    channels = st.integers(1, 9) | st.integers(1, 130)
    c, k = draw(channels), draw(channels)
    kernel_shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    pixels = max(1, WORK // (kernel_shape[0] * kernel_shape[1] * c * k))
    oh = draw(st.integers(1, min(14, pixels)))
    ow = draw(st.integers(1, min(14, pixels // oh)))
    n = draw(st.integers(1, min(300, pixels // (oh * ow))))
    size, pad = [], []
    for taps, out in zip(kernel_shape, (oh, ow), strict=True):
        left_over = draw(st.integers(0, stride - 1))
        padded = (out - 1) * stride + taps + (taps - 1) * dilation + left_over
        before = draw(st.integers(0, min(9, padded - 1)))
        after = draw(st.integers(0, min(9, padded - 1 - before)))
        size.append(padded - before - after)
        pad += [before, after]
    return Case(n, *size, c, k, *kernel_shape, stride, dilation, tuple(pad))


def same(n, h, w, c, k, r, s, stride):
    return Case(n, h, w, c, k, r, s, stride, 0, oracles.same_pad((h, w), (r, s), stride))


CORNERS = {
    # Output channels at the edges of panels (4 to 32 columns, depending on the instruction set).
    **{f"{k} output channels": Case(2, 6, 7, 3, k, 3, 2) for k in (1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130)},
    # Patch columns, R * S * C, at the edges of panels, which are the right matrix of grad_input.
    **{f"{c} patch columns": Case(2, 5, 5, c, 3, 1, 1) for c in (15, 16, 17, 31, 32, 33, 64, 65)},
    # Blocks of 168 output pixels, and tiles of 12, 6, 4, 2 and 1 of them.
    **{f"{p} pixels": Case(1, 1, p, 2, 5, 1, 1) for p in (1, 2, 3, 5, 7, 11, 12, 13, 167, 168, 169, 335, 336, 337)},
    "blocks across images": Case(9, 7, 9, 2, 5, 2, 2),
    # The summed dimension is cut into parts of at most 256.
    **{f"depth {c}": Case(1, 4, 50, c, 20, 1, 1) for c in (255, 256, 257, 512, 513, 769)},
    "depth 275 in runs of 55": Case(2, 9, 11, 11, 20, 5, 5),
    "depth 539 with dilation": Case(1, 16, 17, 11, 20, 7, 7, dilation=1),
    "depth 1050 with stride": Case(1, 16, 13, 42, 33, 5, 5, stride=2, pad=(2, 1, 0, 3)),
    **{f"{k} output channels summed": Case(1, 15, 14, 2, k, 3, 3) for k in (255, 256, 257, 300, 513)},
    # Up to 4 channels and 168 patch columns, patches are gathered row of pixels by row of pixels.
    "4 channels, 168 patch columns": Case(2, 9, 181, 4, 9, 6, 7, pad=(2, 0, 3, 1)),
    "4 channels, 196 patch columns": Case(2, 9, 181, 4, 9, 7, 7, pad=(2, 0, 3, 1)),
    "1 channel, stride and dilation": Case(2, 19, 190, 1, 9, 5, 5, 3, 1, (6, 0, 7, 9)),
    "3 channels, wide padding": Case(3, 2, 3, 3, 17, 2, 3, 2, 0, (5, 6, 9, 8)),
    # grad_input computes 8 panels of patch columns at once.
    "many patch columns, many output channels": Case(1, 8, 30, 60, 300, 3, 3),
    # grad_weight divides blocks among 16 accumulators.
    "15 blocks": Case(15, 1, 168, 2, 3, 1, 1),
    "17 blocks": Case(17, 1, 168, 2, 3, 1, 1),
    "40 blocks, the last of one pixel": Case(1, 1, 39 * 168 + 1, 2, 3, 1, 1),
    # Small images make few blocks: these are smaller then, and grad_weight divides the patch columns too.
    "few pixels, many patch columns": Case(7, 6, 6, 40, 24, 4, 4, stride=2),
    "an output of one pixel": Case(9, 5, 5, 16, 70, 5, 5),
    "300 images": Case(300, 7, 6, 1, 4, 3, 3),
    "same": same(2, 9, 8, 3, 5, 4, 3, 1),
    "same with stride": same(2, 9, 8, 3, 5, 4, 3, 3),
    "padding wider than the kernel": Case(2, 3, 4, 3, 5, 2, 3, 1, 0, (5, 3, 4, 6)),
    "windows that see only padding": Case(1, 2, 2, 3, 5, 1, 1, 3, 0, (4, 5, 6, 4)),
    "taps of dilation outside on both sides": Case(1, 1, 1, 3, 5, 3, 3, 1, 2, (3, 3, 3, 3)),
    "kernel as large as the image": Case(3, 7, 5, 4, 6, 7, 5),
    "stride larger than the kernel": Case(2, 11, 13, 3, 4, 2, 1, 3),
    # Many channels to few, and the transposes, in tiles of 8, 4 or 2 pixels of a row.
    **{f"{c} channels to {k}": same(2, 5, 21, c, k, 3, 3, 1) for c in (8, 16, 24, 48) for k in (1, 2, 3, 4, 5)},
    **{f"{w} pixels of a row to 2 channels": Case(3, 4, w, 16, 2, 2, 3, pad=(1, 0, 1, 1)) for w in (1, 3, 6, 15)},
    "to 3 channels with stride and dilation": Case(2, 17, 30, 32, 3, 3, 4, 2, 1, (3, 2, 5, 4)),
    "to 1 channel with stride 4": same(3, 13, 30, 16, 1, 6, 5, 4),
    "to 1 channel with stride 5": same(3, 13, 30, 16, 1, 6, 5, 5),
    "to 1 channel by 16x16 taps": Case(1, 20, 19, 16, 1, 16, 16, pad=(9, 8, 7, 6)),
    "to 1 channel by 17 taps": Case(1, 20, 19, 16, 1, 17, 2, pad=(9, 8, 7, 6)),
    "to 1 channel of windows that see only padding": Case(1, 2, 2, 16, 1, 1, 1, 3, 0, (4, 5, 6, 4)),
    **{f"from {c} channels to {k}": same(2, 5, 21, c, k, 3, 3, 1) for c in (1, 2, 3, 4, 5) for k in (8, 32)},
    "from 3 channels with stride and dilation": Case(2, 17, 30, 3, 32, 3, 4, 2, 1, (3, 2, 5, 4)),
    "from 1 channel with stride 3": same(3, 13, 30, 1, 16, 5, 4, 3),
    "from 1 channel with stride 5": same(3, 13, 30, 1, 16, 5, 4, 5),
    "from 1 channel by 16x16 taps": Case(1, 20, 19, 1, 16, 16, 16, pad=(9, 8, 7, 6)),
    "from 2 channels, a stride that leaves pixels out": Case(2, 11, 13, 2, 16, 2, 1, 3),
    "the default model's first layer": Case(2, 28, 28, 1, 32, 5, 5),
    "the default model's second layer": Case(2, 12, 12, 32, 64, 5, 5),
}
corners = pytest.mark.parametrize("case", CORNERS.values(), ids=CORNERS.keys())


def forward(case, x, w, b, relu=False, n_threads=2):
    y = output(case.y_shape, x.dtype)
    run(conv2d.conv2d_forward, y, x, w, b, relu=relu, **case.kernel_arguments(n_threads))
    return y


def check_forward(case, dtype, rng):
    x, w, b = positive(rng, case.x_shape, dtype), positive(rng, case.w_shape, dtype), positive(rng, (case.k,), dtype)
    y = forward(case, x, w, b)
    assert_close(y, oracles.conv2d_forward(*exact(x, w, b), **case.oracle_arguments()))


def check_grad_input(case, dtype, rng):
    dy, w = positive(rng, case.y_shape, dtype), positive(rng, case.w_shape, dtype)
    dx = output(case.x_shape, dtype)
    run(conv2d.conv2d_grad_input, dx, dy, w, **case.kernel_arguments())
    assert_close(dx, oracles.conv2d_grad_input(*exact(dy, w), case.x_shape, **case.oracle_arguments()))


def check_grad_weight(case, dtype, rng):
    x, dy = positive(rng, case.x_shape, dtype), positive(rng, case.y_shape, dtype)
    dw, db = output(case.w_shape, dtype), output((case.k,), dtype)
    run(conv2d.conv2d_grad_weight, dw, db, x, dy, **case.kernel_arguments())
    expected_dw, expected_db = oracles.conv2d_grad_weight(*exact(dy, x), case.w_shape, **case.oracle_arguments())
    assert_close(dw, expected_dw)
    assert_close(db, expected_db.reshape(-1))


@each_dtype
@corners
def test_forward_at_corners(case, dtype):
    check_forward(case, dtype, np.random.default_rng(1))


@each_dtype
@corners
def test_relu_after_forward(case, dtype):
    rng = np.random.default_rng(1)
    arrays = normal(rng, case.x_shape, dtype), normal(rng, case.w_shape, dtype), normal(rng, (case.k,), dtype)
    y = forward(case, *arrays, relu=True)
    assert_margins_untouched(y)
    np.testing.assert_array_equal(y, np.maximum(forward(case, *arrays), 0))


@each_dtype
@corners
def test_grad_input_at_corners(case, dtype):
    check_grad_input(case, dtype, np.random.default_rng(2))


@each_dtype
@corners
def test_grad_weight_at_corners(case, dtype):
    check_grad_weight(case, dtype, np.random.default_rng(3))


@each_dtype
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_forward(case, seed, dtype):
    check_forward(case, dtype, np.random.default_rng(seed))


@each_dtype
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_grad_input(case, seed, dtype):
    check_grad_input(case, dtype, np.random.default_rng(seed))


@each_dtype
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_grad_weight(case, seed, dtype):
    check_grad_weight(case, dtype, np.random.default_rng(seed))


@each_dtype
def test_grad_weight_shares_accumulators_where_each_block_having_its_own_would_take_too_much_memory(dtype):
    C, K, blocks = 1100, 1300, 12  # an accumulator takes 6 or 11 MB, all of them at most 64
    case = Case(1, 1, blocks * PIXELS_OF_A_BLOCK, C, K, 1, 1)
    rng = np.random.default_rng(4)
    x, dy = positive(rng, case.x_shape, dtype), positive(rng, case.y_shape, dtype)
    dw, db = output(case.w_shape, dtype), output((K,), dtype)
    run(conv2d.conv2d_grad_weight, dw, db, x, dy, **case.kernel_arguments())
    x, dy = exact(x[0, 0], dy[0, 0])
    assert_close(dw, (x.T @ dy).reshape(dw.shape))
    assert_close(db, dy.sum(axis=0))


@each_dtype
def test_gradients_are_the_adjoints_of_the_forward_pass(dtype):
    """<dy, conv(x)> = <grad_input(dy), x> = <grad_weight(dy), w> for any dy, without bias."""
    case = Case(3, 11, 12, 5, 19, 4, 3, 2, 1, (3, 0, 1, 2))
    rng = np.random.default_rng(5)
    x, w, dy = normal(rng, case.x_shape, dtype), normal(rng, case.w_shape, dtype), normal(rng, case.y_shape, dtype)
    y = forward(case, x, w, np.zeros(case.k, dtype))
    dx, dw, db = output(case.x_shape, dtype), output(case.w_shape, dtype), output((case.k,), dtype)
    run(conv2d.conv2d_grad_input, dx, dy, w, **case.kernel_arguments())
    run(conv2d.conv2d_grad_weight, dw, db, x, dy, **case.kernel_arguments())
    x, w, dy, y, dx, dw = exact(x, w, dy, y, dx, dw)
    tolerance = {np.float32: 1e-5, np.float64: 1e-12}[dtype] * np.linalg.norm(dy) * np.linalg.norm(y)
    assert abs((dy * y).sum() - (dx * x).sum()) < tolerance
    assert abs((dy * y).sum() - (dw * w).sum()) < tolerance


ALONE_AND_TOGETHER = {  # of few pixels, weights are not packed
    "63 pixels": Case(40, 9, 7, 3, 37, 3, 3, 1, 0, (1, 1, 1, 1)),
    "4 pixels, 540 patch columns": Case(40, 4, 4, 60, 37, 3, 3),
    "1 pixel, 300 output channels": Case(40, 3, 2, 70, 300, 3, 2),
}


@each_dtype
@pytest.mark.parametrize("case", ALONE_AND_TOGETHER.values(), ids=ALONE_AND_TOGETHER.keys())
def test_an_image_gives_the_same_bits_in_any_batch(case, dtype):
    rng = np.random.default_rng(6)
    x, w, b = normal(rng, case.x_shape, dtype), normal(rng, case.w_shape, dtype), normal(rng, (case.k,), dtype)
    dy = normal(rng, case.y_shape, dtype)

    def both(first, last):
        part = case._replace(n=last - first)
        dx = output(part.x_shape, dtype)
        run(conv2d.conv2d_grad_input, dx, dy[first:last], w, **part.kernel_arguments())
        return forward(part, x[first:last], w, b), dx

    y, dx = both(0, 40)
    for first, last in ((0, 1), (1, 2), (7, 12), (2, 22), (39, 40)):
        part_of_y, part_of_dx = both(first, last)
        np.testing.assert_array_equal(part_of_y, y[first:last])
        np.testing.assert_array_equal(part_of_dx, dx[first:last])


@each_dtype
def test_nan_and_infinity_reach_the_windows_that_see_them_and_no_others(dtype):
    case = Case(1, 9, 9, 2, 35, 3, 3)
    rng = np.random.default_rng(7)
    x, w, b = rng.standard_normal(case.x_shape).astype(dtype), normal(rng, case.w_shape, dtype), np.zeros(35, dtype)
    x[0, 4, 4, 1] = np.nan
    for relu in (False, True):
        y = forward(case, x, w, b, relu=relu)
        sees = np.zeros(case.y_shape, bool)
        sees[:, 2:5, 2:5] = True
        np.testing.assert_array_equal(np.isnan(y), sees)
    x[0, 4, 4, 1] = np.inf
    assert np.isinf(forward(case, x, w, b)[:, 2:5, 2:5]).all()


# ------------------------------------------------------------------ arguments

GOOD = Case(2, 8, 8, 3, 5, 3, 3, pad=(1, 1, 1, 1))


def arrays(direction, dtype=np.float32):
    shapes = {
        "conv2d_forward": (GOOD.y_shape, GOOD.x_shape, GOOD.w_shape, (GOOD.k,)),
        "conv2d_grad_input": (GOOD.x_shape, GOOD.y_shape, GOOD.w_shape),
        "conv2d_grad_weight": (GOOD.w_shape, (GOOD.k,), GOOD.x_shape, GOOD.y_shape),
    }[direction]
    return [np.zeros(shape, dtype) for shape in shapes]


def call(direction, arguments, **changes):
    relu = {"relu": False} if direction == "conv2d_forward" else {}
    run(getattr(conv2d, direction), *arguments, **(GOOD.kernel_arguments() | relu | changes))


directions = pytest.mark.parametrize("direction", ["conv2d_forward", "conv2d_grad_input", "conv2d_grad_weight"])


@directions
def test_every_array_is_checked(direction):
    good = arrays(direction)
    call(direction, good)
    for i, array in enumerate(good):
        for axis in range(array.ndim):
            grown = list(array.shape)
            grown[axis] += 1
            # The kernel cannot know the padding at the end, so it takes any size of image and any kernel.
            if array.ndim == 4 and axis in (1, 2) and array.shape != GOOD.w_shape:
                continue
            if array.shape == GOOD.w_shape and axis in (0, 1):
                continue
            with pytest.raises(ValueError, match="must"):
                call(direction, [*good[:i], np.zeros(grown, np.float32), *good[i + 1 :]])
            empty = [0 if j == axis else size for j, size in enumerate(array.shape)]
            with pytest.raises(ValueError, match="must"):
                call(direction, [*good[:i], np.zeros(empty, np.float32), *good[i + 1 :]])
        wrong = [array.astype(np.float64), array.astype(np.int32), None, array.tolist(), array[np.newaxis]]
        wrong.append(np.repeat(array, 2, axis=-1)[..., ::2])
        wrong.append(array.astype(array.dtype.newbyteorder()))
        for value in wrong:
            with pytest.raises((TypeError, ValueError)):
                call(direction, [*good[:i], value, *good[i + 1 :]])


@directions
def test_outputs_must_be_writable(direction):
    good = arrays(direction)
    good[0].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        call(direction, good)


@directions
@pytest.mark.parametrize("dimension", ["n", "h", "w", "c", "k", "r", "s"])
def test_empty_arrays_are_refused(direction, dimension):
    case = GOOD._replace(**{dimension: 0})
    shapes = {"x": case.x_shape, "w": case.w_shape, "y": (case.n, 8, 8, case.k), "b": (case.k,)}
    order = {"conv2d_forward": "yxwb", "conv2d_grad_input": "xyw", "conv2d_grad_weight": "wbxy"}[direction]
    with pytest.raises(ValueError, match="none of them empty"):
        call(direction, [np.zeros(shapes[letter], np.float32) for letter in order])


@directions
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("stride", [0, -1, 2**31, 2**62]),
        ("dilation", [-1, 2**31, 2**63 - 1]),
        ("pad_top", [-1, 2**31, 2**63 - 1]),
        ("pad_left", [-1, 2**31, 2**63 - 1]),
    ],
)
def test_numbers_out_of_range_are_refused(direction, name, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"{name}.* must be from .* got .*{value}"):
            call(direction, arrays(direction), **{name: value})
    for value in ("1", None, 2**64):
        with pytest.raises((TypeError, OverflowError)):
            call(direction, arrays(direction), **{name: value})


@directions
def test_the_largest_steps_reach_only_padding(direction):
    good = [array + 1 for array in arrays(direction)]
    call(direction, good, stride=2**30, dilation=2**30, pad_top=2**30, pad_left=2**30)
    # Along each axis, tap 1 of window 0 meets pixel 1 and tap 0 of window 1 meets pixel 0; no other tap meets any.
    expected = np.zeros_like(good[0])
    if direction == "conv2d_forward":
        expected += 1
        expected[:, :2, :2] += GOOD.c
    elif direction == "conv2d_grad_input":
        expected[:, :2, :2] = GOOD.k
    else:
        expected[:2, :2] = GOOD.n
    np.testing.assert_array_equal(good[0], expected)
