"""cvae, through its public interface."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from cases import Model, Network
from layers import Layer, Layers

import cvae
from cvae.losses import VAELoss
from cvae.nn.activated import is_identity
from cvae.nn.geometry import resolve_pad
from peers import Array, Images, Peer


class CvaePeer(Peer):
    """`cvae.BernoulliVAE` or `cvae.VAE` with its default optimizer; see `Peer` for the parameters."""

    def __init__(self, model: Model | Network, batch: int, threads: int, images: Images, seed: int) -> None:
        super().__init__(model, batch, threads, images, seed)
        self.images = images
        self.codes = np.random.default_rng(1).normal(size=(batch, model.n_codes))
        self.codes = self.codes.astype(model.dtype)
        make = bernoulli_vae if isinstance(model, Model) else vae_from_layers
        self.vae = make(model, batchsize=batch, dtype=model.dtype, n_threads=threads, random_state=seed, verbose=False)
        self.vae.forward(images[:1], retain_derived=False)  # draws the initial weights

    def parameters(self) -> dict[str, Array]:
        """Return copies of the weights and biases in cvae's layout, by "layer.name", of a network "part/layer.name"."""
        is_network = isinstance(self.model, Network)  # both parts of which may have layers of the same name
        return {
            f"{part}/{layer}.{name}" if is_network else f"{layer}.{name}": np.array(array)
            for part, layers in self.vae.parameters["components"].items()
            for layer, arrays in layers.items()
            for name, array in arrays.items()
        }

    def layers(self) -> Layers:
        """Return the layers with copies of their weights."""
        encoder = _described(list(self.vae.encoder_.values()), self.model.image_shape)
        decoder = _described(list(self.vae.decoder_.values()), (self.model.n_codes,))
        return Layers(encoder, (*decoder[:-1], replace(decoder[-1], activation="")))

    def train(self, n_steps: int) -> None:
        for start, end in self.windows(n_steps):
            self.vae.partial_fit(self.images[start:end])

    def train_with(self, images: Array, noise: Array) -> None:
        """Do a training step on a batch with the given noise."""
        self.vae.backward(images, self.vae.forward(images, noise=noise))
        self.vae.update()

    def encode(self) -> tuple[Array, Array]:
        codes: tuple[Array, Array] = self.vae.encode(self.images[: self.batch])
        return codes

    def decode(self) -> Array:
        probabilities: Array = self.vae.decode(self.codes)
        return probabilities

    def outputs(self, images: Array, codes: Array) -> tuple[Array, Array, Array]:
        """Return the means and log-variances for images, and the pixel probabilities for codes."""
        return *self.vae.encode(images), self.vae.decode(codes)

    def loss(self, images: Array, noise: Array) -> float:
        probabilities = self.vae.forward(images, retain_derived=False, noise=noise)
        mean, log_var = self.vae.encode(images)
        return float(VAELoss()(images.reshape(len(images), -1), probabilities, mean, log_var))


def bernoulli_vae(model: Model, **options: Any) -> cvae.BernoulliVAE:
    """Return the model of a `Model`."""
    pad = "same" if model.same else 0
    return cvae.BernoulliVAE(
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
        **options,
    )


def vae_from_layers(network: Network, **options: Any) -> cvae.VAE:
    """Return the model of a `Network`."""
    return cvae.VAE(network.encoder, network.decoder, T=network.n_codes, **options)


def _described(part: Sequence[Any], shape: tuple[int, ...]) -> tuple[Layer, ...]:
    """Return layers of cvae, whose first one gets examples of a shape, as plain data."""
    described = []
    for layer in part:
        out_shape = layer.output_shape((1, *shape))[1:]
        act_fn = getattr(layer, "act_fn", None)
        activation = "" if act_fn is None or is_identity(act_fn) else type(act_fn).__name__
        new = Layer(type(layer).__name__, shape, out_shape, activation)
        if hasattr(layer, "kernel_shape"):
            new = replace(new, kernel=layer.kernel_shape, stride=layer.stride, pad=_pad_before(layer, shape, out_shape))
        if layer.parameters:
            new = replace(new, **{name: np.array(array) for name, array in layer.parameters.items()})
        described.append(new)
        shape = out_shape
    return tuple(described)


def _pad_before(layer: Any, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> tuple[int, int]:
    if isinstance(layer, cvae.layers.ConvTranspose2D) and layer.pad == "same":
        cropped = [
            layer.stride * (n - 1) + k - m
            for n, k, m in zip(in_shape[:2], layer.kernel_shape, out_shape[:2], strict=True)
        ]
        return cropped[0] // 2, cropped[1] // 2
    top, _, left, _ = resolve_pad(layer.pad, in_shape[:2], layer.kernel_shape, layer.stride)
    return top, left
