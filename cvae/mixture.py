"""Gaussian mixtures of codes, from which models draw new images."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from cvae.random import standard_normal

Array = npt.NDArray[Any]


class Mixture(NamedTuple):
    """A mixture of k normal distributions of codes.

    Attributes
    ----------
    weights : array, shape (k,), float64
        Probabilities of the components.
    means : array, shape (k, T), float64
    covariances : array, shape (k, T, T), float64
    """

    weights: Array
    means: Array
    covariances: Array

    @classmethod
    def fit(cls, codes: Array, n_components: int, seed: int) -> Self:
        """Return the mixture that scikit-learn fits to codes (n, T).

        Raises
        ------
        ImportError
            If scikit-learn is not installed.
        """
        try:
            from sklearn.mixture import GaussianMixture
        except ImportError as error:
            raise ImportError("fit_prior needs scikit-learn: pip install scikit-learn") from error
        found = GaussianMixture(n_components, random_state=seed).fit(codes.astype(np.float64))
        return cls(found.weights_, found.means_, found.covariances_)

    def draw(self, n: int, rng: np.random.Generator, temperature: float) -> Array:
        """Return n codes (n, T), float64, with the standard deviations of all components times `temperature`."""
        components = rng.choice(len(self.weights), n, p=self.weights)
        noise = standard_normal(rng, (n, self.means.shape[1]), np.float64)
        codes = np.empty_like(noise)
        for i, (mean, covariance) in enumerate(zip(self.means, self.covariances, strict=True)):
            is_of = components == i
            factor = temperature * np.linalg.cholesky(covariance)
            codes[is_of] = mean + np.einsum("ij,nj->ni", factor, noise[is_of])
        return codes
