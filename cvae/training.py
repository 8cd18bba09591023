"""The minibatch loop: epochs, validation, history, callbacks, and where training stands when it is interrupted."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from cvae._kernels.program import Program
from cvae.by_hand import ByHand
from cvae.conditions import LabelGatherer, Labels
from cvae.core import Array
from cvae.data.gathering import Gatherer
from cvae.data.minibatches import minibatch
from cvae.interruption import Interrupt, deferred_interrupt
from cvae.position import TIMES, Position, checksum, is_same_state
from cvae.progress import Progress
from cvae.random import make_rng, standard_normal
from cvae.runtime.threads import get_num_threads, limit_threads

Labelled = tuple[Array, Labels | None]  # checked images, and their labels in a conditional model
_SPIKE = 1000  # times the first loss: a loss that training does not usually recover from


class Callback:
    """Base of the callbacks, which `fit` calls as training goes on; each method may be left out.

    Callbacks are called in their order. Arguments, layers, optimizers and the number of threads may be changed between
    epochs, but not within one. The model may be used, saved and copied at any time.

    Attributes
    ----------
    monitor : str or None
        A column of the history that the callback needs, such as "val_loss"; `fit` refuses to start without it.
    columns : tuple of str
        The names in the entries of the history, set by `fit` before `on_train_begin`.
    """

    monitor: str | None = None
    columns: tuple[str, ...] = ()

    def on_train_begin(self, vae: Any) -> None:
        """Begin a call of `fit`; the model has parameters. An exception here keeps `fit` from starting."""

    def on_epoch_begin(self, vae: Any, epoch: int) -> None:
        """Begin an epoch, counted from 1 in the whole history."""

    def on_batch_begin(self, vae: Any, batch: int) -> None:
        """Begin a batch, counted from 1 in its epoch."""

    def on_batch_end(self, vae: Any, batch: int, loss: float) -> None:
        """End a batch, whose loss is in nats per image, from before its step."""

    def on_epoch_end(self, vae: Any, epoch: int, entry: dict[str, float]) -> Any:
        """End an epoch with its entry of the history; True ends the training."""

    def on_train_end(self, vae: Any, error: BaseException | None) -> None:
        """End a call of `fit`; `error` is what ended it, if anything did, such as KeyboardInterrupt."""


_METHODS = [name for name in vars(Callback) if name.startswith("on_")]
AnyCallback = Callback | Callable[[Any, int, dict[str, float]], Any]


class _Function(Callback):
    """A callable that is called after each epoch."""

    def __init__(self, function: Callable[[Any, int, dict[str, float]], Any]) -> None:
        self.on_epoch_end = function  # type: ignore[method-assign, assignment]


def check_callbacks(callbacks: Any) -> None:
    """Raise TypeError unless these are a sequence of callbacks."""
    if isinstance(callbacks, Callback) or callable(callbacks):
        raise TypeError(
            f"callbacks must be a sequence of callables, got a single one, {callbacks!r}: pass it in a list"
        )
    if not isinstance(callbacks, Sequence) or not all(isinstance(c, Callback) or callable(c) for c in callbacks):
        raise TypeError(f"callbacks must be a sequence of callables, got {callbacks!r}")
    for each in callbacks:
        if isinstance(each, type):
            raise TypeError(f"callbacks must be instances such as {each.__name__}(), got the class {each.__name__}")
        called = each if isinstance(each, Callback) else _Function(each)
        for method in filter(partial(_has_own, called), _METHODS):
            _check_takes(getattr(called, method), method)


def _check_takes(function: Callable[..., Any], method: str) -> None:
    """Raise TypeError unless a function can be called as a callback's method is, before anything is trained."""
    names = list(inspect.signature(getattr(Callback, method)).parameters)[1:]
    try:
        inspect.signature(function).bind(*names)
    except ValueError:  # of a compiled function, which has no signature
        return
    except TypeError as error:
        raise TypeError(
            f"{method} of a callback is called with {', '.join(names)}, but {function!r}: {error}"
        ) from None


def train(
    model: ByHand,
    images: Array,
    labels: Labels | None,
    weights: Array | None,
    *,
    rows: Array | None = None,
    n_epochs: int,
    batchsize: int,
    verbose: bool,
    validation: Labelled | None,
    callbacks: Sequence[AnyCallback],
    stepped: Callable[[], None],
) -> None:
    """Train `model` on checked images for `n_epochs` epochs and append them to its `history_`.

    An epoch that was interrupted is finished first, and counts as one of them.

    Parameters
    ----------
    weights : array, shape (n,), or None
        Of the images in the loss, with a mean of 1 over those that are trained on.
    rows : array of int, optional
        Which of the images to train on; None means all.
    stepped : callable
        Is called after each step, from the first of which on the model is another one.

    Raises
    ------
    ValueError
        If a callback monitors what the history will not hold.
    FloatingPointError
        If a batch's loss is not finite; the parameters are those from before that batch.
    KeyboardInterrupt
        After Ctrl-C, once the current batch is finished.
    """
    called = [each if isinstance(each, Callback) else _Function(each) for each in callbacks]
    names = ["loss", *model._objective.terms, *TIMES]
    if validation is not None:
        names += ["val_loss", "val_reconstruction", "val_kl"]
    for callback in called:
        if callback.monitor is not None and callback.monitor not in names:
            hint = "" if validation is not None else "; validation_data or validation_fraction adds val_loss"
            raise ValueError(f"monitor must be one of {', '.join(names)}, got {callback.monitor!r}{hint}")
    model.flush_gradients()
    first = len(model.history_.get("loss", ()))
    epochs, begun = range(first + 1, first + n_epochs + 1), []
    error: BaseException | None = None
    rows = np.arange(len(images)) if rows is None else rows
    progress = Progress(n_epochs * len(rows), verbose)
    try:
        with limit_threads(model.n_threads), deferred_interrupt() as interrupt:
            training = _Training(
                model, (images, labels), weights, rows, batchsize, validation, called, progress, interrupt, stepped
            )
            for callback in called:
                callback.columns = tuple(names)
                begun.append(callback)
                callback.on_train_begin(model)
            for epoch in epochs:
                if training.epoch(epoch, epochs[-1]):
                    break
            model._position = None
    except BaseException as caught:
        error = caught
        raise
    finally:
        progress.close()
        model.flush_gradients()
        for callback in begun:
            callback.on_train_end(model, error)


class _Training:
    """A call of `fit`: what its epochs share.

    Parameters
    ----------
    model : VAE
    data : (images, labels)
    weights : array, shape (n,), or None
        Of the images in the loss.
    rows : array of int
        Of the images to train on.
    batchsize : int
    validation : (images, labels) or None
    callbacks : sequence of Callback
    progress : Progress
    interrupt : Interrupt
    stepped : callable
        Is called after each step.
    """

    def __init__(
        self,
        model: ByHand,
        data: Labelled,
        weights: Array | None,
        rows: Array,
        batchsize: int,
        validation: Labelled | None,
        callbacks: Sequence[Callback],
        progress: Progress,
        interrupt: Interrupt,
        stepped: Callable[[], None],
    ) -> None:
        self._model, self._data, self._weights = model, data, weights
        self._rows, self._batchsize = rows, batchsize
        self._validation, self._callbacks = validation, callbacks
        self._progress, self._interrupt, self._stepped = progress, interrupt, stepped
        self._fingerprint = [len(rows), batchsize, checksum(data[0], rows)]
        self._scale: float | None = None  # of losses: the first one, or that of a nat for each pixel if that is larger
        # Most callbacks leave these methods as they are, and a batch of a small model takes little time.
        self._batch_begin = [each.on_batch_begin for each in callbacks if _has_own(each, "on_batch_begin")]
        self._batch_end = [each.on_batch_end for each in callbacks if _has_own(each, "on_batch_end")]

    def epoch(self, epoch: int, last: int) -> bool:
        """Train for an epoch, append it to the history, and return whether a callback ends the training."""
        model, label = self._model, f"epoch {epoch}/{last}"
        for callback in self._callbacks:
            callback.on_epoch_begin(model, epoch)
        model._sync()  # a callback may have assigned arguments
        position, has_order = self._position(last)
        try:
            entry = self._pass(position, has_order, label)
            _check_parameters(model, label)
        except BaseException:
            # What was interrupted between two batches can go on from there.
            position.generator = model._rng.bit_generator.state
            raise
        for name in {**model.history_, **entry}:
            # Epochs without validation data count as NaN.
            column = model.history_.setdefault(name, [math.nan] * (epoch - 1))
            column.append(entry.get(name, math.nan))
        model.flush_gradients()  # training leaves their contents unspecified
        state = model._rng.bit_generator.state
        model._position = Position(state, self._fingerprint, last, generator=state) if epoch < last else None
        answers = [callback.on_epoch_end(model, epoch, dict(entry)) for callback in self._callbacks]
        self._interrupt.check()
        return any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers)

    def _position(self, last: int) -> tuple[Position, bool]:
        """Return where the epoch begins, and whether the order of its images was drawn before it was interrupted."""
        model, saved = self._model, self._model._position
        if saved is not None and saved.goes_on(model._rng, self._fingerprint, len(model._objective.terms)):
            has_order = not is_same_state(saved.order, saved.generator)
            saved.until, model._position = last, saved
            return saved, has_order
        model._position = Position(model._rng.bit_generator.state, self._fingerprint, last)
        return model._position, False

    def _pass(self, position: Position, has_order: bool, label: str) -> dict[str, float]:
        """Pass over the images, or those that are left of them, and return the epoch's entry of the history."""
        model, rows = self._model, self._rows
        steps = _Steps(model, *self._data, self._weights, min(self._batchsize, len(rows)))
        objective, start = steps.objective, time.perf_counter()
        rng = model._rng
        if has_order:
            rng = copy.deepcopy(rng)
            rng.bit_generator.state = position.order
        batches, n_batches = minibatch(rows, self._batchsize, rng=rng)
        position.sums = position.sums or [0.0] * len(objective.terms)
        before = seen = min(position.batches * self._batchsize, len(rows))
        self._progress.begin_epoch(label, seen)
        with limit_threads(get_num_threads()):
            for indices in itertools.islice(batches, position.batches, None):
                number = position.batches + 1
                for begin in self._batch_begin:
                    begin(model, number)
                model._position = None  # within a batch there is none
                terms = steps.take(rows[indices])
                if terms is None:
                    raise FloatingPointError(
                        f"the loss became {steps.loss} in {label}, batch {number}/{n_batches}; training has stopped, "
                        "with the parameters from before that batch (a smaller learning rate or global_clip_norm may "
                        "help)"
                    )
                self._stepped()
                sums = [total + term for total, term in zip(position.sums, terms, strict=True)]
                position.sums, position.batches = sums, number
                model._position = position
                seen += len(indices)
                self._progress.update(len(indices), objective.loss(sums) / seen)
                if self._scale is None:
                    self._scale = max(abs(steps.loss), math.prod(self._data[0].shape[1:]))
                if self._batch_end:
                    position.generator = model._rng.bit_generator.state
                    for end in self._batch_end:
                        end(model, number, steps.loss)
                if number < n_batches:
                    self._interrupt.check()
        seconds = time.perf_counter() - start
        means = [total / seen for total in position.sums]
        entry = {
            "loss": objective.loss(means),
            **dict(zip(objective.terms, means, strict=True)),
            "seconds": seconds,
            "images_per_second": (seen - before) / seconds,
        }
        self._check_spike(entry["loss"], label)
        if self._validation is not None:
            entry |= self._validate(label)
        self._progress.end_epoch(entry)
        return entry

    def _check_spike(self, loss: float, where: str) -> None:
        """Warn, once, of an epoch with losses far above the first one, from which training may not recover."""
        if self._scale is not None and loss > _SPIKE * self._scale:
            self._scale = math.inf
            warnings.warn(
                f"the mean loss rose to {loss:.3g} in {where}; a smaller learning rate or global_clip_norm may help",
                RuntimeWarning,
                stacklevel=2,
            )

    def _validate(self, label: str) -> dict[str, float]:
        """Return the validation entries of the history, always computed with the same noise."""
        assert self._validation is not None
        model, (images, labels) = self._model, self._validation
        with self._interrupt.at_once(), np.errstate(all="ignore"):
            reconstruction, kl = (float(term.mean()) for term in model._elbo_terms(images, labels, make_rng(0)))
        loss = model._objective.validation_loss(reconstruction, kl)
        if not math.isfinite(loss):
            warnings.warn(
                f"val_loss is {loss} in {label}, from a reconstruction of {reconstruction} and a KL divergence of {kl}",
                RuntimeWarning,
                stacklevel=2,
            )
        return {"val_loss": loss, "val_reconstruction": reconstruction, "val_kl": kl}


def _has_own(callback: Callback, method: str) -> bool:
    return method in vars(callback) or getattr(type(callback), method) is not getattr(Callback, method)


def _check_parameters(model: ByHand, label: str) -> None:
    """Raise FloatingPointError if a parameter overflowed in the last step of an epoch."""
    for path, layer in model._layers().items():
        if name := layer.diverged_parameter():
            model._position = None
            raise FloatingPointError(f"{path}/{name} is no longer finite after {label}; the rate may be too large")


class _Steps:
    """The training steps of an epoch, within which layers, optimizers and the number of threads do not change.

    Parameters
    ----------
    model : VAE
    images : array
        Checked images.
    labels : Labels or None
    weights : array, shape (n,), or None
        Of the images in the loss, their mean being 1.
    batchsize : int
        Number of images in the largest batch.
    """

    loss = 0.0  # per image, of the last batch

    def __init__(
        self, model: ByHand, images: Array, labels: Labels | None, weights: Array | None, batchsize: int
    ) -> None:
        self.objective, self._weights = model._objective, weights
        self._rng = model._rng
        self._passes = model._passes(batchsize, training=True)
        self._passes.begin_epoch(model.global_clip_norm)
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
        terms = passes.loss(n, None if self._weights is None else self._weights[indices])
        self.loss = self.objective.loss(terms) / n
        if not self.loss < self._limit:
            return None
        passes.descend(n, self.loss)
        return terms

    def _record_binarization(self, program: Program, images: Array) -> None:
        self._binarization.record(program, images, self._key, training=True)
