"""Likelihoods: how probable an image is, given the outputs of the decoder.

A new likelihood gives what is abstract here; the engine and the models use nothing else of it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy.typing as npt

from cvae._kernels import elementwise, losses
from cvae._kernels.program import Program
from cvae.data.images import check_range
from cvae.nn.activations import ActivationBase, Sigmoid
from cvae.parsing import Constant

Array = npt.NDArray[Any]


class Likelihood(Constant, ABC):
    """Base of the likelihoods p(x | z) of images, given the n rows of outputs that a decoder computes from codes.

    Attributes
    ----------
    activation : ActivationBase
        Gives the mean image from the outputs. It belongs to the likelihood, so a decoder's last layer stops before its
        own activation, which must be this one or the identity.
    """

    activation: ActivationBase

    @abstractmethod
    def n_outputs(self, image_shape: tuple[int, int, int]) -> int:
        """Return how many outputs of the decoder an image of shape (rows, cols, channels) takes."""

    @abstractmethod
    def check(self, images: Array, name: str) -> None:
        """Raise ValueError if the likelihood does not take these images (n, rows, cols, channels)."""

    @abstractmethod
    def record_loss(
        self,
        program: Program,
        loss: Array,
        doutputs: Array | None,
        outputs: Array,
        images: Array,
        weights: Array | None,
    ) -> None:
        """Record loss = -log p(image | code) of each row of outputs, in nats, and its gradient.

        Parameters
        ----------
        program : Program
        loss : array, shape (n * k,), float64
            Is overwritten.
        doutputs : array, shape (n * k, n_outputs), or None
            Is overwritten with the gradient of the sum of `loss` times `weights`. May be `outputs`.
        outputs : array, shape (n * k, n_outputs)
            Row r belongs to image r // k.
        images : array, shape (n, rows * cols * channels)
        weights : array, shape (n * k,), float64, or None
            Read when the program runs; None where there is no `doutputs`.
        """

    @abstractmethod
    def record_mean(self, program: Program, mean: Array, outputs: Array) -> None:
        """Record mean (n, rows * cols * channels) = the expected image of each row of outputs; may be `outputs`."""


class Bernoulli(Likelihood):
    """Each pixel is white with a probability whose logit is the decoder's output; grey pixels in [0, 1] are averages.

    ``-log p(x | z) = -sum(x log(p) + (1 - x) log(1 - p))``, p = sigmoid(outputs) (Kingma & Welling 2014, appendix C.1).

    Examples
    --------
    >>> Bernoulli().n_outputs((28, 28, 1))
    784
    """

    activation = Sigmoid()

    def n_outputs(self, image_shape: tuple[int, int, int]) -> int:
        """Return one output, a logit, for each pixel and channel."""
        return math.prod(image_shape)

    def check(self, images: Array, name: str) -> None:
        """Raise ValueError unless all pixels are in [0, 1]."""
        check_range(images, name=name)

    def record_loss(
        self,
        program: Program,
        loss: Array,
        doutputs: Array | None,
        outputs: Array,
        images: Array,
        weights: Array | None,
    ) -> None:
        """Record the binary cross-entropy, from the logits, and its gradient."""
        losses.bce_with_logits(program, loss, doutputs, outputs, images, weights)

    def record_mean(self, program: Program, mean: Array, outputs: Array) -> None:
        """Record the probabilities of the pixels."""
        elementwise.sigmoid(program, mean.reshape(-1), outputs.reshape(-1))
