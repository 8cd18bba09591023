"""The optimizer steps of layers: prepared in Python, recorded once, and taken when a program runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cvae._kernels.program import Program, Watch
from cvae.optimizer_base import Scalars
from cvae.programs import start

if TYPE_CHECKING:
    from cvae._kernels._types import Step
    from cvae.layers import LayerBase


class Updates:
    """Optimizer steps of the same layers, recorded once and taken again and again."""

    def __init__(self) -> None:
        self._program = Program()
        self._layers: list[LayerBase] = []
        self._watch = Watch()  # over what recordings depend on
        self._scalars: dict[tuple[LayerBase, str], Scalars] = {}

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
        moves, states, scalars = [], [], []
        for layer in layers:
            optimizer = layer.optimizer
            rate = optimizer.lr_scheduler(optimizer.cur_step + 1, cur_loss)
            for name in _moved(layer):
                parameter = layer.parameters[name]
                assert parameter is not None
                state = optimizer.cache.get(name)
                if is_new:
                    state = optimizer.checked_state(parameter, layer.gradients[name], name)
                moves.append((layer, name))
                states.append(state)
                scalars.append(optimizer.scalars(rate, parameter, state))
        # All that may fail has been done.
        if is_new:
            for (layer, name), state in zip(moves, states, strict=True):
                layer.optimizer.cache[name] = state
            self._layers, self._watch = [*layers], _watch(layers)
            self._scalars = {(layer, name): np.empty(layer.optimizer.n_scalars) for layer, name in moves}
        for layer in layers:
            layer.optimizer.step()
        for (layer, name), values in zip(moves, scalars, strict=True):
            self._scalars[layer, name][:] = values
            layer.optimizer.count_update(name)
        return is_new

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
