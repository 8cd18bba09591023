"""Convolution geometry: padding and output sizes.

The notation follows Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016), except
that `dilation` counts the zeros between adjacent taps of a kernel, as in numpy-ml: 0 is an ordinary
convolution, and PyTorch's dilation is `dilation + 1`.
"""

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

from cvae.checking import MAX_AXIS

Shape2D = tuple[int, int]
Pad4 = tuple[int, int, int, int]
Pad = SupportsIndex | str | Sequence[SupportsIndex]
IntOrPair = SupportsIndex | Sequence[SupportsIndex]


def resolve_kernel_shape(kernel_shape: IntOrPair, name: str = "kernel_shape") -> Shape2D:
    """Return a kernel's shape as two ints.

    Parameters
    ----------
    kernel_shape : int or 2 ints
        Rows and cols of the kernel, each >= 1; a single int is used for both.
    name : str
        What error messages call it.

    Returns
    -------
    (kernel_rows, kernel_cols) : tuple of 2 ints

    Raises
    ------
    TypeError
        If `kernel_shape` contains anything but integers; a bool does not count.
    ValueError
        If it is a sequence of other than 2 integers, or an integer is less than 1.

    Examples
    --------
    >>> resolve_kernel_shape(3), resolve_kernel_shape([5, 4])
    ((3, 3), (5, 4))
    """
    message = f"{name} must be an int or 2 ints >= 1, got {kernel_shape!r}"
    rows, cols = _integers(_repeated(kernel_shape, 2), 2, 1, message)
    return rows, cols


def resolve_stride(stride: IntOrPair, name: str = "stride") -> int:
    """Return the distance between adjacent windows, one int for both axes.

    Parameters
    ----------
    stride : int or 2 equal ints
        Rows or cols from one window to the next, >= 1.
    name : str
        What error messages call it.

    Returns
    -------
    stride : int

    Raises
    ------
    TypeError
        If `stride` contains anything but integers; a bool does not count.
    ValueError
        If it is less than 1, or not the same for rows and cols.

    Examples
    --------
    >>> resolve_stride(2), resolve_stride((2, 2))
    (2, 2)
    """
    message = f"{name} must be an int >= 1, the same for rows and cols, got {stride!r}"
    rows, cols = _integers(_repeated(stride, 2), 2, 1, message)
    if rows != cols:
        raise ValueError(message)
    return rows


def resolve_dilation(dilation: SupportsIndex) -> int:
    """Return the number of zeros between adjacent taps of a kernel.

    Parameters
    ----------
    dilation : int
        Number of zeros, >= 0; 0 is an ordinary convolution.

    Returns
    -------
    dilation : int

    Raises
    ------
    TypeError
        If `dilation` is not an integer; a bool does not count.
    ValueError
        If it is negative.

    Examples
    --------
    >>> resolve_dilation(1)
    1
    """
    return _integers([dilation], 1, 0, f"dilation must be an int >= 0, got {dilation!r}")[0]


def kernel_span(kernel_shape: IntOrPair, dilation: SupportsIndex) -> Shape2D:
    """Return the rows and cols from a kernel's first to its last tap, both included.

    Parameters
    ----------
    kernel_shape, dilation
        As in `resolve_kernel_shape` and `resolve_dilation`.

    Returns
    -------
    (rows, cols) : tuple of 2 ints
        ``k * (dilation + 1) - dilation`` for k taps.

    Raises
    ------
    TypeError, ValueError
        As in `resolve_kernel_shape` and `resolve_dilation`.

    Examples
    --------
    >>> kernel_span((3, 2), dilation=1)
    (5, 3)
    """
    rows, cols = resolve_kernel_shape(kernel_shape)
    zeros = resolve_dilation(dilation)
    return rows + zeros * (rows - 1), cols + zeros * (cols - 1)


def resolve_pad(
    pad: Pad,
    in_shape: Shape2D,
    kernel_shape: IntOrPair,
    stride: IntOrPair,
    dilation: SupportsIndex = 0,
    *,
    name: str = "pad",
) -> Pad4:
    """Return the number of rows and cols of zeros on each side of the image.

    Parameters
    ----------
    pad : int, 2 ints, 4 ints, "same" or "valid"
        An int p pads all four sides by p, (p_rows, p_cols) pads above and below by p_rows and left and right
        by p_cols, and (top, bottom, left, right) pads each side separately. "same" makes the output as large
        as the input **for any stride**; an odd row or col is added at the bottom or right. "valid" does not
        pad. Words may be in upper or lower case.
    in_shape : (rows, cols)
        Size of the image.
    kernel_shape, stride, dilation
        As in `resolve_kernel_shape`, `resolve_stride` and `resolve_dilation`; used only for "same".
    name : str
        What error messages call `pad`.

    Returns
    -------
    (top, bottom, left, right) : tuple of 4 ints >= 0

    Raises
    ------
    ValueError
        If `pad` is anything else. As `pad` may be of several types, a wrong type is a ValueError too.

    Notes
    -----
    For a kernel that spans k pixels, "same" adds ``stride * (size - 1) + k - size`` to an axis of
    that size. For stride 1 this agrees with "same" in PyTorch and TensorFlow; for larger strides,
    TensorFlow's "same" instead divides the size by the stride.

    Examples
    --------
    >>> resolve_pad((1, 2), in_shape=(6, 5), kernel_shape=(3, 2), stride=2)
    (1, 1, 2, 2)
    >>> resolve_pad("same", in_shape=(6, 5), kernel_shape=(3, 2), stride=2)
    (3, 4, 2, 3)
    """
    message = f"{name} must be an int, 'same', 'valid' or 2 or 4 ints >= 0, got {pad!r}"
    if isinstance(pad, str):
        if pad.lower() == "same":
            return _pad_to_reach(in_shape, in_shape, kernel_shape, stride, dilation)
        if pad.lower() == "valid":
            return (0, 0, 0, 0)
        raise ValueError(message)
    sides = _repeated(pad, 4)
    if len(sides) == 2:
        sides = [sides[0], sides[0], sides[1], sides[1]]
    try:
        top, bottom, left, right = _integers(sides, 4, 0, message)
    except TypeError:
        raise ValueError(message) from None
    return top, bottom, left, right


def conv_output_shape(
    in_shape: Shape2D,
    kernel_shape: IntOrPair,
    stride: IntOrPair,
    pad4: Pad4,
    dilation: SupportsIndex = 0,
    *,
    operation: str = "convolution",
) -> Shape2D:
    """Return the number of windows that fit into the padded image along each axis.

    Parameters
    ----------
    in_shape : (rows, cols)
        Size of the image without padding.
    kernel_shape, stride, dilation
        As in `resolve_kernel_shape`, `resolve_stride` and `resolve_dilation`.
    pad4 : (top, bottom, left, right)
        As returned by `resolve_pad`.
    operation : str
        The name of the operation in the error message.

    Returns
    -------
    (out_rows, out_cols) : tuple of 2 ints >= 1
        ``floor((size + before + after - span) / stride) + 1`` per axis, where span is the result of
        `kernel_span`. Rows and cols left over at the bottom and right are unused.

    Raises
    ------
    ValueError
        If the kernel is larger than the padded image.

    Examples
    --------
    >>> conv_output_shape((28, 28), (5, 5), stride=1, pad4=(0, 0, 0, 0))
    (24, 24)
    """
    span = kernel_span(kernel_shape, dilation)
    stride = resolve_stride(stride)
    top, bottom, left, right = pad4
    rows, cols = in_shape[0] + top + bottom, in_shape[1] + left + right
    out_rows = (rows - span[0]) // stride + 1
    out_cols = (cols - span[1]) // stride + 1
    if out_rows <= 0 or out_cols <= 0:
        raise ValueError(
            f"Dimension mismatch during {operation}: out_rows = {out_rows}, out_cols = {out_cols}, "
            f"because a kernel that spans {span[0]}x{span[1]} does not fit into a padded input of "
            f"{rows}x{cols}"
        )
    return out_rows, out_cols


def calc_conv_out_dims(
    X_shape: Sequence[int], W_shape: Sequence[int], stride: IntOrPair = 1, pad: Pad = 0, dilation: SupportsIndex = 0
) -> tuple[int, int, int, int]:
    """Return the shape of a convolution's output.

    Parameters
    ----------
    X_shape : (n, rows, cols, in_ch)
    W_shape : (kernel_rows, kernel_cols, in_ch, out_ch)
    stride, pad, dilation
        As in `resolve_stride`, `resolve_pad` and `resolve_dilation`.

    Returns
    -------
    (n, out_rows, out_cols, out_ch) : tuple of 4 ints

    Raises
    ------
    ValueError
        If a shape is not 4 ints, the channels differ, or the kernel does not fit.

    Examples
    --------
    >>> calc_conv_out_dims((2, 28, 28, 1), (5, 5, 1, 32), stride=2, pad=1)
    (2, 13, 13, 32)
    """
    n, rows, cols, in_ch = _four_sizes("X_shape", X_shape)
    kernel_rows, kernel_cols, kernel_in_ch, out_ch = _four_sizes("W_shape", W_shape)
    if kernel_in_ch != in_ch:
        raise ValueError(f"W_shape must have the {in_ch} input channels of X, got {W_shape!r}")
    kernel_shape = (kernel_rows, kernel_cols)
    pad4 = resolve_pad(pad, (rows, cols), kernel_shape, stride, dilation)
    return n, *conv_output_shape((rows, cols), kernel_shape, stride, pad4, dilation), out_ch


def calc_pad_dims_2D(
    X_shape: Sequence[int],
    out_dim: Sequence[int],
    kernel_shape: IntOrPair,
    stride: IntOrPair,
    dilation: SupportsIndex = 0,
) -> Pad4:
    """Return the smallest padding with which a convolution has a given output size.

    Parameters
    ----------
    X_shape : (n, rows, cols, in_ch)
    out_dim : (out_rows, out_cols)
        The required size, each >= 1.
    kernel_shape, stride, dilation
        As in `resolve_kernel_shape`, `resolve_stride` and `resolve_dilation`.

    Returns
    -------
    (top, bottom, left, right) : tuple of 4 ints
        An odd row or col is added at the bottom or right.

    Raises
    ------
    ValueError
        If `X_shape` is not 4 ints, `out_dim` is not 2 ints, or the output is larger than `out_dim` even
        without padding.

    Examples
    --------
    >>> calc_pad_dims_2D((1, 5, 5, 3), (5, 5), kernel_shape=(2, 2), stride=1)
    (0, 1, 0, 1)
    """
    _, rows, cols, _ = _four_sizes("X_shape", X_shape)
    out_rows, out_cols = _integers(out_dim, 2, 1, f"out_dim must be 2 ints >= 1, got {out_dim!r}")
    return _pad_to_reach((rows, cols), (out_rows, out_cols), kernel_shape, stride, dilation)


def _pad_to_reach(
    in_shape: Shape2D, out_shape: Shape2D, kernel_shape: IntOrPair, stride: IntOrPair, dilation: SupportsIndex
) -> Pad4:
    span = kernel_span(kernel_shape, dilation)
    stride = resolve_stride(stride)
    pad: list[int] = []
    for size, out_size, kernel in zip(in_shape, out_shape, span, strict=True):
        missing = stride * (out_size - 1) + kernel - size
        if missing <= -stride:  # fewer than `stride` excess rows or cols are left over at the end
            raise ValueError(
                f"out_dim must be at least the output size without padding, got {out_shape} for an "
                f"input of {in_shape[0]}x{in_shape[1]}"
            )
        total = max(missing, 0)
        pad += [total // 2, total - total // 2]
    return pad[0], pad[1], pad[2], pad[3]


def _four_sizes(name: str, shape: Sequence[int]) -> list[int]:
    return _integers(shape, 4, 0, f"{name} must be 4 ints >= 0, got {shape!r}")


def _repeated(value: Any, count: int) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value] * count


def _integers(values: Sequence[Any], count: int, least: int, message: str) -> list[int]:
    """Return `values` as ints after checking that they are `count` integers >= `least`; a bool does not count."""
    try:
        if any(isinstance(value, bool) for value in values):
            raise TypeError
        integers = [operator.index(value) for value in values]
    except TypeError:
        raise TypeError(message) from None
    if len(integers) != count or min(integers) < least:
        raise ValueError(message)
    if max(integers) > MAX_AXIS:
        raise ValueError(f"{message}, more than {MAX_AXIS}")
    return integers
