"""Validation of image arrays and gathering of batches."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cvae.data.images import (
    Gatherer,
    as_images,
    check_bytes,
    check_finite,
    check_range,
    gather,
    resolve_image_shape,
)

DTYPES = ["bool", "uint8", "int8", "int32", "int64", "uint16", "float16", "float32", "float64"]
DTYPES += ["longdouble", ">f4", ">f8", ">i2", "<f4"]


def peak_memory(function, *arguments):
    """Return the peak memory, in bytes, that a call allocates."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# resolve_image_shape


@pytest.mark.parametrize(
    ("image_shape", "expected"),
    [
        ((28, 20), (28, 20, 1)),
        ([8, 9, 3], (8, 9, 3)),
        (np.array([4, 5]), (4, 5, 1)),
        ((np.int64(4), 5, 1), (4, 5, 1)),
    ],
)
def test_image_shape_gets_a_channel(image_shape, expected):
    assert resolve_image_shape(image_shape) == expected


@pytest.mark.parametrize("image_shape", [(), (28,), (1, 2, 3, 4), (0, 5), (5, -1), (5, 5, 0)])
def test_wrong_image_shape(image_shape):
    with pytest.raises(ValueError, match="image_shape must be 2 or 3 ints >= 1, got"):
        resolve_image_shape(image_shape)


@pytest.mark.parametrize("image_shape", [28, (28.0, 28), "ab", (None, 2)])
def test_image_shape_of_a_wrong_type(image_shape):
    with pytest.raises(TypeError, match="image_shape must be 2 or 3 ints >= 1, got"):
        resolve_image_shape(image_shape)


# as_images


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "image_shape", "expected"),
    [
        ((3, 4, 5, 2), None, (3, 4, 5, 2)),
        ((3, 4, 5, 2), (4, 5, 2), (3, 4, 5, 2)),
        ((3, 4, 5), None, (3, 4, 5, 1)),
        ((3, 4, 5), (4, 5), (3, 4, 5, 1)),
        ((3, 4, 5), (4, 5, 1), (3, 4, 5, 1)),
        ((3, 40), (4, 10), (3, 4, 10, 1)),
        ((3, 40), (4, 5, 2), (3, 4, 5, 2)),
    ],
)
def test_shapes_are_views(dtype, shape, image_shape, expected):
    X = np.zeros(shape, dtype)
    images = as_images(X, image_shape)
    assert images.shape == expected
    assert images.dtype == X.dtype
    assert np.shares_memory(images, X)


@given(
    hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=4, max_side=8)),
    st.lists(st.sampled_from([1, 2, -1, -2]), min_size=4, max_size=4),
    st.booleans(),
)
def test_any_strides_give_a_view_of_the_plain_reshape(X, steps, swapped):
    X = X.astype(">i2" if swapped else "<i2")
    X = X[tuple(slice(None, None, step) for step in steps[: X.ndim])]
    X.flags.writeable = False
    images = as_images(X, (X.shape[1], 1, 1) if X.ndim == 2 else None)
    np.testing.assert_array_equal(images, X.reshape(*X.shape, *[1] * (4 - X.ndim)))
    assert np.shares_memory(images, X)


def test_flat_features_are_in_row_column_channel_order():
    X = np.arange(2 * 24).reshape(2, 24)
    images = as_images(X[::-1], (2, 3, 4))
    assert images[0, 1, 2, 3] == X[1, 1 * 12 + 2 * 4 + 3]


def test_lists_and_objects_with_an_array_interface_are_accepted():
    class Wrapper:
        def __array__(self, dtype=None, copy=None):
            return np.ones((2, 3, 4))

    assert as_images([[[0, 1], [1, 0]]]).shape == (1, 2, 2, 1)
    assert as_images(Wrapper()).shape == (2, 3, 4, 1)


def test_memory_map_stays_one(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 4, 5), np.float32))
    X = np.load(tmp_path / "x.npy", mmap_mode="r")
    images = as_images(X)
    assert np.shares_memory(images, X)
    assert not images.flags.writeable


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((2, 3, 4), complex),
        np.zeros((2, 3, 4), object),
        np.zeros((2, 3, 4), "U3"),
        np.zeros((2, 3, 4), "S3"),
        np.zeros((2, 3, 4), "M8[s]"),
        np.zeros((2, 3, 4), "f4,f4"),
        "digits.npy",
        None,
    ],
)
def test_wrong_dtypes(X):
    with pytest.raises(TypeError, match="data must be an array of bool, int or float, got dtype"):
        as_images(X, name="data")


@pytest.mark.parametrize("shape", [(), (5,), (1, 2, 3, 4, 5)])
def test_wrong_numbers_of_dimensions(shape):
    with pytest.raises(ValueError, match=r"^data must have the shape .*, got \("):
        as_images(np.zeros(shape), name="data")


@pytest.mark.parametrize("shape", [(0, 4, 4), (0, 16), (3, 0, 4), (3, 4, 4, 0), (3, 0)])
def test_empty_sets(shape):
    with pytest.raises(ValueError, match="X must hold at least one image, got the shape"):
        as_images(np.zeros(shape), image_shape=(4, 4))


@pytest.mark.parametrize(
    ("shape", "image_shape", "message"),
    [
        ((3, 16), None, r"X of shape \(n, features\) needs image_shape, .* got \(3, 16\)"),
        ((3, 16), (4, 5), r"X must have .* image_shape \(4, 5, 1\), got 16"),
        ((3, 48), (4, 4), r"X must have .* image_shape \(4, 4, 1\), got 48"),
        ((3, 4, 4), (4, 5), r"images of shape \(4, 5, 1\), got \(4, 4, 1\)"),
        ((3, 4, 4), (4, 4, 3), r"images of shape \(4, 4, 3\), got \(4, 4, 1\)"),
        ((3, 4, 4, 3), (4, 4), r"images of shape \(4, 4, 1\), got \(4, 4, 3\)"),
        ((3, 4, 4, 3), (4, 4, 0), "image_shape must be 2 or 3 ints >= 1"),
    ],
)
def test_image_shape_that_does_not_match(shape, image_shape, message):
    with pytest.raises(ValueError, match=message):
        as_images(np.zeros(shape), image_shape)


def test_ragged_lists():
    with pytest.raises(ValueError, match=r"^X must be an array of images: "):
        as_images([[[0, 1], [1]]])


# check_range


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_whole_range_is_allowed(dtype):
    check_range(as_images(np.array([[[0, 1], [1, 0]]], dtype)))


def test_uint8_and_bool_are_free():
    check_range(np.array([0, 255], np.uint8).reshape(1, 1, 2, 1))
    check_range(np.array([False, True]).reshape(1, 1, 2, 1))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("ends", [None, (0, 1), (-0.5, 0.25), (-3, 1024)], ids=str)
def test_floats_outside_by_rounding(dtype, ends):
    low, high = ends or (0, 1)
    ulp = float(np.finfo(dtype).eps) * max(abs(low), abs(high))
    for value, step in ((low, -ulp), (high, ulp)):
        check_range(np.full((2, 2, 2, 1), value + 2 * step, dtype), value_range=ends)
        with pytest.raises(ValueError, match="X must hold values in"):
            check_range(np.full((2, 2, 2, 1), value + 4 * step, dtype), value_range=ends)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", ">f4", ">f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.01, 1.01, 255])
def test_floats_outside(dtype, value):
    X = np.full((400, 20, 20, 2), 0.5, dtype)  # several blocks
    X[399, 19, 19, 1] = 2
    X[301, 7, 5, 1] = value
    got = np.dtype(dtype).type(value)
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
    excess = np.abs(X - 0.5) - 0.5  # outside [0, 1]
    bad = np.argwhere(~(excess <= 3 * 2.0**-23))
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
    for view, image in ((X, 301), (X[398::-1], 97)):
        with pytest.raises(ValueError, match=rf"got {value} in image {image} at row 7, column 5, channel 1$"):
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


# gather


def plain_gather(X, indices, dtype):
    images = X[indices].astype(dtype)
    return images / np.asarray(255, dtype) if X.dtype == np.uint8 else images


@pytest.mark.parametrize("out_dtype", ["float32", "float64"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype, out_dtype):
    rng = np.random.default_rng(0)
    scale = 255 if dtype == "uint8" else 1
    X = (rng.random((300, 16, 16, 2)) * scale).round(0 if np.dtype(dtype).kind in "iu" else 9)
    X = X.astype(dtype)
    for indices in (
        rng.permutation(300),
        np.array([7, 7, 0]),
        slice(5, 250),
        slice(None, None, -3),
    ):
        expected = plain_gather(X, indices, out_dtype)
        out = np.full(expected.shape, np.nan, out_dtype)
        assert gather(X, indices, out) is out
        np.testing.assert_array_equal(out, expected)


def test_every_byte_is_divided_exactly():
    X = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    out = gather(X, np.arange(256), np.empty(X.shape, np.float32))
    np.testing.assert_array_equal(out.ravel(), np.arange(256, dtype=np.float32) / np.float32(255))
    assert out.min() == 0
    assert out.max() == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 1), (3, 3, 3), (28, 28, 1), (9, 11, 3)], ids=str)
def test_contiguous_bytes_give_the_bits_of_numpy(shape, dtype):
    X = np.random.default_rng(1).integers(0, 256, (200, *shape), dtype=np.uint8)
    X.flags.writeable = False
    quotients = X / dtype(255)
    lists = [5, 1, 199, 0], np.zeros(0, int), np.array([3, 3, 3]), np.arange(200, dtype=np.uint8)[::-7]
    for indices in (*lists, slice(0), slice(7, 8), slice(None), slice(150, None, -3)):
        expected = quotients[indices]
        out = np.full(expected.shape, np.nan, dtype)
        assert gather(X, indices, out) is out
        np.testing.assert_array_equal(out, expected)


@given(st.data())
def test_gather_is_the_plain_expression(data):
    X = data.draw(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=6)))
    dtype = data.draw(st.sampled_from(["uint8", "bool", "float32", "float64", ">f4", "int32"]))
    X = (X if dtype == "uint8" else X / 255).astype(dtype)
    X = X[:, :: data.draw(st.sampled_from([1, -1, 2])), ::-1]
    if data.draw(st.booleans()):
        X = np.ascontiguousarray(X)
    indices = np.array(data.draw(st.lists(st.integers(0, len(X) - 1))), np.intp)
    out_dtype = data.draw(st.sampled_from(["float32", "float64"]))
    expected = plain_gather(X, indices, out_dtype)
    out = np.full(expected.shape, np.nan, out_dtype)
    np.testing.assert_array_equal(gather(X, indices, out), expected)


@pytest.mark.parametrize("layout", ["plain", "strided"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_a_gatherer_takes_batch_after_batch(dtype, layout):
    X = np.random.default_rng(2).integers(0, 2, (40, 5, 6, 3)).astype(dtype)
    X = X if layout == "plain" else X[:, ::-1]
    out = np.full((8, 5, 6, 3), np.nan, np.float32)
    gatherer = Gatherer(X, out)
    for indices in (np.arange(8), np.array([39, 0, 7]), np.array([1, 1, 1]), np.arange(30, 38)):
        expected = out.copy()
        expected[: len(indices)] = plain_gather(X, indices, "float32")
        gatherer.load(indices)
        np.testing.assert_array_equal(out, expected)


def test_unaligned_images():
    buffer = bytearray(1 + 4 * 24)
    X = np.frombuffer(buffer, np.float32, offset=1).reshape(2, 3, 4, 1)
    X[...] = np.arange(24).reshape(X.shape) / 24
    out = gather(X, np.array([1, 0]), np.empty(X.shape, np.float32))
    np.testing.assert_array_equal(out, X[::-1])


def test_a_memory_map_is_gathered(tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (10, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "x.npy", X)
    images = as_images(np.load(tmp_path / "x.npy", mmap_mode="r"))
    out = gather(images, np.array([3, 9]), np.empty((2, 4, 4, 1)))
    np.testing.assert_array_equal(out[..., 0], X[[3, 9]] / 255)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", ">f4"])
def test_gather_needs_little_memory(dtype):
    X = np.ones((2000, 64, 64, 1), dtype)[:, ::-1]
    out = np.empty(X.shape, np.float32)
    indices = np.arange(len(X))
    assert peak_memory(gather, X, indices, out) < out.nbytes / 16
    assert peak_memory(gather, X, slice(None), out) < out.nbytes / 16
    assert peak_memory(gather, np.ascontiguousarray(X), indices, out) < out.nbytes / 16


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("indices", [[0, 5], [-1, 0], [2**40, 0]])
def test_indices_outside(dtype, indices):
    X = np.zeros((5, 2, 2, 1), dtype)
    with pytest.raises(IndexError, match=r"indices must lie in 0\.\.4, got"):
        gather(X, np.array(indices), np.empty((2, 2, 2, 1), np.float32))


@pytest.mark.parametrize("indices", [np.array([0.0, 1.0]), np.array([True, False]), 1, [[0, 1]]])
def test_indices_of_a_wrong_type(indices):
    with pytest.raises(TypeError, match="indices must be a slice or a 1-D array of ints, got"):
        gather(np.zeros((2, 2, 2, 1)), indices, np.empty((2, 2, 2, 1)))


@pytest.mark.parametrize("dtype", [np.uint64, np.intp, ">i2"])
@pytest.mark.parametrize("step", [1, 2, -1])
def test_indices_of_any_integer_type_and_stride(dtype, step):
    X = np.arange(5.0).reshape(5, 1, 1, 1)
    indices = np.array([4, 2, 0, 3], dtype)[::step]
    indices.flags.writeable = False
    out = gather(X, indices, np.empty((len(indices), 1, 1, 1)))
    assert out.ravel().tolist() == [4, 2, 0, 3][::step]


@pytest.mark.parametrize("indices", [np.array([0, 1]), slice(0, 2)])
def test_wrong_out(indices):
    X = np.zeros((5, 2, 3, 1), np.uint8)
    for dtype in ("float16", "int32", "complex64", np.dtype("float32").newbyteorder()):
        with pytest.raises(TypeError, match="out must be float32 or float64 in native byte order"):
            gather(X, indices, np.empty((2, 2, 3, 1), dtype))
    for out in (np.empty((3, 2, 3, 1)), np.empty((2, 2, 3)), np.empty((2, 3, 2, 1)).swapaxes(1, 2)):
        with pytest.raises(ValueError, match=r"out must be C-contiguous of shape \(2, 2, 3, 1\)"):
            gather(X, indices, out)
