"""Where in an image a trained model is wrong: a map of the error of each pixel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.inference import BATCH, Inference
from cvae.inputs import Array
from cvae.likelihoods import Likelihood
from cvae.runtime.programs import run
from cvae.runtime.threads import limit_threads
from cvae.scaling import of_mapped_pixels

KINDS = ("likelihood", "squared")
_MAX_PIXELS = 1 << 20  # of the images that are compared at a time


class Inspection(Inference):
    """`error_map` of a model."""

    def error_map(self, X: npt.ArrayLike, kind: str = "likelihood", *, y: Any = None) -> Array:
        """Return the error of each pixel and channel of images that are decoded from their posterior means.

        Parameters
        ----------
        X : array, shape (n, rows, cols, channels)
        kind : {"likelihood", "squared"}
            "likelihood": -log p(pixel | z) in nats, whose sum over an image is its reconstruction loss at the posterior
            mean. "squared": the squared difference from the decoded image, in the units of `decode`.
        y : array or label
            Of a conditional model: the label of each image, or one for all.

        Returns
        -------
        error : array, shape (n, rows, cols, channels)
            In the model's dtype.

        Raises
        ------
        ValueError
            If `kind` is unknown, or the likelihood is one of the user's own in which pixels are not independent.

        Examples
        --------
        >>> import cvae
        >>> digits = cvae.datasets.load("mnist-sample")
        >>> vae = cvae.VAE("mlp", T=2, random_state=0, verbose=False).fit(digits.images[:256], n_epochs=1)
        >>> vae.error_map(digits.test_images[:3]).shape
        (3, 28, 28, 1)
        """
        image_shape = self._require_fitted()
        if kind not in KINDS:
            raise ValueError(f"kind must be 'likelihood' or 'squared', got {kind!r}")
        images, labels = self._in_memory(X, y)
        means, _ = self._encode(images, labels)
        errors = np.empty((len(images), math.prod(image_shape)), self.dtype)
        step = max(1, min(len(images), BATCH, _MAX_PIXELS // errors.shape[1]))
        with limit_threads(self.n_threads):
            passes = self._passes(step, training=False)
            for start in range(0, len(images), step):
                part = slice(start, min(start + step, len(images)))
                n = part.stop - part.start
                self._load(passes, images, labels, part)
                numbers = None if labels is None else labels.numbers(part)
                mapped = passes.images[:n].reshape(n, -1)
                if kind == "squared":
                    errors[part] = self._squared_errors(mapped, passes.decode(means[part], numbers))
                else:
                    errors[part] = self._pixel_losses(mapped, passes.decoder_outputs(means[part], numbers))
        return errors.reshape(len(images), *image_shape)

    def _squared_errors(self, images: Array, decoded: Array) -> Array:
        """Return the squared differences of mapped images (n, pixels) and decoded ones."""
        assert self._mapping is not None
        offset, scale = (np.tile(x, images.shape[1] // len(x)) for x in (self._mapping.offset, self._mapping.scale))
        errors: Array = np.square(images * scale + offset - decoded)
        return errors

    def _pixel_losses(self, images: Array, outputs: Array) -> Array:
        """Return -log p(pixel | z) of mapped images (n, pixels) as they were given."""
        assert self._mapping is not None
        likelihood = of_mapped_pixels(self._given_likelihood)
        found = _losses_of_pixels(likelihood, images, outputs)
        if likelihood.is_density:
            found += np.tile(np.log(self._mapping.scale), images.shape[1] // len(self._mapping.scale))
        return found


def _losses_of_pixels(likelihood: Likelihood, images: Array, outputs: Array) -> Array:
    """Return -log p(pixel | z) of each pixel of images (n, pixels), given the decoder's outputs."""
    n, pixels = images.shape
    shared = 0 if likelihood.scale_layer() is None else 1
    width = outputs.shape[1] - shared
    if width % pixels:
        raise ValueError(f"the likelihood must have as many outputs for each pixel, got {likelihood}")
    # To the likelihood each pixel is an image of its own, with its own copy of what all pixels share.
    own = outputs[:, :width].reshape(n * pixels, width // pixels)
    if shared:
        own = np.hstack([own, outputs[:, width:].repeat(pixels, axis=0)])
    losses, total = np.empty(n * pixels), np.empty(n)
    run(likelihood.record_loss, losses, None, np.ascontiguousarray(own), images.reshape(-1, 1), None)
    run(likelihood.record_loss, total, None, np.ascontiguousarray(outputs), images, None)
    by_image = losses.reshape(n, pixels)
    if not np.allclose(by_image.sum(1), total, rtol=1e-3, atol=1e-2 * math.sqrt(pixels)):
        raise ValueError(f"the likelihood must be one of independent pixels, got {likelihood}")
    return by_image
