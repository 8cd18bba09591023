"""Gathering of batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from image_cases import DTYPES, peak_memory

from cvae.data.gathering import Gatherer, gather
from cvae.data.images import as_images


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
