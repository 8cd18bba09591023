"""How probable a trained model finds images, and below which score an image is an outlier."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.checking import check_number, check_size
from cvae.inputs import Array
from cvae.model import VAE

SCORES = ("elbo", "reconstruction", "likelihood")
_WHISKER = 1.5  # interquartile ranges below the first quartile (Tukey 1977, "Exploratory Data Analysis")


def image_scores(vae: VAE, X: npt.ArrayLike, score_type: str = "elbo", n_samples: int = 10, y: Any = None) -> Array:
    """Return how probable a trained model finds each image, in nats; the larger, the more normal.

    Parameters
    ----------
    vae : VAE
    X : array, shape (n, rows, cols, channels)
        Images as for `VAE.fit`.
    score_type : {"elbo", "reconstruction", "likelihood"}
        "elbo": the evidence lower bound, averaged over `n_samples` codes of each image. "reconstruction": its first
        term alone, log p(x | z), which does not see that a code is unusual. "likelihood": the importance-weighted
        estimate of log p(x) from `n_samples` codes.
    n_samples : int
        Codes drawn for each image, always the same ones.
    y : array or label
        Of a conditional model: the label of each image, or one for all.

    Returns
    -------
    scores : array, shape (n,), float64

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    check_score(score_type)
    check_size("n_samples", n_samples)
    if score_type == "likelihood":
        return vae.log_likelihood(X, n_samples, y=y)
    total: Array | float = 0.0
    for seed in range(n_samples):
        reconstruction, kl = vae.elbo_terms(X, seed, y=y)
        total = total - (reconstruction + kl if score_type == "elbo" else reconstruction)
    return np.asarray(total / n_samples)


def threshold(scores: Array, contamination: float | str) -> float:
    """Return the score below which an image is an outlier, as `VAEOutlierDetector` defines it by `contamination`."""
    check_contamination(contamination)
    if isinstance(contamination, str):
        first, third = np.percentile(scores, [25, 75])
        return float(first - _WHISKER * (third - first))
    return float(np.percentile(scores, 100 * contamination))


def check_contamination(contamination: float | str) -> None:
    """Raise TypeError or ValueError unless this is a detector's argument `contamination`."""
    if isinstance(contamination, str):
        if contamination != "auto":
            raise ValueError(f"contamination must be 'auto' or a number in (0, 0.5], got {contamination!r}")
    else:
        check_number("contamination", contamination, "(0, 0.5]")


def check_score(score_type: str) -> None:
    """Raise ValueError unless this is the name of a score."""
    if not isinstance(score_type, str) or score_type not in SCORES:
        raise ValueError(f"score_type must be 'elbo', 'reconstruction' or 'likelihood', got {score_type!r}")
