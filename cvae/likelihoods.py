"""Likelihoods: the probability of an image given the decoder's outputs.

A new likelihood implements the abstract methods; the engine and the models need nothing else.
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
    """Base of the likelihoods p(x | z) of images, given the rows of outputs that a decoder computes from codes.

    Attributes
    ----------
    activation : ActivationBase
        Maps the outputs to the mean image. It is part of the likelihood, so a decoder's last layer stops before its own
        activation, which must be this one or the identity.
    """

    activation: ActivationBase

    @abstractmethod
    def n_outputs(self, image_shape: tuple[int, int, int]) -> int:
        """Return the number of decoder outputs for an image of shape (rows, cols, channels)."""

    @abstractmethod
    def check(self, images: Array, name: str) -> None:
        """Raise ValueError unless all pixels of the images (n, rows, cols, channels) are in the likelihood's range."""

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
            Overwritten.
        doutputs : array, shape (n * k, n_outputs), or None
            Overwritten with the gradient of the sum of `loss` times `weights`. May be `outputs`.
        outputs : array, shape (n * k, n_outputs)
            Row r belongs to image r // k.
        images : array, shape (n, rows * cols * channels)
        weights : array, shape (n * k,), float64, or None
            Read when the program runs; None without `doutputs`.
        """

    @abstractmethod
    def record_mean(self, program: Program, mean: Array, outputs: Array) -> None:
        """Record mean (n, rows * cols * channels), the expected image of each row of outputs; may be `outputs`."""


class Bernoulli(Likelihood):
    """Independent pixels, white with a probability whose logit is the decoder's output; grey in [0, 1] is an average.

    ``-log p(x | z) = -sum(x log(p) + (1 - x) log(1 - p))``, p = sigmoid(outputs) (Kingma & Welling 2014, appendix C.1).

    Examples
    --------
    >>> Bernoulli().n_outputs((28, 28, 1))
    784
    """

    activation = Sigmoid()

    def n_outputs(self, image_shape: tuple[int, int, int]) -> int:
        return math.prod(image_shape)

    def check(self, images: Array, name: str) -> None:
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
        losses.bce_with_logits(program, loss, doutputs, outputs, images, weights)

    def record_mean(self, program: Program, mean: Array, outputs: Array) -> None:
        elementwise.sigmoid(program, mean.reshape(-1), outputs.reshape(-1))
