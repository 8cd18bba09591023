"""The negative evidence lower bound (ELBO) of a Bernoulli VAE, computed from probabilities.

Sources: Kingma and Welling 2014, "Auto-encoding variational Bayes"; Higgins et al. 2017 (beta-VAE) for the
weight of the KL divergence.
"""

import numpy as np
import numpy.typing as npt

from cvae.checking import check_number

FloatArray = npt.NDArray[np.floating]

_EPS = np.finfo(np.float64).eps  # probabilities are clipped to [_EPS, 1 - _EPS]


class VAELoss:
    """Negative ELBO in nats per image, and its gradient.

    The loss of an image is the binary cross-entropy summed over its pixels plus ``beta`` times the KL
    divergence of the code's distribution N(mean, exp(log_var)) from N(0, I). The result is the mean over the
    images, computed in float64 for inputs of any dtype.

    Training does not use this class: it computes the same loss from logits, which requires no clipping and
    whose gradient does not vanish where a probability rounds to 0 or 1.

    Examples
    --------
    >>> y, y_pred = np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])
    >>> t_mean, t_log_var = np.array([[1.0]]), np.array([[0.0]])
    >>> round(VAELoss()(y, y_pred, t_mean, t_log_var), 6)  # 2 log(2) + 1/2
    1.886294
    """

    def __call__(
        self,
        y: npt.ArrayLike,
        y_pred: npt.ArrayLike,
        t_mean: npt.ArrayLike,
        t_log_var: npt.ArrayLike,
        *,
        beta: float = 1.0,
    ) -> float:
        """Return the loss; see `loss`."""
        return self.loss(y, y_pred, t_mean, t_log_var, beta=beta)

    def __str__(self) -> str:
        return "VAELoss"

    @staticmethod
    def loss(
        y: npt.ArrayLike,
        y_pred: npt.ArrayLike,
        t_mean: npt.ArrayLike,
        t_log_var: npt.ArrayLike,
        *,
        beta: float = 1.0,
    ) -> float:
        """Return the loss.

        Parameters
        ----------
        y : array (n, N)
            Pixels of the images, in [0, 1].
        y_pred : array (n, N)
            Predicted probabilities, in [0, 1]; clipped to at least 2.2e-16 from 0 and 1.
        t_mean, t_log_var : array (n, T)
            Mean and log variance of the code's distribution.
        beta : float
            Weight of the KL divergence, >= 0.

        Returns
        -------
        float
            Nats per image.

        Raises
        ------
        ValueError
            If the shapes do not match, there are no images, or `beta` is out of range.

        Examples
        --------
        >>> round(VAELoss.loss([[1.0]], [[1.0]], [[2.0]], [[0.0]], beta=0.5), 12)
        1.0
        """
        y, p, mean, log_var = _checked(y, y_pred, t_mean, t_log_var)
        beta = check_number("beta", beta, "[0, inf)")
        with np.errstate(over="ignore"):  # if exp(log_var) overflows, the loss is infinite
            cross_entropy = -float((y * np.log(p) + (1 - y) * np.log1p(-p)).sum())
            divergence = -0.5 * float((1 + log_var - mean**2 - np.exp(log_var)).sum())
        return (cross_entropy + beta * divergence) / len(y)

    @staticmethod
    def grad(
        y: npt.ArrayLike,
        y_pred: npt.ArrayLike,
        t_mean: npt.ArrayLike,
        t_log_var: npt.ArrayLike,
        *,
        beta: float = 1.0,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the gradient of the loss.

        Where a probability is clipped, the gradient is evaluated at the clipped value.

        Parameters
        ----------
        y, y_pred, t_mean, t_log_var, beta
            As in `loss`.

        Returns
        -------
        dY_pred : array (n, N)
            With respect to `y_pred`.
        dLogVar, dMean : array (n, T)
            With respect to `t_log_var` and `t_mean`, in this order.

            Each gradient has the dtype of its argument if that is a float dtype, otherwise float64.

        Raises
        ------
        ValueError
            As in `loss`.

        Examples
        --------
        >>> dY_pred, dLogVar, dMean = VAELoss.grad([[1.0]], [[0.5]], [[2.0]], [[0.0]])
        >>> float(dY_pred[0, 0]), float(dLogVar[0, 0]), float(dMean[0, 0])
        (-2.0, 0.0, 2.0)
        """
        target, p, mean, log_var = _checked(y, y_pred, t_mean, t_log_var)
        beta = check_number("beta", beta, "[0, inf)")
        n = len(target)
        with np.errstate(over="ignore"):
            grad_y_pred = ((1 - target) / (1 - p) - target / p) / n
            grad_log_var = beta * (np.exp(log_var) - 1) / (2 * n)
            grad_mean = beta * mean / n
            # Inside errstate, as the conversion to float32 may overflow to infinity too.
            return (
                _like(grad_y_pred, y_pred),
                _like(grad_log_var, t_log_var),
                _like(grad_mean, t_mean),
            )


def _checked(
    y: npt.ArrayLike, y_pred: npt.ArrayLike, t_mean: npt.ArrayLike, t_log_var: npt.ArrayLike
) -> list[npt.NDArray[np.float64]]:
    """Return the four arrays as float64, with clipped probabilities, after checking their shapes."""
    arrays = [np.asarray(array, dtype=np.float64) for array in (y, y_pred, t_mean, t_log_var)]
    y_shape, y_pred_shape, mean_shape, log_var_shape = (array.shape for array in arrays)
    match = (
        len(y_shape) == len(mean_shape) == 2
        and y_shape == y_pred_shape
        and mean_shape == log_var_shape
        and y_shape[0] == mean_shape[0] > 0
    )
    if not match:
        raise ValueError(
            "y and y_pred must both be (n, N), t_mean and t_log_var both (n, T), with n > 0, got "
            f"{y_shape}, {y_pred_shape}, {mean_shape} and {log_var_shape}"
        )
    arrays[1] = np.clip(arrays[1], _EPS, 1 - _EPS)
    return arrays


def _like(grad: npt.NDArray[np.float64], value: npt.ArrayLike) -> FloatArray:
    dtype = np.asarray(value).dtype
    return grad.astype(dtype, copy=False) if dtype.kind == "f" else grad
