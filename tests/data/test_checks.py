"""Checks of the values of images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from image_cases import DTYPES, peak_memory

from cvae.data.checks import check_bytes, check_finite, check_range, clipped
from cvae.data.images import as_images

# check_range


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_whole_range_is_allowed(dtype):
    check_range(as_images(np.array([[[0, 1], [1, 0]]], dtype)))


def test_uint8_and_bool_are_free():
    check_range(np.array([0, 255], np.uint8).reshape(1, 1, 2, 1))
    check_range(np.array([False, True]).reshape(1, 1, 2, 1))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", ">f4"])
@pytest.mark.parametrize("ends", [(0, 1), (-0.5, 0.25), (-3, 1024), (0.1, 0.3)], ids=str)
def test_floats_outside_by_rounding_are_clipped(dtype, ends):
    low, high = ends
    ulp = max(float(np.finfo(dtype).eps), 2.0**-23) * max(abs(low), abs(high))  # doubles may hold floats
    for value, step in ((low, -ulp), (high, ulp)):
        inside, near, far = (np.full((2, 2, 2, 1), value + n * step, dtype) for n in (0, 3, 6))
        inside[0], near[0], far[0] = [np.full((2, 2, 1), np.mean(ends))] * 3
        check_range(inside, value_range=ends)
        assert clipped(inside, ends) is inside
        with pytest.raises(ValueError, match="X must hold values in"):
            check_range(near, value_range=ends)
        found = clipped(near, ends)
        np.testing.assert_array_equal(found, inside)
        assert found.dtype == near.dtype
        check_range(found, value_range=ends)
        assert clipped(far, ends) is far
        near[0, 0, 0, 0] = np.nan
        assert clipped(near, ends) is near


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", ">f4", ">f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.01, 1.01, 255])
def test_floats_outside(dtype, value):
    X = np.full((400, 20, 20, 2), 0.5, dtype)  # several blocks
    X[399, 19, 19, 1] = 2
    X[301, 7, 5, 1] = value
    got = "NaN" if np.isnan(value) else np.dtype(dtype).type(value)
    message = rf"got {got} in image 301 at row 7, column 5, channel 1$"
    with pytest.raises(ValueError, match=message):
        check_range(X)
    with pytest.raises(ValueError, match=message.replace("301", "97")):
        check_range(X[398::-1])  # the view's order counts, not the memory's


@pytest.mark.parametrize("dtype", ["int8", "int16", ">i4", "int64", "uint16", "uint64"])
def test_only_uint8_means_0_to_255(dtype):
    X = np.array([0, 1, 2, 3], dtype).reshape(2, 1, 2, 1)
    with pytest.raises(ValueError, match=r"^pixels must .*only uint8 means 0\.\.255.*got 2 in"):
        check_range(X, name="pixels")


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=4, max_dims=4, max_side=5),
        elements=st.one_of(st.floats(0, 1, width=32), st.floats(width=32)),
    ),
    st.sampled_from(["<f4", ">f4"]),
)
def test_first_offender_is_that_of_the_plain_expression(X, dtype):
    X = X.astype(dtype)
    bad = np.argwhere(~((X >= 0) & (X <= 1)))
    if len(bad) == 0:
        check_range(X)
    else:
        image, row, column, channel = bad[0]
        place = f"image {image} at row {row}, column {column}, channel {channel}$"
        with pytest.raises(ValueError, match=place):
            check_range(X)


@pytest.mark.parametrize("dtype", ["float32", ">f4", "int16"])
def test_check_needs_little_memory(dtype):
    X = np.ones((1000, 64, 64, 1), dtype)
    for view in (X, X[:, ::-1, ::2], X.transpose(3, 1, 0, 2)):
        for check in (check_range, check_finite, check_bytes):
            assert peak_memory(check, view) < X.nbytes / 8


# check_finite and check_bytes


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", ">f4", ">f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(dtype, value):
    X = np.full((400, 20, 20, 2), -60_000, dtype)
    check_finite(X)
    X[301, 7, 5, 1] = value
    got = "NaN" if np.isnan(value) else value
    for view, image in ((X, 301), (X[398::-1], 97)):
        with pytest.raises(ValueError, match=rf"got {got} in image {image} at row 7, column 5, channel 1$"):
            check_finite(view)


def test_what_float32_cannot_hold_is_not_finite():
    check_finite(np.full((1, 1, 1, 1), -3.4e38))
    with pytest.raises(
        ValueError, match=r"^pixels must hold finite values, at most 3\.4e\+38 in size, got 3\.5e\+38 in"
    ):
        check_finite(np.full((1, 1, 1, 1), 3.5e38), name="pixels")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", ">i4", "uint64"])
def test_integers_are_finite(dtype):
    check_finite(np.full((1, 1, 1, 1), 100, dtype))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", ">f4", ">f8"])
@pytest.mark.parametrize("value", [0.3, 0.5, -1 / 255, 256 / 255])
def test_values_that_are_no_bytes(dtype, value):
    X = (np.arange(320_000).astype(np.uint8).reshape(400, 20, 20, 2) / 255).astype(dtype)
    check_bytes(X)
    X[301, 7, 5, 1] = value
    for view, image in ((X, 301), (X[398::-1], 97)):
        with pytest.raises(ValueError, match=rf"^X must .* in image {image} at row 7, column 5, channel 1$"):
            check_bytes(view)
