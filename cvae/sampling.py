"""New images of a trained model: samples of the prior or of a mixture, and interpolations."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae import conditions
from cvae.checking import check_number, check_size
from cvae.conditions import Labels
from cvae.data.intake import as_numbers, is_frame
from cvae.inputs import Array
from cvae.inspection import Inspection
from cvae.mixture import Mixture
from cvae.random import make_rng, standard_normal


class Sampling(Inspection):
    """`sample`, `fit_prior` and `interpolate` of a model."""

    _made_by_start = Inspection._made_by_start | {"_mixture"}

    def _start(self) -> None:
        super()._start()
        self._mixture: Mixture | None = None

    def sample(
        self,
        n: int | None = None,
        random_state: Any = None,
        *,
        y: Any = None,
        prior: str = "normal",
        temperature: float = 1.0,
    ) -> Array:
        """Return new images, decoded from random codes.

        Parameters
        ----------
        n : int, optional
            Default: as many as y has labels, or 1.
        random_state : int, numpy.random.Generator or None
            None continues a stream that starts from the model's own `random_state`. The same seed gives the same codes
            for all labels.
        y : array or label
            Of a conditional model: a label for all images, or one for each.
        prior : {"normal", "mixture"}
            Draw codes from N(0, I), or from the mixture of `fit_prior`.
        temperature : float
            At least 0. Factor of the standard deviation of the prior, or of each component of the mixture: below 1
            images are more typical and less varied.

        Returns
        -------
        images : array, shape (n, rows, cols, channels)
            The likelihood's expected pixels; for Bernoulli, probabilities in [0, 1].
        """
        self._require_fitted()
        n = conditions.n_labels(self._label_kind, y) if n is None else check_size("n", n)
        check_number("temperature", temperature, "[0, inf)")
        if prior not in ("normal", "mixture"):
            raise ValueError(f"prior must be 'normal' or 'mixture', got {prior!r}")
        if prior == "mixture" and self._mixture is None:
            raise ValueError("prior must be 'normal' until fit_prior has been called since the last training")
        labels = self._as_labels(y, n)
        rng = self._sampling_rng if random_state is None else make_rng(random_state)
        if self._mixture is None or prior == "normal":
            codes = standard_normal(rng, (n, self.T), self.dtype)
            codes *= temperature
        else:
            codes = self._mixture.draw(n, rng, temperature).astype(self.dtype)
        return self._decode(codes, labels)

    def fit_prior(self, X: npt.ArrayLike, n_components: int = 10, *, y: Any = None, random_state: Any = 0) -> Self:
        """Fit a mixture of normal distributions to the codes of images, for ``sample(prior="mixture")``.

        The codes of a trained model are seldom distributed as N(0, I): samples of the mixture come closer to those that
        the decoder has seen. The mixture is saved with the model, until further training drops it. That of a
        conditional model is fitted to the codes of all labels together, whatever label `sample` then asks for, as its
        prior N(0, I) is the same for all.

        Parameters
        ----------
        X : array, shape (n, rows, cols, channels)
            Training images, at least `n_components`; from the posterior of each one code is drawn.
        n_components : int
            Normal distributions, each with a full covariance matrix.
        y : array or label
            Of a conditional model: the label of each image, or one for all.
        random_state : int, numpy.random.Generator or None
            Source of the codes and of the start of the fit.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If scikit-learn is not installed.
        """
        self._require_fitted()
        check_size("n_components", n_components)
        rng = make_rng(random_state)
        mean, log_var = self.encode(X, y)
        if len(mean) < max(2, n_components):
            raise ValueError(f"X must hold at least {max(2, n_components)} images for the mixture, got {len(mean)}")
        codes = mean + standard_normal(rng, mean.shape, self.dtype) * np.exp(log_var / 2)
        self._mixture = Mixture.fit(codes, n_components, int(rng.integers(2**31)))
        return self

    def interpolate(
        self, a: npt.ArrayLike, b: npt.ArrayLike, n: int = 10, method: str = "linear", *, y: Any = None
    ) -> Array:
        """Return the images of codes on the way from one image or code to another.

        Parameters
        ----------
        a, b : arrays
            Each a code, shape (T,), or an image, shape (rows, cols, channels), (rows, cols) if there is one channel, or
            (features,), whose code is the mean of its posterior. What has the shape (T,) is a code.
        n : int
            Number of images, at least 2; the first and the last are those of a and b themselves, decoded.
        method : {"linear", "spherical"}
            Along a straight line, or along an arc around the origin (Shoemake 1985, "Animating Rotation with Quaternion
            Curves"; White 2016, "Sampling Generative Networks"), whose codes are as far from it as those of images are.
        y : label, or array of two
            Of a conditional model: the label of all images, or those of a and b, between whose numbers those of the
            images are then evenly spaced.

        Returns
        -------
        images : array, shape (n, rows, cols, channels)
        """
        self._require_fitted()
        if check_size("n", n) < 2:
            raise ValueError(f"n must be at least 2, got {n}")
        if method not in ("linear", "spherical"):
            raise ValueError(f"method must be 'linear' or 'spherical', got {method!r}")
        labels = self._as_labels(y, 2)
        first, last = self._code_of(a, "a", labels, 0), self._code_of(b, "b", labels, 1)
        codes = _arc(first, last, n) if method == "spherical" else np.linspace(first, last, n)
        if labels is not None:
            of_a, of_b = labels.numbers()
            labels = Labels(labels.kind, np.linspace(of_a, of_b, n).astype(self.dtype), np.arange(n))
        return self._decode(codes.astype(self.dtype), labels)

    def _code_of(self, x: Any, name: str, labels: Labels | None, i: int) -> Array:
        """Return the code of an image or code x, float64, where label i is that of x."""
        if is_frame(x) and np.ndim(x) == 1:  # a row of a data frame
            x = x.to_frame().T
        # A data frame of one row has names of its columns, which count.
        is_row = hasattr(x, "columns") and len(x) == 1
        of_one: Any = x if is_row else as_numbers([x], name)
        image_shape = self._require_fitted()
        shape = of_one.shape[1:]
        if shape == (self.T,):
            given = self._as_codes(of_one, name)
            return given.astype(np.float64).reshape(-1)
        rows, cols, channels = image_shape
        if shape not in (image_shape, image_shape[: 2 if channels == 1 else 3], (rows * cols * channels,)):
            raise ValueError(f"{name} must be an image {image_shape} or a code ({self.T},), got the shape {shape}")
        image = self._as_images(of_one, name)
        mean, _ = self._encode(image, None if labels is None else labels.part(slice(i, i + 1)))
        return mean.astype(np.float64).reshape(-1)


def _arc(a: Array, b: Array, n: int) -> Array:
    """Return n points from a to b that turn, and grow or shrink, evenly; on a line if a and b have no angle."""
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    angle = np.arccos(np.clip(a @ b / lengths, -1, 1)) if lengths > 0 else 0.0
    if np.sin(angle) < 1e-6:
        return np.linspace(a, b, n)
    share = np.linspace(0, 1, n)[:, np.newaxis]
    points: Array = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
    return points
