"""numpy-ml's convolution helpers in NumPy: padding, dilating, `im2col`, `col2im` and `conv2D`.

They keep numpy-ml's names and axis orders, for study and for code that uses them; the layers run compiled
kernels instead. Sizes are computed by `cvae.nn.geometry`.
"""

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from cvae.nn.geometry import (
    IntOrPair,
    Pad,
    Pad4,
    calc_conv_out_dims,
    kernel_span,
    resolve_dilation,
    resolve_pad,
    resolve_stride,
)

FloatArray = npt.NDArray[np.floating[Any]]


def pad2D(
    X: npt.ArrayLike,
    pad: Pad,
    kernel_shape: IntOrPair | None = None,
    stride: IntOrPair | None = None,
    dilation: SupportsIndex = 0,
) -> tuple[FloatArray, Pad4]:
    """Pad each image with rows and cols of zeros.

    Parameters
    ----------
    X : array, shape (n, rows, cols, ch)
    pad
        As in `resolve_pad`.
    kernel_shape, stride, dilation
        As in `resolve_pad`; `pad="same"` requires `kernel_shape` and `stride`.

    Returns
    -------
    X_pad : array, shape (n, top + rows + bottom, left + cols + right, ch), dtype of `X`
    pad4 : (top, bottom, left, right)

    Raises
    ------
    ValueError
        If `X` is not 4-D, `pad` is invalid, or `pad` is "same" without `kernel_shape` or `stride`.

    Examples
    --------
    >>> X_pad, pad4 = pad2D(np.ones((1, 2, 2, 1)), (0, 1))
    >>> pad4
    (0, 0, 1, 1)
    >>> X_pad[0, :, :, 0]
    array([[0., 1., 1., 0.],
           [0., 1., 1., 0.]])
    """
    images = _as_nhwc(X)
    if isinstance(pad, str) and pad.lower() == "same" and (kernel_shape is None or stride is None):
        raise ValueError(f"kernel_shape and stride must be given for pad={pad!r}, got None")
    kernel_shape = 1 if kernel_shape is None else kernel_shape
    stride = 1 if stride is None else stride
    pad4 = resolve_pad(pad, images.shape[1:3], kernel_shape, stride, dilation)
    return np.pad(images, ((0, 0), pad4[:2], pad4[2:], (0, 0))), pad4


def dilate(X: npt.ArrayLike, d: SupportsIndex) -> FloatArray:
    """Insert d rows and cols of zeros between adjacent rows and cols of each image.

    Parameters
    ----------
    X : array, shape (n, rows, cols, ch)
    d : int
        Number of zeros, >= 0.

    Returns
    -------
    X_dilated : array, shape (n, rows + d * (rows - 1), cols + d * (cols - 1), ch), dtype of `X`

    Raises
    ------
    TypeError
        If `d` is not an integer.
    ValueError
        If `X` is not 4-D or `d` is negative.

    Examples
    --------
    >>> dilate(np.array([[1., 2.], [3., 4.]]).reshape(1, 2, 2, 1), 1)[0, :, :, 0]
    array([[1., 0., 2.],
           [0., 0., 0.],
           [3., 0., 4.]])
    """
    images = _as_nhwc(X)
    n, rows, cols, ch = images.shape
    zeros = resolve_dilation(d)
    shape = (n, rows + zeros * (rows - 1), cols + zeros * (cols - 1), ch)
    dilated = np.zeros(shape, dtype=images.dtype)
    dilated[:, :: zeros + 1, :: zeros + 1] = images
    return dilated


def im2col(
    X: npt.ArrayLike,
    W_shape: Sequence[int],
    pad: Pad,
    stride: IntOrPair,
    dilation: SupportsIndex = 0,
) -> tuple[FloatArray, Pad4]:
    """Arrange the windows of all images as the columns of a matrix.

    Parameters
    ----------
    X : array, shape (n, rows, cols, in_ch)
    W_shape : (kernel_rows, kernel_cols, in_ch, out_ch)
        Shape of the weights that the matrix is to be multiplied by.
    pad, stride, dilation
        As in `resolve_pad`, `resolve_stride` and `resolve_dilation`.

    Returns
    -------
    X_col : array, shape (in_ch * kernel_rows * kernel_cols, out_rows * out_cols * n), dtype of `X`
        Rows are ordered by channel, kernel row, kernel col; columns by output row, output col, image.
    pad4 : (top, bottom, left, right)

    Raises
    ------
    ValueError
        If `X` is not 4-D, the channels differ, or the kernel does not fit.

    Examples
    --------
    >>> X = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> im2col(X, (2, 2, 1, 1), pad=0, stride=1)[0]
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    windows, pad4 = _windows(X, W_shape, pad, stride, dilation)
    n, out_rows, out_cols, in_ch, kernel_rows, kernel_cols = windows.shape
    shape = (in_ch * kernel_rows * kernel_cols, out_rows * out_cols * n)
    return windows.transpose(3, 4, 5, 1, 2, 0).reshape(shape), pad4


def col2im(
    X_col: npt.ArrayLike,
    X_shape: Sequence[int],
    W_shape: Sequence[int],
    pad: Pad4,
    stride: IntOrPair,
    dilation: SupportsIndex = 0,
) -> FloatArray:
    """Add the columns of a matrix into images; the transpose of `im2col` as a linear map.

    Parameters
    ----------
    X_col : array, shape (in_ch * kernel_rows * kernel_cols, out_rows * out_cols * n)
    X_shape : (n, rows, cols, in_ch)
        Shape of the images in NHWC, unlike the result.
    W_shape : (kernel_rows, kernel_cols, in_ch, out_ch)
    pad : (top, bottom, left, right)
        The second result of `im2col`.
    stride, dilation
        As passed to `im2col`.

    Returns
    -------
    X : array, shape (n, in_ch, rows, cols), dtype of `X_col`
        **NCHW**, as in numpy-ml. Values that fall on the padding are discarded.

    Raises
    ------
    TypeError
        If `pad` is not a tuple of 4.
    ValueError
        If the shapes do not match.

    Examples
    --------
    Count the windows that contain each pixel of a 3x3 image:

    >>> col2im(np.ones((4, 4)), (1, 3, 3, 1), (2, 2, 1, 1), (0, 0, 0, 0), stride=1)[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    if not isinstance(pad, tuple) or len(pad) != 4:
        raise TypeError(f"pad must be a tuple of 4 ints (top, bottom, left, right), got {pad!r}")
    n, out_rows, out_cols, _ = calc_conv_out_dims(X_shape, W_shape, stride, pad, dilation)
    _, rows, cols, in_ch = X_shape
    kernel_rows, kernel_cols = W_shape[:2]
    columns = np.asarray(X_col)
    shape = (in_ch * kernel_rows * kernel_cols, out_rows * out_cols * n)
    if columns.shape != shape:
        raise ValueError(f"X_col must have shape {shape}, got {columns.shape}")
    columns = columns.reshape(in_ch, kernel_rows, kernel_cols, out_rows, out_cols, n)

    top, bottom, left, right = pad
    stride, spacing = resolve_stride(stride), resolve_dilation(dilation) + 1
    images = np.zeros((in_ch, top + rows + bottom, left + cols + right, n), dtype=columns.dtype)
    for r in range(kernel_rows):
        for c in range(kernel_cols):
            to_rows = slice(r * spacing, r * spacing + stride * out_rows, stride)
            to_cols = slice(c * spacing, c * spacing + stride * out_cols, stride)
            images[:, to_rows, to_cols] += columns[:, r, c]
    return images[:, top : top + rows, left : left + cols].transpose(3, 0, 1, 2)


def conv2D(X: npt.ArrayLike, W: npt.ArrayLike, stride: IntOrPair, pad: Pad, dilation: SupportsIndex = 0) -> FloatArray:
    """Convolve images with kernels, without flipping the kernels or adding a bias.

    Parameters
    ----------
    X : array, shape (n, rows, cols, in_ch)
    W : array, shape (kernel_rows, kernel_cols, in_ch, out_ch)
    stride, pad, dilation
        As in `resolve_stride`, `resolve_pad` and `resolve_dilation`.

    Returns
    -------
    Z : array, shape (n, out_rows, out_cols, out_ch), common dtype of `X` and `W`

    Raises
    ------
    ValueError
        If `X` or `W` is not 4-D, the channels differ, or the kernel does not fit.

    Examples
    --------
    >>> conv2D(np.ones((1, 3, 3, 1)), np.ones((2, 2, 1, 1)), stride=1, pad=0)[0, :, :, 0]
    array([[4., 4.],
           [4., 4.]])
    """
    kernels = np.asarray(W)
    windows, _ = _windows(X, kernels.shape, pad, stride, dilation)
    return np.tensordot(windows, kernels, axes=((4, 5, 3), (0, 1, 2)))


def _windows(
    X: npt.ArrayLike,
    W_shape: Sequence[int],
    pad: Pad,
    stride: IntOrPair,
    dilation: SupportsIndex,
) -> tuple[FloatArray, Pad4]:
    """View all windows as (n, out_rows, out_cols, in_ch, kernel_rows, kernel_cols)."""
    images = _as_nhwc(X)
    calc_conv_out_dims(images.shape, W_shape, stride, pad, dilation)  # for its checks
    X_pad, pad4 = pad2D(images, pad, W_shape[:2], stride, dilation)
    windows = sliding_window_view(X_pad, kernel_span(W_shape[:2], dilation), axis=(1, 2))
    stride, spacing = resolve_stride(stride), resolve_dilation(dilation) + 1
    return windows[:, ::stride, ::stride, :, ::spacing, ::spacing], pad4


def _as_nhwc(X: npt.ArrayLike) -> FloatArray:
    images = np.asarray(X)
    if images.ndim != 4:
        raise ValueError(f"X must have 4 axes (n, rows, cols, ch), got shape {images.shape}")
    return images
