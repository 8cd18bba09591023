"""Random number generators, normal deviates of a given dtype, and those that belong to an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def standard_normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Draw standard normal deviates of dtype float32 or float64, in that precision."""
    return rng.standard_normal(shape, np.float32) if np.dtype(dtype) == np.float32 else rng.standard_normal(shape)


def make_rng(random_state: Any) -> np.random.Generator:
    """Return a generator for a seed, the given generator itself, or a new one with fresh entropy for None.

    A legacy RandomState seeds a new generator, which advances its state; the module `numpy.random` stands for its own.
    """
    if random_state is np.random:  # as in scikit-learn
        random_state = np.random.mtrand._rand
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31, size=4))
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError):
        raise ValueError(
            f"random_state must be an int >= 0, a numpy.random.Generator or RandomState, or None, got {random_state!r}"
        ) from None


class ImageNoise:
    """Standard normal noise that depends on a seed and on the content of an image, not on its place in a set.

    Each image has its own stream of Philox-4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
    whose key is the seed and a hash of the pixels: equal images get equal noise.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the seed, one number of 64 bits.
    T : int
        Numbers of a code.
    dtype : {float32, float64}
    """

    def __init__(self, rng: np.random.Generator, T: int, dtype: npt.DTypeLike) -> None:
        self.T, self.dtype = T, np.float32 if np.dtype(dtype) == np.float32 else np.float64
        self._seed = int(rng.integers(2**64, dtype=np.uint64))
        self._stream: Any = np.random.Philox(key=self._seed)
        self._generator = np.random.Generator(self._stream)

    def draw(self, images: Array, codes: int = 1, first: int = 0) -> Array:
        """Return the noise of `codes` codes of each image, shape (n * codes, T).

        Parameters
        ----------
        images : array, shape (n, rows, cols, channels)
            As the model sees them, float32 or float64, C-contiguous.
        codes : int
        first : int
            The number of the first of these codes, where those of an image are drawn in several calls.
        """
        noise = np.empty((len(images), codes, self.T), self.dtype)
        key = [self._seed, 0]
        # The start of a stream, in lists, which NumPy reads faster than arrays; a new generator takes ten times longer.
        start = {**self._stream.state, "state": {"counter": [0, first, 0, 0], "key": key}, "buffer": [0] * 4}
        start |= {"buffer_pos": 4, "has_uint32": 0, "uinteger": 0}
        for of_image, key[1] in zip(noise, _hashes(images).tolist(), strict=True):
            self._stream.state = start
            self._generator.standard_normal(out=of_image, dtype=self.dtype)
        return noise.reshape(-1, self.T)


def _hashes(images: Array) -> Array:
    """Return a number of 64 bits for each image, a sum of its pixels' bits times odd constants modulo 2^64.

    Pixels are rounded to float32, so that another unit of them, or another dtype of the model, changes nothing.
    """
    with np.errstate(over="ignore"):
        pixels = np.add(images, 0, dtype=np.float32, casting="same_kind")  # -0.0 + 0 is 0.0
    words = pixels.reshape(len(images), -1).view(np.uint32)
    constants = np.random.Philox(key=0).random_raw(words.shape[1]) | np.uint64(1)
    hashes: Array = np.einsum("ij,j->i", words, constants)
    return hashes
