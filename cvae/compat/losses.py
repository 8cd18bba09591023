"""The loss of a Bernoulli VAE from probabilities: the negative evidence lower bound (ELBO).

Source: Kingma and Welling 2014, "Auto-encoding variational Bayes", with the weight on the
divergence of Higgins et al. 2017 (beta-VAE).
"""

import numpy as np
import numpy.typing as npt

from cvae.parsing import check_number

FloatArray = npt.NDArray[np.floating]

# Probabilities are kept this far from 0 and 1.
_EPS = np.finfo(np.float64).eps


class VAELoss:
    """Negative ELBO in nats per image, and its gradient.

    For each image, the binary cross-entropy of the pixels plus ``beta`` times the KL divergence
    of the code's distribution N(mean, exp(log_var)) from N(0, I); averaged over the images.
    Everything is computed in float64 whatever the dtypes.

    Training does not go through this class: from logits, the same loss has no clipping, and its
    gradient does not vanish where a probability has rounded to 0 or 1.

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
        """Do the same as `loss`."""
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
            The images' pixels, in [0, 1].
        y_pred : array (n, N)
            Predicted probabilities, in [0, 1]; cut off at 2.2e-16 from either end.
        t_mean, t_log_var : array (n, T)
            Mean and log variance of the code's distribution.
        beta : float
            Weight of the KL divergence, >= 0.

        Returns
        -------
        float
            In nats per image.

        Raises
        ------
        ValueError
            If the shapes do not fit together, there are no images, or `beta` is out of range.

        Examples
        --------
        >>> round(VAELoss.loss([[1.0]], [[1.0]], [[2.0]], [[0.0]], beta=0.5), 12)
        1.0
        """
        y, p, mean, log_var = _checked(y, y_pred, t_mean, t_log_var)
        beta = check_number("beta", beta, "[0, inf)")
        with np.errstate(over="ignore"):  # exp(log_var) may be infinite; so is the loss then
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

        Where a probability is cut off, the gradient is that at the cut-off value.

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
            Each has the dtype of what it belongs to, if that is a float array.

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
            # A float32 may overflow where the float64 did not: infinity is its value, too.
            return (
                _like(grad_y_pred, y_pred),
                _like(grad_log_var, t_log_var),
                _like(grad_mean, t_mean),
            )


def _checked(
    y: npt.ArrayLike, y_pred: npt.ArrayLike, t_mean: npt.ArrayLike, t_log_var: npt.ArrayLike
) -> list[npt.NDArray[np.float64]]:
    """Return the four as float64 arrays, the probabilities clipped, if their shapes fit."""
    arrays = [np.asarray(array, dtype=np.float64) for array in (y, y_pred, t_mean, t_log_var)]
    y_shape, y_pred_shape, mean_shape, log_var_shape = (array.shape for array in arrays)
    fitting = (
        len(y_shape) == len(mean_shape) == 2
        and y_shape == y_pred_shape
        and mean_shape == log_var_shape
        and y_shape[0] == mean_shape[0] > 0
    )
    if not fitting:
        raise ValueError(
            "y and y_pred must both be (n, N), t_mean and t_log_var both (n, T), with n > 0, got "
            f"{y_shape}, {y_pred_shape}, {mean_shape} and {log_var_shape}"
        )
    arrays[1] = np.clip(arrays[1], _EPS, 1 - _EPS)
    return arrays


def _like(grad: npt.NDArray[np.float64], value: npt.ArrayLike) -> FloatArray:
    dtype = np.asarray(value).dtype
    return grad.astype(dtype, copy=False) if dtype.kind == "f" else grad
