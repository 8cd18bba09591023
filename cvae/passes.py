"""The passes of an autoencoder over a batch, a method each: recorded once for each size of batch, and run many times.

`fit` and the steps by hand record the same passes of the same layers; `fit` has layers update parameters on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cvae._kernels import latent, losses
from cvae._kernels.program import Program
from cvae.engine.batch import Array, Batch
from cvae.engine.network import Network
from cvae.likelihoods import Likelihood
from cvae.nn.protocol import Layer
from cvae.objectives import Objective
from cvae.optim.updates import Updates
from cvae.runtime.programs import execute
from cvae.runtime.workspace import empty
from cvae.snapshot import Snapshot

MAX_PROGRAMS = 16  # kept for batches of different sizes; recording one takes less time than a training step


class Passes:
    """Encoder, codes, decoder, likelihood and objective for batches of at most `batchsize` images.

    Parameters
    ----------
    encoder, decoder : dicts of layers
        Initialized for `image_shape`; the encoder puts out means and log variances, (n, 2T).
    likelihood : Likelihood
    objective : Objective
    batchsize : int
    image_shape : (rows, cols, channels)
    training : bool
        Whether to allocate memory for gradients, and for as many codes an image as the objective draws.

    Attributes
    ----------
    images : array, shape (batchsize, rows, cols, channels)
        To be filled before a pass that encodes.
    noise : array, shape (batchsize * codes, T)
        To be filled with standard normal numbers before a pass that draws codes.
    """

    def __init__(
        self,
        encoder: Mapping[str, Layer],
        decoder: Mapping[str, Layer],
        likelihood: Likelihood,
        objective: Objective,
        batchsize: int,
        image_shape: tuple[int, int, int],
        *,
        training: bool,
    ) -> None:
        self._made_from = [*encoder.values()], [*decoder.values()], likelihood, objective
        self.layers = [*encoder.values(), *decoder.values()]
        self._likelihood, self._objective = likelihood, objective
        self.batchsize, self.codes = batchsize, objective.codes if training else 1
        self.images = empty((batchsize, *image_shape), self.layers[0].dtype)
        self._encoder = Network([*encoder.values()], self.images.shape, training=training)
        self.T = self._encoder.output.shape[1] // 2
        self._decoder = Network([*decoder.values()], (batchsize * self.codes, self.T), training=training)
        self._batch = Batch.allocate(self._encoder, self._decoder, self.images, len(objective.terms))
        self.noise = self._batch.noise
        pixels, outputs = self.images[0].size, self._decoder.output
        # Mean images take the place of the outputs where they are as many.
        self._means = outputs if outputs.shape[1] == pixels else empty((len(outputs), pixels), outputs.dtype)
        self._updates = Updates()
        self._is_prepared = False
        self._programs: dict[tuple[Any, ...], Program] = {}
        self._snapshot = Snapshot(self.layers, [arrays for layer in self.layers for arrays in _arrays_of(layer)])

    def is_current(
        self, encoder: Mapping[str, Layer], decoder: Mapping[str, Layer], likelihood: Likelihood, objective: Objective
    ) -> bool:
        """Return whether the passes are made from these objects, and nothing of them has been replaced since."""
        # Layers are equal only if they are the same.
        same_layers = ([*encoder.values()], [*decoder.values()]) == self._made_from[:2]
        same = same_layers and likelihood is self._likelihood and objective is self._objective
        return same and self._snapshot.holds()

    # ---------------------------------------------------------------- inference

    def encode(self, n: int) -> tuple[Array, Array]:
        """Return means and log variances (n, T) of the first n `images`, valid until the next pass."""
        self._run(self._record_encode, n, n_threads=1 if n == 1 else None)
        return self._batch.code[:n, : self.T], self._batch.code[:n, self.T :]

    def decode(self, z: Array) -> Array:
        """Return the mean images (n, rows * cols * channels) of codes z (n, T), valid until the next pass."""
        n = len(z)
        self._batch.z[:n] = z
        self._run(self._record_decode, n, n_threads=1 if n == 1 else None)
        return self._means[:n]

    def terms(self, noise: Array) -> tuple[Array, Array]:
        """Return both terms of the negative ELBO of the first len(noise) `images`, in nats.

        Parameters
        ----------
        noise : array, shape (n, T)
            Standard normal.

        Returns
        -------
        reconstruction, kl : arrays, shape (n,), float64
            Valid until the next pass.
        """
        n = len(noise)
        self.noise[:n] = noise
        self._run(self._record_terms, n)
        return self._batch.reconstruction[:n], self._batch.kl[:n]

    def log_weights(self, mean: Array, log_var: Array, noise: Array) -> Array:
        """Return log of p(x | z) p(z) / q(z | x) for codes z = mean + noise * exp(log_var / 2) of the first image.

        Parameters
        ----------
        mean, log_var : arrays, shape (T,)
            The posterior of the first of `images`.
        noise : array, shape (rows, T)
            Standard normal.

        Returns
        -------
        array, shape (rows,), float64
        """
        rows = len(noise)
        code, z = self._batch.code, self._batch.z
        code[0, : self.T], code[0, self.T :], self.noise[:rows] = mean, log_var, noise
        self._run(self._record_log_weights, rows)
        # The normalizing constants of both normal densities cancel.
        log_prior = -0.5 * np.square(z[:rows], dtype=np.float64).sum(1)
        log_posterior = -0.5 * (np.square(noise, dtype=np.float64).sum(1) + log_var.sum(dtype=np.float64))
        log_weights: Array = log_prior - log_posterior - self._batch.reconstruction[:rows]
        return log_weights

    # ----------------------------------------------------------------- training

    def begin_epoch(self) -> None:
        """Have the next `descend` look at layers and optimizers anew; those after it rely on what it saw."""
        self._is_prepared = False

    def loss(self, n: int) -> list[float]:
        """Run up from the first n `images` with their `noise`, and compute the gradient with respect to the outputs.

        Returns
        -------
        list of float
            The objective's terms, summed over the images.
        """
        self._objective.prepare(self.batch_of(n))
        self._run(self._record_loss, n)
        totals: list[float] = self._batch.totals.tolist()
        return totals

    def descend(self, n: int, cur_loss: float) -> None:
        """Run down after `loss` of n images, and take an optimizer step of all layers that are not frozen.

        Afterwards the contents of the layers' `gradients` are unspecified. An error leaves parameters and optimizers as
        they were.
        """
        if self._is_prepared:
            self._updates.prepare_next(cur_loss)
        else:
            trained = [layer for layer in reversed(self.layers) if layer.trainable]
            if self._updates.prepare(trained, cur_loss):
                self._programs = {k: v for k, v in self._programs.items() if k[0] != self._record_descent.__name__}
            self._is_prepared = True
        self._run(self._record_descent, n)

    # ------------------------------------------------------------------ by hand

    def forward(self, n: int) -> Array:
        """Run up as `loss` does, but for the loss; returns a new array of the mean image of each code."""
        mean = np.empty((n * self.codes, self.images[0].size), self.images.dtype)
        self._run(self._record_forward, n)
        program = Program()
        self._likelihood.record_mean(program, mean, self._batch.outputs[: len(mean)])
        execute(program)
        return mean

    def backward(self, images: Array) -> Array:
        """Run down as `descend` does, but for the steps, after `forward` of as many images.

        The layers' `gradients` are overwritten; the outputs are lost, so that a further call needs a `forward` before.

        Parameters
        ----------
        images : array, shape (n, rows, cols, channels)
            Whose likelihood counts.

        Returns
        -------
        array, shape (n, rows, cols, channels)
            The gradient with respect to the encoder's input.
        """
        program, dx = Program(), np.empty_like(images)
        self._objective.record_loss(program, self._target(images), self._likelihood)
        self._record_down(program, len(images), None, dx)
        execute(program)
        return dx

    def output_gradient(self, images: Array) -> Array:
        """Return the gradient with respect to the outputs of the last `forward`, and run that again before.

        images : as for `backward`.
        """
        n, program = len(images), Program()
        self._record_forward(program, n)
        batch = self._target(images)
        self._objective.record_loss(program, batch, self._likelihood)
        execute(program)
        return batch.doutputs.copy()

    def code_gradient(self, dz: Array) -> Array:
        """Return the gradient with respect to the encoder's output, given that with respect to all codes."""
        program, batch = Program(), self._batch.head(len(dz) // self.codes, len(dz))
        batch.dz[:] = dz
        self._objective.record_code_gradient(program, batch)
        execute(program)
        return batch.dcode.copy()

    def _target(self, images: Array) -> Batch:
        """Return the arrays of a batch in which other images count than those that were encoded."""
        batch = self.batch_of(len(images))
        batch.images = images.reshape(len(images), -1)
        self._objective.prepare(batch)
        return batch

    def batch_of(self, n: int) -> Batch:
        """Return the arrays between encoder and decoder of the first n images, valid until the next pass."""
        return self._batch.head(n, n * self.codes)

    # ---------------------------------------------------------------- recording

    def _run(self, record: Callable[[Program, int], None], n: int, n_threads: int | None = None) -> None:
        """Run what `record` records for n; a single image takes less time than waking idle threads."""
        key = record.__name__, n
        program = self._programs.get(key)
        if program is None:
            if len(self._programs) == MAX_PROGRAMS:
                self._programs.clear()
            program = Program()
            record(program, n)
            self._programs[key] = program
        execute(program, n_threads)

    def _record_encode(self, program: Program, n: int) -> None:
        self._encoder.record_forward(program, self.images[:n])

    def _record_decode(self, program: Program, n: int) -> None:
        self._decoder.record_forward(program, self._batch.z[:n])
        self._likelihood.record_mean(program, self._means[:n], self._batch.outputs[:n])

    def _record_forward(self, program: Program, n: int) -> None:
        self._record_encode(program, n)
        batch = self.batch_of(n)
        self._record_codes(program, batch)

    def _record_codes(self, program: Program, batch: Batch) -> None:
        latent.sample(program, batch.z, batch.deviation, batch.mean, batch.log_var, batch.code, batch.noise)
        self._decoder.record_forward(program, batch.z)

    def _record_terms(self, program: Program, n: int) -> None:
        self._record_encode(program, n)
        batch = self._batch.head(n, n)
        self._record_codes(program, batch)
        self._likelihood.record_loss(program, batch.reconstruction, None, batch.outputs, batch.images, None)
        losses.gaussian_kl(program, batch.kl, None, None, batch.mean, batch.log_var, None)

    def _record_log_weights(self, program: Program, rows: int) -> None:
        batch = self._batch.head(1, rows)
        self._record_codes(program, batch)
        self._likelihood.record_loss(program, batch.reconstruction, None, batch.outputs, batch.images, None)

    def _record_loss(self, program: Program, n: int) -> None:
        self._record_forward(program, n)
        self._objective.record_loss(program, self.batch_of(n), self._likelihood)

    def _record_descent(self, program: Program, n: int) -> None:
        self._record_down(program, n, self._updates, None)

    def _record_down(self, program: Program, n: int, updates: Updates | None, image_grad: Array | None) -> None:
        batch = self.batch_of(n)
        self._decoder.record_backward(program, batch.z, dx=batch.dz, updates=updates)
        self._objective.record_code_gradient(program, batch)
        self._encoder.record_backward(program, self.images[:n], updates=updates, separate_dx=image_grad)


def _arrays_of(layer: Layer) -> tuple[dict[str, Any], dict[str, Any]]:
    return layer.parameters, layer.gradients
