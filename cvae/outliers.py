"""Detection of images that are unlike those that a model was trained on.

An image that a variational autoencoder finds improbable is an outlier (An & Cho 2015, "Variational Autoencoder based
Anomaly Detection using Reconstruction Probability"). The interface is that of scikit-learn's outlier detectors, which
does not have to be installed.
"""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae.checking import check_size
from cvae.data.intake import computed
from cvae.estimator import not_fitted
from cvae.hints import no_attribute
from cvae.inputs import Array
from cvae.model import VAE
from cvae.scores import check_contamination, check_score, image_scores, threshold
from cvae.warning import warn

try:
    from sklearn.base import BaseEstimator, OutlierMixin
except ImportError:
    from cvae.parameters import Parameters as BaseEstimator

    class OutlierMixin:  # type: ignore[no-redef]
        """Takes the place of scikit-learn's mixin where that is not installed."""


_OTHERS_ATTRIBUTES = {
    "labels_": "predict returns -1 for outliers and 1 for others",
    "decision_scores_": "score_samples returns scores, the larger the more normal",
    "threshold_": "offset_ is the threshold",
    "predict_proba": "decision_function returns how far scores are above the threshold",
    "save": "pickle or joblib writes it, and vae_.save the model",
    "history_": "vae_ is the model, with its history",
}


class VAEOutlierDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Outlier detector that trains a variational autoencoder and finds images improbable to it.

    Parameters
    ----------
    vae : VAE or BernoulliVAE, optional
        The model, of which `fit` trains a copy. Default: ``VAE(likelihood="Gaussian('optimal')", random_state=0,
        verbose=False)``, which takes images of any range, and rows of numbers.
    contamination : "auto" or float
        Where the threshold is. A number, in (0, 0.5], is the share of outliers among the images of `fit`: the threshold
        is that percentile of their scores. "auto" makes no assumption about it: an image is an outlier if its score is
        more than 1.5 interquartile ranges below the first quartile of the scores of the images of `fit` (Tukey's
        fence), which outliers among these hardly move. Less than 1 % of normally distributed scores are below it.
    score_type : {"elbo", "reconstruction", "likelihood"}
        What tells how normal an image is: the evidence lower bound, log p(x | z) alone, or an importance-weighted
        estimate of log p(x), in nats.
    n_samples : int
        Codes drawn for each image to compute it.
    prefit : bool
        Whether `vae` is trained already: `fit` then only sets the threshold, with `vae` itself.

    Attributes
    ----------
    vae_ : VAE
        The trained model.
    n_features_in_, feature_names_in_ : int, array
        As of the model.
    offset_ : float
        The threshold. ``decision_function(X) = score_samples(X) - offset_``.

    Notes
    -----
    The images of `fit` are better known to a model than new ones. To have a certain share of false alarms among new
    images, set the threshold by others that are normal, with `calibrate`.

    Examples
    --------
    >>> import cvae
    >>> digits = cvae.datasets.load("mnist-sample")
    >>> vae = cvae.VAE("mlp", T=8, n_epochs=3, random_state=0, verbose=False)
    >>> detector = cvae.VAEOutlierDetector(vae, contamination=0.05).fit(digits.images[:1000])
    >>> detector.predict(digits.test_images[:3])
    array([1, 1, 1])
    >>> detector.predict(255 - digits.test_images[:3])  # negatives
    array([-1, -1, -1])
    """

    def __init__(
        self,
        vae: VAE | None = None,
        *,
        contamination: float | str = "auto",
        score_type: str = "elbo",
        n_samples: int = 10,
        prefit: bool = False,
    ) -> None:
        self.vae = vae
        self.contamination = contamination
        self.score_type = score_type
        self.n_samples = n_samples
        self.prefit = prefit

    def fit(self, X: npt.ArrayLike, y: Any = None) -> Self:
        """Train the model on images, and set the threshold by their scores.

        Parameters
        ----------
        X : array, shape (n, rows, cols, channels), (n, rows, cols) or (n, features)
            Images as for `VAE.fit`; mostly normal ones.
        y : array, optional
            The labels of a conditional model. Other models ignore them.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid.
        NotFittedError
            If the model is said to be trained, but is not.
        """
        check_contamination(self.contamination)
        check_score(self.score_type)
        check_size("n_samples", self.n_samples)
        if self.prefit and self.vae is None:
            raise ValueError("vae must be a trained model with prefit=True, got None")
        X, y = computed(X), computed(y)
        vae = self.vae if self.prefit else _new(self.vae).fit(X, y)
        assert vae is not None
        scores = image_scores(vae, X, self.score_type, self.n_samples, vae._if_conditional(y))
        self.vae_, self.offset_, self._sums = vae, threshold(scores, self.contamination), _sums(vae)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                delattr(self, name)
            if hasattr(vae, name):
                setattr(self, name, getattr(vae, name))
        return self

    def calibrate(self, X: npt.ArrayLike, contamination: float | str | None = None, *, y: Any = None) -> Self:
        """Set the threshold by the scores of other images, such as normal ones that the model has not seen.

        Parameters
        ----------
        X : array
            Images as for `fit`.
        contamination : "auto" or float, optional
            The share of X beyond the threshold, as in the constructor, whose value is the default.
        y : array or label
            Of a conditional model: the label of each image, or one for all.

        Returns
        -------
        self
        """
        share = self.contamination if contamination is None else contamination
        self.offset_, self._sums = threshold(self.score_samples(X, y), share), _sums(self._fitted())
        return self

    def fit_predict(self, X: npt.ArrayLike, y: Any = None) -> npt.NDArray[np.int64]:
        """Do the same as `fit` and then `predict` with the same images."""
        X, y = computed(X), computed(y)
        return self.fit(X, y).predict(X, y)

    def score_samples(self, X: npt.ArrayLike, y: Any = None) -> Array:
        """Return the score of each image, shape (n,), in nats; the larger, the more normal.

        y are the labels of a conditional model; others ignore it.
        """
        vae = self._fitted()
        return image_scores(vae, X, self.score_type, self.n_samples, vae._if_conditional(y))

    def decision_function(self, X: npt.ArrayLike, y: Any = None) -> Array:
        """Return how far each image's score is above the threshold, shape (n,), in nats; negative for outliers."""
        sums = _sums(self._fitted())
        if vars(self).get("_sums", sums) != sums:
            remedy = "fit or calibrate sets it for the scores of now"
            warn(f"the parameters of the model have changed since the threshold was set: {remedy}")
        return self.score_samples(X, y) - self.offset_

    def predict(self, X: npt.ArrayLike, y: Any = None) -> npt.NDArray[np.int64]:
        """Return -1 for each image that is an outlier and 1 for all others, shape (n,)."""
        return np.where(self.decision_function(X, y) < 0, -1, 1)

    def error_map(self, X: npt.ArrayLike, kind: str = "likelihood", *, y: Any = None) -> Array:
        """Return which pixels the model finds improbable: `VAE.error_map` of the trained model."""
        vae = self._fitted()
        return vae.error_map(X, kind, y=vae._if_conditional(y))

    def __getattr__(self, name: str) -> Any:
        """Say what takes the place of attributes that other libraries' detectors have."""
        raise no_attribute(self, name, _OTHERS_ATTRIBUTES)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "offset_")

    def __sklearn_clone__(self) -> VAEOutlierDetector:
        """Return an unfitted copy, which keeps a model that is trained already."""
        arguments = self.get_params(deep=False)
        return type(self)(**{name: _unfitted(value, keep=self.prefit) for name, value in arguments.items()})

    def _fitted(self) -> VAE:
        if not self.__sklearn_is_fitted__():
            raise not_fitted(f"this {type(self).__name__} has no threshold yet: call fit first")
        return self.vae_


def _sums(vae: VAE) -> list[float]:
    """Return the sums of all parameters, which training changes, and other ways to change them do."""
    vae._adopt_parameters()
    layers = vae._layers().values()
    return [float(array.sum()) for layer in layers for array in layer.parameters.values() if array is not None]


def _new(vae: VAE | None) -> VAE:
    """Return an untrained model with the arguments of `vae`."""
    if vae is None:
        return VAE(likelihood="Gaussian('optimal')", random_state=0, verbose=False)
    if not isinstance(vae, VAE):
        raise TypeError(f"vae must be a VAE or BernoulliVAE (trained: with prefit=True), got {type(vae).__name__}")
    new: VAE = _unfitted(vae)
    return new


def _unfitted(value: Any, *, keep: bool = False) -> Any:
    """Return an untrained copy of a model unless it is to be kept, and a copy of anything else."""
    if not isinstance(value, VAE):
        return copy.deepcopy(value)
    if keep:
        return value
    return type(value)(**{name: copy.deepcopy(argument) for name, argument in value.get_params(deep=False).items()})
