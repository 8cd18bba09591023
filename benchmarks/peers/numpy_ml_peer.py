"""numpy-ml, whose interface cvae keeps. It always computes in float64."""

from __future__ import annotations

import collections
import collections.abc
import warnings
from collections.abc import Mapping

import numpy as np
from cases import Model

from peers import Array, Peer

collections.Hashable = collections.abc.Hashable  # type: ignore[attr-defined]  # removed in Python 3.10
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from numpy_ml.neural_nets.losses import VAELoss
    from numpy_ml.neural_nets.models.vae import BernoulliVAE


class NumpyMlPeer(Peer):
    """numpy-ml's `BernoulliVAE`, trained in the same way as by its `fit`.

    Parameters
    ----------
    model, batch, threads, images, seed
        See `Peer`; the images must be floats, and the seed does not determine the noise.
    parameters : dict of arrays
        The initial weights, as returned by `CvaePeer.parameters`.
    """

    def __init__(
        self, model: Model, batch: int, threads: int, images: Array, seed: int, parameters: Mapping[str, Array]
    ) -> None:
        super().__init__(model, batch, threads, images, seed)
        self.images = images
        self.rng = np.random.default_rng(seed)
        self.codes = self.rng.normal(size=(batch, model.n_codes))
        pad = "same" if model.same else 0
        self.vae = BernoulliVAE(
            T=model.n_codes,
            latent_dim=model.hidden,
            enc_conv1_pad=pad,
            enc_conv2_pad=pad,
            enc_conv1_out_ch=model.channels[0],
            enc_conv2_out_ch=model.channels[1],
            enc_conv1_stride=model.strides[0],
            enc_conv2_stride=model.strides[1],
            enc_conv1_kernel_shape=(model.kernel, model.kernel),
            enc_conv2_kernel_shape=(model.kernel, model.kernel),
        )
        self.vae.N = int(np.prod(model.image_shape))
        self.vae.forward(images[:1])  # creates the parameters
        self.vae.flush_gradients()
        layers = self.vae.encoder | self.vae.decoder
        for name, array in parameters.items():
            layer, kind = name.split(".")
            own = layers[layer].parameters[kind]
            own[...] = array.reshape(own.shape)

    def train(self, n_steps: int) -> None:
        for start, end in self.windows(n_steps):
            order = self.rng.permutation(np.arange(start, end))
            for indices in order.reshape(-1, self.batch):
                images = self.images[indices]
                self.vae.backward(images, self.vae.forward(images))
                self.vae.update()

    def encode(self) -> tuple[Array, Array]:
        return self._codes(self.images[: self.batch])

    def decode(self) -> Array:
        return self._probabilities(self.codes)

    def loss(self, images: Array, noise: Array) -> float:
        # `forward` uses the variance as the standard deviation.
        mean, log_var = self._codes(images)
        probabilities = self._probabilities(mean + noise * np.exp(log_var / 2))
        return float(VAELoss()(images.reshape(len(images), -1), probabilities, mean, log_var))

    def _codes(self, images: Array) -> tuple[Array, Array]:
        for layer in self.vae.encoder.values():
            images = layer.forward(images, retain_derived=False)
        return images[:, : self.model.n_codes], images[:, self.model.n_codes :]

    def _probabilities(self, codes: Array) -> Array:
        for layer in self.vae.decoder.values():
            codes = layer.forward(codes, retain_derived=False)
        return codes
