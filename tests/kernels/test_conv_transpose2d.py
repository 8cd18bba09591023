"""The compiled transposed convolutions, direct and Winograd's, and the sums of columns for their bias."""

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import assert_close, assert_margins_untouched, each_dtype, exact, normal, output, positive

from cvae._kernels import conv2d, elementwise, winograd
from cvae.runtime.programs import run

# n, rows and columns of the input, in_ch, out_ch, kernel shape, stride, dilation, cropped sides, output padding
CORNERS = {
    **{f"{c} output channels": (3, 4, 5, 7, c, (3, 2), 2, 0, (1, 0, 0, 1), 1) for c in (1, 2, 3, 7, 8, 15, 16, 17, 33)},
    "rows that nothing reaches": (2, 5, 4, 3, 5, (1, 2), 3, 0, oracles.NO_PAD, 2),
    "cropped beyond the kernel": (2, 6, 7, 3, 5, (2, 3), 1, 0, (3, 2, 4, 3), 0),
    "dilation": (2, 6, 4, 5, 3, (3, 3), 2, 2, (1, 2, 0, 1), 1),
    "one pixel": (1, 1, 1, 1, 1, (1, 1), 1, 0, oracles.NO_PAD, 0),
    "many images": (70, 3, 3, 2, 4, (3, 3), 2, 0, (0, 1, 0, 1), 0),
    "large": (2, 14, 14, 64, 32, (3, 3), 2, 0, (0, 1, 0, 1), 0),
    "stride 1": (9, 9, 7, 20, 33, (5, 4), 1, 0, (2, 2, 1, 2), 0),
    **{f"{c} output channels of 32": (2, 7, 9, 32, c, (4, 4), 2, 0, (1, 1, 1, 1), 0) for c in (1, 2, 3, 4, 5)},
    "one output channel of 16, rows that nothing reaches": (2, 5, 4, 16, 1, (1, 2), 3, 0, oracles.NO_PAD, 2),
    "one output channel of 16, dilation": (2, 6, 4, 16, 1, (3, 3), 2, 2, (1, 2, 0, 1), 1),
    "stride 1, one output channel": (9, 13, 14, 20, 1, (3, 3), 1, 0, (1, 1, 1, 1), 0),
}
corners = pytest.mark.parametrize("case", CORNERS.values(), ids=CORNERS.keys())
WINOGRAD_TOLERANCE = {np.dtype(np.float32): 4e-5, np.dtype(np.float64): 1e-13}


def out_shape(case):
    _, rows, cols, _, _, kernel_shape, stride, dilation, pad, output_pad = case
    sizes = []
    for size, k, before, after in ((rows, kernel_shape[0], *pad[:2]), (cols, kernel_shape[1], *pad[2:])):
        sizes.append((size - 1) * stride + k + (k - 1) * dilation + output_pad - before - after)
    return tuple(sizes)


def arrays(case, dtype, draw=positive, seed=0):
    """x, w and b."""
    n, rows, cols, in_ch, out_ch, kernel_shape, *_ = case
    rng = np.random.default_rng(seed)
    return [draw(rng, shape, dtype) for shape in ((n, rows, cols, in_ch), (*kernel_shape, out_ch, in_ch), (out_ch,))]


def direct(case, x, w, b, relu=False, n_threads=2):
    *_, stride, dilation, pad, _ = case
    y = output((len(x), *out_shape(case), len(b)), x.dtype)
    how = {"stride": stride, "dilation": dilation, "pad_top": pad[0], "pad_left": pad[2]}
    run(conv2d.conv2d_transpose, y, x, w, b, relu=relu, **how, n_threads=n_threads)
    assert_margins_untouched(y)
    return y


def by_winograd(case, x, w, b, relu=False, n_threads=2):
    *_, stride, _, pad, _ = case
    y = output((len(x), *out_shape(case), len(b)), x.dtype)
    how = {"stride": stride, "pad_top": pad[0], "pad_left": pad[2]}
    run(winograd.transpose, y, x, w, b, relu=relu, **how, n_threads=n_threads)
    assert_margins_untouched(y)
    return y


def expected(case, x, w, b):
    *_, stride, dilation, pad, _ = case
    return oracles.conv_transpose2d_forward(*exact(x, w, b), out_shape(case), stride, pad, dilation)


def suits_winograd(case):
    *_, kernel_shape, stride, dilation, _, _ = case
    return dilation == 0 and max(kernel_shape) <= winograd.MAX_KERNEL * stride


def assert_close_by_winograd(case, y, reference):
    n_terms = case[3] * np.prod(case[5])
    np.testing.assert_allclose(y, reference, rtol=0, atol=WINOGRAD_TOLERANCE[y.dtype] * np.sqrt(n_terms))


@each_dtype
@corners
def test_at_corners(case, dtype):
    x, w, b = arrays(case, dtype)
    assert_close(direct(case, x, w, b), expected(case, x, w, b))
    if suits_winograd(case):
        x, w, b = arrays(case, dtype, normal)
        assert_close_by_winograd(case, by_winograd(case, x, w, b), expected(case, x, w, b))


@each_dtype
@corners
def test_relu_at_corners(case, dtype):
    x, w, b = arrays(case, dtype, normal)
    transposed = [direct, by_winograd] if suits_winograd(case) else [direct]
    for transpose in transposed:
        np.testing.assert_array_equal(transpose(case, x, w, b, relu=True), oracles.relu(transpose(case, x, w, b)))


@each_dtype
@corners
def test_the_number_of_threads_does_not_matter_at_corners(case, dtype):
    x, w, b = arrays(case, dtype, normal)
    for transpose in [direct, by_winograd] if suits_winograd(case) else [direct]:
        one = transpose(case, x, w, b, n_threads=1)
        for n_threads in (2, 3, 7):
            np.testing.assert_array_equal(transpose(case, x, w, b, n_threads=n_threads), one)


@each_dtype
@given(
    n=st.integers(1, 9),
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    kernel_shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 3),
    dilation=st.integers(0, 2),
    pad=st.tuples(*[st.integers(0, 3)] * 4),
    output_pad=st.integers(0, 2),
)
def test_any_shape(n, size, channels, kernel_shape, stride, dilation, pad, output_pad, dtype):
    output_pad = min(output_pad, max(stride, dilation + 1) - 1)
    case = (n, *size, *channels, kernel_shape, stride, dilation, pad, output_pad)
    if min(out_shape(case)) < 1:
        case = (*case[:8], oracles.NO_PAD, output_pad)
    x, w, b = arrays(case, dtype)
    assert_close(direct(case, x, w, b), expected(case, x, w, b))
    if suits_winograd(case):
        x, w, b = arrays(case, dtype, normal)
        assert_close_by_winograd(case, by_winograd(case, x, w, b), expected(case, x, w, b))


@each_dtype
def test_nan_goes_through_relu(dtype):
    case = CORNERS["stride 1"]
    x, w, b = arrays(case, dtype)
    for transpose in (direct, by_winograd):
        assert np.isnan(transpose(case, np.full_like(x, np.nan), w, b, relu=True)).all()


def test_what_does_not_fit_is_refused():
    case = CORNERS["stride 1"]
    x, w, b = arrays(case, np.float32)
    for transpose in (direct, by_winograd):
        for wrong in ((x[..., 1:].copy(), w, b), (x, w[..., 1:].copy(), b)):
            with pytest.raises(ValueError, match="output, input and weights must be"):
                transpose(case, *wrong)
        y = np.empty((9, *out_shape(case), 33), np.float32)
        how = {"stride": 1, "pad_top": 0, "pad_left": 0, "relu": False}
        how |= {"dilation": 0} if transpose is direct else {}
        kernel = conv2d.conv2d_transpose if transpose is direct else winograd.transpose
        with pytest.raises(ValueError, match="the bias must have 33 elements, got 32"):
            run(kernel, y, x, w, b[1:].copy(), **how)


# ------------------------------------------------------------------- column sums


@each_dtype
@pytest.mark.parametrize("m", [1, 2, 167, 168, 169, 1023, 2048, 2049, 20_000])
@pytest.mark.parametrize("n", [1, 3, 4, 16, 17, 40])
def test_column_sums(m, n, dtype):
    x = positive(np.random.default_rng(0), (m, n), dtype)
    sums = output((n,), dtype)
    run(elementwise.column_sums, sums, x, n_threads=2)
    assert_close(sums, x.sum(0, dtype=np.float64))
    for n_threads in (1, 3):
        again = output((n,), dtype)
        run(elementwise.column_sums, again, x, n_threads=n_threads)
        np.testing.assert_array_equal(again, sums)


def test_column_sums_of_other_shapes_are_refused():
    for shape, n in (((4, 3), 4), ((0, 3), 3), ((3, 0), 0)):
        with pytest.raises(ValueError, match="out and x must be"):
            run(elementwise.column_sums, np.empty(n), np.empty(shape))
