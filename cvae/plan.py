"""The plan of a batch shape: buffers allocated once, and the passes over them that training and inference make.

A plan works on the model's own layers and makes the same calls of the same kernels as the layers' `forward` and
`backward` do, but keeps no more than it needs and allocates nothing while it runs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae import latent
from cvae._kernels import losses
from cvae.activations import ReLU
from cvae.layers import Flatten, LayerBase, Pool2D
from cvae.layers.base import WeightedLayer, activation_backward, is_identity
from cvae.threads import get_num_threads
from cvae.workspace import aligned_empty

Array = npt.NDArray[Any]


def empty(shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
    """An uninitialised array that starts at a cache line."""
    dtype = np.dtype(dtype)
    return aligned_empty(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


class Chain:
    """Layers that follow one another, with room for the outputs of a batch and, if training, for their gradients.

    The last layer stops before its activation: its output is a code or logits.
    """

    def __init__(self, layers: Sequence[LayerBase], in_shape: tuple[int, ...], *, training: bool) -> None:
        self.layers = list(layers)
        self.outputs: list[Array] = []
        self.extras: list[Array | None] = []  # argmax of a pooling, pre-activation of other activations than ReLU
        shape = in_shape
        for layer in self.layers:
            layer.initialize(shape)  # it has its parameters; do they fit this shape?
            before, shape = shape, layer.output_shape(shape)
            if isinstance(layer, Flatten):
                self.outputs.append(self.outputs[-1].reshape(shape))
            else:
                self.outputs.append(empty(shape, layer.dtype))
            self.extras.append(self._extra(layer, before, shape))
        # A maximum is positive where what it was taken from is: the ReLU below a max pooling is undone on the pooled
        # gradient, which is smaller.
        self.relu_is_done_above = [
            isinstance(layer, WeightedLayer)
            and isinstance(layer.act_fn, ReLU)
            and isinstance(above, Pool2D)
            and above.mode == "max"
            for layer, above in zip(self.layers, [*self.layers[1:], None], strict=True)
        ]
        self.grads: list[Array] = []
        for layer, output in zip(self.layers, self.outputs, strict=True):
            if training and isinstance(layer, Flatten):
                self.grads.append(self.grads[-1].reshape(output.shape))
            elif training:
                self.grads.append(empty(output.shape, layer.dtype))

    def _extra(self, layer: LayerBase, in_shape: tuple[int, ...], shape: tuple[int, ...]) -> Array | None:
        if isinstance(layer, Pool2D):
            return empty(shape, np.int32) if layer.mode == "max" else None
        if not isinstance(layer, WeightedLayer) or layer is self.layers[-1]:
            return None
        needed = not isinstance(layer.act_fn, ReLU) and not is_identity(layer.act_fn)
        return empty(shape, layer.dtype) if needed else None

    def forward(self, X: Array) -> Array:
        """The output of the last layer for a batch X, valid until the next call."""
        n = len(X)
        for layer, output, extra in zip(self.layers, self.outputs, self.extras, strict=True):
            Y = output[:n]
            if isinstance(layer, Pool2D):
                layer.apply(X, Y, None if extra is None else extra[:n])
            elif isinstance(layer, WeightedLayer):
                if layer is self.layers[-1]:
                    layer.preactivation(X, Y)
                elif extra is None:
                    layer.apply(X, Y)
                else:
                    layer.preactivation(X, extra[:n])
                    Y[...] = layer.act_fn.fn(extra[:n])
            X = Y
        return X

    def backward(self, X: Array, dX: Array | None = None) -> None:
        """The gradients for the batch that went forward last, from that of the output in ``grads[-1]``.

        The layers' `gradients` are overwritten; dX, if given, becomes the gradient with respect to X.
        """
        n = len(X)
        for i in reversed(range(len(self.layers))):
            layer, dY = self.layers[i], self.grads[i][:n]
            below = X if i == 0 else self.outputs[i - 1][:n]
            d_below = dX if i == 0 else self.grads[i - 1][:n]
            extra = self.extras[i]
            if isinstance(layer, Pool2D):
                if self.relu_is_done_above[i - 1]:
                    activation_backward(ReLU(), dY, dY, self.outputs[i][:n])
                if d_below is not None:
                    layer.grad_input(d_below, dY, None if extra is None else extra[:n])
            elif isinstance(layer, WeightedLayer):
                if layer is not self.layers[-1] and not self.relu_is_done_above[i]:
                    activation_backward(layer.act_fn, dY, dY, self.outputs[i][:n] if extra is None else extra[:n])
                grads = layer.gradients if layer.trainable else None
                if grads is not None:
                    layer.grads(d_below, grads["W"], grads["b"].reshape(-1), below, dY)
                elif d_below is not None:
                    layer.grads(d_below, None, None, below, dY)


class Plan:
    """Encoder, latent code and decoder for batches of at most `batchsize` images.

    Parameters
    ----------
    encoder, decoder : dict of layers
        Initialised for `image_shape`.
    batchsize : int
    image_shape : (rows, cols, channels)
    T : int
        Size of the latent code.
    training : bool
        Whether there is to be room for gradients.
    """

    def __init__(
        self,
        encoder: Mapping[str, LayerBase],
        decoder: Mapping[str, LayerBase],
        batchsize: int,
        image_shape: tuple[int, int, int],
        T: int,
        *,
        training: bool,
    ) -> None:
        dtype = next(iter(encoder.values())).dtype
        self.batchsize = batchsize
        self.images = empty((batchsize, *image_shape), dtype)
        self.encoder = Chain(list(encoder.values()), self.images.shape, training=training)
        self.decoder = Chain(list(decoder.values()), (batchsize, T), training=training)
        codes = (batchsize, T)
        self.mean, self.log_var, self.deviation, self.z = (empty(codes, dtype) for _ in range(4))
        self.dmean, self.dlog_var, self.dz = (empty(codes, dtype) for _ in range(3))
        self.reconstruction, self.kl = empty((batchsize,), np.float64), empty((batchsize,), np.float64)

    def encode(self, n: int) -> tuple[Array, Array]:
        """Means and log variances (n, T) of the first n images of `images`."""
        latent.split(self.encoder.forward(self.images[:n]), self.mean[:n], self.log_var[:n])
        return self.mean[:n], self.log_var[:n]

    def decode(self, z: Array) -> Array:
        """Logits (n, rows * cols * channels) of the images of codes z (n, T)."""
        return self.decoder.forward(z)

    def loss(self, noise: Array, beta: float, *, gradients: bool = False) -> tuple[Array, Array]:
        """The two terms of the negative ELBO of the first len(noise) images, in nats.

        Parameters
        ----------
        noise : array, shape (n, T)
            Standard normal.
        beta : float
            Weight of the KL divergence in the gradients (the terms are returned without it).
        gradients : bool
            Whether the gradients of the mean loss are computed as well, into the layers' `gradients`.

        Returns
        -------
        reconstruction, kl : arrays, shape (n,), float64
            Valid until the next call.
        """
        n = len(noise)
        mean, log_var = self.encode(n)
        z, deviation = self.z[:n], self.deviation[:n]
        latent.sample(z, deviation, mean, log_var, noise)
        logits = self.decode(z)
        dlogits = self.decoder.grads[-1][:n] if gradients else None
        losses.bce_with_logits(
            self.reconstruction[:n],
            None,
            dlogits,
            logits,
            self.images[:n].reshape(n, -1),
            scale=1 / n,
            n_threads=get_num_threads(),
        )
        dmean, dlog_var = self.dmean[:n], self.dlog_var[:n]
        losses.gaussian_kl(self.kl[:n], dmean, dlog_var, mean, log_var, scale=beta / n)
        if gradients:
            self.decoder.backward(z, self.dz[:n])
            latent.grad_code(self.encoder.grads[-1][:n], self.dz[:n], noise, deviation, dmean, dlog_var)
            self.encoder.backward(self.images[:n])
        return self.reconstruction[:n], self.kl[:n]

    def log_weights(self, mean: Array, log_var: Array, noise: Array) -> Array:
        """log of p(x | z) p(z) / q(z | x) for z = mean + noise * exp(log_var / 2), shape (n,), float64.

        Parameters
        ----------
        mean, log_var : arrays, shape (T,)
            The posterior of one image.
        noise : array, shape (n, T)
            The i-th row belongs to the i-th image of `images`.
        """
        n = len(noise)
        z = self.z[:n]
        latent.sample(z, self.deviation[:n], np.broadcast_to(mean, z.shape), np.broadcast_to(log_var, z.shape), noise)
        losses.bce_with_logits(
            self.reconstruction[:n],
            None,
            None,
            self.decode(z),
            self.images[:n].reshape(n, -1),
            scale=1.0,
            n_threads=get_num_threads(),
        )
        # The normalising constants of both normal densities cancel.
        log_prior = -0.5 * np.square(z, dtype=np.float64).sum(1)
        log_posterior = -0.5 * (np.square(noise, dtype=np.float64).sum(1) + log_var.sum(dtype=np.float64))
        log_weights: Array = log_prior - log_posterior - self.reconstruction[:n]
        return log_weights
