"""The optimizer steps of all layers as one program."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cvae._kernels.program import Program
from cvae.layers import LayerBase
from cvae.optimizers import Scalars
from cvae.programs import start


class Updates:
    """What `LayerBase.apply_gradients` does, for many layers at once, recorded once and run at every step."""

    def __init__(self) -> None:
        self._program = Program()
        self._scalars: list[Scalars] = []
        self._recorded: list[Any] = []  # the objects of the recording; they live on in it, so that it can be compared

    def apply(self, layers: Sequence[LayerBase], cur_loss: float | None) -> None:
        """Move the parameters of the layers that are trainable, in place, along their `gradients`."""
        trained = [layer for layer in layers if layer.trainable]
        moves = [
            (layer.optimizer, parameter, grad, name)
            for layer in trained
            for name, grad in layer.gradients.items()
            if (parameter := layer.parameters[name]) is not None
        ]
        for layer in trained:
            layer.optimizer.step()
        rates = [optimizer.lr_scheduler(optimizer.cur_step, cur_loss) for optimizer, *_ in moves]
        self._record(moves)
        for values, lr, (optimizer, _, grad, name) in zip(self._scalars, rates, moves, strict=True):
            values[:] = optimizer.scalars(lr, grad, optimizer.cache[name])
        start(self._program)

    def _record(self, moves: Sequence[tuple[Any, ...]]) -> None:
        now = [part for optimizer, *arrays, name in moves for part in (optimizer, *arrays, *_arrays(optimizer, name))]
        if len(now) == len(self._recorded) and all(map(_is, now, self._recorded)):
            return
        self._program, self._scalars, self._recorded = Program(), [], []
        for optimizer, parameter, grad, name in moves:
            optimizer.cache[name] = optimizer.checked_state(parameter, grad, name)
            self._scalars.append(np.empty(optimizer.n_scalars))
            optimizer.record_update(self._program, parameter, grad, name, self._scalars[-1])
            self._recorded += [optimizer, parameter, grad, *_arrays(optimizer, name)]


def _arrays(optimizer: Any, name: str) -> list[Any]:
    state = optimizer.cache.get(name)
    return [state["mean"], state["var"]] if isinstance(state, dict) else [state]


def _is(a: object, b: object) -> bool:
    return a is b
