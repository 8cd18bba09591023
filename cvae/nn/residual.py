"""Residual blocks: what layers put out is added to what they got."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cvae._kernels import elementwise
from cvae._kernels.program import Program
from cvae.nn.activated import ActivatedLayer
from cvae.nn.base import LayerBase
from cvae.nn.protocol import Array, Arrays, Shape
from cvae.nn.sequence import Layers, initialize_through, make_layer, make_layers, shape_through

SHORTCUT = "shortcut"


class Residual(ActivatedLayer):
    """``Y = act_fn(X + f(X))`` for layers f in a row (He et al. 2016).

    Parameters
    ----------
    layers : sequence of layers or their call strings
        At least one. Layers are copied, and have no optimizers of their own.
    shortcut : layer or call string, optional
        Takes the place of the X that is added, for layers that change its shape: for example
        ``"Conv2D(out_ch=64, kernel_shape=1, stride=2)"``.
    act_fn : str, activation or None
        None means the identity.
    optimizer : str, dict, optimizer or None
        Updates the parameters of all these layers, each with a state of its own.
    dtype : {"float32", "float64"}
    random_state : int, numpy.random.Generator or None
        Source of the starting weights.

    Attributes
    ----------
    layers : tuple of layers
        The block's own.
    shortcut : layer or None
    parameters, gradients : dict of arrays
        Those of all layers, under names such as "Conv2D_1/W" and "shortcut/W". They are frozen together.

    Raises
    ------
    ValueError
        From `forward`, if the two shapes that are to be added differ.

    Examples
    --------
    >>> import numpy as np
    >>> block = Residual([Residual(["FullyConnected(n_out=3)"]), "FullyConnected(3, act_fn='ReLU')"], random_state=0)
    >>> block.forward(np.ones((2, 3))).shape
    (2, 3)
    >>> list(block.parameters)
    ['Residual_1/FullyConnected_1/W', 'Residual_1/FullyConnected_1/b', 'FullyConnected_2/W', 'FullyConnected_2/b']
    """

    def __init__(
        self,
        layers: Sequence[LayerBase | str],
        shortcut: LayerBase | str | None = None,
        act_fn: Any = None,
        optimizer: Any = None,
        *,
        dtype: npt.DTypeLike = "float32",
        random_state: Any = None,
    ) -> None:
        self._row, self._inner = Layers(), Layers()
        super().__init__(act_fn, optimizer, dtype, random_state)
        self._take_layers(layers, shortcut)

    def _take_layers(self, layers: Sequence[LayerBase | str], shortcut: LayerBase | str | None) -> None:
        """Make the block of copies of these layers."""
        row = make_layers(layers, "layers")
        if not row:
            raise ValueError("layers must be at least 1 layer, got none")
        inner = Layers(row) if shortcut is None else Layers(row, **{SHORTCUT: make_layer(shortcut, SHORTCUT)})
        for name, layer in inner.items():
            if layer._has_own_optimizer or not layer.trainable:
                raise ValueError(f"{name} must share optimizer and freezing with its Residual, got its own: {layer!r}")
            layer.join(optimizer=None, dtype=self.dtype, rng=self.rng)
        self._row, self._inner = row, inner
        self.input_ndim = next(iter(row.values())).input_ndim
        self._collect()

    def _collect(self) -> None:
        """Make the dictionaries of parameters and gradients anew from those of the layers."""
        with_parameters = [layer for layer in self._inner.values() if layer.parameters]
        self.parameters = self._of_all("parameters")
        self.gradients = self._of_all("gradients")
        self._note()
        self._retained = []
        self.is_initialized = all(layer.is_initialized for layer in with_parameters)

    def _has_arrays_of_layers(self) -> bool:
        """Return whether no layer has got another array since `_collect`."""
        pairs = ((self.parameters, self._of_all("parameters")), (self.gradients, self._of_all("gradients")))
        return all(own.get(path) is array for own, now in pairs for path, array in now.items())

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the block, also from joblib's pickles, which turn an array in two dictionaries into two arrays."""
        super().__setstate__(state)
        if not self._has_arrays_of_layers():
            self._collect()
        self._note()

    def _note(self) -> None:
        """Note which arrays the dictionary of parameters holds, so that another one is known to be a user's."""
        self._ids = {path: id(array) for path, array in self.parameters.items()}

    def adopt_parameters(self, path: str) -> None:
        """Adopt what has been assigned to the parameters of the block or of its layers."""
        for place, value in self.parameters.items():
            if id(value) != self._ids.get(place):
                name, _, key = place.partition("/")
                self._inner[name].parameters[key] = value
        for name, layer in self._inner.items():
            layer.adopt_parameters(f"{path}/{name}")
        if not self._has_arrays_of_layers():
            self._collect()

    def _of_all(self, attribute: str) -> dict[str, Any]:
        return {
            f"{name}/{key}": v for name, layer in self._inner.items() for key, v in getattr(layer, attribute).items()
        }

    @property
    def layers(self) -> tuple[LayerBase, ...]:
        """The layers in a row."""
        return tuple(self._row.values())

    @property
    def shortcut(self) -> LayerBase | None:
        """What takes the place of the X that is added, or None."""
        return self._inner.get(SHORTCUT)

    @property
    def trainable(self) -> bool:
        """Whether the parameters are updated, of all layers or of none."""
        return self._trainable

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        self._trainable = trainable
        for layer in self._inner.values():
            layer.trainable = trainable

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The constructor arguments, layers as call strings, with the state of the optimizer."""
        shortcut = None if self.shortcut is None else repr(self.shortcut)
        return super().hyperparameters | {"layers": tuple(map(repr, self.layers)), SHORTCUT: shortcut}

    def parts(self) -> list[LayerBase]:  # type: ignore[override]
        return [self, *(part for layer in self._inner.values() for part in layer.parts())]

    # ------------------------------------------------------------ the protocol

    def output_shape(self, in_shape: Shape) -> Shape:
        shape = shape_through("Residual", self._row, in_shape)
        beside = in_shape if self.shortcut is None else shape_through("Residual", {SHORTCUT: self.shortcut}, in_shape)
        if shape != beside:
            hint = " (a shortcut such as Conv2D(out_ch, 1, stride=stride)?)" if self.shortcut is None else ""
            raise ValueError(f"layers of Residual must put out the shape {beside[1:]}, got {shape[1:]}{hint}")
        return shape

    def multiplications(self, in_shape: Shape) -> int:
        return sum(self._inner[name].multiplications(shape) for name, shape in self._inputs(in_shape))

    def n_parameters(self, in_shape: Shape) -> int:
        return sum(self._inner[name].n_parameters(shape) for name, shape in self._inputs(in_shape))

    def initialize(self, in_shape: Shape) -> None:
        if not self.is_initialized:
            self.output_shape(in_shape)
        initialize_through(self._row.values(), in_shape)
        if self.shortcut is not None:
            self.shortcut.initialize(in_shape)
        if not self._has_arrays_of_layers():
            self._collect()

    @property
    def reads_labels(self) -> bool:  # type: ignore[override]
        """Whether a layer of the block does."""
        return any(layer.reads_labels for layer in self._inner.values())

    def expect_labels(self, n_labels: int) -> None:
        for layer in self._inner.values():
            layer.expect_labels(n_labels)

    def reading(self, labels: Array) -> Self:
        if not self.reads_labels:
            return self
        if not self._has_arrays_of_layers():
            self._collect()
        reader = copy.copy(self)
        reader._retained = self._retained
        reader._inner = Layers((name, layer.reading(labels)) for name, layer in self._inner.items())
        reader._row = Layers((name, reader._inner[name]) for name in self._row)
        return reader

    def saved(self, in_shape: Shape) -> dict[str, tuple[Shape, npt.DTypeLike]]:
        """Return what the layers save, their outputs, and two places for gradients.

        A layer's gradient is needed only until that of the layer below is known, so two places serve all. They are none
        of the outputs, because several backward passes may follow a forward pass.
        """
        found, largest = super().saved(in_shape), math.prod(in_shape[1:])
        for name, shape in self._inputs(in_shape):
            layer = self._inner[name]
            out_shape = layer.output_shape(shape)
            found |= {f"{name}/{key}": specification for key, specification in layer.saved(shape).items()}
            if not layer.is_view:
                found[f"output of {name}"] = out_shape, self.dtype
            largest = max(largest, math.prod(out_shape[1:]))
        return found | {f"gradient {i}": ((in_shape[0], largest), self.dtype) for i in range(2)}

    def _inputs(self, in_shape: Shape) -> list[tuple[str, Shape]]:
        """Return the layers' names with the shapes of their inputs, the shortcut last."""
        inputs, shape = [], in_shape
        for name, layer in self._row.items():
            inputs.append((name, shape))
            shape = layer.output_shape(shape)
        return inputs + ([] if self.shortcut is None else [(SHORTCUT, in_shape)])

    @property
    def _beside(self) -> Layers:
        """The shortcut as layers in a row: none if X itself is added."""
        return Layers() if self.shortcut is None else Layers({SHORTCUT: self.shortcut})

    def record_preactivation(
        self, program: Program, x: Array, z: Array, saved: Arrays, *, relu: bool, training: bool
    ) -> None:
        ends = []
        for row in (self._row, self._beside):
            outputs = _outputs(row, x, saved)
            for (name, layer), below, y in zip(row.items(), outputs, outputs[1:], strict=False):
                if not layer.is_view:
                    layer.record_forward(program, below, y, _part(saved, name), training=training)
            ends.append(outputs[-1].reshape(-1))
        elementwise.add(program, z.reshape(-1), *ends, relu=relu)

    def record_preactivation_backward(
        self, program: Program, dx: Array | None, dz: Array, x: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        if dx is None and grads is None:
            return
        own_dz = _place(saved, 0, dz.shape)  # layers may overwrite the gradient that they get
        elementwise.copy(program, own_dz.reshape(-1), dz.reshape(-1))
        self._record_row_backward(program, self._row, dx, own_dz, x, saved, grads)
        beside = None if dx is None else _place(saved, 1, x.shape)
        self._record_row_backward(program, self._beside, beside, dz, x, saved, grads)
        if dx is not None and beside is not None:
            elementwise.add(program, dx.reshape(-1), dx.reshape(-1), beside.reshape(-1), relu=False)

    def _record_row_backward(
        self, program: Program, row: Layers, dx: Array | None, dy: Array, x: Array, saved: Arrays, grads: Arrays | None
    ) -> None:
        """Record the gradients of layers in a row; dy is in place 0, or the row has less than two layers."""
        outputs, place = _outputs(row, x, saved), 0
        working = [i for i, layer in enumerate(row.values()) if not layer.is_view]
        for i in reversed(working):
            name, layer = list(row.items())[i]
            below, y, place = outputs[i], outputs[i + 1], 1 - place
            own = None if grads is None or not layer.parameters else _part(grads, name)
            to = _place(saved, place, below.shape) if i != working[0] else dx
            dx_below = None if to is None else to.reshape(below.shape)
            layer.record_backward(program, dx_below, dy.reshape(y.shape), below, y, _part(saved, name), own)
            dy = dy if to is None else to
        if dx is not None and not working:
            elementwise.copy(program, dx.reshape(-1), dy.reshape(-1))

    def record_statistics(self, program: Program) -> None:
        for layer in self._inner.values():
            layer.record_statistics(program)

    # --------------------------------------------------- numpy-ml's interface

    def flush_gradients(self) -> None:
        super().flush_gradients()
        for layer in self._inner.values():
            layer.flush_gradients()

    def join(self, *, optimizer: Any, dtype: npt.DTypeLike, rng: np.random.Generator | None) -> None:
        own_rng = self.rng if self._has_own_rng else rng
        for layer in self._inner.values():
            layer.join(optimizer=None, dtype=dtype, rng=own_rng)
        super().join(optimizer=optimizer, dtype=dtype, rng=rng)

    def take_dtype(self, dtype: npt.DTypeLike) -> None:
        for layer in self._inner.values():
            layer.take_dtype(dtype)
        super().take_dtype(dtype)

    def _set_dtype(self, dtype: np.dtype[Any]) -> None:
        super()._set_dtype(dtype)
        for layer in self._inner.values():
            layer._set_dtype(dtype)

    def _set_hyperparameter(self, name: str, value: Any) -> None:
        if name not in ("layers", SHORTCUT):
            super()._set_hyperparameter(name, value)
            return
        before = self.hyperparameters[name]
        arguments = {"layers": self.layers, SHORTCUT: self.shortcut, name: value}
        if Residual(**arguments).hyperparameters[name] == before:
            return
        if any(array is not None for array in self.parameters.values()):
            raise ValueError(f"{name} must stay {before!r} once there are parameters, got {value!r}")
        self._take_layers(**arguments)

    def _set_parameters(self, parameters: Mapping[str, npt.ArrayLike]) -> None:
        by_layer: dict[str, dict[str, npt.ArrayLike]] = {}
        for path, value in parameters.items():
            name, _, key = path.partition("/")
            by_layer.setdefault(name, {})[key] = value
        for name, of_layer in by_layer.items():
            self._inner[name]._set_parameters(of_layer)
        self._collect()

    def _check_sizes(self) -> None:
        for layer in self._inner.values():
            layer._check_sizes()


def _part(arrays: Arrays, name: str) -> dict[str, Array]:
    """Return the arrays of a layer out of those of all, by the names that it gives them."""
    prefix = f"{name}/"
    return {path.removeprefix(prefix): array for path, array in arrays.items() if path.startswith(prefix)}


def _place(saved: Arrays, place: int, shape: Shape) -> Array:
    """Return an array of this shape at one of the two places for gradients."""
    return saved[f"gradient {place}"].reshape(-1)[: math.prod(shape)].reshape(shape)


def _outputs(row: Layers, x: Array, saved: Arrays) -> list[Array]:
    """Return x and the layers' outputs for it."""
    outputs = [x]
    for name, layer in row.items():
        below = outputs[-1]
        outputs.append(below.reshape(layer.output_shape(below.shape)) if layer.is_view else saved[f"output of {name}"])
    return outputs
