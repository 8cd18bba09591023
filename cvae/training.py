"""The minibatch loop: epochs, validation, history, callbacks, and where training stands when it is interrupted."""

from __future__ import annotations

import contextlib
import copy
import difflib
import inspect
import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from cvae.by_hand import ByHand
from cvae.feeding import Feed, Labelled
from cvae.hints import of_callback
from cvae.interruption import Interrupt, deferred_interrupt
from cvae.parsable import Named
from cvae.position import COLUMNS, TIMES, Position, is_same_state
from cvae.progress import Progress
from cvae.random import make_rng
from cvae.runtime.threads import keep_threads, limit_threads
from cvae.sharding import ShardedSteps, Sharding
from cvae.steps import Steps
from cvae.team import together
from cvae.warning import warn

_SPIKE = 1000  # times the first loss: a loss that training does not usually recover from


class Callback(Named):
    """Base of the callbacks, which `fit` calls as training goes on; each method may be left out.

    Callbacks are called in their order. Arguments, layers, optimizers and the number of threads may be changed between
    epochs, but not within one. The model may be used, saved and copied at any time.

    Attributes
    ----------
    monitor : str or None
        A column of the history that the callback needs, such as "val_loss"; `fit` refuses to start without it.
    columns : tuple of str
        The names in the entries of the history, set by `fit` before `on_train_begin`. A callback may add columns of its
        own to the model's `history_`, appending a number at the end of each epoch.
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


METHODS = [name for name in vars(Callback) if name.startswith("on_")]
AnyCallback = Callback | Callable[[Any, int, dict[str, float]], Any]


class _Function(Callback):
    """A callable that is called after each epoch."""

    def __init__(self, function: Callable[[Any, int, dict[str, float]], Any]) -> None:
        self.on_epoch_end = function  # type: ignore[method-assign, assignment]


def as_callbacks(callbacks: Any) -> list[Callback]:
    """Return an iterable of callbacks, or None for none, as a list; raise TypeError if it is something else."""
    if callbacks is None:
        return []
    if isinstance(callbacks, Callback) or callable(callbacks):
        raise TypeError(
            f"callbacks must be a sequence of callables, got a single one, {callbacks!r}: pass it in a list"
        )
    called: list[Any] = [*callbacks] if isinstance(callbacks, Iterable) else [None]
    if not all(isinstance(each, Callback) or callable(each) for each in called):
        raise TypeError(f"callbacks must be a sequence of callables, got {callbacks!r}")
    for each in called:
        if isinstance(each, type):
            raise TypeError(f"callbacks must be instances such as {each.__name__}(), got the class {each.__name__}")
    found = [_as_callback(each) for each in called]
    for callback in found:
        _check_methods(callback)
    return found


def _as_callback(callback: AnyCallback) -> Callback:
    return callback if isinstance(callback, Callback) else _Function(callback)


def _check_methods(callback: Callback) -> None:
    """Raise TypeError unless each method of a callback can be called; warn of those that never are."""
    for method in filter(partial(_has_own, callback), METHODS):
        _check_takes(getattr(callback, method), method)
    for method in sorted(name for name in dir(callback) if name.startswith("on_") and name not in METHODS):
        meant = of_callback(method) or next(iter(difflib.get_close_matches(method, METHODS, 1, 0.8)), None)
        if meant is not None and callable(getattr(callback, method)):  # others may be a callback's own
            warn(f"fit does not call {method} of {type(callback).__name__}: it is {meant} here")


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
    feed: Feed,
    *,
    n_epochs: int,
    verbose: bool,
    validation: Labelled | None,
    callbacks: Sequence[AnyCallback],
    stepped: Callable[[], None],
    sharding: Sharding | None = None,
) -> None:
    """Train `model` on checked images for `n_epochs` epochs and append them to its `history_`.

    An epoch that was interrupted is finished first, and counts as one of them.

    Parameters
    ----------
    feed : InMemory or Streamed
        Gives the batches.
    stepped : callable
        Is called after each step, from the first of which on the model is another one.
    sharding : Sharding, optional
        How to take batches in parts. Of a team of processes, which all call this with the same arguments, the first one
        validates and calls back.

    Raises
    ------
    ValueError
        If a callback monitors what the history will not hold.
    FloatingPointError
        If a batch's loss is not finite; the parameters are those from before that batch.
    KeyboardInterrupt
        After Ctrl-C, once the current batch is finished.
    """
    called = [_as_callback(each) for each in callbacks]
    names = ["loss", *model._objective.terms, *TIMES]
    if validation is not None:
        names += ["val_loss", "val_reconstruction", "val_kl"]
    team = None if sharding is None else sharding.team
    with together(team):
        _check_monitors(called, names)
    if team is not None and not team.is_first:
        called, validation, verbose = [], None, False
    model.flush_gradients()
    first = len(model.history_.get("loss", ()))
    epochs, begun = range(first + 1, first + n_epochs + 1), []
    error: BaseException | None = None
    progress = Progress(None if feed.n is None else n_epochs * feed.n, verbose)
    try:
        n_threads = team.n_threads() if team is not None and model.n_threads is None else model.n_threads
        with limit_threads(n_threads), deferred_interrupt() as interrupt:
            training = _Training(model, feed, validation, called, progress, interrupt, stepped, sharding)
            with training.together():
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
        if model._position is not None:
            model._position.interrupted = True
        if team is not None and not team.has_agreed:
            team.abandon(caught)
        raise
    finally:
        progress.close()
        model.flush_gradients()
        with together(team if error is None else None), contextlib.ExitStack() as ends:
            for callback in reversed(begun):  # what is put in last comes out first
                ends.callback(callback.on_train_end, model, error)
    training.share_changes()


def _check_monitors(callbacks: Sequence[Callback], names: Sequence[str]) -> None:
    for callback in callbacks:
        if callback.monitor is not None and callback.monitor not in names:
            hint = "" if "val_loss" in names else "; validation_data or validation_fraction adds val_loss"
            raise ValueError(f"monitor must be one of {', '.join(names)}, got {callback.monitor!r}{hint}")


class _Training:
    """A call of `fit`: what its epochs share.

    Parameters
    ----------
    model : VAE
    feed : InMemory or Streamed
    validation : (images, labels) or None
    callbacks : sequence of Callback
    progress : Progress
    interrupt : Interrupt
    stepped : callable
        Is called after each step.
    sharding : Sharding or None
    """

    def __init__(
        self,
        model: ByHand,
        feed: Feed,
        validation: Labelled | None,
        callbacks: Sequence[Callback],
        progress: Progress,
        interrupt: Interrupt,
        stepped: Callable[[], None],
        sharding: Sharding | None,
    ) -> None:
        self._model, self._feed = model, feed
        self._validation, self._callbacks = validation, callbacks
        self._progress, self._interrupt, self._stepped = progress, interrupt, stepped
        self._sharding, self._team = sharding, None if sharding is None else sharding.team
        self._fingerprint = feed.fingerprint()
        self._shards = [] if sharding is None else [sharding.n_shards, sharding.accumulate]
        self._is_watched = bool(callbacks) if self._team is None else self._team.share(bool(callbacks))
        self._is_shared = False  # whether all processes have the first one's model
        self._scale: float | None = None  # of losses: the first one, or that of a nat for each pixel if that is larger
        # Most callbacks leave these methods as they are, and a batch of a small model takes little time.
        self._batch_begin = [each.on_batch_begin for each in callbacks if _has_own(each, "on_batch_begin")]
        self._batch_end = [each.on_batch_end for each in callbacks if _has_own(each, "on_batch_end")]

    def epoch(self, epoch: int, last: int) -> bool:
        """Train for an epoch, append it to the history, and return whether a callback ends the training."""
        model, label = self._model, f"epoch {epoch}/{last}"
        with self.together():
            for callback in self._callbacks:
                callback.on_epoch_begin(model, epoch)
            model._sync_training()  # a callback may have assigned arguments
            model._clock.begin_epoch(epoch, model._objective.beta)
        self.share_changes()
        position, has_order = self._position(last)
        try:
            entry = self._pass(position, has_order, label)
            with self.together():
                _check_parameters(model, label)
        except BaseException:
            # What was interrupted between two batches can go on from there.
            position.generator = model._rng.bit_generator.state
            raise
        for name in {**dict.fromkeys(COLUMNS & model.history_.keys()), **entry}:
            # Epochs without validation data count as NaN.
            column = model.history_.setdefault(name, [])
            column += [math.nan] * (epoch - 1 - len(column))
            column.append(entry.get(name, math.nan))
        if self._is_watched:
            model.flush_gradients()  # training leaves their contents unspecified
        state = model._rng.bit_generator.state
        where = Position(state, self._fingerprint, last, shards=self._shards, generator=state)
        model._position = where if epoch < last else None
        with self.together():
            answers = [callback.on_epoch_end(model, epoch, dict(entry)) for callback in self._callbacks]
            if answers:
                model._warn_of_unused()  # as `fit` does of what was assigned before it
            self._interrupt.check()
        ends = any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers)
        return ends if self._team is None else bool(self._team.share(ends))

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Return a block that fails in all processes of the team if it fails in one."""
        return together(self._team)

    def share_changes(self) -> None:
        """Give all processes the model of the first one, which callbacks may have changed."""
        if self._team is not None and (self._is_watched or not self._is_shared):
            self._team.share_model(self._model)
            self._is_shared = True

    def _position(self, last: int) -> tuple[Position, bool]:
        """Return where the epoch begins, and whether the order of its images was drawn before it was interrupted."""
        model, saved = self._model, self._model._position
        if saved is not None and saved.goes_on(
            model._rng, self._fingerprint, self._shards, len(model._objective.terms)
        ):
            has_order = not is_same_state(saved.order, saved.generator)
            saved.until, model._position = last, saved
            return saved, has_order
        model._position = Position(model._rng.bit_generator.state, self._fingerprint, last, shards=self._shards)
        return model._position, False

    def _pass(self, position: Position, has_order: bool, label: str) -> dict[str, float]:
        """Pass over the images, or those that are left of them, and return the epoch's entry of the history."""
        model, feed, start = self._model, self._feed, time.perf_counter()
        steps = self._steps()
        rng = model._rng
        if has_order:
            rng = copy.deepcopy(rng)
            rng.bit_generator.state = position.order
        batches, before = feed.batches(rng, position.batches)
        position.sums = position.sums or [0.0] * len(model._objective.terms)
        seen = before
        self._progress.begin_epoch(label, seen)
        with keep_threads() as threads, contextlib.closing(batches):
            while True:
                threads.renew()
                number = position.batches + 1
                with self.together():
                    batch = next(batches, None)
                    if batch is not None:
                        for begin in self._batch_begin:
                            begin(model, number)
                if batch is None:
                    break
                indices, is_last = batch
                model._position = None  # within a batch there is none
                if steps.images is not feed.images:
                    steps = self._steps()
                terms = steps.take(indices)
                with self.together():
                    if terms is None:
                        raise self._diverged(steps.loss, label, number)
                    seen += len(indices)
                    self._count(position, terms, steps.loss, len(indices), seen)
                    for end in self._batch_end:
                        end(model, number, steps.loss)
                    if not is_last:
                        self._interrupt.check()
        if not seen:
            hint = "pass a function that returns a new iterator at each call"
            with self.together():
                raise ValueError(f"X must give images at each iteration, got none in {label}: {hint}")
        entry = self._entry(position.sums, seen, seen - before, time.perf_counter() - start)
        with self.together():
            self._check_spike(entry["loss"], label)
            if self._validation is not None:
                entry |= self._validate(label)
        if self._team is not None:
            entry = self._team.share(entry)
        self._progress.end_epoch(entry)
        return entry

    def _count(self, position: Position, terms: Sequence[float], loss: float, n: int, seen: int) -> None:
        """Take note of a step with a batch of n images, after which so many of the epoch have been seen."""
        model = self._model
        self._stepped()
        position.sums = [total + term for total, term in zip(position.sums, terms, strict=True)]
        position.batches += 1
        model._position = position
        self._progress.update(n, model._objective.loss(position.sums) / seen)
        if self._scale is None:
            self._scale = max(abs(loss), math.prod(self._feed.images.shape[1:]))
        if self._batch_end:
            position.generator = model._rng.bit_generator.state

    def _entry(self, sums: Sequence[float], seen: int, n: int, seconds: float) -> dict[str, float]:
        """Return the entry of an epoch with so many images, n of which took so many seconds."""
        objective, means = self._model._objective, [total / seen for total in sums]
        return {
            "loss": objective.loss(means),
            **dict(zip(objective.terms, means, strict=True)),
            "seconds": seconds,
            "images_per_second": n / seconds,
        }

    def _steps(self) -> Steps | ShardedSteps:
        """Return the steps of an epoch."""
        model, sharding = self._model, self._sharding
        if sharding is None:
            return Steps(model, self._feed, self._feed.largest)
        steps = Steps(model, self._feed, sharding.largest_part(self._feed.largest))
        layers = [layer for layer in reversed(model._layers().values()) if layer.trainable]
        return ShardedSteps(steps, sharding, layers, model._parts())

    def _diverged(self, loss: float, label: str, number: int) -> FloatingPointError:
        """Return the error of a batch whose loss is not finite."""
        of_all = "" if self._feed.n_batches is None else f"/{self._feed.n_batches}"
        advice = "a smaller learning rate or global_clip_norm may help"
        if self._model._clock.steps == 0 and not self._model.history_:
            advice = "before the first step: are pixels, labels or starting weights far larger than 1?"
        return FloatingPointError(
            f"the loss became {loss} in {label}, batch {number}{of_all}; training has stopped, with the parameters "
            f"from before that batch ({advice})"
        )

    def _check_spike(self, loss: float, where: str) -> None:
        """Warn, once, of an epoch with losses far above the first one, from which training may not recover."""
        if self._scale is not None and loss > _SPIKE * self._scale:
            self._scale = math.inf
            warn(
                f"the mean loss rose to {loss:.3g} in {where}; a smaller learning rate or global_clip_norm may help",
                RuntimeWarning,
            )

    def _validate(self, label: str) -> dict[str, float]:
        """Return the validation entries of the history, always computed with the same noise."""
        assert self._validation is not None
        model, (images, labels) = self._model, self._validation
        with self._interrupt.at_once(), np.errstate(all="ignore"):
            reconstruction, kl = (float(term.mean()) for term in model._elbo_terms(images, labels, make_rng(0)))
        loss = model._objective.validation_loss(reconstruction, kl)
        if not math.isfinite(loss):
            warn(
                f"val_loss is {loss} in {label}, from a reconstruction of {reconstruction} and a KL divergence of {kl}",
                RuntimeWarning,
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
