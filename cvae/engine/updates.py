"""The optimizer steps of layers: prepared in Python, recorded once, and taken when a program runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cvae._kernels.program import Program, Watch
from cvae.optim.base import Array, OptimizerBase, Scalars
from cvae.optim.optimizers import SGD, AdaGrad, RMSProp
from cvae.optim.schedulers import ConstantScheduler
from cvae.runtime.programs import start

if TYPE_CHECKING:
    from cvae._kernels._types import Step
    from cvae.nn.base import LayerBase


class _Move:
    """A layer's optimizer, and by name the parameters that it moves, each with its state, which may be a new one."""

    def __init__(self, layer: LayerBase) -> None:
        self.optimizer = layer.optimizer
        self.parameters: dict[str, tuple[Array, Any]] = {}
        for name in _moved(layer):
            parameter = layer.parameters[name]
            assert parameter is not None
            state = self.optimizer.checked_state(parameter, layer.gradients[name], name)
            self.parameters[name] = parameter, state


class Updates:
    """Optimizer steps of the same layers, recorded once and taken again and again."""

    def __init__(self) -> None:
        self._program = Program()
        self._layers: list[LayerBase] = []
        self._moves: list[_Move] = []
        self._watch = Watch()  # over what recordings depend on
        self._is_constant = False  # whether the scalars of all steps are the same
        self._all_scalars = np.empty(0)
        self._scalars: dict[tuple[LayerBase, str], Scalars] = {}  # parts of it

    def apply(self, layers: Sequence[LayerBase], cur_loss: float | None) -> None:
        """Take a step of each layer's optimizer: the parameters move in place, along the layers' `gradients`.

        An error leaves parameters and optimizers as they were; only a scheduler may have taken in the loss.
        """
        if self.prepare(layers, cur_loss):
            self._program = Program()
            for layer in layers:
                self.record(self._program, layer)
        start(self._program)

    def prepare(self, layers: Sequence[LayerBase], cur_loss: float | None) -> bool:
        """Count the next step of each layer's optimizer, and set what it depends on.

        Returns whether it has to be recorded anew. Errors as in `apply`.
        """
        is_new = layers != self._layers or not self._watch.unchanged()
        moves = [_Move(layer) for layer in layers] if is_new else self._moves
        scalars = _next_scalars(moves, cur_loss)
        # All that may fail has been done.
        if is_new:
            self._keep(layers, moves, len(scalars))
        self._all_scalars[:] = scalars
        self._is_constant = all(_is_constant(move.optimizer) for move in moves)
        self._count()
        return is_new

    def prepare_next(self, cur_loss: float | None) -> None:
        """Do the same for layers and optimizers that are known to be as they were at the last step.

        When a training step gets here, the caches hold no Python, so that each name that is looked up costs a few times
        what it seems to: hence no look at what nobody changes.
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

    def _keep(self, layers: Sequence[LayerBase], moves: list[_Move], n_scalars: int) -> None:
        """Take these moves from now on, until what they depend on changes."""
        self._all_scalars, self._scalars, end = np.empty(n_scalars), {}, 0
        for layer, move in zip(layers, moves, strict=True):
            for name, (_, state) in move.parameters.items():
                move.optimizer.cache[name] = state
                start, end = end, end + move.optimizer.n_scalars
                self._scalars[layer, name] = self._all_scalars[start:end]
        self._layers, self._moves, self._watch = [*layers], moves, _watch(layers)

    def record(self, program: Program, layer: LayerBase, names: Sequence[str] | None = None) -> None:
        """Record the prepared step of a layer's parameters, or of some of them, along its `gradients`."""
        for name in _moved(layer) if names is None else names:
            parameter = layer.parameters[name]
            assert parameter is not None
            layer.optimizer.record_update(program, parameter, layer.gradients[name], name, self._scalars[layer, name])

    def step_of(self, layer: LayerBase, name: str) -> Step | None:
        """The prepared step of a parameter for a kernel that computes its gradient bit by bit.

        None if the whole gradient must be known first, as it must to be clipped.
        """
        optimizer = layer.optimizer
        if optimizer.clip_norm is not None:
            return None
        states = tuple(array.reshape(-1) for array in optimizer.states(name))
        return optimizer.rule, states, self._scalars[layer, name]


def _next_scalars(moves: Sequence[_Move], cur_loss: float | None) -> list[float]:
    """The scalars of the next step of all moves, one after another."""
    scalars: list[float] = []
    for move in moves:
        optimizer = move.optimizer
        rate = optimizer.lr_scheduler(optimizer.cur_step + 1, cur_loss)
        for parameter, state in move.parameters.values():
            scalars += optimizer.scalars(rate, parameter, state)
    return scalars


def _is_constant(optimizer: OptimizerBase) -> bool:
    """Whether the scalars of an optimizer's steps are always the same, and no updates are counted."""
    return type(optimizer) in (SGD, AdaGrad, RMSProp) and type(optimizer.lr_scheduler) is ConstantScheduler


def _moved(layer: LayerBase) -> list[str]:
    return [name for name in layer.gradients if layer.parameters.get(name) is not None]


def _watch(layers: Sequence[LayerBase]) -> Watch:
    watched = Watch()
    for layer in layers:
        for attribute in ("optimizer", "parameters", "gradients"):
            watched.add(vars(layer), attribute)
        for attribute in ("clip_norm", "cache"):
            watched.add(vars(layer.optimizer), attribute)
        for name in _moved(layer):
            for entries in (layer.parameters, layer.gradients, layer.optimizer.cache):
                watched.add(entries, name)
            state = layer.optimizer.cache[name]
            for key in state if isinstance(state, dict) else ():
                if isinstance(state[key], np.ndarray):
                    watched.add(state, key)
    return watched
