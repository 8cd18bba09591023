"""What all optimizers share: arguments, the state of each parameter, the rate of a step, and clipping."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import numpy.typing as npt

from cvae._kernels import optimizers as kernels
from cvae._kernels.program import Program
from cvae.checking import check_count, check_mapping, check_number
from cvae.optim.schedulers import ConstantScheduler, SchedulerBase, make_scheduler
from cvae.parsable import Configurable
from cvae.runtime.programs import run
from cvae.runtime.workspace import copy_of, zeros_like
from cvae.snapshot import Revised

Array = npt.NDArray[np.floating]
Scalars = npt.NDArray[np.float64]
SchedulerLike = SchedulerBase | str | Mapping[str, Any] | None

_RULES = kernels.rules()


class OptimizerBase(Configurable, Revised, ABC):
    """Base of the optimizers.

    An update gets the rate from the scheduler, scales the gradient down if its L2 norm exceeds
    `clip_norm`, and changes the parameter. The state of each parameter is kept under its name, so an
    optimizer serves the parameters of a single layer; another layer needs a copy.

    A subclass defines its arguments, the name of a compiled `rule`, and `_constants`, which returns
    the arguments in the order in which the rule takes them.

    Parameters
    ----------
    lr : float
        Learning rate, >= 0. Ignored if `lr_scheduler` is given.
    clip_norm : float or None
        Largest L2 norm of one parameter's gradient, >= 0; None means no limit.
    lr_scheduler : SchedulerBase, str, mapping or None
        The scheduler of the rate, see `cvae.schedulers`; None means a constant rate `lr`.

    Attributes
    ----------
    cache : dict
        The state of each parameter by name; empty before the first update.
    cur_step : int
        Number of the current step, 0 before the first `step`.

    Raises
    ------
    TypeError
        If an argument is unknown or has the wrong type.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> from cvae.optim.optimizers import SGD
    >>> optimizer = SGD(lr=0.1)
    >>> optimizer.step()
    >>> optimizer.update(np.array([1.0, 2.0]), np.array([1.0, -1.0]), "W")
    array([0.9, 2.1])
    """

    rule: ClassVar[str]
    """The compiled rule (csrc/kernels/optimizers.h)."""

    state_names: ClassVar[tuple[str, ...]] = ()
    """Names of the arrays of a parameter's state, unless it is a single array."""

    is_constant: ClassVar[bool] = False
    """Whether `_constants` are the same for all steps, and no updates are counted.

    That of the class itself counts: its subclasses, which may have another rule, are not constant unless they say so.
    """

    def __init__(self, lr: float, clip_norm: float | None, lr_scheduler: SchedulerLike) -> None:
        self._lr = check_number("lr", lr, "[0, inf)")
        self.clip_norm = None if clip_norm is None else check_number("clip_norm", clip_norm, "[0, inf)")
        self.lr_scheduler = make_scheduler(lr_scheduler, self._lr)
        self.cache: dict[str, Any] = {}
        self._cur_step = 0

    @property
    def lr(self) -> float:
        """The learning rate, which has no effect with a scheduler other than `ConstantScheduler`."""
        scheduler = self.lr_scheduler
        return scheduler.lr if isinstance(scheduler, ConstantScheduler) else self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        self._lr = check_number("lr", lr, "[0, inf)")
        if isinstance(self.lr_scheduler, ConstantScheduler):
            self.lr_scheduler = ConstantScheduler(self._lr)

    @property
    def learning_rate(self) -> NoReturn:
        """Raise AttributeError: other libraries' name of `lr`, to which nothing should be assigned in vain."""
        raise AttributeError(f"{type(self).__name__} has no learning_rate: lr is its rate")

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} has no learning_rate: lr is its rate")

    # A property, so that `step` can count without a change to a public attribute, after which passes are recorded anew.
    @property
    def cur_step(self) -> int:
        """Number of the current step, 0 before the first `step`."""
        return self._cur_step

    @cur_step.setter
    def cur_step(self, cur_step: int) -> None:
        self._cur_step = check_count("cur_step", cur_step)

    def step(self) -> None:
        """Begin the next step; to be called once before the updates of all parameters."""
        self._cur_step += 1

    def reset_step(self) -> None:
        """Set the step number back to 0."""
        self.cur_step = 0

    def set_params(
        self, hparam_dict: Mapping[str, Any] | None = None, cache_dict: Mapping[str, Any] | None = None
    ) -> Self:
        """Change some arguments, replace the state of the parameters, or both.

        Parameters
        ----------
        hparam_dict : mapping, optional
            New values by name; ``"lr_scheduler"`` takes precedence over ``"lr"``.
        cache_dict : mapping, optional
            The whole new `cache`; its arrays are copied.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If an entry of `cache_dict` is not what this optimizer keeps.
        ValueError
            If a name is unknown or a value invalid; nothing is changed in that case.
        """
        changes = check_mapping("hparam_dict", hparam_dict)
        if "lr" in changes and isinstance(self.lr_scheduler, ConstantScheduler):
            changes.setdefault("lr_scheduler", None)
        cache = self.cache
        if cache_dict is not None:
            states = check_mapping("cache_dict", cache_dict)
            cache = {name: self._copied_state(name, state) for name, state in states.items()}
        super().set_params(changes)
        self.cache = cache
        return self

    def continuing(self, former: "OptimizerBase") -> Self:
        """Take over from another optimizer of the same parameters, unless this one has a state already; return self.

        The state of each parameter goes on if the class is the same. The number of the current step goes on unless
        there is another schedule, which begins with its first step.
        """
        if self.cache or self.cur_step:
            return self
        if type(self) is type(former):
            self.cache = former.cache
        is_same_schedule = self.lr_scheduler == former.lr_scheduler
        if is_same_schedule:
            self.lr_scheduler = former.lr_scheduler  # with its state
        if is_same_schedule or isinstance(self.lr_scheduler, ConstantScheduler):
            self._cur_step = former.cur_step
        return self

    def own_arrays(self) -> None:
        """Replace the state of the parameters by a copy if an array of it cannot be written."""
        if not all(array.flags.writeable for name in self.cache for array in self.states(name)):
            self.cache = {name: self._copied_state(name, state) for name, state in self.cache.items()}

    def without_state(self) -> Self:
        """Return an optimizer of the same arguments that has not taken a step."""
        other = copy.deepcopy(self, {id(self.cache): {}})
        other.cur_step = 0
        other.lr_scheduler = make_scheduler(str(self.lr_scheduler), self._lr)
        return other

    def as_dtype(self, dtype: npt.DTypeLike) -> Self:
        """Return the optimizer with the state of all parameters in this dtype, itself if that is so."""
        if all(array.dtype == dtype for name in self.cache for array in self.states(name)):
            return self
        other = self.copy()
        for name, state in self.cache.items():
            arrays = {key: copy_of(state[key], dtype) for key in self.state_names}
            other.cache[name] = state | arrays if self.state_names else copy_of(state, dtype)
        return other

    def update(self, param: Array, grad: Array, name: str, cur_loss: float | None = None) -> Array:
        """Return the parameter after one update; `param` and `grad` are not changed.

        Parameters
        ----------
        param : array of any shape, float32 or float64
            The parameter.
        grad : array, same shape and dtype
            The gradient of the loss with respect to it.
        name : str
            The parameter's name, under which its state is kept.
        cur_loss : float, optional
            The current loss, for schedulers that depend on it.

        Returns
        -------
        array
            A new array with the shape and dtype of `param`.

        Raises
        ------
        TypeError
            If a dtype is wrong.
        ValueError
            If the shapes differ from each other or from those of earlier updates under this name, or
            if the scheduler needs a loss or a step number and there is none.
        """
        updated = np.array(param, order="C")
        self.update_in_place(updated, np.asarray(grad, order="C"), name, cur_loss)
        return updated

    def __call__(self, param: Array, grad: Array, name: str, cur_loss: float | None = None) -> Array:
        """Do the same as `update`."""
        return self.update(param, grad, name, cur_loss)

    def update_in_place(self, param: Array, grad: Array, name: str, cur_loss: float | None = None) -> None:
        """Update the parameter in its own memory.

        Parameters and errors are those of `update`; both arrays must also be C-contiguous and `param`
        writable (ValueError).
        """
        state = self.checked_state(param, grad, name)
        scalars = np.array(self.scalars(self.lr_scheduler(self.cur_step, cur_loss), param, state))
        self.cache[name] = state
        self.count_update(name)
        run(self.record_update, param, grad, name, scalars)

    def checked_state(self, param: Array, grad: Array, name: str) -> Any:
        """Return a parameter's state, a new one before its first update; raise the errors of `update`."""
        _check_arrays(param, grad)
        state = self._new_state(param) if name not in self.cache else self.cache[name]
        self._check_state(name, state, param)
        return state

    def scalars(self, lr: float, param: Array, state: Any) -> tuple[float, ...]:
        """Return the scalars of the next update: the rate, the gradient's factor (1 until clipped), the constants."""
        eps = getattr(self, "eps", 1)
        if param.dtype.type(eps) == 0:
            raise ValueError(f"eps must not vanish in {param.dtype}, got {eps}")
        return (lr, 1.0, *self._constants(state))

    @property
    def n_scalars(self) -> int:
        """The number of `scalars`."""
        return _RULES[self.rule][1]

    @abstractmethod
    def _constants(self, state: Any) -> tuple[float, ...]:
        """Return the optimizer's own scalars, in the rule's order."""

    def count_update(self, name: str) -> None:
        """Count an update of a parameter if its state includes a count."""
        if self.state_names:
            self.cache[name]["t"] += 1

    def states(self, name: str) -> tuple[Array, ...]:
        """Return the arrays of a parameter's state."""
        return self._arrays(self.cache[name])

    def record_update(self, program: Program, param: Array, grad: Array, name: str, scalars: Scalars) -> None:
        """Record the update of a parameter with a state; `scalars` is read when the program runs."""
        flat = grad.reshape(-1)
        if self.clip_norm is not None:
            kernels.clip(program, flat, scalars, self.clip_norm)
        states = tuple(array.reshape(-1) for array in self.states(name))
        kernels.update(program, self.rule, param.reshape(-1), states, flat, scalars)

    # A parameter's state is an array of its shape or, with `state_names`, a dict of such arrays and of t, the number of
    # updates.

    def _arrays(self, state: Any) -> tuple[Array, ...]:
        return tuple(state[key] for key in self.state_names) if self.state_names else (state,)

    def _new_state(self, param: Array) -> Any:
        if not self.state_names:
            return zeros_like(param)
        return {"t": 0} | {key: zeros_like(param) for key in self.state_names}

    def _check_state(self, name: str, state: Any, param: Array) -> None:
        for kept in self._arrays(state):
            if kept.shape != param.shape or kept.dtype != param.dtype:
                raise ValueError(
                    f"parameter {name!r} must stay {kept.dtype} of shape {kept.shape} as before, "
                    f"got {param.dtype} of shape {param.shape}"
                )

    def check_cache(self, parameters: Mapping[str, Array | None], owner: str) -> None:
        """Raise ValueError unless all states are those of parameters of `owner`, of their shapes and dtypes."""
        for name, state in self.cache.items():
            param = parameters.get(name)
            if param is None:
                raise ValueError(f"the optimizer of {owner} must keep states of {', '.join(parameters)}, got {name!r}")
            self._check_state(name, state, param)

    def _copied_state(self, name: str, state: Any) -> Any:
        if not self.state_names:
            return _copied_array(name, state)
        if not isinstance(state, Mapping) or set(state) != {"t", *self.state_names}:
            found = ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise TypeError(f"cache_dict[{name!r}] must hold {', '.join(('t', *self.state_names))}, got {found}")
        return {"t": check_count(f"t of cache_dict[{name!r}]", state["t"])} | {
            key: _copied_array(name, state[key]) for key in self.state_names
        }


def _check_arrays(param: Array, grad: Array) -> None:
    for label, array in (("param", param), ("grad", grad)):
        if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
            found = getattr(array, "dtype", type(array).__name__)
            raise TypeError(f"{label} must be a float32 or float64 array, got {found}")
        if not array.flags.c_contiguous:
            raise ValueError(f"{label} must be C-contiguous, got strides {array.strides}")
    if grad.dtype != param.dtype:
        raise TypeError(f"grad must have the dtype of param, {param.dtype}, got {grad.dtype}")
    if grad.shape != param.shape:
        raise ValueError(f"grad must have the shape of param, {param.shape}, got {grad.shape}")
    if not param.flags.writeable:
        raise ValueError("param must be writable, got a read-only array")


def _copied_array(name: str, state: Any) -> Array:
    """Return a copy of an array from a `cache_dict`; raise TypeError if it is not one."""
    if not isinstance(state, np.ndarray):
        raise TypeError(f"cache_dict[{name!r}] must hold an array, got {type(state).__name__}")
    return copy_of(state, state.dtype) if state.dtype.kind == "f" else np.array(state, order="C")
