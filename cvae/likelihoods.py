"""Likelihoods: the probability of an image given the decoder's outputs.

All are normalised: they give a log probability or log density in nats, from which `bits_per_dimension` follows. A new
likelihood implements the abstract methods; the engine and the models need nothing else.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cvae._kernels import elementwise, losses, pixelwise
from cvae._kernels.program import Program
from cvae.checking import check_number
from cvae.data.checks import check_bytes, check_finite, check_range
from cvae.data.images import resolve_image_shape
from cvae.nn.activations import ActivationBase, Identity, Sigmoid
from cvae.nn.appended_number import AppendedNumber
from cvae.parsable import Constant

__all__ = [
    "Bernoulli", "ContinuousBernoulli", "DiscretizedLogistic", "Gaussian", "Laplace", "Likelihood",
    "bits_per_dimension",
]  # fmt: skip

Array = npt.NDArray[Any]

# Scales that a decoder puts out for each pixel stay between exp(-8) = 0.00034 and exp(8) = 3000, so that the density of
# a pixel that never changes has an upper bound.
MAX_LOG_SCALE = 8.0
SCALES = "[1e-15, 1e15]"  # those that may be given


class Likelihood(Constant, ABC):
    """Base of the likelihoods p(x | z) of images, given the rows of outputs that a decoder computes from codes.

    Attributes
    ----------
    activation : ActivationBase
        Gives the mean image from the outputs, if an activation does; otherwise the identity. It belongs to the
        likelihood, so a decoder's last layer stops before its own activation, which must be this one or the identity.
    pixels : {"unit", "real", "bytes"}
        Which pixels have a probability: those in [0, 1], any, or those of 8 bits. Others can be mapped to [0, 1], and
        real ones too (`cvae.scaling`), but not bytes.
    is_density : bool
        Whether it is a density, which depends on the unit of the pixels, rather than a probability.
    standardizes : bool
        Whether pixels are standardized, unless the model has a range of values.
    has_unit : bool
        Whether it has a scale in the unit of the pixels, which must then be the same for all channels.
    """

    activation: ActivationBase
    pixels = "real"
    is_density = True
    standardizes = False
    has_unit = False

    @abstractmethod
    def n_outputs(self, image_shape: tuple[int, int, int]) -> int:
        """Return the number of outputs that the decoder computes for an image of shape (rows, cols, channels).

        If these are several for each pixel and channel, they follow each other: the outputs are (rows, cols, channels,
        several), which is also what a convolution with several times as many output channels puts out.
        """

    def scale_layer(self) -> AppendedNumber | None:
        """Return a new layer that appends to the outputs what all images share, or None if there is nothing."""
        return None

    def in_unit(self, unit: float) -> Likelihood:
        """Return the likelihood for pixels divided by `unit`, another one if it `has_unit`."""
        return self

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
            Overwritten with the gradient of the sum of `loss` times `weights`. May be `outputs`. None if this is no
            training step.
        outputs : array, shape (n * k, n_outputs)
            Row r belongs to image r // k. There is a column more with a `scale_layer`.
        images : array, shape (n, rows * cols * channels)
        weights : array, shape (n * k,), float64, or None
            Read when the program runs; None without `doutputs`.
        """

    @abstractmethod
    def record_mean(self, program: Program, mean: Array, outputs: Array) -> None:
        """Record mean (n, rows * cols * channels), the expected image of each row of outputs; may be `outputs`."""


class _OneLogit(Likelihood):
    """Base of the likelihoods of pixels in [0, 1] that take one output, a logit, for each pixel and channel."""

    pixels = "unit"

    def n_outputs(self, image_shape: tuple[int, int, int]) -> int:
        """Return one output, a logit, for each pixel and channel."""
        return math.prod(image_shape)

    def check(self, images: Array, name: str) -> None:
        """Raise ValueError unless all pixels are in [0, 1]."""
        check_range(images, name=name)


class Bernoulli(_OneLogit):
    """Independent pixels, white with a probability whose logit is the decoder's output; grey in [0, 1] is an average.

    ``-log p(x | z) = -sum(x log(p) + (1 - x) log(1 - p))``, p = sigmoid(outputs) (Kingma & Welling 2014, appendix C.1).

    Examples
    --------
    >>> Bernoulli().n_outputs((28, 28, 1))
    784
    """

    activation = Sigmoid()
    is_density = False  # but a probability, or an average

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


class ContinuousBernoulli(_OneLogit):
    """Each pixel in [0, 1] has the density of a continuous Bernoulli distribution, of which an output is the logit.

    ``log p(x | z) = sum(x log(p) + (1 - x) log(1 - p) + log C(p))``, p = sigmoid(outputs). C makes it a density, which
    `Bernoulli` is not for grey pixels (Loaiza-Ganem & Cunningham 2019, "The continuous Bernoulli: fixing a pervasive
    error in variational autoencoders"). The mean image is the distribution's mean, which is closer to 1/2 than p.

    Examples
    --------
    >>> ContinuousBernoulli().n_outputs((28, 28, 1))
    784
    """

    activation = Identity()

    def record_loss(
        self,
        program: Program,
        loss: Array,
        doutputs: Array | None,
        outputs: Array,
        images: Array,
        weights: Array | None,
    ) -> None:
        """Record the negative log density, from the logits, and its gradient."""
        losses.continuous_bernoulli(program, loss, doutputs, outputs, images, weights)

    def record_mean(self, program: Program, mean: Array, outputs: Array) -> None:
        """Record the means of the pixels' distributions."""
        pixelwise.continuous_bernoulli_mean(program, mean.reshape(-1), outputs.reshape(-1))


class _LocationScale(Likelihood):
    """Base of the likelihoods of real pixels around outputs, with one scale for all or an output for each."""

    activation = Identity()
    standardizes = True
    _kernels: ClassVar[Mapping[str, Callable[..., None]]]  # by the kind of scale
    _max_of_pixels = MAX_LOG_SCALE  # of the number that the decoder puts out for the scale of each pixel

    def __init__(self, scale: float | str = 1.0) -> None:
        if isinstance(scale, str):
            if scale not in ("pixel", "shared", "optimal"):
                raise ValueError(f"scale must be a number, 'pixel', 'shared' or 'optimal', got {scale!r}")
            self.scale: float | str = scale
        else:
            self.scale = check_number("scale", scale, SCALES)

    @property
    def has_unit(self) -> bool:  # type: ignore[override]
        """Whether the scale is a number rather than learnt."""
        return not isinstance(self.scale, str)

    def in_unit(self, unit: float) -> Likelihood:
        """Return the likelihood with a scale divided by `unit`, unless it is learnt."""
        if isinstance(self.scale, str):
            return self
        return type(self)(check_number("scale / standard deviation of the images", self.scale / unit, SCALES))

    def n_outputs(self, image_shape: tuple[int, int, int]) -> int:
        """Return an output for each pixel and channel, or two."""
        return math.prod(image_shape) * (2 if self.scale == "pixel" else 1)

    def scale_layer(self) -> AppendedNumber | None:
        """Return a layer with the scale of all pixels if the model learns one."""
        return AppendedNumber(averaged=self.scale == "optimal") if self.scale in ("shared", "optimal") else None

    def check(self, images: Array, name: str) -> None:
        """Raise ValueError unless all pixels are finite."""
        check_finite(images, name=name)

    def record_loss(
        self,
        program: Program,
        loss: Array,
        doutputs: Array | None,
        outputs: Array,
        images: Array,
        weights: Array | None,
    ) -> None:
        """Record the negative log density and its gradient."""
        kind = self.scale if isinstance(self.scale, str) else "number"
        numbers = {
            "number": self.scale,
            "shared": MAX_LOG_SCALE,
            "optimal": math.exp(-MAX_LOG_SCALE),  # the least scale
            "pixel": self._max_of_pixels,
        }
        self._kernels[kind](program, loss, doutputs, outputs, images, weights, numbers[kind])

    def record_mean(self, program: Program, mean: Array, outputs: Array) -> None:
        """Record a copy of the outputs that are means."""
        pixelwise.first_columns(program, mean, outputs, -math.inf, math.inf, pairs=self.scale == "pixel")


class Gaussian(_LocationScale):
    """Each pixel has a normal distribution, whose mean is an output.

    Takes finite images of any range; uint8 means 0..255 and is scaled to [0, 1], other integers are taken as they are.
    Unless the model has a `value_range`, pixels are then standardized: within the model each channel has the mean 0 and
    the standard deviation 1 over the images of the first `fit` (all channels together, if the scale is a number).
    Outputs and densities are those of the pixels as they were given.

    Parameters
    ----------
    scale : float, "shared", "optimal" or "pixel"
        The standard deviation. A number, from 1e-15 to 1e15, is that of all pixels as they are given (uint8: from 0 to
        1), or as they are once `value_range` is mapped to [0, 1]. The others are learnt, in units of the standard
        deviation of a pixel's channel (or of the mapped pixels), and never less than exp(-8) = 0.00034 of it, so that
        the density of pixels that never change has an upper bound.

        "shared": one for all pixels, which the optimizer learns with the weights: ``exp(8 tanh(s / 8))``, where s is
        the parameter of the decoder's layer "Scale".

        "optimal": one for all pixels, in training the one for which the loss of the batch is smallest: the square root
        of the mean squared error (sigma-VAE: Rybkin, Daniilidis & Levine 2021, "Simple and Effective VAE Training with
        Calibrated Decoders"), which gradients hold constant. Outside training it is the root of a running mean of the
        last batches' mean squared errors, kept in the decoder's layer "Scale" and saved with the model. With the
        objective `IWAE` the codes of an image count equally in training, and by their importance weights in the running
        mean.

        "pixel": the decoder puts out a mean and a number s for each pixel and channel, one after the other, as outputs
        of shape (rows, cols, channels, 2), or (rows, cols, 2 * channels). The log variance is ``16 tanh(s / 16)``:
        nearly s where s is small, and bounded. Standard deviations lie between 0.00034 and 3000.

    Examples
    --------
    >>> Gaussian(scale="pixel").n_outputs((28, 28, 1))
    1568
    """

    _kernels: ClassVar = {
        "number": losses.gaussian,
        "shared": losses.gaussian_shared,
        "optimal": losses.gaussian_optimal,
        "pixel": losses.gaussian_per_pixel,
    }
    _max_of_pixels = 2 * MAX_LOG_SCALE  # of log variances


class Laplace(_LocationScale):
    """Each pixel has a Laplace distribution, whose mean is an output: the loss is that of absolute differences.

    Takes the same images as `Gaussian`, and standardizes them in the same way.

    Parameters
    ----------
    scale : float, "shared", "optimal" or "pixel"
        The mean absolute difference from the mean, as for `Gaussian`. "optimal" is the mean absolute difference of a
        batch. With "pixel" the log scale is ``8 tanh(s / 8)``.

    Examples
    --------
    >>> Laplace(scale=0.1).n_outputs((28, 28, 1))
    784
    """

    _kernels: ClassVar = {
        "number": losses.laplace,
        "shared": losses.laplace_shared,
        "optimal": losses.laplace_optimal,
        "pixel": losses.laplace_per_pixel,
    }


class DiscretizedLogistic(Likelihood):
    """Each pixel of 8 bits, k/255, has the probability that a logistic variable rounds to it.

    ``p(x | z) = F((x + 1/510 - mean) / scale) - F((x - 1/510 - mean) / scale)`` with F = sigmoid, but from -inf on for
    k = 0 and up to inf for k = 255 (Kingma et al. 2016, "Improving variational inference with inverse autoregressive
    flow"; Salimans et al. 2017, "PixelCNN++"). As probabilities of discrete pixels, losses are positive, and compare
    with published bits per dimension: those are nats / (log(2) rows cols channels), see `bits_per_dimension`.

    The decoder puts out a mean and a number s for each pixel and channel, one after the other, as outputs of shape
    (rows, cols, channels, 2), or (rows, cols, 2 * channels). The log scale, of pixels from 0 to 1, is
    ``8 tanh(s / 8)``. The mean image holds the means, cut off at 0 and 1. Images are uint8, or multiples of 1/255.

    Examples
    --------
    >>> DiscretizedLogistic().n_outputs((32, 32, 3))
    6144
    """

    activation = Identity()
    pixels = "bytes"
    is_density = False

    def n_outputs(self, image_shape: tuple[int, int, int]) -> int:
        """Return two outputs, a mean and a log scale, for each pixel and channel."""
        return 2 * math.prod(image_shape)

    def check(self, images: Array, name: str) -> None:
        """Raise ValueError unless all pixels are multiples of 1/255 in [0, 1], up to rounding."""
        check_bytes(images, name=name)

    def record_loss(
        self,
        program: Program,
        loss: Array,
        doutputs: Array | None,
        outputs: Array,
        images: Array,
        weights: Array | None,
    ) -> None:
        """Record the negative log probability and its gradient."""
        losses.discretized_logistic(program, loss, doutputs, outputs, images, weights, MAX_LOG_SCALE)

    def record_mean(self, program: Program, mean: Array, outputs: Array) -> None:
        """Record the means, cut off at 0 and 1."""
        pixelwise.first_columns(program, mean, outputs, 0.0, 1.0, pairs=True)


def bits_per_dimension(nats: npt.ArrayLike, image_shape: Sequence[int]) -> Array:
    """Return a negative log likelihood in bits per pixel and channel.

    For `DiscretizedLogistic` these are bits of a pixel of 8 bits. Those of a density depend on the unit: for pixels
    scaled from 0..255 to [0, 1], adding log2(255) gives those of the density of unscaled pixels.

    Parameters
    ----------
    nats : float or array
        Of images, such as ``-vae.elbo(X)``.
    image_shape : (rows, cols) or (rows, cols, channels)

    Returns
    -------
    float64, or array of the shape of `nats`

    Examples
    --------
    >>> float(bits_per_dimension(6000.0, (32, 32, 3)).round(3))
    2.818
    """
    bits: Array = np.asarray(nats, np.float64) / (math.log(2) * math.prod(resolve_image_shape(image_shape)))
    return bits
