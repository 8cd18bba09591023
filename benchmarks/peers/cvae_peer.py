"""cvae, through its public interface."""

import numpy as np
from cases import Model

import cvae
from cvae.losses import VAELoss
from peers import Array, Images, Peer

LAYERS = {"encoder": ("Conv1", "Conv2", "FC4", "FC5"), "decoder": ("FC1", "FC2")}


class CvaePeer(Peer):
    """`cvae.BernoulliVAE` with its default optimizer; see `Peer` for the parameters."""

    def __init__(self, model: Model, batch: int, threads: int, images: Images, seed: int) -> None:
        super().__init__(model, batch, threads, images, seed)
        pad = "same" if model.same else 0
        self.images = images
        self.codes = np.random.default_rng(1).normal(size=(batch, model.n_codes))
        self.codes = self.codes.astype(model.dtype)
        self.vae = cvae.BernoulliVAE(
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
            batchsize=batch,
            dtype=model.dtype,
            n_threads=threads,
            random_state=seed,
            verbose=False,
        )
        self.vae.forward(images[:1], retain_derived=False)  # draws the initial weights

    def parameters(self) -> dict[str, Array]:
        """Return copies of the weights and biases by "layer.name", in cvae's layout."""
        components = self.vae.parameters["components"]
        return {
            f"{layer}.{name}": np.array(components[part][layer][name])
            for part, layers in LAYERS.items()
            for layer in layers
            for name in ("W", "b")
        }

    def train(self, n_steps: int) -> None:
        for start, end in self.windows(n_steps):
            self.vae.partial_fit(self.images[start:end])

    def encode(self) -> tuple[Array, Array]:
        codes: tuple[Array, Array] = self.vae.encode(self.images[: self.batch])
        return codes

    def decode(self) -> Array:
        probabilities: Array = self.vae.decode(self.codes)
        return probabilities

    def loss(self, images: Array, noise: Array) -> float:
        probabilities = self.vae.forward(images, retain_derived=False, noise=noise)
        mean, log_var = self.vae.encode(images)
        return float(VAELoss()(images.reshape(len(images), -1), probabilities, mean, log_var))
