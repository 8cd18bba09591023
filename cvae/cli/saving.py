"""Training that saves what was learnt, however it ends."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cvae
from cvae.callbacks import ModelCheckpoint
from cvae.cli.inputs import Validation, labels_for
from cvae.cli.output import NATS, log, shown, tell_interrupt, write_csv
from cvae.data.dataset import Dataset
from cvae.interruption import deferred_interrupt
from cvae.training import AnyCallback


@dataclass
class Outputs:
    """Where a training writes its model and its history, and when.

    What another program has written there since the training began is left as it is: `model` and `history` become names
    of new files then.

    Attributes
    ----------
    model : path
    history : path or None
    resumed : path, optional
        The file that the model comes from.
    optimizer_state : bool
        Whether the complete model is saved with the state of its optimizers; one that was interrupted always is.
    checkpoint : dict
        When to save within the training: `every_batches` or `every_minutes` of `ModelCheckpoint`.
    """

    model: str | Path
    history: str | Path | None
    resumed: str | Path | None = None
    optimizer_state: bool = True
    checkpoint: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find out whether there is another model, worth more than one that was never trained for an epoch."""
        exists = os.path.exists(self.model)
        is_own = exists and self.resumed is not None and os.path.samefile(self.resumed, self.model)
        self._is_other = exists and not is_own
        self._known = {name: _version(getattr(self, name)) for name in ("model", "history")}

    def write(self, vae: cvae.VAE, n_before: int, *, is_complete: bool) -> bool:
        """Write model and history, and return whether that was done; `n_before` epochs were trained before."""
        if self._is_other and n_epochs(vae) == n_before:
            return False
        with deferred_interrupt() as interrupt:  # a signal that comes now waits for the files
            self._leave_others()
            vae.save(self.model, optimizer_state=self.optimizer_state or not is_complete)
            self._known["model"] = _version(self.model)
            if self.history is not None:
                epochs = zip(range(1, n_epochs(vae) + 1), *vae.history_.values(), strict=True)
                write_csv(self.history, ["epoch", *vae.history_], epochs)
                self._known["history"] = _version(self.history)
        interrupt.check()
        return True

    def _leave_others(self) -> None:
        """Choose other names for files that are not those that were there at the start or were written last."""
        for name, known in self._known.items():
            path, found = getattr(self, name), _version(getattr(self, name))
            if found not in (None, known):
                setattr(self, name, _free_name(Path(path)))
                log(f"warning: another program has written {shown(path)}; this one writes {shown(getattr(self, name))}")


def _version(path: str | Path | None) -> tuple[int, int] | None:
    """Return what tells that a file was written anew, None if there is none."""
    if path is None or not os.path.exists(path):
        return None
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size


def _free_name(path: Path) -> Path:
    """Return a name like this one, with -2, -3, ... at its end, of which there is no file."""
    names = (path.with_name(f"{path.stem}-{i}{path.suffix}") for i in itertools.count(2))
    return next(name for name in names if not os.path.lexists(name))


class _Checkpoint(ModelCheckpoint):
    """Writes the outputs whenever that is due."""

    def __init__(self, outputs: Outputs, vae: cvae.VAE) -> None:
        super().__init__(outputs.model, **outputs.checkpoint)  # type: ignore[arg-type]
        self._outputs, self._n_before = outputs, n_epochs(vae)
        self._interrupted_after = 0 if vae._position is None else vae._position.batches

    def _path(self, epoch: int, entry: dict[str, float]) -> str:
        return self.path  # braces in it are no fields

    def on_batch_end(self, vae: Any, batch: int, loss: float) -> None:
        if self._interrupted_after and batch != self._interrupted_after + 1:
            log(
                f"warning: the epoch that was interrupted after {self._interrupted_after} batches begins anew: its "
                "images, batch size, --val-split, --accumulate or --shards were others"
            )
        self._interrupted_after = 0
        super().on_batch_end(vae, batch, loss)

    def on_epoch_end(self, vae: Any, epoch: int, entry: dict[str, float]) -> None:
        if self.is_due():
            self.save(vae, self.path)

    def save(self, vae: Any, path: str) -> None:
        self._outputs.write(vae, self._n_before, is_complete=False)
        self._note()


def train(vae: cvae.VAE, dataset: Dataset, *, validation: Validation | None, n_more: int | None, **how: Any) -> None:
    """Train for `n_more` epochs, by default as many as the model says; `how` are further arguments of `fit`."""
    vae._fit(
        dataset.images,
        labels_for(vae, dataset.labels, dataset),
        {},
        anew=False,
        n_epochs=n_more,
        validation_data=None if validation is None else (validation.images, validation.labels),
        **how,
    )


def train_and_save(
    vae: cvae.VAE,
    dataset: Dataset,
    outputs: Outputs,
    *,
    validation: Validation | None = None,
    n_more: int | None = None,
    quiet: bool = False,
    **how: Any,
) -> dict[str, str]:
    """Train, write the model and its history, also after Ctrl-C, and return the results to print.

    `how` are further arguments of `train`.
    """
    n_before = n_epochs(vae)
    name = "validation" if validation is None else validation.name
    is_terminal = sys.stderr.isatty()  # show a progress bar there, elsewhere log a line per epoch
    callbacks: list[AnyCallback] = [_Checkpoint(outputs, vae)]
    if not is_terminal and not quiet:
        callbacks.append(_log_epoch(name))
    try:
        shows = is_terminal and not quiet
        train(vae, dataset, validation=validation, n_more=n_more, verbose=shows, callbacks=callbacks, **how)
    except KeyboardInterrupt as error:
        if n_epochs(vae) - n_before == (vae.n_epochs if n_more is None else n_more):  # it came after the last epoch
            _write(vae, outputs, n_before, is_complete=True)
            end = f"all {n_epochs(vae)} epochs; the model was saved to {shown(outputs.model)}"
        else:
            end = _save_interrupted(vae, outputs, n_before)
        tell_interrupt(error, f" after {end}")
        raise
    except Exception:
        # Worth more than an older file if it was trained for an epoch.
        if n_epochs(vae) > n_before:
            with contextlib.suppress(OSError, ValueError):
                _write(vae, outputs, n_before, is_complete=False)
                done = f"training failed after {n_epochs(vae)} complete epochs"
                log(f"{done}; the model was saved to {shown(outputs.model)}")
        raise
    _write(vae, outputs, n_before, is_complete=True)
    seconds = vae.history_["seconds"][n_before:]
    speeds = vae.history_["images_per_second"][n_before:]
    n_images = sum(time * speed for time, speed in zip(seconds, speeds, strict=True))
    elbos = _negative_elbos({name: values[-1] for name, values in vae.history_.items()}, name)
    return {
        **{f"{name} negative ELBO": f"{value:.2f} {NATS}" for name, value in elbos.items()},
        "training speed": f"{n_images / sum(seconds):,.0f} images/s",
    }


def _write(vae: cvae.VAE, outputs: Outputs, n_before: int, *, is_complete: bool) -> bool:
    """Do the same as `Outputs.write`; where that fails, on a full disk say, save the model to a temporary file."""
    try:
        return outputs.write(vae, n_before, is_complete=is_complete)
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            descriptor, path = tempfile.mkstemp(".safetensors", "cvae-")
            os.close(descriptor)
            try:
                vae.save(path)
            except BaseException:
                os.unlink(path)
                raise
            log(f"{shown(outputs.model)} cannot be written; the model was saved to {path}")
        raise


def _save_interrupted(vae: cvae.VAE, outputs: Outputs, n_before: int) -> str:
    """Save a model whose training was interrupted between two batches, and return what to say of it."""
    position, n = vae._position, n_epochs(vae)
    if position is None or (n == n_before and position.batches == 0):  # within a batch, or before the first
        return f"{n} complete epochs; nothing was saved"
    if _write(vae, outputs, n_before, is_complete=False):
        rest = "" if n == position.until else f"; --resume goes on to {position.until}"
        return f"{n} complete epochs{rest}; the model was saved to {shown(outputs.model)}"
    return f"{n} complete epochs; {shown(outputs.model)} was left as it was"


def _log_epoch(name: str) -> AnyCallback:
    def callback(vae: cvae.VAE, epoch: int, entry: Mapping[str, float]) -> None:
        elbos = ", ".join(f"{which} {value:.2f}" for which, value in _negative_elbos(entry, name).items())
        speed = f"{entry['images_per_second']:,.0f} images/s"
        log(f"epoch {epoch}: negative ELBO {elbos} {NATS}, {speed}")

    return callback


def _negative_elbos(entry: Mapping[str, float], validation: str) -> dict[str, float]:
    """Return the negative ELBOs of an epoch; unlike the loss they do not depend on `beta`."""
    elbos = {}
    for name, prefix in (("training", ""), (validation, "val_")):
        value = entry.get(f"{prefix}reconstruction", math.nan) + entry.get(f"{prefix}kl", math.nan)
        if not math.isnan(value):  # NaN if there was nothing to validate with
            elbos[name] = value
    return elbos


def n_epochs(vae: cvae.VAE) -> int:
    """Return the number of epochs that a model was trained for."""
    return len(vae.history_.get("loss", ()))
