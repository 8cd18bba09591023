"""The compiled drawing of black and white pixels, held against the plain reference and against chance itself."""

import numpy as np
import oracles
import pytest

from cvae._kernels import pixelwise
from cvae.runtime.programs import run

KEY = 0x0123_4567_89AB_CDEF


def binarized(images, key=KEY, by_content=False, n_threads=1):
    drawn = np.full_like(images, np.nan)
    run(pixelwise.binarize, drawn, images, np.array([key], np.uint64), by_content, n_threads=n_threads)
    return drawn


def grey(n, m, dtype=np.float32):
    return np.random.default_rng(0).random((n, m)).astype(dtype)


def test_the_reference_gives_the_published_numbers():
    """The known answers that Salmon et al. distribute with their implementation, Random123."""
    ones = 0xFFFF_FFFF
    assert oracles.philox(np.zeros((1, 4), np.uint64), 0).tolist() == [[0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]]
    answer = [[0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]]
    assert oracles.philox(np.full((1, 4), ones, np.uint64), 2**64 - 1).tolist() == answer


@pytest.mark.parametrize("by_content", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 31), (2, 128), (5, 129), (4, 784)])
def test_equals_the_reference(n, m, dtype, by_content):
    images = grey(n, m, dtype)
    for n_threads in (1, 3):
        drawn = binarized(images, by_content=by_content, n_threads=n_threads)
        np.testing.assert_array_equal(drawn, oracles.binarize(images, KEY, by_content))


@pytest.mark.parametrize("by_content", [False, True])
def test_each_value_is_the_probability_of_white(by_content):
    n, m = 4000, 40
    images = np.tile(np.linspace(0, 1, m, dtype=np.float32), (n, 1))
    images[:, 1] = np.linspace(0.2, 0.3, n)  # so that contents differ
    white = binarized(images, by_content=by_content)
    assert set(np.unique(white)) == {0, 1}
    p = images.mean(0)
    deviation = np.sqrt(n * p * (1 - p))
    assert (np.abs(white.sum(0) - n * p) <= 4.5 * deviation).all()  # 0 and 1 never differ
    # Independent of each other: correlations between columns, and between successive images, vanish.
    standardized = (white - p)[:, 1:-1] / np.sqrt(p * (1 - p))[1:-1]
    correlations = standardized.T @ standardized / n - np.diag(np.diag(standardized.T @ standardized / n))
    assert np.abs(correlations).max() < 5.5 / np.sqrt(n)
    assert np.abs((standardized[1:] * standardized[:-1]).mean(0)).max() < 5 / np.sqrt(n)


def test_other_keys_and_other_images_give_other_draws():
    images = np.full((2, 784), 0.5)
    first = binarized(images)
    assert np.abs((binarized(images, key=KEY + 1) != first).mean() - 0.5) < 0.1
    assert np.abs((binarized(images, key=KEY + 2**32) != first).mean() - 0.5) < 0.1
    assert np.abs((first[0] != first[1]).mean() - 0.5) < 0.1


def test_by_content_draws_follow_from_the_image_alone():
    images = grey(5, 784)
    images[4] = images[1]
    drawn = binarized(images, by_content=True)
    np.testing.assert_array_equal(drawn[4], drawn[1])
    np.testing.assert_array_equal(binarized(images[::-1].copy(), by_content=True), drawn[::-1])
    changed = images.copy()
    changed[0, 783] = 1 - changed[0, 783]
    assert np.abs((binarized(changed, by_content=True)[0] != drawn[0]).mean()) > 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threshold(dtype):
    x = np.array([0, 0.25, 0.5, np.nextafter(dtype(0.5), dtype(1)), 1], dtype)
    run(pixelwise.threshold, x, x, 0.5)
    assert x.tolist() == [0, 0, 0, 1, 1]
    many = grey(1, 50_000, dtype)[0]
    white = np.full_like(many, np.nan)
    run(pixelwise.threshold, white, many, 0.3, n_threads=3)
    np.testing.assert_array_equal(white, np.greater(many, 0.3))


def test_images_may_be_drawn_in_their_own_memory():
    images = grey(3, 200)
    for by_content in (False, True):
        drawn = images.copy()
        run(pixelwise.binarize, drawn, drawn, np.array([KEY], np.uint64), by_content)
        np.testing.assert_array_equal(drawn, binarized(images, by_content=by_content))


def test_the_key_is_checked():
    with pytest.raises(ValueError, match="key 1 element"):
        run(pixelwise.binarize, grey(2, 3), grey(2, 3), np.zeros(2, np.uint64), False)
