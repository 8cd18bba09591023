"""The callback that saves a model while it is trained."""

from __future__ import annotations

import math
import os
import time
from typing import Any

from cvae.checking import check_bool, check_number, check_size
from cvae.io.checkpoint import check_can_be_saved
from cvae.io.files import as_path, check_writable
from cvae.monitoring import best_of_history, changes_with_beta, entry_of, is_warming_up
from cvae.training import Callback


class ModelCheckpoint(Callback):
    """Save the model after each epoch, or after the best ones, and within epochs.

    A model that was saved within an epoch, loaded and trained with the same images and batch size finishes the epoch
    first, and has the bits of a training that was not interrupted.

    Parameters
    ----------
    path : str or path
        The file, which is replaced each time, or a pattern such as "model-{epoch:03d}.safetensors" for several, with
        the names of the history's columns, which are nan within an epoch.
    monitor : str
        A column of the history, for `save_best_only`.
    save_best_only : bool
        Whether to save only when `monitor` is smaller than ever, in the history with the model's objective if the best
        epoch's file exists. While a schedule changes beta, losses are compared with one another alone, and the first
        epoch after it counts as better.
    every_batches : int, optional
        Save also after so many batches since the last time.
    every_minutes : float, optional
        Save also after the batch in which so many minutes have passed since the last time.
    optimizer_state : bool
        See `cvae.VAE.save`. Without it training cannot go on with the same bits.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = False,
        *,
        every_batches: int | None = None,
        every_minutes: float | None = None,
        optimizer_state: bool = True,
    ) -> None:
        self.path = as_path(path)
        self.save_best_only = check_bool("save_best_only", save_best_only)
        self.monitor = monitor if save_best_only else None
        self.every_batches = None if every_batches is None else check_size("every_batches", every_batches)
        self.every_minutes = None if every_minutes is None else check_number("every_minutes", every_minutes, "[0, inf)")
        self.optimizer_state = check_bool("optimizer_state", optimizer_state)
        if save_best_only and (every_batches is not None or every_minutes is not None):
            raise ValueError("save_best_only must be False with every_batches or every_minutes, got True")

    def on_train_begin(self, vae: Any) -> None:
        """Raise what would keep the model from being saved."""
        check_can_be_saved(vae)
        check_writable(self._path(1, dict.fromkeys(self.columns, 0.0)))
        self._best, self._was_changing = self._known_best(vae), False
        self._note()

    def _known_best(self, vae: Any) -> float:
        """Return the smallest value of the history, infinity if there is no file of that epoch."""
        if self.monitor is None:
            return math.inf
        epoch, value = best_of_history(vae, self.monitor)
        entry = dict.fromkeys(self.columns, math.nan) | (entry_of(vae.history_, epoch) if epoch else {})
        return value if os.path.exists(self._path(epoch, entry)) else math.inf

    def _note(self) -> None:
        self._batches, self._time = 0, time.monotonic()

    def _path(self, epoch: int, entry: dict[str, float]) -> str:
        try:
            return self.path.format(epoch=epoch, **entry)
        except (KeyError, IndexError, ValueError) as error:
            names = ", ".join(("epoch", *self.columns))
            raise ValueError(f"path must have fields out of {names}, got {self.path!r}: {error!r}") from None

    def is_due(self) -> bool:
        """Return whether so many batches or minutes have passed since the last time."""
        if self.every_batches is not None and self._batches >= self.every_batches:
            return True
        return self.every_minutes is not None and time.monotonic() - self._time >= 60 * self.every_minutes

    def on_batch_end(self, vae: Any, batch: int, loss: float) -> None:
        """Save the model if that is due."""
        self._batches += 1
        if self.is_due():
            epoch = len(vae.history_.get("loss", ())) + 1
            self.save(vae, self._path(epoch, dict.fromkeys(self.columns, math.nan)))

    def on_epoch_end(self, vae: Any, epoch: int, entry: dict[str, float]) -> None:
        """Save the model, or only if it is the best one."""
        if self.monitor is None or self._is_best(vae, epoch, entry[self.monitor]):
            self.save(vae, self._path(epoch, entry))

    def _is_best(self, vae: Any, epoch: int, value: float) -> bool:
        is_changing = changes_with_beta(str(self.monitor)) and is_warming_up(vae, epoch)
        if self._was_changing and not is_changing:
            self._best = math.inf  # those before were of other objectives
        self._was_changing = is_changing
        if not value < self._best:
            return False
        self._best = value
        return True

    def save(self, vae: Any, path: str) -> None:
        """Save the model; a subclass may do so in another way."""
        vae.save(path, optimizer_state=self.optimizer_state)
        self._note()
