"""The optimizer steps of layers as one program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cvae._kernels.program import Program
from cvae.optimizer_base import Scalars
from cvae.programs import start

if TYPE_CHECKING:
    from cvae.layers import LayerBase


class Updates:
    """Optimizer steps of the same layers, recorded once and run at every step."""

    def __init__(self) -> None:
        self._program = Program()
        self._scalars: list[Scalars] = []
        self._recorded: list[Any] = []  # the objects of the recording; they live on in it, so that it can be compared

    def apply(self, layers: Sequence[LayerBase], cur_loss: float | None) -> None:
        """Take a step of each layer's optimizer: the parameters move in place, along the layers' `gradients`.

        An error leaves parameters and optimizers as they were; only a scheduler may have taken in the loss.
        """
        moves = [
            (layer.optimizer, parameter, grad, name)
            for layer in layers
            for name, grad in layer.gradients.items()
            if (parameter := layer.parameters.get(name)) is not None
        ]
        is_recorded = self._is_recorded(moves)
        states = [
            optimizer.cache[name] if is_recorded else optimizer.checked_state(parameter, grad, name)
            for optimizer, parameter, grad, name in moves
        ]
        scalars = [
            optimizer.scalars(optimizer.lr_scheduler(optimizer.cur_step + 1, cur_loss), grad, state)
            for (optimizer, _, grad, _), state in zip(moves, states, strict=True)
        ]
        # All that may fail has been done.
        if not is_recorded:
            self._record(moves, states)
        for place, values in zip(self._scalars, scalars, strict=True):
            place[:] = values
        for layer in layers:
            layer.optimizer.step()
        for optimizer, _, _, name in moves:
            optimizer.count_update(name)
        start(self._program)

    def _is_recorded(self, moves: Sequence[tuple[Any, ...]]) -> bool:
        objects = _objects(moves)
        return len(objects) == len(self._recorded) and all(map(_is, objects, self._recorded))

    def _record(self, moves: Sequence[tuple[Any, ...]], states: Sequence[Any]) -> None:
        self._program = Program()
        self._scalars = [np.empty(optimizer.n_scalars) for optimizer, *_ in moves]
        for (optimizer, parameter, grad, name), state, scalars in zip(moves, states, self._scalars, strict=True):
            optimizer.cache[name] = state
            optimizer.record_update(self._program, parameter, grad, name, scalars)
        self._recorded = _objects(moves)


def _objects(moves: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What the recording of the updates depends on."""
    return [part for optimizer, *arrays, name in moves for part in (optimizer, *arrays, *_arrays(optimizer, name))]


def _arrays(optimizer: Any, name: str) -> list[Any]:
    state = optimizer.cache.get(name)
    return [state["mean"], state["var"]] if isinstance(state, dict) else [state]


def _is(a: object, b: object) -> bool:
    return a is b
