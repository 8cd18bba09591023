"""The convolution helpers in NumPy, compared with numpy-ml's results, the oracles and each other."""

import re

import numpy as np
import pytest
from oracles import assert_equal_to_rounding, conv2d_forward
from reference_cases import cases

from cvae.compat.im2col import col2im, conv2D, dilate, im2col, pad2D

[(_, _, REFERENCE), _] = cases("utils")
X, W = REFERENCE["X"], REFERENCE["W"]

PADS = {"int1": 1, "t12": (1, 2), "t1023": (1, 0, 2, 3)}


@pytest.mark.parametrize(("name", "pad"), PADS.items(), ids=PADS)
def test_pad2D_equals_numpy_ml(name, pad):
    X_pad, pad4 = pad2D(X, pad)
    np.testing.assert_array_equal(X_pad, REFERENCE[f"padded_{name}"])
    assert pad4 == tuple(REFERENCE[f"padded_{name}_dims"])


def test_pad2D_same_equals_numpy_ml():
    X_pad, pad4 = pad2D(X, "same", kernel_shape=(3, 2), stride=2, dilation=1)
    np.testing.assert_array_equal(X_pad, REFERENCE["padded_same_k32_s2_d1"])
    assert pad4 == tuple(REFERENCE["padded_same_k32_s2_d1_dims"])


def test_dilate_equals_numpy_ml():
    np.testing.assert_array_equal(dilate(X, 2), REFERENCE["dilated_by_2"])


def test_im2col_and_back_equal_numpy_ml():
    X_col, pad4 = im2col(X, W.shape, (1, 2), stride=2, dilation=1)
    np.testing.assert_array_equal(X_col, REFERENCE["im2col_k32_pad12_s2_d1"])
    assert pad4 == tuple(REFERENCE["im2col_pad"])
    nchw = col2im(X_col, X.shape, W.shape, pad4, stride=2, dilation=1)
    np.testing.assert_array_equal(nchw.transpose(0, 2, 3, 1), REFERENCE["col2im_of_it"])


def test_conv2D_equals_numpy_ml():
    Z = conv2D(X, W, stride=2, pad=(1, 2), dilation=1)
    assert_equal_to_rounding(Z, REFERENCE["conv2D_pad12_s2_d1"])


GEOMETRIES = [
    ((3, 2), 1, (0, 0, 0, 0), 0),
    ((2, 3), 2, (1, 0, 2, 3), 0),
    ((3, 3), 3, (2, 2, 1, 1), 1),
    ((1, 1), 2, (0, 1, 0, 0), 2),
]


@pytest.mark.parametrize(("kernel_shape", "stride", "pad", "dilation"), GEOMETRIES)
def test_conv2D_equals_the_oracle(kernel_shape, stride, pad, dilation):
    rng = np.random.default_rng(1)
    images, kernels = rng.normal(size=(2, 9, 8, 3)), rng.normal(size=(*kernel_shape, 3, 4))
    expected = conv2d_forward(images, kernels, 0.0, stride, pad, dilation)
    assert_equal_to_rounding(conv2D(images, kernels, stride, pad, dilation), expected)


@pytest.mark.parametrize(("kernel_shape", "stride", "pad", "dilation"), GEOMETRIES)
def test_conv2D_is_the_product_of_the_weights_with_im2col(kernel_shape, stride, pad, dilation):
    rng = np.random.default_rng(2)
    images, kernels = rng.normal(size=(2, 9, 8, 3)), rng.normal(size=(*kernel_shape, 3, 4))
    X_col, _ = im2col(images, kernels.shape, pad, stride, dilation)
    W_col = kernels.transpose(3, 2, 0, 1).reshape(4, -1)
    Z = conv2D(images, kernels, stride, pad, dilation)
    assert_equal_to_rounding((W_col @ X_col).reshape(4, *Z.shape[1:3], 2).transpose(3, 1, 2, 0), Z)


@pytest.mark.parametrize(("kernel_shape", "stride", "pad", "dilation"), GEOMETRIES)
def test_col2im_is_the_transpose_of_im2col(kernel_shape, stride, pad, dilation):
    rng = np.random.default_rng(3)
    images, W_shape = rng.normal(size=(2, 9, 8, 3)), (*kernel_shape, 3, 1)
    X_col, pad4 = im2col(images, W_shape, pad, stride, dilation)
    columns = rng.normal(size=X_col.shape)
    back = col2im(columns, images.shape, W_shape, pad4, stride, dilation).transpose(0, 2, 3, 1)
    assert_equal_to_rounding(np.vdot(images, back), np.vdot(X_col, columns))


def test_a_padding_in_words_is_that_of_the_whole_kernel():
    in_words, pad4 = im2col(X, (3, 2, 2, 1), "same", stride=1, dilation=1)
    assert pad4 == (2, 2, 1, 1)
    np.testing.assert_array_equal(in_words, im2col(X, (3, 2, 2, 1), pad4, stride=1, dilation=1)[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(dtype):
    images, kernels = X.astype(dtype), W.astype(dtype)
    X_col, pad4 = im2col(images, W.shape, 1, 1)
    results = [
        pad2D(images, 1)[0],
        dilate(images, 1),
        X_col,
        col2im(X_col, X.shape, W.shape, pad4, 1),
        conv2D(images, kernels, 1, 1),
    ]
    assert [result.dtype for result in results] == [dtype] * 5


def test_the_input_is_not_changed_and_not_shared():
    images = X.copy()
    for result in (pad2D(images, 0)[0], dilate(images, 0), im2col(images, W.shape, 0, 1)[0]):
        result[...] = 7.0
    np.testing.assert_array_equal(images, X)


@pytest.mark.parametrize("function", [lambda a: pad2D(a, 1), lambda a: dilate(a, 1)])
@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5), (1, 2, 4, 5, 2)])
def test_images_without_four_axes_are_an_error(function, shape):
    with pytest.raises(ValueError, match=re.escape(f"X must have 4 axes (n, rows, cols, ch), got shape {shape}")):
        function(np.zeros(shape))


@pytest.mark.parametrize("arguments", [{}, {"kernel_shape": 3}, {"stride": 1}])
def test_pad2D_same_needs_the_kernel_and_the_stride(arguments):
    with pytest.raises(ValueError, match="kernel_shape and stride must be given for pad='same'"):
        pad2D(X, "same", **arguments)


def test_channels_that_differ_are_an_error():
    with pytest.raises(ValueError, match="W_shape must have the 2 input channels of X"):
        conv2D(X, np.zeros((3, 2, 3, 1)), 1, 0)
    with pytest.raises(ValueError, match="W_shape must have the 2 input channels of X"):
        im2col(X, (3, 2, 3, 1), 0, 1)


def test_a_kernel_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="Dimension mismatch during convolution"):
        conv2D(X, np.zeros((5, 2, 2, 1)), 1, 0)


@pytest.mark.parametrize("pad", [1, (1, 1), [0, 0, 0, 0], "same"])
def test_col2im_wants_the_padding_in_full(pad):
    with pytest.raises(
        TypeError,
        match=re.escape(f"pad must be a tuple of 4 ints (top, bottom, left, right), got {pad!r}"),
    ):
        col2im(np.zeros((12, 8)), X.shape, W.shape, pad, 2, 1)


def test_col2im_checks_the_size_of_the_matrix():
    with pytest.raises(ValueError, match=re.escape("X_col must have shape (12, 8), got (12, 7)")):
        col2im(np.zeros((12, 7)), X.shape, W.shape, (1, 1, 2, 2), 2, 1)


def test_dilate_by_a_negative_number_is_an_error():
    with pytest.raises(ValueError, match="dilation must be an int >= 0, got -1"):
        dilate(X, -1)
