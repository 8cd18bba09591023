"""The passes of an autoencoder over a batch, one method each, recorded once per batch size and run many times.

`fit` and the steps by hand record the same passes of the same layers; `fit` has layers update parameters on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cvae._kernels import latent, losses, pixelwise
from cvae._kernels.program import Program
from cvae.annealing import Clock
from cvae.engine.batch import Array, Batch
from cvae.engine.network import Network, allocate_gradients
from cvae.likelihoods import Likelihood
from cvae.nn.protocol import Layer
from cvae.objectives import Objective
from cvae.optim.updates import Updates
from cvae.runtime.programs import execute, run
from cvae.runtime.workspace import empty
from cvae.snapshot import Snapshot

MAX_PROGRAMS = 16  # kept for different batch sizes; recording one takes less time than a training step


class Passes:
    """The recorded passes of encoder, decoder, likelihood and objective over at most `batchsize` images.

    Parameters
    ----------
    encoder, decoder : dicts of layers
        Initialized for `image_shape`; the encoder's output is the means and log variances, (n, 2T).
    likelihood : Likelihood
    objective : Objective
    clock : Clock
        Which the objective goes by, and the passes count their training steps on.
    batchsize : int
    image_shape : (rows, cols, channels)
    training : bool
        Whether to allocate memory for gradients, and for as many codes per image as the objective draws.
    n_labels : int
        Numbers of a label; 0 for a model without condition.

    Attributes
    ----------
    images : array, shape (batchsize, rows, cols, channels)
        To be filled before each pass that encodes.
    noise : array, shape (batchsize * codes, T)
        To be filled with standard normal numbers before each pass that draws codes.
    labels : array, shape (batchsize, n_labels)
        To be filled beside `images`.
    """

    def __init__(
        self,
        encoder: Mapping[str, Layer],
        decoder: Mapping[str, Layer],
        likelihood: Likelihood,
        objective: Objective,
        clock: Clock,
        batchsize: int,
        image_shape: tuple[int, int, int],
        *,
        training: bool,
        n_labels: int = 0,
    ) -> None:
        self.layers, self._depth = [*encoder.values(), *decoder.values()], len(encoder)
        self._likelihood, self._objective, self.clock = likelihood, objective, clock
        self.batchsize, self.codes = batchsize, objective.codes if training else 1
        self.images = empty((batchsize, *image_shape), self.layers[0].dtype)
        rows = batchsize * self.codes
        self.labels, self._row_labels = (empty((n, n_labels), self.images.dtype) for n in (batchsize, rows))
        self._encoder = Network([*encoder.values()], self.images.shape, training=training, labels=self.labels)
        self.T = self._encoder.output.shape[1] // 2
        self._decoder = Network([*decoder.values()], (rows, self.T), training=training, labels=self._row_labels)
        if training:
            allocate_gradients([self._encoder, self._decoder])
        self._batch = Batch.allocate(self._encoder, self._decoder, self.images, len(objective.terms))
        self.noise = self._batch.noise
        pixels, outputs = self.images[0].size, self._batch.outputs
        # Mean images replace the outputs in their memory if they have the same size.
        self._means = outputs if outputs.shape[1] == pixels else empty((len(outputs), pixels), outputs.dtype)
        self._updates = Updates()
        self._norm_limit: float | None = None
        self._is_prepared = False
        self._programs: dict[tuple[object, ...], Program] = {}
        # Inference has no gradients to look at, and a single image takes less time.
        kinds = 2 if training else 1
        arrays = [mapping for layer in self.layers for mapping in (layer.parameters, layer.gradients)[:kinds]]
        self._snapshot = Snapshot([part for layer in self.layers for part in layer.parts()], arrays)

    def is_current(
        self,
        encoder: Mapping[str, Layer],
        decoder: Mapping[str, Layer],
        likelihood: Likelihood,
        objective: Objective,
        clock: Clock,
    ) -> bool:
        """Return whether the passes were made from these objects, in which nothing has been replaced since."""
        # Layers compare by identity; comparing lists is faster than comparing one by one.
        if self._objective is not objective or self._likelihood is not likelihood or self.clock is not clock:
            return False
        if not self._snapshot.holds():
            return False
        return [*encoder.values(), *decoder.values()] == self.layers and len(encoder) == self._depth

    # ---------------------------------------------------------------- inference

    def encode(self, n: int) -> tuple[Array, Array]:
        """Return means and log variances (n, T) of the first n `images`, valid until the next pass."""
        # A single image takes less time than waking idle threads.
        self._run(self._record_encode, n, n_threads=1 if n == 1 else None)
        return self._batch.code[:n, : self.T], self._batch.code[:n, self.T :]

    def decode(self, z: Array, labels: Array | None = None) -> Array:
        """Return the mean images (n, rows * cols * channels) of codes z (n, T), valid until the next pass.

        A conditional model needs the codes' labels, (n, n_labels).
        """
        n = self._take_codes(z, labels)
        self._run(self._record_decode, n, n_threads=1 if n == 1 else None)
        return self._means[:n]

    def decoder_outputs(self, z: Array, labels: Array | None = None) -> Array:
        """Return what the likelihood gets of codes as in `decode`, (n, numbers of an image), until the next pass."""
        n = self._take_codes(z, labels)
        self._run(self._record_outputs, n)
        return self._batch.outputs[:n]

    def _take_codes(self, z: Array, labels: Array | None) -> int:
        n = len(z)
        self._batch.z[:n] = z
        if labels is not None:
            self._row_labels[:n] = labels
        return n

    def terms(self, noise: Array) -> tuple[Array, Array]:
        """Return the two terms of the negative ELBO of the first len(noise) `images`, in nats.

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
        """Return log of p(x | z) p(z) / q(z | x) for codes z = mean + noise * exp(log_var / 2) of the first images.

        Parameters
        ----------
        mean, log_var : arrays, shape (n, T)
            The posteriors of the first n `images`.
        noise : array, shape (n * k, T)
            Standard normal; row r is for image r // k. There may be `batchsize` rows.

        Returns
        -------
        array, shape (n * k,), float64
        """
        n, rows = len(mean), len(noise)
        code, z = self._batch.code, self._batch.z
        code[:n, : self.T], code[:n, self.T :], self.noise[:rows] = mean, log_var, noise
        self._run(self._record_log_weights, n, rows)
        # The normalizing constants of both normal densities cancel.
        log_prior = -0.5 * np.square(z[:rows], dtype=np.float64).sum(1)
        log_vars = log_var.astype(np.float64).sum(1).repeat(rows // n)
        log_posterior = -0.5 * (np.square(noise, dtype=np.float64).sum(1) + log_vars)
        log_weights: Array = log_prior - log_posterior - self._batch.reconstruction[:rows]
        return log_weights

    # ----------------------------------------------------------------- training

    def begin_epoch(self, norm_limit: float | None = None) -> None:
        """Make the next `descend` check layers and optimizers for changes; later ones assume that there are none.

        `norm_limit` is the largest L2 norm of all gradients together, see `Updates`.
        """
        self._is_prepared, self._norm_limit = False, norm_limit

    def loss(self, n: int, weights: Array | None = None) -> list[float]:
        """Run the forward pass of the first n `images` with their `noise`, and the gradient of the decoder's outputs.

        Parameters
        ----------
        n : int
        weights : array, shape (n,), optional
            How much each image counts; 1 by default.

        Returns
        -------
        list of float
            The objective's terms, summed over the images.
        """
        batch = self.batch_of(n)
        self._prepare_objective(batch)
        if weights is not None:
            batch.weights *= weights.repeat(self.codes)
            batch.kl_weights *= weights
        self._run(self._record_loss, n)
        if weights is not None:
            return self._objective.weighted_terms(batch, weights)
        totals: list[float] = batch.totals.tolist()
        return totals

    def descend(self, n: int, cur_loss: float) -> None:
        """Run the backward pass after `loss` of n images, with an optimizer step of all layers that are not frozen.

        It leaves the contents of the layers' `gradients` unspecified. An error leaves parameters and optimizers
        unchanged.
        """
        if self._is_prepared:
            self._updates.prepare_next(cur_loss)
        else:
            trained = [layer for layer in reversed(self.layers) if layer.trainable]
            if self._updates.prepare(trained, cur_loss, self._norm_limit):
                self._programs = {k: v for k, v in self._programs.items() if k[0] != self._record_descent.__name__}
            self._is_prepared = True
        self._run(self._record_descent, n)
        self.clock.steps += 1

    def backward_into(self, n: int, updates: Updates) -> Program:
        """Return a recording of the backward pass after `loss` of n images, with what `updates` does with gradients."""
        program = Program()
        self._record_down(program, n, updates, None)
        return program

    # ------------------------------------------------------------------ by hand

    def forward(self, n: int, codes: int) -> Array:
        """Run the forward pass of n images with so many codes each; return each code's mean image in a new array.

        In training `codes` must be those of the objective, and the pass is that of `loss`. Otherwise there may be
        `batchsize` codes in all.
        """
        mean = np.empty((n * codes, self.images[0].size), self.images.dtype)
        self._run(self._record_forward, n, n * codes)
        run(self._likelihood.record_mean, mean, self._batch.outputs[: len(mean)])
        return mean

    def backward(self, images: Array) -> Array:
        """Run the backward pass of `descend` without the steps, after `forward` of as many images.

        It overwrites the layers' `gradients` and the outputs, so that another call needs another `forward` before it.

        Parameters
        ----------
        images : array, shape (n, rows, cols, channels)
            The images whose likelihood counts.

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
        """Repeat the last `forward` and return the gradient with respect to its outputs; `images` as in `backward`."""
        program, batch = Program(), self._target(images)
        self._record_forward(program, len(images), len(batch.z))
        self._objective.record_loss(program, batch, self._likelihood)
        execute(program)
        return batch.doutputs.copy()

    def code_gradient(self, dz: Array) -> Array:
        """Return the gradient with respect to the encoder's output, given that with respect to the codes."""
        batch = self._batch.head(len(dz) // self.codes, len(dz))
        batch.dz[:] = dz
        run(self._objective.record_code_gradient, batch)
        return batch.dcode.copy()

    def _target(self, images: Array) -> Batch:
        """Return the arrays of the batch with `images` in the place of the encoded images."""
        batch = self.batch_of(len(images))
        batch.images = images.reshape(len(images), -1)
        self._prepare_objective(batch)
        return batch

    def _prepare_objective(self, batch: Batch) -> None:
        """Have the objective write its weights for the next training step."""
        batch.step = self.clock.steps
        self._objective.prepare(batch)

    def batch_of(self, n: int) -> Batch:
        """Return the arrays between encoder and decoder of the first n images, valid until the next pass."""
        return self._batch.head(n, n * self.codes)

    # ---------------------------------------------------------------- recording

    def _run(self, record: Callable[..., None], *sizes: int, n_threads: int | None = None) -> None:
        """Run what `record` records for these sizes; a single image takes less time than waking idle threads."""
        key = record.__name__, *sizes
        program = self._programs.get(key)
        if program is None:
            if len(self._programs) == MAX_PROGRAMS:
                self._programs.clear()
            program = Program()
            record(program, *sizes)
            self._programs[key] = program
        execute(program, n_threads)

    def _record_encode(self, program: Program, n: int) -> None:
        self._encoder.record_forward(program, self.images[:n])

    def _record_outputs(self, program: Program, n: int) -> None:
        self._decoder.record_forward(program, self._batch.z[:n])

    def _record_decode(self, program: Program, n: int) -> None:
        self._record_outputs(program, n)
        self._likelihood.record_mean(program, self._means[:n], self._batch.outputs[:n])

    def _record_forward(self, program: Program, n: int, rows: int) -> None:
        self._record_encode(program, n)
        self._record_codes(program, self._batch.head(n, rows))

    def _record_codes(self, program: Program, batch: Batch) -> None:
        latent.sample(program, batch.z, batch.deviation, batch.mean, batch.log_var, batch.code, batch.noise)
        if self.labels.size:
            n, rows = len(batch.mean), len(batch.z)
            images = np.arange(rows, dtype=np.intp) // (rows // n)  # of the codes
            pixelwise.gather(program, self._row_labels[:rows], self.labels[:n], images)
        self._decoder.record_forward(program, batch.z)

    def _record_terms(self, program: Program, n: int) -> None:
        self._record_forward(program, n, n)
        batch = self._batch.head(n, n)
        self._likelihood.record_loss(program, batch.reconstruction, None, batch.outputs, batch.images, None)
        losses.gaussian_kl(program, batch.kl, None, None, batch.mean, batch.log_var, None)

    def _record_log_weights(self, program: Program, n: int, rows: int) -> None:
        batch = self._batch.head(n, rows)
        self._record_codes(program, batch)
        self._likelihood.record_loss(program, batch.reconstruction, None, batch.outputs, batch.images, None)

    def _record_loss(self, program: Program, n: int) -> None:
        self._record_forward(program, n, n * self.codes)
        self._objective.record_loss(program, self.batch_of(n), self._likelihood)

    def _record_descent(self, program: Program, n: int) -> None:
        if self._updates.norm_limit is None:
            self._record_down(program, n, self._updates, None)
        else:  # all gradients come first
            self._record_down(program, n, None, None)
            self._updates.record_all(program)

    def _record_down(self, program: Program, n: int, updates: Updates | None, image_grad: Array | None) -> None:
        batch = self.batch_of(n)
        self._decoder.record_backward(program, batch.z, dx=batch.dz, updates=updates)
        self._objective.record_code_gradient(program, batch)
        self._encoder.record_backward(program, self.images[:n], updates=updates, separate_dx=image_grad)
