"""The optimizer steps of several layers: prepared in Python, recorded once, and taken when a program runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cvae._kernels.program import Program
from cvae.optim.base import Array, OptimizerBase, Scalars
from cvae.optim.optimizers import SGD, AdaGrad, RMSProp
from cvae.optim.schedulers import ConstantScheduler
from cvae.runtime.programs import execute
from cvae.snapshot import Revised, Snapshot

if TYPE_CHECKING:
    from cvae._kernels._types import Step


class Optimized(Revised):
    """A layer, as far as optimizers are concerned."""

    optimizer: OptimizerBase
    parameters: dict[str, Array | None]
    gradients: dict[str, Array]


class _Move:
    """A layer's optimizer, and by name the parameters that it moves, each with its state, which may be a new one."""

    def __init__(self, layer: Optimized) -> None:
        self.optimizer = layer.optimizer
        self.parameters: dict[str, tuple[Array, Any]] = {}
        for name, gradient in layer.gradients.items():
            parameter = layer.parameters.get(name)
            if parameter is not None:
                self.parameters[name] = parameter, self.optimizer.checked_state(parameter, gradient, name)


class Updates:
    """Optimizer steps of the same layers, recorded once and taken again and again.

    Layers that share their dictionary of parameters, as a fused block and what it is made of, are one.
    """

    def __init__(self) -> None:
        self._program = Program()
        self._layers: list[Optimized] = []
        self._moves: list[_Move] = []
        self._snapshot = Snapshot([], [])  # of what recordings depend on
        self._is_constant = False  # whether the scalars of all steps are the same
        self._all_scalars = np.empty(0)
        self._scalars: dict[tuple[int, str], Scalars] = {}  # parts of it

    def apply(self, layers: Sequence[Optimized], cur_loss: float | None) -> None:
        """Take a step of each layer's optimizer: the parameters move in place, along the layers' `gradients`.

        An error leaves parameters and optimizers as they were; only a scheduler may have taken in the loss.
        """
        if self.prepare(layers, cur_loss):
            self._program = Program()
            for layer in layers:
                self.record(self._program, layer)
        execute(self._program)

    def prepare(self, layers: Sequence[Optimized], cur_loss: float | None) -> bool:
        """Count the next step of each layer's optimizer, and set the scalars that it depends on.

        Returns whether what was recorded before is out of date. Errors as in `apply`.
        """
        is_new = [*layers] != self._layers or not self._snapshot.holds()
        moves = [_Move(layer) for layer in layers] if is_new else self._moves
        scalars = _next_scalars(moves, cur_loss)
        # Nothing fails from here on.
        if is_new:
            self._keep(layers, moves, len(scalars))
        self._all_scalars[:] = scalars
        self._is_constant = all(_is_constant(move.optimizer) for move in moves)
        self._count()
        return is_new

    def prepare_next(self, cur_loss: float | None) -> None:
        """Do the same for layers and optimizers that nobody has changed since the last step.

        After a training step the kernels have evicted the interpreter from cache, so attribute lookups are slow: this
        leaves out all checks whose answer cannot have changed.
        """
        if not self._is_constant:
            self._all_scalars[:] = _next_scalars(self._moves, cur_loss)
        self._count()

    def _count(self) -> None:
        for move in self._moves:
            move.optimizer.step()
            if not self._is_constant:
                for name in move.parameters:
                    move.optimizer.count_update(name)

    def _keep(self, layers: Sequence[Optimized], moves: list[_Move], n_scalars: int) -> None:
        """Use these moves from now on, until what they depend on changes."""
        self._all_scalars, self._scalars, end = np.empty(n_scalars), {}, 0
        for layer, move in zip(layers, moves, strict=True):
            for name, (_, state) in move.parameters.items():
                move.optimizer.cache[name] = state
                first, end = end, end + move.optimizer.n_scalars
                self._scalars[id(layer.parameters), name] = self._all_scalars[first:end]
        self._layers, self._moves, self._snapshot = [*layers], moves, _snapshot(layers)

    def record(self, program: Program, layer: Optimized, names: Sequence[str] | None = None) -> None:
        """Record the prepared step of a layer's parameters, or of some of them, along its `gradients`."""
        for name in layer.gradients if names is None else names:
            parameter = layer.parameters.get(name)
            if parameter is not None:
                scalars = self._scalars[id(layer.parameters), name]
                layer.optimizer.record_update(program, parameter, layer.gradients[name], name, scalars)

    def of(self, layer: Optimized, name: str) -> Step | None:
        """Return the prepared step of a parameter, for a kernel that computes its gradient part by part.

        None if the whole gradient must be known first, as it must to be clipped.
        """
        optimizer = layer.optimizer
        if optimizer.clip_norm is not None:
            return None
        states = tuple(array.reshape(-1) for array in optimizer.states(name))
        return optimizer.rule, states, self._scalars[id(layer.parameters), name]


def _next_scalars(moves: Sequence[_Move], cur_loss: float | None) -> list[float]:
    """Return the scalars of the next step of all moves, one after another."""
    scalars: list[float] = []
    for move in moves:
        optimizer = move.optimizer
        rate = optimizer.lr_scheduler(optimizer.cur_step + 1, cur_loss)
        for parameter, state in move.parameters.values():
            scalars += optimizer.scalars(rate, parameter, state)
    return scalars


def _is_constant(optimizer: OptimizerBase) -> bool:
    """Return whether the scalars of an optimizer's steps are always the same, and no updates are counted."""
    return type(optimizer) in (SGD, AdaGrad, RMSProp) and type(optimizer.lr_scheduler) is ConstantScheduler


def _snapshot(layers: Sequence[Optimized]) -> Snapshot:
    optimizers = [layer.optimizer for layer in layers]
    states = [state for each in optimizers for state in each.cache.values() if isinstance(state, Mapping)]
    arrays = [mapping for layer in layers for mapping in (layer.parameters, layer.gradients)]
    return Snapshot([*layers, *optimizers], [*arrays, *(each.cache for each in optimizers), *states])
