"""Optimizer steps of several layers, prepared in Python, recorded once and taken whenever the program runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cvae._kernels import optimizers
from cvae._kernels.program import Program
from cvae.optim.base import Array, OptimizerBase, Scalars
from cvae.optim.schedulers import ConstantScheduler
from cvae.runtime.programs import execute
from cvae.snapshot import Revised, Snapshot

if TYPE_CHECKING:
    from cvae._kernels._types import Step


class Optimized(Revised):
    """What optimizers need of a layer."""

    optimizer: OptimizerBase
    parameters: dict[str, Array | None]
    gradients: dict[str, Array]

    def record_statistics(self, program: Program) -> None:
        """Record what a step changes besides the parameters that have gradients, such as running averages."""

    def batch_statistics(self) -> list[Array]:
        """Return the arrays that the backward pass leaves for `record_statistics`, means over the batch."""
        return []


class _LayerStep:
    """A layer's optimizer and the parameters that it updates, by name, each with its state, possibly a new one."""

    def __init__(self, layer: Optimized) -> None:
        self.optimizer = layer.optimizer
        self.parameters: dict[str, tuple[Array, Any]] = {}
        for name, gradient in layer.gradients.items():
            parameter = layer.parameters.get(name)
            if parameter is not None:
                self.parameters[name] = parameter, self.optimizer.checked_state(parameter, gradient, name)


class Updates:
    """Optimizer steps of the same layers, recorded once and taken repeatedly.

    Layers that share their dictionary of parameters, as a fused block and its convolution do, count as one.

    Attributes
    ----------
    norm_limit : float or None
        Largest L2 norm of the gradients of all layers as one vector; None means no limit.
    """

    norm_limit: float | None = None

    def __init__(self) -> None:
        self._program = Program()
        self._layers: list[Optimized] = []
        self._steps: list[_LayerStep] = []
        self._snapshot = Snapshot([], [])  # of what recordings depend on
        self._is_constant = False  # whether the scalars of all steps are the same
        self._all_scalars = np.empty(0)
        self._scalars: dict[tuple[int, str], Scalars] = {}  # parts of it

    def apply(self, layers: Sequence[Optimized], cur_loss: float | None, norm_limit: float | None = None) -> None:
        """Take a step of each layer's optimizer, updating the parameters in place from the layers' `gradients`.

        An error leaves parameters and optimizers unchanged, except that a scheduler may have recorded the loss.
        """
        if self.prepare(layers, cur_loss, norm_limit):
            self._program = Program()
            self.record_all(self._program)
        execute(self._program)

    def prepare(self, layers: Sequence[Optimized], cur_loss: float | None, norm_limit: float | None = None) -> bool:
        """Begin the next step of each layer's optimizer, set its scalars, and return whether recordings are outdated.

        Errors are those of `apply`.
        """
        is_new = [*layers] != self._layers or norm_limit != self.norm_limit or not self._snapshot.holds()
        if norm_limit is not None:
            _check_clipped_once(layers, norm_limit)
        steps = [_LayerStep(layer) for layer in layers] if is_new else self._steps
        scalars = _next_scalars(steps, cur_loss)
        # Nothing below fails.
        if is_new:
            self._keep(layers, steps, len(scalars))
            self.norm_limit = norm_limit
        self._all_scalars[:] = scalars
        self._is_constant = all(_is_constant(step.optimizer) for step in steps)
        self._count()
        return is_new

    def prepare_next(self, cur_loss: float | None) -> None:
        """Do the same for layers and optimizers that have not changed since the last step.

        The kernels have evicted the interpreter from the cache after a training step, so attribute lookups are slow:
        this skips all checks whose answer cannot have changed.
        """
        if not self._is_constant:
            self._all_scalars[:] = _next_scalars(self._steps, cur_loss)
        self._count()

    def _count(self) -> None:
        for step in self._steps:
            step.optimizer.step()
            if not self._is_constant:
                for name in step.parameters:
                    step.optimizer.count_update(name)

    def _keep(self, layers: Sequence[Optimized], steps: list[_LayerStep], n_scalars: int) -> None:
        """Keep these steps until something that they depend on changes."""
        self._all_scalars, self._scalars, end = np.empty(n_scalars), {}, 0
        for layer, step in zip(layers, steps, strict=True):
            for name, (_, state) in step.parameters.items():
                step.optimizer.cache[name] = state
                first, end = end, end + step.optimizer.n_scalars
                self._scalars[id(layer.parameters), name] = self._all_scalars[first:end]
        optimizers = [layer.optimizer for layer in layers]
        caches = [optimizer.cache for optimizer in optimizers]
        states = [state for cache in caches for state in cache.values() if isinstance(state, dict)]
        arrays = [mapping for layer in layers for mapping in (layer.parameters, layer.gradients)]
        self._snapshot = Snapshot([*layers, *optimizers], [*arrays, *caches, *states])
        self._layers, self._steps = [*layers], steps

    def record_all(self, program: Program) -> None:
        """Record the prepared steps of all layers from their `gradients`, which are limited together."""
        if self.norm_limit is not None:
            pairs = [(layer, name) for layer in self._layers for name in layer.gradients]
            updated = [(layer, name) for layer, name in pairs if layer.parameters.get(name) is not None]
            gradients = tuple(layer.gradients[name].reshape(-1) for layer, name in updated)
            scalars = tuple(self._scalars[id(layer.parameters), name] for layer, name in updated)
            optimizers.clip_together(program, gradients, scalars, self.norm_limit)
        for layer in self._layers:
            self.record(program, layer)

    def record(self, program: Program, layer: Optimized, names: Sequence[str] | None = None) -> None:
        """Record the prepared step of some of a layer's parameters from its `gradients`, or its whole step."""
        for name in layer.gradients if names is None else names:
            parameter = layer.parameters.get(name)
            if parameter is not None:
                scalars = self._scalars[id(layer.parameters), name]
                layer.optimizer.record_update(program, parameter, layer.gradients[name], name, scalars)
        if names is None:
            layer.record_statistics(program)

    def of(self, layer: Optimized, name: str) -> Step | None:
        """Return the prepared step of a parameter, for a kernel that computes its gradient in parts.

        Return None if the whole gradient must be known first, as for clipping.
        """
        optimizer = layer.optimizer
        if optimizer.clip_norm is not None:
            return None
        states = tuple(array.reshape(-1) for array in optimizer.states(name))
        return optimizer.rule, states, self._scalars[id(layer.parameters), name]


def _check_clipped_once(layers: Sequence[Optimized], norm_limit: float) -> None:
    """Raise ValueError if an optimizer clips gradients that are limited together already."""
    for layer in layers:
        if layer.optimizer.clip_norm is not None and layer.gradients:
            raise ValueError(
                f"global_clip_norm must be None with an optimizer that has a clip_norm, got {norm_limit!r} and "
                f"{layer.optimizer}"
            )


def _next_scalars(steps: Sequence[_LayerStep], cur_loss: float | None) -> list[float]:
    """Return the scalars of the next steps, concatenated."""
    scalars: list[float] = []
    for step in steps:
        optimizer = step.optimizer
        rate = optimizer.lr_scheduler(optimizer.cur_step + 1, cur_loss)
        for parameter, state in step.parameters.values():
            scalars += optimizer.scalars(rate, parameter, state)
    return scalars


def _is_constant(optimizer: OptimizerBase) -> bool:
    """Return whether an optimizer's scalars are the same in all steps, and no updates are counted."""
    is_constant = vars(type(optimizer)).get("is_constant", False)  # of the class itself: see `OptimizerBase`
    return is_constant and type(optimizer.lr_scheduler) is ConstantScheduler
