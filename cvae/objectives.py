"""Objectives: what training minimizes, recorded from codes, outputs and likelihood.

A new objective gives what is abstract here; the engine and the models use nothing else of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from cvae._kernels import latent, losses
from cvae._kernels.program import Program
from cvae.engine.batch import Batch
from cvae.likelihoods import Likelihood
from cvae.parsing import Constant, check_number


class Objective(Constant, ABC):
    """Base of the objectives.

    Attributes
    ----------
    codes : int
        How many codes are drawn for each image in training.
    terms : tuple of str
        The names of the sums over a batch's images that the loss is made of, and that a history shows.
    """

    codes = 1
    terms: tuple[str, ...]

    @abstractmethod
    def prepare(self, batch: Batch) -> None:
        """Write the weights that the recorded passes read; called before each run of them."""

    @abstractmethod
    def record_loss(self, program: Program, batch: Batch, likelihood: Likelihood) -> None:
        """Record the terms, summed over the images, and the gradient with respect to the decoder's outputs.

        From `batch.outputs`, `images`, `mean`, `log_var`, `noise`, `deviation` and `z` to `batch.totals`, an element
        for each of `terms`, and `batch.doutputs`, the gradient of the mean of the loss over the images.
        """

    @abstractmethod
    def record_code_gradient(self, program: Program, batch: Batch) -> None:
        """Record `batch.dcode`, the gradient with respect to the encoder's output, from `batch.dz`.

        `dz` is the gradient that came down through the decoder.
        """

    @abstractmethod
    def loss(self, terms: Sequence[float]) -> float:
        """Return the loss, a linear function of the terms."""

    def validation_loss(self, reconstruction: float, kl: float) -> float:
        """Return the loss of images that are not trained on, from both terms of their negative ELBO."""
        return reconstruction + kl


class ELBO(Objective):
    """The negative evidence lower bound: reconstruction plus `beta` times the KL divergence to the prior N(0, I).

    Source: Kingma & Welling 2014; `beta` other than 1: Higgins et al. 2017.

    Parameters
    ----------
    beta : float
        Weight of the KL divergence, at least 0.

    Examples
    --------
    >>> ELBO(beta=4).loss((100.0, 5.0))
    120.0
    """

    terms = ("reconstruction", "kl")

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = check_number("beta", beta, "[0, inf)")

    def prepare(self, batch: Batch) -> None:
        """Have each image count 1/n."""
        batch.weights.fill(1 / len(batch.weights))
        batch.kl_weights.fill(self.beta / len(batch.kl_weights))

    def record_loss(self, program: Program, batch: Batch, likelihood: Likelihood) -> None:
        """Record both terms and their gradients."""
        likelihood.record_loss(
            program, batch.reconstruction, batch.doutputs, batch.outputs, batch.images, batch.weights
        )
        gradients = batch.dmean, batch.dlog_var
        losses.gaussian_kl(program, batch.kl, *gradients, batch.mean, batch.log_var, batch.kl_weights)
        losses.total(program, batch.totals[:1], batch.reconstruction)
        losses.total(program, batch.totals[1:], batch.kl)

    def record_code_gradient(self, program: Program, batch: Batch) -> None:
        """Record the gradient of the reparameterized codes, and that of the KL divergence."""
        gradients = batch.dmean, batch.dlog_var
        latent.backward(program, batch.dcode, batch.dz, batch.noise, batch.deviation, *gradients)

    def loss(self, terms: Sequence[float]) -> float:
        """Return reconstruction + beta * kl."""
        return terms[0] + self.beta * terms[1]

    def validation_loss(self, reconstruction: float, kl: float) -> float:
        """Return reconstruction + beta * kl."""
        return self.loss((reconstruction, kl))
