"""Sets of images: their shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from image_cases import DTYPES

from cvae.data.images import as_images, resolve_image_shape

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
        np.zeros((2, 3, 4), "U3"),
        np.zeros((2, 3, 4), "S3"),
        np.zeros((2, 3, 4), "M8[s]"),
        np.zeros((2, 3, 4), "f4,f4"),
    ],
)
def test_wrong_dtypes(X):
    with pytest.raises(TypeError, match="data must be an array of bool, int or float, got dtype"):
        as_images(X, name="data")


@pytest.mark.parametrize("shape", [(), (5,), (1, 2, 3, 4, 5)])
def test_wrong_numbers_of_dimensions(shape):
    with pytest.raises(ValueError, match=r"^data must have the shape .*, got \("):
        as_images(np.zeros(shape), name="data")


@pytest.mark.parametrize("shape", [(0, 4, 4), (0, 16), (3, 0, 4), (3, 4, 4, 0), (0,)])
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
    with pytest.raises(ValueError, match=r"^X must be an array: "):
        as_images([[[0, 1], [1]]])
