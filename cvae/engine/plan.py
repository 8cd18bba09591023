"""The plan of a batch shape: buffers allocated once, and the programs over them that training and inference run."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cvae._kernels import elementwise, latent, losses
from cvae._kernels.program import Program, Watch
from cvae.engine.chain import Array, Chain
from cvae.engine.updates import Updates
from cvae.nn.base import LayerBase
from cvae.runtime.programs import start
from cvae.runtime.workspace import empty

MAX_PROGRAMS = 16  # kept for batches of different sizes; the recording of one takes less time than a training step


# What a plan's buffers and programs depend on, beside the layers' arrays and the arguments of their activations.
_WATCHED = (
    "act_fn", "mode", "keep_dim", "kernel_shape", "stride", "pad", "dilation", "algorithm", "dtype", "trainable",
    "parameters", "gradients",
)  # fmt: skip


def watch(layers: Sequence[LayerBase]) -> Watch:
    """Watches over the attributes and arrays of layers."""
    watched = Watch()
    for layer in layers:
        attributes = vars(layer)
        for name in filter(attributes.__contains__, _WATCHED):
            watched.add(attributes, name)
        for entries in (layer.parameters, layer.gradients, vars(layer.act_fn) if layer.act_fn is not None else {}):
            for name in entries:
                watched.add(entries, name)
    return watched


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
        encoder: dict[str, LayerBase],
        decoder: dict[str, LayerBase],
        batchsize: int,
        image_shape: tuple[int, int, int],
        T: int,
        *,
        training: bool,
    ) -> None:
        self._parts = [*encoder.values()], [*decoder.values()]
        self.layers = [*self._parts[0], *self._parts[1]]
        self.batchsize, self.T = batchsize, T
        dtype = self.layers[0].dtype
        self.images = empty((batchsize, *image_shape), dtype)
        self.encoder = Chain(list(encoder.values()), self.images.shape, training=training)
        self.decoder = Chain(list(decoder.values()), (batchsize, T), training=training)
        self.code, self.logits = self.encoder.steps[-1].output, self.decoder.steps[-1].output
        codes = (batchsize, T)
        self.noise, self.mean, self.log_var, self.deviation, self.z = (empty(codes, dtype) for _ in range(5))
        self.dmean, self.dlog_var, self.dz = (empty(codes, dtype) for _ in range(3))
        self.reconstruction, self.kl = empty((batchsize,), np.float64), empty((batchsize,), np.float64)
        self.totals = empty((2,), np.float64)
        self.updates = Updates()
        self._is_prepared = False
        self._programs: dict[tuple[Any, ...], Program] = {}
        self._watch = watch(self.layers)

    def is_current(self, encoder: dict[str, LayerBase], decoder: dict[str, LayerBase]) -> bool:
        """Whether the layers are the same, work in the same way and have the same arrays as when this plan was made."""
        # Lists of objects without an __eq__ are equal if they are the same objects.
        return ([*encoder.values()], [*decoder.values()]) == self._parts and self._watch.unchanged()

    def encode(self, n: int) -> tuple[Array, Array]:
        """Means and log variances (n, T) of the first n images of `images`, valid until the next call."""
        self._run("encode", n)
        return self.code[:n, : self.T], self.code[:n, self.T :]

    def decode(self, z: Array) -> Array:
        """Probabilities (n, rows * cols * channels) of the images of codes z (n, T), valid until the next call."""
        n = len(z)
        self.z[:n] = z
        self._run("decode", n)
        return self.logits[:n]

    def loss(self, noise: Array) -> tuple[Array, Array]:
        """The two terms of the negative ELBO of the first len(noise) images, in nats.

        Parameters
        ----------
        noise : array, shape (n, T)
            Standard normal.

        Returns
        -------
        reconstruction, kl : arrays, shape (n,), float64
            Valid until the next call.
        """
        n = len(noise)
        self.noise[:n] = noise
        self._run("loss", n)
        return self.reconstruction[:n], self.kl[:n]

    def begin_epoch(self) -> None:
        """Have the next `descend` look at layers and optimizers anew; those after it rely on what it saw."""
        self._is_prepared = False

    def training_loss(self, n: int, beta: float) -> tuple[float, float]:
        """The loss of the first n `images` with their `noise`, and for `descend` the gradients with respect to logits,
        which take the logits' place, means and log variances.

        Parameters
        ----------
        n : int
        beta : float
            Weight of the KL divergence in the gradients.

        Returns
        -------
        reconstruction, kl : float
            The sums over the images of the terms that `loss` gives.
        """
        self._run("training loss", n, beta)
        reconstruction, kl = self.totals.tolist()
        return reconstruction, kl

    def descend(self, n: int, cur_loss: float) -> None:
        """Take a step of the optimizers of all layers that are not frozen, after `training_loss` of n images.

        The layers' `gradients` are not what they were before, and may not be the gradients either.
        """
        if self._is_prepared:
            self.updates.prepare_next(cur_loss)
        else:
            trained = [layer for layer in reversed(self.layers) if layer.trainable]
            if self.updates.prepare(trained, cur_loss):
                self._programs = {key: program for key, program in self._programs.items() if key[0] != "descend"}
            self._is_prepared = True
        self._run("descend", n)

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
        self.code[:n, : self.T], self.code[:n, self.T :], self.noise[:n] = mean, log_var, noise
        self._run("weights", n)
        # The normalising constants of both normal densities cancel.
        log_prior = -0.5 * np.square(self.z[:n], dtype=np.float64).sum(1)
        log_posterior = -0.5 * (np.square(noise, dtype=np.float64).sum(1) + log_var.sum(dtype=np.float64))
        log_weights: Array = log_prior - log_posterior - self.reconstruction[:n]
        return log_weights

    def _run(self, kind: str, n: int, beta: float = 1.0) -> None:
        program = self._programs.get((kind, n, beta))
        if program is None:
            if len(self._programs) == MAX_PROGRAMS:
                self._programs.clear()
            program = self._programs[kind, n, beta] = self._record(kind, n, beta)
        # The two directions of a single image take less time than it may take to wake idle threads for them.
        start(program, n_threads=1 if n == 1 and kind in ("encode", "decode") else None)

    def _record(self, kind: str, n: int, beta: float) -> Program:
        program = Program()
        if kind == "descend":
            self._record_descent(program, n)
            return program
        images, noise, code, z, deviation = (
            buffer[:n] for buffer in (self.images, self.noise, self.code, self.z, self.deviation)
        )
        losses_too, gradients_too = kind in ("loss", "training loss", "weights"), kind == "training loss"
        if kind in ("encode", "loss", "training loss"):
            self.encoder.record_forward(program, images)
        if losses_too:
            latent.sample(program, z, deviation, self.mean[:n], self.log_var[:n], code, noise)
        if kind != "encode":
            self.decoder.record_forward(program, z)
        if kind == "decode":
            flat = self.logits[:n].reshape(-1)
            elementwise.sigmoid(program, flat, flat)
        if losses_too:
            dlogits = self.decoder.grad(n) if gradients_too else None
            y = images.reshape(n, -1)
            weights = np.full(n, 1 / n) if gradients_too else None
            losses.bce_with_logits(program, self.reconstruction[:n], dlogits, self.logits[:n], y, weights)
        if kind in ("loss", "training loss"):
            gradients = self.dmean[:n], self.dlog_var[:n]
            weights = np.full(n, beta / n)
            losses.gaussian_kl(program, self.kl[:n], *gradients, self.mean[:n], self.log_var[:n], weights)
        if gradients_too:
            losses.total(program, self.totals[:1], self.reconstruction[:n])
            losses.total(program, self.totals[1:], self.kl[:n])
        return program

    def _record_descent(self, program: Program, n: int) -> None:
        self.decoder.record_descent(program, self.z[:n], self.updates, self.dz[:n])
        gradients = self.dz[:n], self.noise[:n], self.deviation[:n], self.dmean[:n], self.dlog_var[:n]
        latent.backward(program, self.encoder.grad(n), *gradients)
        self.encoder.record_descent(program, self.images[:n], self.updates)
