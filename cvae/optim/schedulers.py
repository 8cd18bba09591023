"""Learning-rate schedulers: the learning rate as a function of the step number or the loss.

Sources: Loshchilov & Hutter 2017, "SGDR: Stochastic gradient descent with warm restarts", section 3 (Cosine); Vaswani
et al. 2017, "Attention is all you need", section 5.3 (Noam); D. King 2018, "Automatic learning rate scheduling that
really works", dlib's blog (King).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae.checking import check_bool, check_count, check_number
from cvae.parsable import Configurable
from cvae.parsing import object_from_call, object_from_hyperparameters, with_subclasses

__all__ = [
    "SCHEDULERS", "ConstantScheduler", "CosineScheduler", "ExponentialScheduler", "KingScheduler", "NoamScheduler",
    "SchedulerBase", "make_scheduler",
]  # fmt: skip


class SchedulerBase(Configurable, ABC):
    """Base class of schedulers.

    A scheduler is called with the step number and the loss and returns the learning rate. Its ``str()`` is a
    call string that builds an equal scheduler, `hyperparameters` and `set_params` read and change its
    arguments, and `copy` returns an independent scheduler.

    Examples
    --------
    >>> scheduler = ConstantScheduler(lr=0.1)
    >>> scheduler.set_params({"lr": 0.2})
    ConstantScheduler(lr=0.2)
    >>> scheduler(step=1)
    0.2
    """

    def state(self) -> dict[str, Any]:
        """Return what has accumulated with use: the attributes that are no arguments, by name."""
        return {name: value for name, value in vars(self).items() if name not in self.arguments}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Set what `state` returned; raise TypeError or ValueError if it is not that of such a scheduler."""
        for name, value in state.items():
            is_of_class = name in self.arguments or hasattr(type(self), name)
            if is_of_class or not name.isidentifier():
                raise ValueError(f"the state of a {type(self).__name__} must be its own attributes, got {name!r}")
            setattr(self, name, value)

    @abstractmethod
    def __call__(self, step: int | None = None, cur_loss: float | None = None) -> float:
        """Return the learning rate.

        Parameters
        ----------
        step : int, optional
            Number of the optimizer's step, counted from 1.
        cur_loss : float, optional
            The current loss, in any unit.

        Returns
        -------
        float
            The learning rate.

        Raises
        ------
        TypeError
            If the scheduler depends on `step` or `cur_loss` and it is not a number.
        ValueError
            If the scheduler depends on `step` or `cur_loss` and it is None or out of range.
        """


def _required(name: str, value: float | None, interval: str) -> float:
    if value is None:
        raise ValueError(f"{name} must be a number in {interval}, got None")
    return check_number(name, value, interval)


class ConstantScheduler(SchedulerBase):
    """A constant learning rate.

    Parameters
    ----------
    lr : float
        Learning rate, >= 0.

    Examples
    --------
    >>> ConstantScheduler(lr=0.3)()
    0.3
    """

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = check_number("lr", lr, "[0, inf)")

    def __call__(self, step: int | None = None, cur_loss: float | None = None) -> float:
        """Return `lr`; the arguments are ignored."""
        return self.lr


class ExponentialScheduler(SchedulerBase):
    """Exponential decay, initial_lr * decay^(step / stage_length).

    Parameters
    ----------
    initial_lr : float
        Learning rate at step 0, >= 0.
    stage_length : float
        Number of steps per stage, > 0.
    staircase : bool
        Whether to change the rate between stages only, by rounding the exponent down.
    decay : float
        Factor on the rate per stage, > 0.

    Examples
    --------
    >>> scheduler = ExponentialScheduler(initial_lr=0.8, stage_length=10, decay=0.5)
    >>> scheduler(step=10), scheduler(step=20)
    (0.4, 0.2)
    """

    def __init__(
        self, initial_lr: float = 0.01, stage_length: float = 500, staircase: bool = False, decay: float = 0.1
    ) -> None:
        self.initial_lr = check_number("initial_lr", initial_lr, "[0, inf)")
        self.stage_length = check_number("stage_length", stage_length, "(0, inf)")
        self.staircase = check_bool("staircase", staircase)
        self.decay = check_number("decay", decay, "(0, inf)")

    def __call__(self, step: int | None = None, cur_loss: float | None = None) -> float:
        """Return the rate at `step` >= 0; see `SchedulerBase.__call__`."""
        stages = _required("step", step, "[0, inf)") / self.stage_length
        exponent = math.floor(stages) if self.staircase else stages
        return self.initial_lr * math.pow(self.decay, exponent)


class CosineScheduler(SchedulerBase):
    """Linear warm-up, followed by half a period of the cosine down to a final rate.

    Parameters
    ----------
    initial_lr : float
        Highest learning rate, >= 0.
    steps : float
        Step at which the rate is `final_lr`, and stays, > 0.
    final_lr : float
        >= 0.
    warmup_steps : float
        Step at which the rate is highest, from 0 to less than `steps`.

    Examples
    --------
    >>> scheduler = CosineScheduler(initial_lr=0.8, steps=14, final_lr=0.2, warmup_steps=4)
    >>> [round(scheduler(step), 3) for step in (1, 4, 9, 14, 100)]
    [0.2, 0.8, 0.5, 0.2, 0.2]
    """

    def __init__(
        self, initial_lr: float = 0.01, steps: float = 10_000, final_lr: float = 0.0, warmup_steps: float = 0
    ) -> None:
        self.initial_lr = check_number("initial_lr", initial_lr, "[0, inf)")
        self.steps = check_number("steps", steps, "(0, inf)")
        self.final_lr = check_number("final_lr", final_lr, "[0, inf)")
        self.warmup_steps = check_number("warmup_steps", warmup_steps, "[0, inf)")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps must be less than steps={steps}, got {warmup_steps}")

    def __call__(self, step: int | None = None, cur_loss: float | None = None) -> float:
        """Return the rate at `step` >= 0; see `SchedulerBase.__call__`."""
        step_number = _required("step", step, "[0, inf)")
        if step_number < self.warmup_steps:
            return self.initial_lr * step_number / self.warmup_steps
        progress = min(1.0, (step_number - self.warmup_steps) / (self.steps - self.warmup_steps))
        return self.final_lr + (self.initial_lr - self.final_lr) * (1 + math.cos(math.pi * progress)) / 2


class NoamScheduler(SchedulerBase):
    """Linear warm-up, followed by decay with the inverse square root of the step number.

    The rate is scale_factor * model_dim^-0.5 * min(step^-0.5, step * warmup_steps^-1.5).

    Parameters
    ----------
    model_dim : float
        Width of the model, > 0.
    scale_factor : float
        Overall factor, >= 0.
    warmup_steps : float
        Step at which the rate is highest, from 1e-200 to 1e200.

    Examples
    --------
    >>> scheduler = NoamScheduler(model_dim=16, scale_factor=2, warmup_steps=4)
    >>> [scheduler(step) for step in (1, 4, 16)]
    [0.0625, 0.25, 0.125]
    """

    def __init__(self, model_dim: float = 512, scale_factor: float = 1, warmup_steps: float = 4000) -> None:
        self.model_dim = check_number("model_dim", model_dim, "(0, inf)")
        self.scale_factor = check_number("scale_factor", scale_factor, "[0, inf)")
        self.warmup_steps = check_number("warmup_steps", warmup_steps, "[1e-200, 1e200]")

    def __call__(self, step: int | None = None, cur_loss: float | None = None) -> float:
        """Return the rate at `step` > 0; see `SchedulerBase.__call__`."""
        step_number = _required("step", step, "(0, inf)")
        growth = step_number / math.pow(self.warmup_steps, 1.5)
        decay = 1 / math.sqrt(step_number)
        return self.scale_factor / math.sqrt(self.model_dim) * min(growth, decay)


class KingScheduler(SchedulerBase):
    """Decay whenever the loss stops decreasing.

    A line is fitted to the last ``patience + 1`` losses, and another to the last ``patience + 1`` that remain
    when the highest tenth is removed. If neither slopes down with a probability of at least 0.51, the rate is
    multiplied by `decay` and the losses are discarded, so that the new rate is judged by its own losses.

    Parameters
    ----------
    initial_lr : float
        Initial learning rate, >= 0.
    patience : int
        Number of steps without progress before the rate decays, >= 3.
    decay : float
        Factor on the rate, in (0, 1].

    Attributes
    ----------
    current_lr : float
        The current learning rate.
    loss_history : list of float
        The losses of up to `max_history` most recent steps.
    last_step : int or None
        Number of the last step whose loss was recorded.

    Examples
    --------
    >>> scheduler = KingScheduler(initial_lr=1.0, patience=3, decay=0.5)
    >>> [scheduler(step, cur_loss=7.0) for step in range(1, 7)]
    [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]
    """

    def __init__(self, initial_lr: float = 0.01, patience: int = 1000, decay: float = 0.99) -> None:
        self.initial_lr = check_number("initial_lr", initial_lr, "[0, inf)")
        self.patience = int(check_number("patience", patience, "[3, inf)"))
        if self.patience != patience:
            raise ValueError(f"patience must be an int >= 3, got {patience!r}")
        self.decay = check_number("decay", decay, "(0, 1]")
        self.current_lr = self.initial_lr
        self.loss_history: list[float] = []
        self.last_step: int | None = None

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.current_lr = check_number("current_lr", self.current_lr, "[0, inf)")
        if not isinstance(self.loss_history, list):
            raise TypeError(f"loss_history must be a list of numbers, got {self.loss_history!r}")
        self.loss_history = [check_number("loss_history", loss) for loss in self.loss_history]
        if self.last_step is not None:
            self.last_step = check_count("last_step", self.last_step)

    @property
    def max_history(self) -> int:
        """The number of losses kept: just enough to leave ``patience + 1`` without the highest tenth."""
        return math.ceil(10 * self.patience / 9) + 1

    def set_params(self, hparam_dict: Mapping[str, Any] | None = None) -> Self:
        """Change some arguments; a new `initial_lr` becomes the current rate immediately.

        See `Configurable.set_params`.
        """
        initial_lr = self.initial_lr
        super().set_params(hparam_dict)
        if self.initial_lr != initial_lr:
            self.current_lr = self.initial_lr
        return self

    def __call__(self, step: int | None = None, cur_loss: float | None = None) -> float:
        """Record the loss of this step and return the rate; see `SchedulerBase.__call__`.

        A loss is recorded once per step number, although the rate is requested for each parameter. Without a
        step number, every call records its loss.
        """
        loss = _required("cur_loss", cur_loss, "(-inf, inf)")
        if step is None or step != self.last_step:
            self.last_step = step
            self.loss_history = [*self.loss_history, loss][-self.max_history :]
            if self._has_stalled():
                self.current_lr *= self.decay
                self.loss_history = []
        return self.current_lr

    def _has_stalled(self) -> bool:
        losses = np.array(self.loss_history)
        n_fitted = self.patience + 1
        if len(losses) < n_fitted:
            return False
        robust = losses[losses <= np.quantile(losses, 0.9)]
        return len(robust) >= n_fitted and all(
            _probability_of_fall(series[-n_fitted:]) < 0.51 for series in (losses, robust)
        )


def _probability_of_fall(y: npt.NDArray[np.float64]) -> float:
    """Return the probability that the line through equally spaced values y (n,) slopes down.

    The least-squares slope is normally distributed around the true slope with variance
    12 s^2 / (n^3 - n), where s^2 is the residual variance.
    """
    n = len(y)
    x = np.arange(n) - (n - 1) / 2
    y = y - y.mean()
    slope = (x * y).sum() / (x * x).sum()
    residuals = y - slope * x
    variance = 12 * (residuals * residuals).sum() / (n - 2) / (n**3 - n)
    # The epsilon avoids 0/0 when all values are equal; the probability is then 1/2.
    return 0.5 * math.erfc(slope / math.sqrt(2 * (variance + np.finfo(float).eps)))


SCHEDULERS: dict[str, type[SchedulerBase]] = {
    cls.__name__: cls
    for cls in (ConstantScheduler, CosineScheduler, ExponentialScheduler, NoamScheduler, KingScheduler)
}
SCHEDULERS |= {name.removesuffix("Scheduler"): cls for name, cls in SCHEDULERS.items()}


def make_scheduler(param: SchedulerBase | str | Mapping[str, Any] | None, lr: float | None = None) -> SchedulerBase:
    """Return the scheduler that `param` describes.

    Parameters
    ----------
    param : SchedulerBase, str, mapping or None
        A scheduler (returned unchanged), a call string, a mapping with the key ``"hyperparameters"``, or None
        for a constant rate.
    lr : float, optional
        The constant rate, >= 0; used only if `param` is None.

    Returns
    -------
    SchedulerBase

    Raises
    ------
    TypeError
        If `param` is none of these.
    ValueError
        If a name or an argument is unknown or out of range, or `param` and `lr` are both None.

    Examples
    --------
    >>> make_scheduler("noam(model_dim=64)")
    NoamScheduler(model_dim=64, scale_factor=1, warmup_steps=4000)
    >>> make_scheduler(None, lr=0.1)
    ConstantScheduler(lr=0.1)
    """
    if isinstance(param, SchedulerBase):
        return param
    known = with_subclasses(SCHEDULERS, SchedulerBase)
    if isinstance(param, str):
        return object_from_call(param, known, "scheduler")
    if isinstance(param, Mapping):
        if "hyperparameters" not in param:
            raise ValueError(f"a scheduler's dict must hold 'hyperparameters', got {param!r}")
        return object_from_hyperparameters(param["hyperparameters"], known, "scheduler")
    if param is not None:
        raise TypeError(f"lr_scheduler must be a scheduler, str, dict or None, got {param!r}")
    if lr is None:
        raise ValueError("lr must be a number in [0, inf) when no scheduler is given, got None")
    return ConstantScheduler(lr)
