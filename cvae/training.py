"""The minibatch loop: epochs, progress, validation, history, callbacks, interruption."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import numpy as np

from cvae._kernels.program import Program
from cvae.by_hand import ByHand
from cvae.conditions import LabelGatherer, Labels
from cvae.core import Array
from cvae.data.gathering import Gatherer
from cvae.data.minibatches import minibatch
from cvae.random import make_rng, standard_normal
from cvae.runtime.threads import get_num_threads, limit_threads

Callback = Callable[[Any, int, dict[str, float]], Any]
Labelled = tuple[Array, Labels | None]  # checked images, and their labels in a conditional model


class Interrupt:
    """Set when Ctrl-C was pressed while `deferred_interrupt` was in force."""

    pressed = False


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Let the first Ctrl-C within the block set a flag, so that the current batch is finished; the second interrupts.

    Nothing changes outside the main thread, which alone receives signals, or if the program handles Ctrl-C itself.
    """
    interrupt, before = Interrupt(), signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or before is not signal.default_int_handler:
        yield interrupt
        return

    def handler(number: int, frame: FrameType | None) -> None:
        if interrupt.pressed:
            signal.default_int_handler(number, frame)
        interrupt.pressed = True

    signal.signal(signal.SIGINT, handler)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


def train(
    model: ByHand,
    images: Array,
    labels: Labels | None,
    *,
    n_epochs: int,
    batchsize: int,
    verbose: bool,
    validation: Labelled | None,
    callbacks: Sequence[Callback],
) -> None:
    """Train `model` on checked images for `n_epochs` epochs and append them to its `history_`.

    Raises
    ------
    FloatingPointError
        If a batch's loss is not finite; the parameters are those from before that batch.
    KeyboardInterrupt
        After Ctrl-C, once the current batch is finished.
    """
    model.flush_gradients()
    first = len(model.history_.get("loss", ()))
    try:
        with limit_threads(model.n_threads), deferred_interrupt() as interrupt:
            for epoch in range(first + 1, first + n_epochs + 1):
                label = f"epoch {epoch}/{first + n_epochs}"
                entry = _epoch(model, (images, labels), batchsize, label, verbose, validation, interrupt)
                _check_parameters(model, label)
                for name in {**model.history_, **entry}:
                    # Epochs without validation data count as NaN.
                    column = model.history_.setdefault(name, [math.nan] * (epoch - 1))
                    column.append(entry.get(name, math.nan))
                model.flush_gradients()  # training leaves their contents unspecified
                answers = [callback(model, epoch, dict(entry)) for callback in callbacks]
                if interrupt.pressed:
                    raise KeyboardInterrupt
                if any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers):
                    break
    finally:
        model.flush_gradients()


def _check_parameters(model: ByHand, label: str) -> None:
    """Raise FloatingPointError if a parameter overflowed in the last step of an epoch."""
    for path, layer in model._layers().items():
        for name, value in layer.parameters.items():
            if value is not None and not np.isfinite(value).all():
                raise FloatingPointError(f"{path}/{name} is no longer finite after {label}; the rate may be too large")


def _epoch(
    model: ByHand,
    data: Labelled,
    batchsize: int,
    label: str,
    verbose: bool,
    validation: Labelled | None,
    interrupt: Interrupt,
) -> dict[str, float]:
    """Make one pass over the images and return the epoch's entry of the history."""
    from tqdm import tqdm  # not at the top: it takes half as long as `import cvae`, and only training needs it

    model._sync()  # a callback may have assigned arguments
    images, labels = data
    steps = _Steps(model, images, labels, min(batchsize, len(images)))
    objective = steps.objective
    start = time.perf_counter()
    sums, seen = [0.0] * len(objective.terms), 0  # over the images
    batches, n_batches = minibatch(images, batchsize, rng=model._rng)
    with (
        limit_threads(get_num_threads()),
        tqdm(total=len(images), desc=label, unit=" images", disable=not verbose) as bar,
    ):
        for number, indices in enumerate(batches, 1):
            terms = steps.take(indices)
            if terms is None:
                raise FloatingPointError(
                    f"the loss became {steps.loss} in {label}, batch {number}/{n_batches}; training has stopped, with "
                    "the parameters from before that batch (a smaller learning rate or clip_norm may help)"
                )
            sums, seen = [total + term for total, term in zip(sums, terms, strict=True)], seen + len(indices)
            if verbose:
                bar.set_postfix_str(f"loss {objective.loss(sums) / seen:.2f}", refresh=False)
                bar.update(len(indices))
            if interrupt.pressed and number < n_batches:
                raise KeyboardInterrupt
        seconds = time.perf_counter() - start
        means = [total / seen for total in sums]
        entry = {
            "loss": objective.loss(means),
            **dict(zip(objective.terms, means, strict=True)),
            "seconds": seconds,
            "images_per_second": len(images) / seconds,
        }
        if validation is not None:
            entry |= _validate(model, *validation)
            bar.set_postfix_str(f"loss {entry['loss']:.2f}, val_loss {entry['val_loss']:.2f}")
    return entry


class _Steps:
    """The training steps of an epoch, within which layers, optimizers and the number of threads do not change.

    Parameters
    ----------
    model : VAE
    images : array
        Checked images.
    labels : Labels or None
    batchsize : int
        Number of images in the largest batch.
    """

    loss = 0.0  # per image, of the last batch

    def __init__(self, model: ByHand, images: Array, labels: Labels | None, batchsize: int) -> None:
        self.objective = model._objective
        self._rng = model._rng
        self._passes = model._passes(batchsize, training=True)
        self._passes.begin_epoch()
        self._binarization, self._key = model._binarization, np.zeros(1, np.uint64)
        self._gatherers: list[Gatherer | LabelGatherer] = [
            Gatherer(images, self._passes.images, model._mapping, self._record_binarization)
        ]
        if labels is not None:
            self._gatherers.append(LabelGatherer(labels, self._passes.labels))
        # Far below the largest number, since gradients are products and overflow before the loss does.
        self._limit = math.sqrt(np.finfo(model.dtype).max)

    def take(self, indices: Array) -> list[float] | None:
        """Take a step and return the objective's terms before it, summed over the batch.

        Return None without a step if the loss is not finite.
        """
        n, passes = len(indices), self._passes
        rows = n * passes.codes
        self._key[0] = self._binarization.new_key(self._rng)
        for gatherer in self._gatherers:
            gatherer.load(indices)
        passes.noise[:rows] = standard_normal(self._rng, (rows, passes.T), passes.noise.dtype)
        terms = passes.loss(n)
        self.loss = self.objective.loss(terms) / n
        if not self.loss < self._limit:
            return None
        passes.descend(n, self.loss)
        return terms

    def _record_binarization(self, program: Program, images: Array) -> None:
        self._binarization.record(program, images, self._key, training=True)


def _validate(model: ByHand, images: Array, labels: Labels | None) -> dict[str, float]:
    """Return the validation entries of the history, always computed with the same noise."""
    reconstruction, kl = (float(term.mean()) for term in model._elbo_terms(images, labels, make_rng(0)))
    loss = model._objective.validation_loss(reconstruction, kl)
    return {"val_loss": loss, "val_reconstruction": reconstruction, "val_kl": kl}
