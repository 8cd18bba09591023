"""Uses of a trained model: codes, images and likelihoods, computed in batches of bounded size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.checking import check_number, check_size
from cvae.conditions import Labels
from cvae.core import Core
from cvae.data.blocks import as_blocks, release
from cvae.data.columns import check_order, warn_of_other_order
from cvae.data.gathering import gather
from cvae.data.intake import as_numbers
from cvae.data.weights import as_weights
from cvae.inputs import Array
from cvae.passes import Passes
from cvae.random import ImageNoise, make_rng
from cvae.runtime.threads import limit_threads
from cvae.streaming import Stream, as_outputs, n_images, pieces, stream_of
from cvae.warning import warn

BATCH = 128  # images per pass through the network; with finite weights results do not depend on it
ENCODING_KEY = np.uint64(0)  # the draws of black and white pixels are always the same where nobody asks for randomness
PATIENCE = 2.0  # seconds before a progress bar appears


def warn_unless_finite(values: Array, what: str) -> None:
    """Warn if some of the values (n, ...), which belong to n images or codes, are infinite or NaN.

    `what` names them, such as "the bounds of {} images".
    """
    is_finite = np.isfinite(values)
    if 0 not in is_finite.tobytes():  # for a single image much faster than `all`
        return
    wrong = np.flatnonzero(~is_finite.reshape(len(values), -1).all(1))
    of_some = what.format(f"{len(wrong)} of {len(values)}")
    warn(
        f"{of_some} are infinite or NaN, the first at index {wrong[0]}: the training has diverged, or these are far "
        "from what the model was trained on",
        RuntimeWarning,
    )


class Inference(Core):
    """`encode`, `decode`, `elbo` and related methods of a model."""

    def _batches(self, images: Array, labels: Labels | None, key: np.uint64) -> Iterator[tuple[slice, int, Passes]]:
        """Yield the slice and size of each batch of images, and the passes that it has been loaded into.

        `key` decides how pixels are drawn black or white, if they are.
        """
        passes = self._passes(min(len(images), BATCH), training=False)
        for start in range(0, len(images), BATCH):
            part = slice(start, min(start + BATCH, len(images)))
            n = part.stop - start
            self._load(passes, images, labels, part, key)
            yield part, n, passes

    def _load(
        self,
        passes: Passes,
        images: Array,
        labels: Labels | None,
        part: slice,
        key: np.uint64 = ENCODING_KEY,
        *,
        training: bool = False,
    ) -> None:
        """Write a part of the images, and of their labels if there are any, to where passes read them."""
        n = part.stop - part.start
        self._binarization.apply(gather(images, part, passes.images[:n], self._mapping), key, training=training)
        if labels is not None:
            passes.labels[:n] = labels.numbers(part)

    def _as_inputs(self, X: Any, y: Any) -> tuple[Array | Stream, Labels | None]:
        """Return images and labels, checked; those that are read block by block are checked when they are."""
        blocks = as_blocks(X, self._known_shape)
        if blocks is not None:
            return stream_of(self, blocks, y), None
        return self._in_memory(X, y)

    def _in_memory(self, X: Any, y: Any) -> tuple[Array, Labels | None]:
        """Return images and labels as arrays, checked."""
        images = self._as_images(X)
        warn_of_other_order(X, y)
        return images, self._as_labels(y, len(images))

    def _computed(
        self,
        images: Array | Stream,
        labels: Labels | None,
        compute: Callable[[Array, Labels | None], tuple[Array, ...]],
        out: Sequence[Array] | None = None,
    ) -> tuple[Array, ...]:
        """Return what `compute` does of images and labels, for those that are read block by block a part at a time.

        The results are written to the arrays `out`, if there are some.
        """
        if not isinstance(images, Stream) and out is None:
            return compute(images, labels)
        n = n_images(images)
        parts: list[tuple[Array, ...]] = []
        for part, some, of_some in pieces(images, labels, BATCH):
            found = compute(some, of_some)
            if n is None and out is None:
                parts.append(found)
                continue
            if out is None:
                out = [np.empty((n, *each.shape[1:]), each.dtype) for each in found]
            for array, each in zip(out, found, strict=True):
                array[part] = each
                release(array[part])
        return tuple(out) if out is not None else tuple(map(np.concatenate, zip(*parts, strict=True)))

    def encode(self, X: npt.ArrayLike, y: Any = None) -> tuple[Array, Array]:
        """Return the approximate posterior q(z | x) = N(mean, exp(log_var)) of each image.

        Parameters
        ----------
        X : array, shape (n, rows, cols, channels)
            Images, as for `fit`; those of batches are encoded in the order in which they come.
        y : array or label
            Of a conditional model: the label of each image, or one for all.

        Returns
        -------
        mean, log_var : arrays, shape (n, T)

        Raises
        ------
        NotFittedError
            If the model has no parameters yet.
        TypeError, ValueError
            If an argument is invalid: y, for example, missing in a conditional model or given to another one, or with
            labels that the first `fit` has not seen.
        """
        self._require_fitted()
        images, labels = self._as_inputs(X, y)
        if not isinstance(images, Stream):  # as `_computed` would, which takes a single image a while
            return self._encode(images, labels)
        found = self._computed(images, labels, self._encode)
        return found[0], found[1]

    def _encode(self, images: Array, labels: Labels | None, key: np.uint64 = ENCODING_KEY) -> tuple[Array, Array]:
        """Return `encode` of checked images."""
        means = np.empty((len(images), self.T), self.dtype)
        log_vars = np.empty_like(means)
        with limit_threads(self.n_threads):
            for part, n, passes in self._batches(images, labels, key):
                means[part], log_vars[part] = passes.encode(n)
        warn_unless_finite(means, "the codes of {} images")
        return means, log_vars

    def transform(self, X: npt.ArrayLike, y: Any = None, *, out: Array | None = None) -> Array:
        """Return the posterior means of the images' codes, shape (n, T).

        They are written to `out`, if it is given: an array of floats of that shape, such as a memory map.
        """
        self._require_fitted()
        images, labels = self._as_inputs(X, y)
        return self._computed(
            images, labels, lambda *some: self._encode(*some)[:1], as_outputs(out, images, (self.T,))
        )[0]

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return names for the columns of `transform`: the class name in lower case followed by the column number.

        `input_features`, if given, must be the names of the pixels, or as many, as scikit-learn has it.
        """
        self._require_fitted()
        if input_features is not None:
            self._columns.check_input(input_features, self.n_features_in_)
        return np.array([f"{type(self).__name__.lower()}{i}" for i in range(self.T)], dtype=object)

    def decode(self, Z: npt.ArrayLike, y: Any = None) -> Array:
        """Return the mean images of codes.

        Parameters
        ----------
        Z : array, shape (n, T)
        y : array or label
            Of a conditional model: the label of each code, or one for all.

        Returns
        -------
        images : array, shape (n, rows, cols, channels)
            The likelihood's expected pixels, in the units of the images that the model was trained on; for Bernoulli,
            probabilities in [0, 1], or mapped to the model's `value_range`.

        Raises
        ------
        TypeError
            If Z does not contain real numbers.
        ValueError
            If Z has another shape or contains values that are not finite.
        """
        self._require_fitted()
        codes = self._as_codes(Z)
        warn_of_other_order(Z, y, of="Z")
        return self._decode(codes, self._as_labels(y, len(codes)))

    def _as_codes(self, Z: npt.ArrayLike, name: str = "Z") -> Array:
        """Return codes checked, in the model's dtype."""
        codes = as_numbers(Z, name)
        if hasattr(Z, "columns"):
            check_order(Z, self.get_feature_names_out().tolist(), name)
        if codes.dtype != self.dtype:
            with np.errstate(over="ignore"):  # reported below
                codes = codes.astype(self.dtype)
        if codes.ndim != 2 or codes.shape[1] != self.T:
            raise ValueError(f"{name} must have the shape (n, {self.T}), got {codes.shape}")
        if not np.isfinite(codes).all():
            raise ValueError(f"{name} must be finite in {codes.dtype}, got infinite values or NaN")
        return codes

    def _decode(self, codes: Array, labels: Labels | None) -> Array:
        """Return `decode` of checked codes by a model that has parameters."""
        assert self._image_shape is not None
        images = np.empty((len(codes), *self._image_shape), self.dtype)
        flat = images.reshape(len(codes), math.prod(self._image_shape))
        with limit_threads(self.n_threads):
            passes = self._passes(max(1, min(len(codes), BATCH)), training=False)
            for start in range(0, len(codes), BATCH):
                part = slice(start, start + BATCH)
                flat[part] = passes.decode(codes[part], None if labels is None else labels.numbers(part))
        warn_unless_finite(images, "the images of {} codes")
        return images

    def inverse_transform(self, Z: npt.ArrayLike, y: Any = None) -> Array:
        """Return `decode` of codes, as rows (n, features) if `fit` got rows."""
        images = self.decode(Z, y)
        return images.reshape(len(images), self.n_features_in_) if self._columns.are_rows else images

    def reconstruct(self, X: npt.ArrayLike, y: Any = None, *, out: Array | None = None) -> Array:
        """Return the decoded posterior means of the images X, shape (n, rows, cols, channels).

        They are written to `out`, if it is given: an array of floats of that shape, such as a memory map.
        """
        image_shape = self._require_fitted()
        images, labels = self._as_inputs(X, y)

        def reconstructed(images: Array, labels: Labels | None) -> tuple[Array]:
            return (self._decode(self._encode(images, labels)[0], labels),)

        return self._computed(images, labels, reconstructed, as_outputs(out, images, image_shape))[0]

    def _elbo_terms(
        self, images: Array | Stream, labels: Labels | None, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Return `elbo_terms` of checked images."""
        key, noise = self._binarization.new_key(rng), ImageNoise(rng, self.T, self.dtype)

        def terms(images: Array, labels: Labels | None) -> tuple[Array, Array]:
            reconstruction, kl = np.empty(len(images)), np.empty(len(images))
            with limit_threads(self.n_threads):
                for part, n, passes in self._batches(images, labels, key):
                    reconstruction[part], kl[part] = passes.terms(noise.draw(passes.images[:n]))
            return reconstruction, kl

        reconstruction, kl = self._computed(images, labels, terms)
        return reconstruction, kl

    def elbo(self, X: npt.ArrayLike, random_state: Any = 0, *, y: Any = None) -> Array:
        """Return the evidence lower bound of each image, a lower bound on log p(x).

        Parameters
        ----------
        X : array, shape (n, rows, cols, channels)
        random_state : int or numpy.random.Generator
            Source of the one draw of each code, which also depends on the image: a score is the same whatever other
            images there are. The default makes results repeatable.
        y : array or label
            Of a conditional model: the label of each image, or one for all.

        Returns
        -------
        elbo : array, shape (n,), float64
            log p(x | z) - KL(q(z | x) || p(z)) in nats (Kingma & Welling 2014), whatever the model's `beta`. A density
            is that of pixels as they are given; those of uint8 images count from 0 to 1 without `value_range`. In a
            conditional model all but p(z) also depends on y, and the bound is one on log p(x | y) (Sohn et al. 2015,
            "Learning Structured Output Representation using Deep Conditional Generative Models").
        """
        reconstruction, kl = self.elbo_terms(X, random_state, y=y)
        return -(reconstruction + kl)

    def elbo_terms(self, X: npt.ArrayLike, random_state: Any = 0, *, y: Any = None) -> tuple[Array, Array]:
        """Return the two terms of each image whose negative sum is `elbo`.

        Parameters
        ----------
        X, random_state, y
            As in `elbo`.

        Returns
        -------
        reconstruction, kl : arrays, shape (n,), float64
            -log p(x | z) and KL(q(z | x) || p(z)), in nats.
        """
        self._require_fitted()
        reconstruction, kl = self._elbo_terms(*self._as_inputs(X, y), make_rng(random_state))
        warn_unless_finite(reconstruction + kl, "the bounds of {} images")
        return reconstruction, kl

    def score_samples(self, X: npt.ArrayLike, y: Any = None) -> Array:
        """Do the same as `elbo`, under scikit-learn's name."""
        return self.elbo(X, y=y)

    def score(self, X: npt.ArrayLike, y: Any = None, sample_weight: npt.ArrayLike | None = None) -> float:
        """Return the mean of `elbo` over the images, in nats per image; larger is better.

        A model without condition ignores y, as scikit-learn expects. `sample_weight` is as for `fit`.
        """
        elbo = self.elbo(X, y=self._if_conditional(y))
        warn_of_other_order(X, sample_weight, "sample_weight")
        weights = as_weights({"sample_weight": sample_weight}, len(elbo))
        return float((elbo if weights is None else elbo * weights).mean())

    def log_likelihood(self, X: npt.ArrayLike, n_samples: int = 100, random_state: Any = 0, *, y: Any = None) -> Array:
        """Return an importance-weighted estimate of log p(x) of each image, of log p(x | y) in a conditional model.

        The log of the mean over s of p(x | z_s) p(z_s) / q(z_s | x), where z_s is drawn from q(z | x): a lower bound
        that tightens as n_samples grows (Burda et al. 2016, "Importance Weighted Autoencoders").

        Parameters
        ----------
        X : array, shape (n, rows, cols, channels)
        n_samples : int
            Number of codes drawn for each image.
        random_state : int or numpy.random.Generator
            Source of the codes, as in `elbo`.
        y : array or label
            Of a conditional model: the label of each image, or one for all.

        Returns
        -------
        log_likelihood : array, shape (n,), float64
            In nats. A `verbose` model shows its progress if this takes some seconds.
        """
        from tqdm import tqdm  # as in `fit`

        self._require_fitted()
        check_size("n_samples", n_samples)
        images, labels = self._as_inputs(X, y)
        rng = make_rng(random_state)
        key = self._binarization.new_key(rng)
        noise = ImageNoise(rng, self.T, self.dtype)
        bar = tqdm(
            total=n_images(images), desc="log_likelihood", unit=" images", disable=not self.verbose, delay=PATIENCE
        )

        def estimate(images: Array, labels: Labels | None) -> tuple[Array]:
            means, log_vars = self._encode(images, labels, key)
            result = np.empty(len(images))
            passes = self._passes(BATCH, training=False)
            together = max(1, BATCH // n_samples)  # images whose codes go through the decoder at once
            for first in range(0, len(images), together):
                part = slice(first, min(first + together, len(images)))
                n = part.stop - first
                self._load(passes, images, labels, part, key)
                log_weights = np.empty((n, n_samples))
                for start in range(0, n_samples, BATCH):
                    drawn = slice(start, min(start + BATCH, n_samples))
                    of_images = noise.draw(passes.images[:n], drawn.stop - start, start)
                    found = passes.log_weights(means[part], log_vars[part], of_images)
                    log_weights[:, drawn] = found.reshape(n, -1)
                result[part] = [_log_mean_exp(of_image) for of_image in log_weights]
                bar.update(n)
            return (result,)

        with limit_threads(self.n_threads), bar:
            (result,) = self._computed(images, labels, estimate)
        warn_unless_finite(result, "the log likelihoods of {} images")
        return result

    def active_units(self, X: npt.ArrayLike, threshold: float = 0.01, *, y: Any = None) -> npt.NDArray[np.bool_]:
        """Return which dimensions of the code the model uses: those whose posterior mean depends on the image.

        Dimension u is active if the variance over the images of the mean of q(z_u | x) exceeds the threshold (Burda et
        al. 2016, "Importance Weighted Autoencoders", section 5.2).

        Parameters
        ----------
        X : array, shape (n, rows, cols, channels)
            At least two images.
        threshold : float
            At least 0.
        y : array or label
            Of a conditional model: the label of each image, or one for all.

        Returns
        -------
        active : array, shape (T,), bool
            ``active.sum()`` is their number.
        """
        check_number("threshold", threshold, "[0, inf)")
        means, _ = self.encode(X, y)
        if len(means) < 2:
            raise ValueError(f"X must hold at least two images, got {len(means)}")
        active: npt.NDArray[np.bool_] = means.var(0, dtype=np.float64) > threshold
        return active


def _log_mean_exp(values: Array) -> float:
    """Return log(mean(exp(values))) without overflow."""
    largest = values.max()
    return float(largest) + math.log(np.exp(values - largest).mean())
