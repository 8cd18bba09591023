"""Padding and output sizes of convolutions."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvae.nn.geometry import (
    calc_conv_out_dims,
    calc_pad_dims_2D,
    conv_output_shape,
    kernel_span,
    resolve_dilation,
    resolve_kernel_shape,
    resolve_pad,
    resolve_stride,
)

sizes = st.tuples(st.integers(1, 30), st.integers(1, 30))
kernel_shapes = st.tuples(st.integers(1, 7), st.integers(1, 7))
strides = st.integers(1, 4)
dilations = st.integers(0, 3)


def pads_of(pad):
    return resolve_pad(pad, (6, 5), (3, 2), 2)


# ------------------------------------------------------- kernel, stride, dilation


@pytest.mark.parametrize("given_shape", [3, np.int64(3), (3, 3), [3, np.uint8(3)]])
def test_a_kernel_shape_is_an_int_or_a_pair(given_shape):
    assert resolve_kernel_shape(given_shape) == (3, 3)
    assert [type(k) for k in resolve_kernel_shape(given_shape)] == [int, int]


def test_a_kernel_shape_keeps_rows_and_cols_apart():
    assert resolve_kernel_shape((5, 4)) == (5, 4)


@pytest.mark.parametrize("given_stride", [2, np.int64(2), (2, 2), [2, 2]])
def test_a_stride_is_an_int_or_an_equal_pair(given_stride):
    assert resolve_stride(given_stride) == 2
    assert type(resolve_stride(given_stride)) is int


@pytest.mark.parametrize("given_dilation", [0, 3, np.int64(3)])
def test_a_dilation_is_an_int(given_dilation):
    assert resolve_dilation(given_dilation) == given_dilation
    assert type(resolve_dilation(given_dilation)) is int


@pytest.mark.parametrize(
    ("resolve", "wrong"),
    [
        *[(resolve_kernel_shape, wrong) for wrong in (0, -1, (3, 0), (), (3,), (3, 3, 3))],
        *[(resolve_stride, wrong) for wrong in (0, -2, (1, 2), (2, 1), (2,), [1, 1, 1])],
        (resolve_dilation, -1),
    ],
)
def test_a_wrong_number_is_a_value_error_that_shows_it(resolve, wrong):
    with pytest.raises(ValueError, match=re.escape(f"got {wrong!r}")):
        resolve(wrong)


@pytest.mark.parametrize("resolve", [resolve_kernel_shape, resolve_stride, resolve_dilation])
@pytest.mark.parametrize("wrong", [None, 1.0, "3", True, np.True_, {3}, np.float32(2)])
def test_a_wrong_type_is_a_type_error_that_shows_it(resolve, wrong):
    with pytest.raises(TypeError, match=re.escape(f"got {wrong!r}")):
        resolve(wrong)


@pytest.mark.parametrize("wrong", [(3, 1.5), (True, 3), [None, 2]])
def test_a_wrong_type_inside_a_pair_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="kernel_shape must be an int or 2 ints >= 1"):
        resolve_kernel_shape(wrong)
    with pytest.raises(TypeError, match="stride must be an int >= 1"):
        resolve_stride(wrong)


def test_a_dilation_is_not_a_pair():
    with pytest.raises(TypeError, match="dilation must be an int >= 0"):
        resolve_dilation((1, 1))


def test_a_kernel_spans_its_taps_and_the_zeros_between_them():
    assert kernel_span((3, 2), 0) == (3, 2)
    assert kernel_span((3, 2), 2) == (7, 4)
    assert kernel_span(1, 5) == (1, 1)


# -------------------------------------------------------------------- padding


@pytest.mark.parametrize("one", [1, np.int64(1), np.uint8(1), np.array(1)])
def test_an_int_pads_all_sides(one):
    assert pads_of(one) == (1, 1, 1, 1)
    assert [type(side) for side in pads_of(one)] == [int] * 4


@pytest.mark.parametrize("make", [tuple, list])
def test_a_pair_pads_rows_and_cols_and_a_quadruple_each_side(make):
    assert pads_of(make([1, 2])) == (1, 1, 2, 2)
    assert pads_of(make([1, 0, 2, np.int64(3)])) == (1, 0, 2, 3)


@pytest.mark.parametrize("word", ["valid", "VALID", "Valid"])
def test_valid_is_no_padding(word):
    assert pads_of(word) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("in_shape", "kernel_shape", "stride", "dilation", "pad4"),
    [
        ((5, 5), (2, 2), 1, 0, (0, 1, 0, 1)),
        ((6, 5), (3, 2), 2, 0, (3, 4, 2, 3)),
        ((5, 5), (3, 2), 3, 1, (6, 6, 5, 5)),
        ((7, 6), (5, 5), 1, 0, (2, 2, 2, 2)),
        ((9, 1), (1, 1), 1, 2, (0, 0, 0, 0)),
    ],
)
def test_same_pads_as_numpy_ml_does(in_shape, kernel_shape, stride, dilation, pad4):
    for word in ("same", "SAME"):
        assert resolve_pad(word, in_shape, kernel_shape, stride, dilation) == pad4


@given(sizes, kernel_shapes, strides, dilations)
def test_same_keeps_the_size_with_an_odd_one_at_the_end(in_shape, kernel_shape, stride, dilation):
    pad4 = resolve_pad("same", in_shape, kernel_shape, stride, dilation)
    assert conv_output_shape(in_shape, kernel_shape, stride, pad4, dilation) == in_shape
    top, bottom, left, right = pad4
    assert bottom - top in (0, 1)
    assert right - left in (0, 1)


WRONG_NUMBERS = [-1, (1, -1), (0, 0, 0, -2), (), (1,), (1, 2, 3), (1, 2, 3, 4, 5)]
WRONG_TYPES = [1.0, (1, 1.0), True, (True, 1), np.True_, None, {1, 2}, "full", "", "1"]


@pytest.mark.parametrize("wrong", [*WRONG_NUMBERS, *WRONG_TYPES])
def test_any_other_padding_is_a_value_error_that_shows_it(wrong):
    message = f"pad must be an int, 'same', 'valid' or 2 or 4 ints >= 0, got {wrong!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        pads_of(wrong)


# ---------------------------------------------------------------- output sizes


@given(sizes, kernel_shapes, strides, st.tuples(*[st.integers(0, 5)] * 4), dilations)
def test_the_output_shape_counts_the_windows_that_fit(in_shape, kernel_shape, stride, pad4, dilation):
    padded = (in_shape[0] + pad4[0] + pad4[1], in_shape[1] + pad4[2] + pad4[3])
    counted = tuple(
        sum(start + (k - 1) * (dilation + 1) < size for start in range(0, size, stride))
        for size, k in zip(padded, kernel_shape, strict=True)
    )
    if 0 in counted:
        with pytest.raises(ValueError, match="Dimension mismatch during convolution: out_rows = "):
            conv_output_shape(in_shape, kernel_shape, stride, pad4, dilation)
    else:
        assert conv_output_shape(in_shape, kernel_shape, stride, pad4, dilation) == counted


def test_a_kernel_that_does_not_fit_is_an_error_with_all_sizes():
    message = (
        "Dimension mismatch during pooling: out_rows = 3, out_cols = -1, because a kernel that "
        "spans 3x7 does not fit into a padded input of 5x5"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        conv_output_shape((4, 3), (2, 4), 1, (0, 1, 1, 1), 1, operation="pooling")


def test_calc_conv_out_dims_adds_examples_and_channels():
    shape = calc_conv_out_dims((2, 9, 10, 3), (3, 2, 3, 8), stride=3, pad=(1, 2), dilation=1)
    assert shape == (2, 3, 4, 8)
    assert calc_conv_out_dims((2, 9, 10, 3), (3, 2, 3, 8), pad="same") == (2, 9, 10, 8)


@pytest.mark.parametrize(
    ("X_shape", "W_shape", "message"),
    [
        ((9, 10, 3), (3, 2, 3, 8), "X_shape must be 4 ints >= 0, got (9, 10, 3)"),
        ((2, 9, 10, 3), (3, 2), "W_shape must be 4 ints >= 0, got (3, 2)"),
        ((2, 9, 10, 3), (3, 2, 4, 8), "W_shape must have the 3 input channels of X"),
        ((2, 9, 1, 3), (3, 2, 3, 8), "Dimension mismatch during convolution"),
    ],
)
def test_calc_conv_out_dims_names_the_wrong_shape(X_shape, W_shape, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        calc_conv_out_dims(X_shape, W_shape)


@pytest.mark.parametrize("dilation", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_calc_pad_dims_reaches_the_output_size_with_the_least_padding(stride, dilation):
    for size, out, k in itertools.product(range(1, 9), range(1, 9), range(1, 4)):
        span = (k - 1) * (dilation + 1) + 1
        out_sizes = [max((size + padding - span) // stride + 1, 0) for padding in range(40)]
        arguments = ((1, size, 1, 3), (out, 1), (k, 1), stride, dilation)
        if out in out_sizes:
            top, bottom, left, right = calc_pad_dims_2D(*arguments)
            assert top + bottom == out_sizes.index(out)
            assert bottom - top in (0, 1)
            assert (left, right) == (0, 0)
        else:
            with pytest.raises(ValueError, match="out_dim must be at least the output size"):
                calc_pad_dims_2D(*arguments)


def test_calc_pad_dims_keeps_rows_and_cols_apart():
    assert calc_pad_dims_2D((1, 6, 5, 3), (7, 4), kernel_shape=(3, 2), stride=1) == (1, 2, 0, 0)


@pytest.mark.parametrize("out_dim", [(5,), (0, 5), (5, 5, 1)])
def test_calc_pad_dims_wants_two_sizes(out_dim):
    with pytest.raises(ValueError, match="out_dim must be 2 ints >= 1"):
        calc_pad_dims_2D((1, 5, 5, 3), out_dim, (2, 2), 1)
