"""Callbacks for ``fit(callbacks=[...])``: early stopping, checkpoints, smaller rates, and logs of the history.

A callback is an object of a subclass of `Callback`, or a function ``callback(vae, epoch, entry)`` that is called after
each epoch and ends the training by returning True. All columns of the history that can be monitored are better the
smaller they are.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.checking import check_bool, check_number, check_size
from cvae.checkpointing import ModelCheckpoint
from cvae.io.files import as_path, check_writable
from cvae.monitoring import Best
from cvae.optim.schedulers import ConstantScheduler
from cvae.training import METHODS, Callback

__all__ = [
    "CSVLogger", "Callback", "EarlyStopping", "LambdaCallback", "MLflow", "ModelCheckpoint", "ReduceLROnPlateau",
    "TensorBoard",
]  # fmt: skip


class LambdaCallback(Callback):
    """A callback from functions, by the names of the methods of `Callback` and with their arguments.

    Raises
    ------
    TypeError
        If a name is not one of these, or what comes under it cannot be called.

    Examples
    --------
    >>> LambdaCallback(on_epoch_end=lambda vae, epoch, entry: entry["loss"] < 100).on_epoch_end(None, 1, {"loss": 99.0})
    True
    """

    def __init__(self, **functions: Callable[..., Any]) -> None:
        for name, function in functions.items():
            if name not in METHODS:
                raise TypeError(f"LambdaCallback takes {', '.join(METHODS)}, got {name!r}")
            if not callable(function):
                raise TypeError(f"{name} must be callable, got {function!r}")
            setattr(self, name, function)


class EarlyStopping(Callback):
    """End the training when a loss has not improved for some epochs.

    Epochs in which a schedule such as "Linear(end=1, steps=1000)" still changes the weight of the KL divergence do not
    count. Each call of `fit` begins anew.

    Parameters
    ----------
    monitor : str
        A column of the history.
    patience : int
        Epochs without improvement after which training ends, at least 1.
    min_delta : float
        Smallest decrease that is an improvement, nats per image for losses, at least 0.
    restore_best : bool
        Whether the model has the parameters of the best epoch afterwards, also after a loss that is not finite, but
        not after an interruption. The history keeps all epochs.

    Attributes
    ----------
    best, best_epoch : float, int
        The smallest value, infinity before the first, and its epoch.
    stopped_epoch : int or None
        The epoch after which training was ended, if it was.
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 10, min_delta: float = 0.0, restore_best: bool = True
    ) -> None:
        self.monitor = monitor
        self.patience = check_size("patience", patience)
        self.min_delta = check_number("min_delta", min_delta, "[0, inf)")
        self.restore_best = check_bool("restore_best", restore_best)
        self._reset()

    def _reset(self) -> None:
        self._best = Best(str(self.monitor), self.min_delta)
        self._parameters: dict[str, dict[str, npt.NDArray[Any]]] = {}
        self.stopped_epoch: int | None = None

    @property
    def best(self) -> float:
        return self._best.value

    @property
    def best_epoch(self) -> int:
        return self._best.epoch

    def on_train_begin(self, vae: Any) -> None:
        self._reset()

    def on_epoch_end(self, vae: Any, epoch: int, entry: dict[str, float]) -> bool:
        """Take note of the epoch, and return whether there have been too many without improvement."""
        if self._best.improves(vae, epoch, entry) and self.restore_best:
            self._parameters = {
                path: {name: np.copy(array) for name, array in layer.parameters.items() if array is not None}
                for path, layer in vae._layers().items()
            }
        if self._best.waited < self.patience:
            return False
        self.stopped_epoch = epoch
        return True

    def on_train_end(self, vae: Any, error: BaseException | None) -> None:
        """Restore the parameters of the best epoch, unless it was the last."""
        diverged = isinstance(error, FloatingPointError)
        is_last = len(vae.history_.get(self._best.monitor, ())) == self._best.epoch and not diverged
        if self._parameters and not is_last and (error is None or diverged):
            for path, parameters in self._parameters.items():
                if parameters:
                    vae._layers()[path].set_params({"parameters": parameters})
            if error is not None:
                vae._position = None  # within an epoch of other parameters
                error.add_note(f"The parameters are those of epoch {self.best_epoch}, restored by EarlyStopping.")
        self._parameters = {}


class ReduceLROnPlateau(Callback):
    """Lower the learning rate when a loss has not improved for some epochs, without losing the optimizers' state.

    Epochs in which a schedule changes the weight of the KL divergence do not count. The layers' optimizers must have
    constant rates. The model's argument `optimizer` stays as it is; saved models have the rates of their layers.

    Parameters
    ----------
    monitor : str
        A column of the history.
    factor : float
        What the rates are multiplied by, in (0, 1).
    patience : int
        Epochs without improvement, after which the rates are lowered and the count starts again, at least 1.
    min_delta : float
        Smallest decrease that is an improvement, at least 0.
    min_lr : float
        Rates do not fall below it.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.5,
        patience: int = 5,
        min_delta: float = 0.0,
        min_lr: float = 0.0,
    ) -> None:
        self.monitor = monitor
        self.factor = check_number("factor", factor, "(0, 1)")
        self.patience = check_size("patience", patience)
        self.min_delta = check_number("min_delta", min_delta, "[0, inf)")
        self.min_lr = check_number("min_lr", min_lr, "[0, inf)")

    def on_train_begin(self, vae: Any) -> None:
        """Raise ValueError unless all rates are constant."""
        self._best = Best(str(self.monitor), self.min_delta)
        for path, layer in vae._layers().items():
            scheduler = layer.optimizer.lr_scheduler
            if type(scheduler) is not ConstantScheduler:
                raise ValueError(f"{path} must have a constant learning rate for ReduceLROnPlateau, got {scheduler}")

    def on_epoch_end(self, vae: Any, epoch: int, entry: dict[str, float]) -> None:
        """Lower the rates if there have been too many epochs without improvement."""
        if not self._best.improves(vae, epoch, entry) and self._best.waited >= self.patience:
            self._best.waited = 0
            for layer in vae._layers().values():
                rate = layer.optimizer.lr
                layer.optimizer.lr = min(rate, max(rate * self.factor, self.min_lr))


class CSVLogger(Callback):
    """Write the history to a CSV file, a row after each epoch.

    Parameters
    ----------
    path : str or path
    append : bool
        Whether to add rows to an existing file, which must have the same columns, instead of replacing it.
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = True) -> None:
        self.path, self.append = as_path(path), check_bool("append", append)

    def on_train_begin(self, vae: Any) -> None:
        """Raise ValueError if an existing file has other columns, OSError if the file cannot be written."""
        header = ["epoch", *self.columns]
        target = check_writable(self.path)
        exists = self.append and target.exists() and target.stat().st_size > 0
        if exists:
            with open(target, newline="", encoding="utf-8") as file:
                found = next(csv.reader(file), [])
            if found != header:
                raise ValueError(f"{self.path} must have the columns {', '.join(header)}, got {', '.join(found)}")
        self._write(header, "a" if exists else "w", skip=exists)

    def on_epoch_end(self, vae: Any, epoch: int, entry: dict[str, float]) -> None:
        """Write a row."""
        self._write([epoch, *(entry[name] for name in self.columns)], "a")

    def _write(self, row: list[Any], mode: str, skip: bool = False) -> None:
        with open(self.path, mode, newline="", encoding="utf-8") as file:
            if not skip:
                csv.writer(file).writerow(row)


class TensorBoard(Callback):
    """Write the history to event files for TensorBoard, which needs tensorboardX or PyTorch with tensorboard.

    Parameters
    ----------
    folder : str or path
        Where the files are; created if it does not exist.

    Raises
    ------
    ImportError
        If neither package is installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder, self._writer_class = Path(as_path(folder)), _summary_writer()
        self._writer: Any = None

    def on_train_begin(self, vae: Any) -> None:
        """Open a new event file, of its own also where another one was opened within the same second."""
        suffix = f".{os.getpid()}.{time.time_ns()}"
        self._writer = self._writer_class(str(self.folder), filename_suffix=suffix)

    def on_epoch_end(self, vae: Any, epoch: int, entry: dict[str, float]) -> None:
        """Write the epoch's numbers."""
        for name, value in entry.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def on_train_end(self, vae: Any, error: BaseException | None) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


def _summary_writer() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ImportError("TensorBoard needs tensorboardX (pip install tensorboardX)") from None
    return SummaryWriter


class MLflow(Callback):
    """Log the model's arguments and the history to MLflow, in the active run or a new one.

    Raises
    ------
    ImportError
        If mlflow is not installed.
    """

    def __init__(self) -> None:
        try:
            import mlflow
        except ImportError:
            raise ImportError("MLflow needs mlflow (pip install mlflow)") from None
        self._mlflow, self._is_own = mlflow, False

    def on_train_begin(self, vae: Any) -> None:
        """Start a run unless one is active, and log the arguments unless the run has them, which cannot change."""
        run = self._mlflow.active_run()
        self._is_own = run is None
        # The active run tells only what it had when it began.
        known = {} if run is None else self._mlflow.get_run(run.info.run_id).data.params
        if run is None:
            self._mlflow.start_run()
        arguments = {name: str(value) for name, value in vae.get_params().items()}
        self._mlflow.log_params({name: value for name, value in arguments.items() if name not in known})

    def on_epoch_end(self, vae: Any, epoch: int, entry: dict[str, float]) -> None:
        """Log the epoch's numbers."""
        self._mlflow.log_metrics(entry, step=epoch)

    def on_train_end(self, vae: Any, error: BaseException | None) -> None:
        """End a run that was started here."""
        if self._is_own:
            self._mlflow.end_run("FINISHED" if error is None else "FAILED")
