"""The latent code between encoder and decoder: the reparameterisation trick and its derivative.

Kingma & Welling (2014), "Auto-Encoding Variational Bayes", section 2.4: z = mean + noise * exp(log_var / 2).
T is the size of the code; the encoder's output is (n, 2T), the means first.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def split(code: Array, mean: Array, log_var: Array) -> None:
    """Copy the two halves of the encoder's output (n, 2T) to mean and log_var (n, T)."""
    T = mean.shape[1]
    mean[...] = code[:, :T]
    log_var[...] = code[:, T:]


def sample(z: Array, deviation: Array, mean: Array, log_var: Array, noise: Array) -> None:
    """z = mean + noise * deviation, with deviation = exp(log_var / 2); all (n, T)."""
    with np.errstate(over="ignore", invalid="ignore"):  # the loss is then not finite, which training reports
        np.multiply(log_var, 0.5, out=deviation)
        np.exp(deviation, out=deviation)
        np.multiply(noise, deviation, out=z)
        np.add(z, mean, out=z)


def grad_code(dcode: Array, dz: Array, noise: Array, deviation: Array, dmean: Array, dlog_var: Array) -> None:
    """The gradient with respect to the encoder's output, from that of z and the direct ones of the KL divergence."""
    T = dz.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        np.add(dz, dmean, out=dcode[:, :T])
        dcode[:, T:] = dz * noise * deviation * dz.dtype.type(0.5) + dlog_var
