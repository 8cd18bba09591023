"""Objectives: what training minimizes, recorded from codes, outputs and likelihood.

A new objective implements the abstract methods; the engine and the models need nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cvae._kernels import bounds, latent, losses
from cvae._kernels.program import Program
from cvae.annealing import Annealing, make_weight
from cvae.checking import check_number, check_size
from cvae.engine.batch import Batch
from cvae.likelihoods import Likelihood
from cvae.parsable import Constant

__all__ = ["ELBO", "IWAE", "Objective"]


class Objective(Constant, ABC):
    """Base of the objectives.

    Attributes
    ----------
    codes : int
        Number of codes drawn for each image in training.
    terms : tuple of str
        Names of the terms of the loss, which are summed over a batch's images and shown in the history.
    beta : float or Annealing
        Weight of the KL divergence. A schedule begins when a model gets it.
    """

    codes = 1
    beta: float | Annealing = 1.0
    terms: tuple[str, ...]

    @abstractmethod
    def prepare(self, batch: Batch) -> None:
        """Write the weights that the recorded passes read; called before each run of them.

        What changes with the training goes by `batch.step`.
        """

    @abstractmethod
    def record_loss(self, program: Program, batch: Batch, likelihood: Likelihood) -> None:
        """Record the terms, summed over the images, and the gradient with respect to the decoder's outputs.

        The inputs are `batch.outputs`, `images`, `mean`, `log_var`, `noise`, `deviation` and `z`; the results are
        `batch.totals`, an element for each of `terms`, and `batch.doutputs`, the gradient of the loss averaged over
        the images.
        """

    def weighted_terms(self, batch: Batch, weights: npt.NDArray[np.float64]) -> list[float]:
        """Return the terms of a batch that has run, summed over the images with these weights, shape (n,).

        "reconstruction" and "kl" are those of `batch`. Other terms are taken from `batch.totals`, as the weights of the
        gradients, which include those of the images, have made them.
        """
        reconstruction = batch.reconstruction.reshape(len(weights), -1).mean(1)
        sums = {"reconstruction": weights @ reconstruction, "kl": weights @ batch.kl}
        return [float(sums.get(name, total)) for name, total in zip(self.terms, batch.totals, strict=True)]

    @abstractmethod
    def record_code_gradient(self, program: Program, batch: Batch) -> None:
        """Record `batch.dcode`, the gradient with respect to the encoder's output, from the decoder's `batch.dz`."""

    @abstractmethod
    def loss(self, terms: Sequence[float]) -> float:
        """Return the loss, a linear function of the terms."""

    def validation_loss(self, reconstruction: float, kl: float) -> float:
        """Return the loss of validation images from the two terms of their negative ELBO."""
        return reconstruction + kl


class ELBO(Objective):
    """The negative evidence lower bound: reconstruction plus `beta` times the KL divergence to the prior N(0, I).

    Source: Kingma & Welling 2014; `beta` other than 1: Higgins et al. 2017; free bits: Kingma et al. 2016, "Improving
    Variational Inference with Inverse Autoregressive Flow", section C.8.

    Parameters
    ----------
    beta : float, Annealing or its call string
        Weight of the KL divergence, at least 0: a number, or a schedule such as "Linear(end=1, steps=1000)", see
        `cvae.annealing`.
    n_samples : int
        Codes drawn for each image, over which the reconstruction is averaged.
    free_bits : float
        Nats, at least 0. A dimension of the code whose KL divergence, averaged over the batch, is at most this counts
        as this much, and is not pulled towards the prior.

    Attributes
    ----------
    terms : tuple of str
        "reconstruction" and "kl", the KL divergence itself. With a schedule or free bits also "penalty", what the KL
        divergence adds to the loss.

    Examples
    --------
    >>> ELBO(beta=4).loss((100.0, 5.0))
    120.0
    >>> ELBO(beta="Linear(start=0, end=1, steps=1000)", free_bits=0.5).terms
    ('reconstruction', 'kl', 'penalty')
    """

    def __init__(self, beta: float | str | Annealing = 1.0, n_samples: int = 1, free_bits: float = 0.0) -> None:
        self.beta = make_weight(beta, "beta")
        self.n_samples = self.codes = check_size("n_samples", n_samples)
        self.free_bits = check_number("free_bits", free_bits, "[0, inf)")
        self._is_proportional = not isinstance(self.beta, Annealing) and self.free_bits == 0
        self.terms = ("reconstruction", "kl") if self._is_proportional else ("reconstruction", "kl", "penalty")

    def prepare(self, batch: Batch) -> None:
        """Have each image count 1/n, and its KL divergence beta/n."""
        beta = self.beta(batch.step) if isinstance(self.beta, Annealing) else self.beta
        batch.weights.fill(1 / len(batch.weights))
        batch.kl_weights.fill(beta / len(batch.kl_weights))

    def record_loss(self, program: Program, batch: Batch, likelihood: Likelihood) -> None:
        """Record the terms and their gradients."""
        likelihood.record_loss(
            program, batch.reconstruction, batch.doutputs, batch.outputs, batch.images, batch.weights
        )
        kl = batch.dmean, batch.dlog_var, batch.mean, batch.log_var, batch.kl_weights
        losses.gaussian_kl(program, batch.kl, *kl)
        losses.total(program, batch.totals[:1], batch.reconstruction, self.n_samples)
        losses.total(program, batch.totals[1:2], batch.kl)
        if not self._is_proportional:
            bounds.free_bits(program, batch.totals[2:], *kl, self.free_bits)

    def record_code_gradient(self, program: Program, batch: Batch) -> None:
        gradients = batch.dmean, batch.dlog_var
        latent.backward(program, batch.dcode, batch.dz, batch.noise, batch.deviation, *gradients)

    def loss(self, terms: Sequence[float]) -> float:
        """Return reconstruction + beta * kl, or reconstruction + penalty."""
        if isinstance(self.beta, Annealing) or not self._is_proportional:
            return terms[0] + terms[2]
        return terms[0] + self.beta * terms[1]

    def validation_loss(self, reconstruction: float, kl: float) -> float:
        """Return reconstruction + beta * kl, with the beta to which a schedule leads, and without free bits."""
        return reconstruction + (self.beta.end if isinstance(self.beta, Annealing) else self.beta) * kl


class IWAE(Objective):
    """The negative importance-weighted bound, -log mean of p(x, z) / q(z | x) over k codes of an image.

    Source: Burda et al. 2016, "Importance Weighted Autoencoders"; the doubly reparameterized gradient: Tucker et al.
    2019, "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives".

    Parameters
    ----------
    k : int
        Codes drawn for each image; the bound of one is the ELBO.
    gradient : {"reparameterized", "doubly_reparameterized"}
        How to estimate the encoder's gradient. Both have the same expectation; the second has less variance, and its
        signal-to-noise ratio does not fall as k grows. The decoder's gradient does not depend on it.

    Examples
    --------
    >>> IWAE(k=5, gradient="doubly_reparameterized").loss((-90.0, 80.0, 12.0))
    90.0
    """

    terms = ("bound", "reconstruction", "kl")

    def __init__(self, k: int = 5, gradient: str = "reparameterized") -> None:
        self.k = self.codes = check_size("k", k)
        if gradient not in ("reparameterized", "doubly_reparameterized"):
            raise ValueError(f"gradient must be 'reparameterized' or 'doubly_reparameterized', got {gradient!r}")
        self.gradient = gradient

    def prepare(self, batch: Batch) -> None:
        """Have each code's gradient count as if it were the image's only one; the program weighs them afterwards."""
        batch.weights.fill(1 / len(batch.images))
        batch.kl_weights.fill(1 / len(batch.images))

    def record_loss(self, program: Program, batch: Batch, likelihood: Likelihood) -> None:
        """Record the terms and their gradients, and leave the codes' normalized importance weights in `weights`."""
        likelihood.record_loss(
            program, batch.reconstruction, batch.doutputs, batch.outputs, batch.images, batch.weights
        )
        bounds.importance_weighted(
            program,
            batch.totals[:1],
            batch.weights,
            batch.doutputs,
            batch.dmean,
            batch.dlog_var,
            batch.reconstruction,
            batch.z,
            batch.noise,
            batch.deviation,
            batch.log_var,
            batch.kl_weights,
            self.gradient == "doubly_reparameterized",
        )
        losses.total(program, batch.totals[1:2], batch.reconstruction, self.k)
        losses.gaussian_kl(program, batch.kl, None, None, batch.mean, batch.log_var, None)
        losses.total(program, batch.totals[2:], batch.kl)

    def weighted_terms(self, batch: Batch, weights: npt.NDArray[np.float64]) -> list[float]:
        """Return the weighted sums of all three terms."""
        z, noise = (np.square(array, dtype=np.float64).sum(1) for array in (batch.z, batch.noise))
        log_vars = batch.log_var.sum(1, dtype=np.float64).repeat(self.k)
        # log p(x | z) p(z) / q(z | x), in which the constants of the two normal densities cancel.
        log_weights = (0.5 * (noise + log_vars - z) - batch.reconstruction).reshape(-1, self.k)
        bounds_of_images = np.logaddexp.reduce(log_weights, axis=1) - np.log(self.k)
        return [float(weights @ bounds_of_images), *super().weighted_terms(batch, weights)[1:]]

    def record_code_gradient(self, program: Program, batch: Batch) -> None:
        """Record the gradient of the codes, to which the weights have been applied once."""
        gradients = batch.dmean, batch.dlog_var
        # The doubly reparameterized gradient is weighted by their squares.
        factors = batch.weights if self.gradient == "doubly_reparameterized" else None
        latent.backward(program, batch.dcode, batch.dz, batch.noise, batch.deviation, *gradients, factors)

    def loss(self, terms: Sequence[float]) -> float:
        """Return minus the bound."""
        return -terms[0]
