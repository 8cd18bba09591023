"""The compiled mapping of pixels of all types to the units of a model, and back."""

import numpy as np
import oracles
import pytest
from kernel_checks import assert_margins_untouched, each_dtype, output, read_only

from cvae._kernels import pixelwise
from cvae.runtime.programs import run

TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"]


def values_of(dtype, shape, rng):
    if np.dtype(dtype).kind == "f":
        return (1e6 + rng.standard_normal(shape)).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def gather(images, indices, dtype, name, offset, scale, n_threads=2):
    out = output((len(indices), images.shape[1]), dtype)
    run(pixelwise.gather_mapped, out, images.view(np.uint8), indices, name, offset, scale, n_threads=n_threads)
    assert_margins_untouched(out)
    return out


def test_these_are_all_types():
    assert pixelwise.pixel_types() == {**{name: np.dtype(name).itemsize for name in TYPES}, "fraction": 1}


@each_dtype
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize(
    ("n", "pixels", "channels", "repeats"), [(1, 1, 1, 1), (7, 5, 3, 2), (41, 784, 1, 64), (9, 300, 4, 16)]
)
def test_images_of_every_type_are_mapped_in_double(name, n, pixels, channels, repeats, dtype):
    rng = np.random.default_rng(0)
    images = read_only(values_of(name, (4, pixels * channels), rng))
    indices = read_only(rng.integers(0, 4, n).astype(np.intp))
    offset, scale = rng.normal(1e6, 1, channels), rng.uniform(0.1, 10, channels)
    expected = oracles.map_pixels(images[indices].reshape(n, pixels, channels), offset, scale).astype(dtype)
    tiled = np.tile(offset, repeats), np.tile(scale, repeats)
    np.testing.assert_array_equal(gather(images, indices, dtype, name, *tiled), expected.reshape(n, -1))
    for n_threads in (1, 3, 7):
        got = gather(images, indices, dtype, name, *tiled, n_threads)
        np.testing.assert_array_equal(got, expected.reshape(n, -1))


@each_dtype
def test_bytes_may_count_as_fractions(dtype):
    images = np.arange(256, dtype=np.uint8).reshape(2, 128)
    offset, scale = np.array([0.25]), np.array([0.5])
    expected = oracles.map_pixels(np.divide(images, 255, dtype=dtype), offset, scale).astype(dtype)
    np.testing.assert_array_equal(gather(images, np.arange(2), dtype, "fraction", offset, scale), expected)


def test_the_ends_of_a_range_become_exactly_0_and_1():
    rng = np.random.default_rng(0)
    for low, high in rng.normal(size=(200, 2)) * 10.0 ** rng.integers(-30, 30, (200, 1)):
        low, high = min(low, high), max(low, high)
        images = np.array([[low, high]])
        for dtype in (np.float32, np.float64):
            out = gather(images, np.zeros(1, np.intp), dtype, "float64", np.array([low]), np.array([high - low]))
            np.testing.assert_array_equal(out, [[0, 1]])


@each_dtype
@pytest.mark.parametrize(("n", "pixels", "channels", "repeats"), [(1, 1, 1, 1), (7, 5, 3, 2), (70, 784, 1, 64)])
def test_images_are_mapped_back(n, pixels, channels, repeats, dtype):
    rng = np.random.default_rng(0)
    offset, scale = rng.normal(1e6, 1, channels), rng.uniform(0.1, 10, channels)
    images = output((n, pixels * channels), dtype)
    images[:] = rng.standard_normal(images.shape)
    expected = oracles.unmap_pixels(images.reshape(n, pixels, channels), offset, scale).astype(dtype)
    run(pixelwise.unmap, images, np.tile(offset, repeats), np.tile(scale, repeats), n_threads=2)
    assert_margins_untouched(images)
    np.testing.assert_allclose(images, expected.reshape(n, -1), rtol=2 * np.finfo(dtype).eps)


def test_arguments_that_do_not_fit():
    out, images, indices, ones = np.zeros((2, 6)), np.zeros((5, 12), np.uint8), np.zeros(2, np.intp), np.ones(3)
    run(pixelwise.gather_mapped, out, images, indices, "int16", ones, ones)
    with pytest.raises(ValueError, match=r"name must be one of int8, .*, fraction, got 'int64'"):
        run(pixelwise.gather_mapped, out, images, indices, "int64", ones, ones)
    with pytest.raises(ValueError, match="out, images and indices must be"):
        run(pixelwise.gather_mapped, out, images, indices, "int32", ones, ones)
    with pytest.raises(IndexError, match=r"indices must lie in 0\.\.4, got 5"):
        run(pixelwise.gather_mapped, out, images, indices + 5, "int16", ones, ones)
    unaligned = np.zeros(61, np.uint8)[1:].reshape(5, 12)
    run(pixelwise.gather_mapped, np.zeros((2, 12)), unaligned, indices, "uint8", ones, ones)
    with pytest.raises(ValueError, match="images must be aligned for int16, got them at 0x"):
        run(pixelwise.gather_mapped, out, unaligned, indices, "int16", ones, ones)
    for wrong in (np.ones(2), np.ones(0)):
        with pytest.raises(ValueError, match="offset and scale must have the same size, at least 1, got"):
            run(pixelwise.gather_mapped, out, images, indices, "int16", wrong, ones[: len(wrong) - 1])
        with pytest.raises(ValueError, match="offset and scale must have the same size, at least 1, got"):
            run(pixelwise.unmap, out, wrong, ones[: len(wrong) // 2])
