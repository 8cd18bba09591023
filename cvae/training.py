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

from cvae.data.images import Gatherer
from cvae.data.minibatches import minibatch
from cvae.inference import Inference
from cvae.model import Array
from cvae.random import make_rng, standard_normal
from cvae.runtime.threads import get_num_threads, limit_threads

Callback = Callable[[Any, int, dict[str, float]], Any]


class Interrupt:
    """Set when Ctrl-C was pressed while `deferred_interrupt` was in force."""

    pressed = False


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Within the block the first Ctrl-C only sets a flag, so that a batch is finished; the second interrupts at once.

    Python delivers signals to the main thread alone; elsewhere nothing is changed.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # the program wants Ctrl-C to do something else
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
    model: Inference,
    images: Array,
    *,
    n_epochs: int,
    batchsize: int,
    verbose: bool,
    validation: Array | None,
    callbacks: Sequence[Callback],
) -> None:
    """Train `model` on checked images for `n_epochs` epochs, appending to its `history_`.

    Raises
    ------
    FloatingPointError
        If a batch's loss is not finite; the parameters are those from before that batch.
    KeyboardInterrupt
        After Ctrl-C, when the batch that was under way is finished.
    """
    for layer in model._layers().values():
        layer.flush_gradients()
    first = len(model.history_.get("loss", ()))
    try:
        with limit_threads(model.n_threads), deferred_interrupt() as interrupt:
            for epoch in range(first + 1, first + n_epochs + 1):
                label = f"epoch {epoch}/{first + n_epochs}"
                entry = _epoch(model, images, batchsize, label, verbose, validation, interrupt)
                _check_parameters(model, label)
                for name, value in entry.items():
                    # An earlier run may have had no validation: its epochs then count as NaN.
                    column = model.history_.setdefault(name, [math.nan] * (epoch - 1))
                    column.append(value)
                for name, column in model.history_.items():
                    if name not in entry:
                        column.append(math.nan)
                answers = [callback(model, epoch, dict(entry)) for callback in callbacks]
                if interrupt.pressed:
                    raise KeyboardInterrupt
                if any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers):
                    break
    finally:
        for layer in model._layers().values():
            layer.flush_gradients()


def _check_parameters(model: Inference, label: str) -> None:
    """FloatingPointError if the last step of an epoch went beyond what the numbers can hold."""
    for path, layer in model._layers().items():
        for name, value in layer.parameters.items():
            if value is not None and not np.isfinite(value).all():
                raise FloatingPointError(f"{path}/{name} is no longer finite after {label}; the rate may be too large")


def _epoch(
    model: Inference,
    images: Array,
    batchsize: int,
    label: str,
    verbose: bool,
    validation: Array | None,
    interrupt: Interrupt,
) -> dict[str, float]:
    """One pass over the images; returns the epoch's entry of the history."""
    from tqdm import tqdm  # here, for it takes half as long as `import cvae`, and only training needs it

    steps = _Steps(model, images, min(batchsize, len(images)))
    start = time.perf_counter()
    reconstruction = kl = 0.0  # summed over the images
    seen = 0
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
            reconstruction, kl, seen = reconstruction + terms[0], kl + terms[1], seen + len(indices)
            if verbose:
                bar.set_postfix_str(f"loss {(reconstruction + steps.beta * kl) / seen:.2f}", refresh=False)
                bar.update(len(indices))
            if interrupt.pressed and number < n_batches:
                raise KeyboardInterrupt
        seconds = time.perf_counter() - start
        reconstruction, kl = reconstruction / seen, kl / seen
        entry = {
            "loss": reconstruction + steps.beta * kl,
            "reconstruction": reconstruction,
            "kl": kl,
            "seconds": seconds,
            "images_per_second": len(images) / seconds,
        }
        if validation is not None:
            entry |= _validate(model, validation)
            bar.set_postfix_str(f"loss {entry['loss']:.2f}, val_loss {entry['val_loss']:.2f}")
    return entry


class _Steps:
    """The training steps of an epoch, in which layers, optimizers and number of threads stay as they are.

    Parameters
    ----------
    model : Inference
    images : array
        Checked images.
    batchsize : int
        Images of the largest batch.
    """

    loss = 0.0  # of an image of the last batch

    def __init__(self, model: Inference, images: Array, batchsize: int) -> None:
        self.beta = float(model.beta)
        self._rng = model._rng
        self._plan = model._plan(batchsize, training=True)
        self._plan.begin_epoch()
        self._gatherer = Gatherer(images, self._plan.images)
        # Far below the largest number, for gradients are products and overflow before the loss does.
        self._limit = math.sqrt(np.finfo(model.dtype).max)

    def take(self, indices: Array) -> tuple[float, float] | None:
        """Take a step; returns the batch's sums of reconstruction and KL divergence, before the step.

        None, without a step, if the loss is not finite.
        """
        n, plan = len(indices), self._plan
        self._gatherer.load(indices)
        plan.noise[:n] = standard_normal(self._rng, (n, plan.T), plan.noise.dtype)
        reconstruction, kl = plan.training_loss(n, self.beta)
        self.loss = (reconstruction + self.beta * kl) / n
        if not self.loss < self._limit:
            return None
        plan.descend(n, self.loss)
        return reconstruction, kl


def _validate(model: Inference, images: Array) -> dict[str, float]:
    """The loss of images that are not trained on, always with the same noise."""
    reconstruction, kl = (float(term.mean()) for term in model._elbo_terms(images, make_rng(0)))
    return {"val_loss": reconstruction + model.beta * kl, "val_reconstruction": reconstruction, "val_kl": kl}
