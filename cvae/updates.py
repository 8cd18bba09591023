"""The optimizer steps of layers: prepared in Python, recorded once, and taken when a program runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cvae._kernels.program import Program
from cvae.optimizer_base import Array, Scalars
from cvae.programs import start

if TYPE_CHECKING:
    from cvae.layers import LayerBase

Step = tuple[str, tuple[Array, ...], Scalars]  # of a parameter: the optimizer's rule, its states, and its scalars


class Updates:
    """Optimizer steps of the same layers, recorded once and taken again and again."""

    def __init__(self) -> None:
        self._program = Program()
        self._scalars: dict[tuple[LayerBase, str], Scalars] = {}
        self._prepared: list[Any] = []  # the objects that recordings depend on; kept, so that they can be compared

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
        moves = [(layer, name) for layer in layers for name in _moved(layer)]
        is_prepared = _is_same(_objects(moves), self._prepared)
        states, scalars = [], []
        for layer, name in moves:
            optimizer, parameter = layer.optimizer, layer.parameters[name]
            assert parameter is not None
            states.append(
                optimizer.cache[name]
                if is_prepared
                else optimizer.checked_state(parameter, layer.gradients[name], name)
            )
            rate = optimizer.lr_scheduler(optimizer.cur_step + 1, cur_loss)
            scalars.append(optimizer.scalars(rate, parameter, states[-1]))
        # All that may fail has been done.
        if not is_prepared:
            for (layer, name), state in zip(moves, states, strict=True):
                layer.optimizer.cache[name] = state
            self._scalars = {(layer, name): np.empty(layer.optimizer.n_scalars) for layer, name in moves}
            self._prepared = _objects(moves)
        for layer in layers:
            layer.optimizer.step()
        for (layer, name), values in zip(moves, scalars, strict=True):
            self._scalars[layer, name][:] = values
            layer.optimizer.count_update(name)
        return not is_prepared

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


def _objects(moves: Sequence[tuple[LayerBase, str]]) -> list[Any]:
    """What recordings of the updates depend on."""
    objects: list[Any] = []
    for layer, name in moves:
        optimizer = layer.optimizer
        states = optimizer.states(name) if name in optimizer.cache else ()
        clips = optimizer.clip_norm is not None
        objects += (optimizer, layer.parameters[name], layer.gradients[name], clips, *states)
    return objects


def _is_same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
