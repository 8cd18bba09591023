"""What all layers share: retained inputs, parameters, gradients, the optimizer, saving and restoring their state.

The interface is numpy-ml's; `_forward_one` and `_backward_one` are what each layer adds to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels import elementwise
from cvae._kernels.program import Program
from cvae.engine.updates import Updates
from cvae.nn.activations import ActivationBase, Affine, ReLU
from cvae.nn.initializers import ActivationInitializer, OptimizerInitializer, WeightInitializer
from cvae.optim.base import OptimizerBase
from cvae.random import make_rng
from cvae.runtime.programs import run
from cvae.runtime.workspace import copy_of, zeros_like

Array = npt.NDArray[Any]


class LayerBase(ABC):
    """Base of all layers.

    Parameters
    ----------
    optimizer : str, dict, optimizer or None
        How `update` changes the parameters; None is plain SGD.  An optimizer instance is copied.
    dtype : {"float32", "float64"}
        Of parameters, activations and gradients; inputs are converted to it.

    Attributes
    ----------
    X : list of arrays
        The inputs that `forward` retained, each waiting for a gradient.
    parameters, gradients : dict of arrays
        Parameters by name, and the sums of their gradients since the last `flush_gradients`.
    derived_variables : dict of lists
        Values that `forward` retained beside `X`, an entry for each retained input.
    trainable : bool
        False after `freeze`: gradients pass through, parameters stay as they are.
    """

    input_ndim: int | None = None

    def __init__(self, optimizer: Any = None, *, dtype: npt.DTypeLike = "float32") -> None:
        self.X: list[Array] = []
        self.act_fn: ActivationBase | None = None
        self.trainable = True
        self.optimizer: OptimizerBase = OptimizerInitializer(optimizer)()
        self.dtype = check_dtype(dtype)
        self.is_initialized = False
        self.parameters: dict[str, Array | None] = {}
        self.gradients: dict[str, Array] = {}
        self.derived_variables: dict[str, list[Any]] = {}

    @property
    @abstractmethod
    def hyperparameters(self) -> dict[str, Any]:
        """The constructor's arguments and what follows from them, with the state of the optimizer."""

    @abstractmethod
    def output_shape(self, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the output for an input of shape `in_shape`; ValueError if there is none."""

    @abstractmethod
    def _forward_one(self, X: Array, retain_derived: bool) -> Array:
        """The output for X; appends to `derived_variables` if asked to."""

    @abstractmethod
    def _backward_one(self, dLdy: Array, index: int, retain_grads: bool) -> Array:
        """The gradient for the retained input `index`; adds to `gradients` if asked to."""

    def initialize(self, in_shape: tuple[int, ...]) -> None:
        """Create the parameters for inputs of shape `in_shape`, unless they are there."""

    def forward(self, X: npt.ArrayLike, retain_derived: bool = True) -> Array:
        """The layer's output.

        Parameters
        ----------
        X : array
            A batch; the first axis is the examples'.
        retain_derived : bool
            Whether to keep what `backward` needs.

        Raises
        ------
        ValueError
            If `X` has not the layer's number of axes or channels.
        """
        X = self._check_input(X)
        self.initialize(X.shape)
        Y = self._forward_one(X, retain_derived)
        if retain_derived:
            self.X.append(X)
        return Y

    def backward(self, dLdy: npt.ArrayLike | Sequence[Array], retain_grads: bool = True) -> Any:
        """The gradient of the loss with respect to the retained inputs.

        Parameters
        ----------
        dLdy : array, or list of arrays
            The gradient with respect to each output, one for each retained `forward`, in their order.
        retain_grads : bool
            Whether the parameters' gradients are added to `gradients`.

        Returns
        -------
        array if one input was retained, else list of arrays

        Raises
        ------
        RuntimeError
            If no input was retained.
        ValueError
            If the number or a shape of the gradients is not that of the outputs.
        """
        if not self.X:
            raise RuntimeError("backward needs a forward with retain_derived=True before it, got none")
        grads = list(dLdy) if isinstance(dLdy, (list, tuple)) else [dLdy]
        if len(grads) != len(self.X):
            raise ValueError(f"dLdy must hold {len(self.X)} gradients, one for each retained input, got {len(grads)}")
        dY = [self._check_gradient(grad, index) for index, grad in enumerate(grads)]
        dX = [self._backward_one(grad, index, retain_grads) for index, grad in enumerate(dY)]
        return dX[0] if len(self.X) == 1 else dX

    def update(self, cur_loss: float | None = None) -> None:
        """Take an optimizer step with the gathered gradients, then flush them; a frozen layer only flushes."""
        if self.trainable:
            self.apply_gradients(cur_loss)
        self.flush_gradients()

    def apply_gradients(self, cur_loss: float | None = None) -> None:
        """Take an optimizer step: all parameters are changed in place, or none after an error."""
        Updates().apply([self], cur_loss)

    def flush_gradients(self) -> None:
        """Forget the retained inputs and derived values and set the gradients to zero."""
        self.X = []
        for values in self.derived_variables.values():
            values.clear()
        for grad in self.gradients.values():
            grad.fill(0)

    def freeze(self) -> None:
        """Keep the parameters as they are from now on; gradients still pass through."""
        self.trainable = False

    def unfreeze(self) -> None:
        """Train the parameters again."""
        self.trainable = True

    def summary(self) -> dict[str, Any]:
        """The layer's name, parameters and hyperparameters (the arrays are the layer's own, not copies)."""
        hyperparameters = self.hyperparameters
        return {"layer": hyperparameters["layer"], "parameters": self.parameters, "hyperparameters": hyperparameters}

    def set_params(self, summary_dict: Mapping[str, Any]) -> LayerBase:
        """Restore what `summary` returned, or single values by name; arrays are copied.

        Parameters
        ----------
        summary_dict : dict
            Its "parameters" and "hyperparameters" and its other entries are taken together.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a name is not known, a parameter's shape does not fit, or the summary is another layer's.
        """
        values = {k: v for k, v in summary_dict.items() if k not in ("parameters", "hyperparameters")}
        values |= summary_dict.get("hyperparameters", {})
        known = self.hyperparameters
        layer = values.pop("layer", known["layer"])
        if layer != known["layer"]:
            raise ValueError(f"layer must be {known['layer']!r}, got {layer!r}")
        parameters = dict(summary_dict.get("parameters", {}))
        parameters |= {k: values.pop(k) for k in list(values) if k in self.parameters}
        for name in [*values, *parameters]:
            if name not in known and name not in self.parameters:
                raise ValueError(f"set_params must get names out of {sorted({*known, *self.parameters})}, got {name!r}")
        parameters = {k: v for k, v in parameters.items() if v is not None}
        before = dict(self.__dict__)
        try:
            for name, value in values.items():
                self._set_hyperparameter(name, value)
            if parameters:
                self._set_parameters(parameters)
            self._check_sizes()
        except (TypeError, ValueError):
            self.__dict__.update(before)
            raise
        return self

    def _check_sizes(self) -> None:
        """TypeError or ValueError if the hyperparameters are not valid or do not fit the parameters."""

    def _set_hyperparameter(self, name: str, value: Any) -> None:
        if name == "act_fn" and self.act_fn is not None:
            self.act_fn = ActivationInitializer(value)()
        elif name == "optimizer":
            self.optimizer = OptimizerInitializer(value)()
        elif name == "dtype":
            self._set_dtype(check_dtype(value))
        elif name != "act_fn":
            setattr(self, name, value)

    def _set_dtype(self, dtype: np.dtype[Any]) -> None:
        in_use = self.X or any(value is not None for value in self.parameters.values())
        if dtype != self.dtype and in_use:
            raise ValueError(f"dtype must stay {self.dtype} once the layer has parameters or inputs, got {dtype}")
        self.dtype = dtype

    def _set_parameters(self, parameters: Mapping[str, npt.ArrayLike]) -> None:
        """Take copies of the parameters given; the sizes that the layer has not been told follow from them."""
        raise ValueError(f"parameters must be empty, got {sorted(parameters)}")

    def _check_input(self, X: npt.ArrayLike) -> Array:
        X = np.ascontiguousarray(X, self.dtype)
        if X.size == 0 or (self.input_ndim is not None and X.ndim != self.input_ndim):
            wanted = "at least 1" if self.input_ndim is None else self.input_ndim
            raise ValueError(f"X must be a non-empty array of {wanted} dimensions, got the shape {X.shape}")
        return X

    def _check_gradient(self, grad: npt.ArrayLike, index: int) -> Array:
        """The gradient for the output of the retained input `index`, or ValueError."""
        dY = np.ascontiguousarray(grad, self.dtype)
        expected = self.output_shape(self.X[index].shape)
        if dY.shape != expected:
            raise ValueError(f"dLdy must have the output's shape {expected}, got {dY.shape}")
        return dY

    def _optimizer_summary(self) -> dict[str, Any]:
        optimizer = self.optimizer
        return {
            "cache": optimizer.cache,
            "hyperparameters": optimizer.hyperparameters,
            "cur_step": optimizer.cur_step,
        }


class WeightedLayer(LayerBase):
    """Base of the layers with weights W, a bias b and an activation."""

    act_fn: ActivationBase

    def __init__(self, act_fn: Any, optimizer: Any, init: str, dtype: npt.DTypeLike, random_state: Any) -> None:
        super().__init__(optimizer, dtype=dtype)
        self.act_fn = ActivationInitializer(act_fn)()
        WeightInitializer(str(self.act_fn), mode=init)
        self.init = init
        self.rng = make_rng(random_state)
        self.parameters = {"W": None, "b": None}

    @property
    def W(self) -> Array:
        """The weights, which are there after the first `forward`."""
        W = self.parameters["W"]
        assert W is not None
        return W

    @property
    def b(self) -> Array:
        """The bias as one axis, sharing memory with the parameter."""
        b = self.parameters["b"]
        assert b is not None
        return b.reshape(-1)

    @abstractmethod
    def _weight_shape(self, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of W for an input of shape `in_shape`, or ValueError if it does not fit the layer."""

    @abstractmethod
    def _bias_shape(self) -> tuple[int, ...]:
        """The shape of b."""

    @abstractmethod
    def record_affine(self, program: Program, X: Array, Z: Array, relu: bool) -> None:
        """Z = the layer without its activation, and then max(Z, 0) if `relu`.

        As for all that is recorded, arrays are C-contiguous and of the layer's dtype.
        """

    @abstractmethod
    def record_grads(
        self, program: Program, dX: Array | None, dW: Array | None, db: Array | None, X: Array, dZ: Array
    ) -> None:
        """dX, dW, db = the gradients of input, weights and bias from that of the pre-activation; None are left out."""

    def record_descent(self, program: Program, dX: Array | None, X: Array, dZ: Array, updates: Updates) -> None:
        """dX as in `record_grads`, and the prepared step of all parameters; `gradients` may be overwritten."""
        self.record_grads(program, dX, self.gradients["W"], self.gradients["b"].reshape(-1), X, dZ)
        updates.record(program, self)

    def initialize(self, in_shape: tuple[int, ...]) -> None:
        shape = self._weight_shape(in_shape)
        if not self.is_initialized:
            W = WeightInitializer(str(self.act_fn), mode=self.init)(shape, rng=self.rng, dtype=self.dtype)
            self._set_parameters({"W": W, "b": np.zeros(self._bias_shape(), self.dtype)})

    def _set_parameters(self, parameters: Mapping[str, npt.ArrayLike]) -> None:
        arrays = {name: copy_of(value, self.dtype) for name, value in parameters.items()}
        W = arrays.get("W", self.parameters["W"])
        if W is None:
            raise ValueError("parameters must hold W, got only b")
        self._take_sizes(W.shape)
        b = arrays.get("b", self.parameters["b"])
        if b is None:
            b = copy_of(np.zeros(self._bias_shape()), self.dtype)
        if b.shape != self._bias_shape():
            raise ValueError(f"b must have the shape {self._bias_shape()}, got {b.shape}")
        self.parameters = {"W": W, "b": b}
        self.gradients = {name: zeros_like(value) for name, value in self.parameters.items() if value is not None}
        self.derived_variables = {name: [] for name in self._derived_names()}
        self.X = []
        self.is_initialized = True

    def _check_sizes(self) -> None:
        WeightInitializer(str(self.act_fn), mode=self.init)
        if self.is_initialized:
            self._take_sizes(self.W.shape)

    @abstractmethod
    def _take_sizes(self, W_shape: tuple[int, ...]) -> None:
        """Take the layer's sizes from those of W, or ValueError if they do not fit."""

    def _derived_names(self) -> tuple[str, ...]:
        return ("Z",)

    def _forward_one(self, X: Array, retain_derived: bool) -> Array:
        Z = np.empty(self.output_shape(X.shape), self.dtype)
        relu = isinstance(self.act_fn, ReLU) and not retain_derived
        run(self.record_affine, X, Z, relu)
        if retain_derived:
            self._retain(Z)
        return Z if relu else self.act_fn.fn(Z)

    def _retain(self, Z: Array) -> None:
        self.derived_variables["Z"].append(Z)

    def _backward_one(self, dLdy: Array, index: int, retain_grads: bool) -> Array:
        dZ = np.empty_like(dLdy)
        run(record_activation_backward, self.act_fn, dZ, dLdy, self.derived_variables["Z"][index])
        return self.backward_preactivation(dZ, index, retain_grads)

    def backward_preactivation(self, dZ: Array, index: int = 0, retain_grads: bool = True) -> Array:
        """`backward` for one retained input, from the gradient of the pre-activation."""
        X = self.X[index]
        dX = np.empty_like(X)
        if not retain_grads or not self.trainable:
            run(self.record_grads, dX, None, None, X, dZ)
            return dX
        dW, db = np.empty_like(self.W), np.empty_like(self.b)
        run(self.record_grads, dX, dW, db, X, dZ)
        self.gradients["W"] += dW
        self.gradients["b"] += db.reshape(self._bias_shape())
        return dX


def check_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """`dtype` as float32 or float64, or ValueError."""
    try:
        result = np.dtype(dtype)
    except TypeError:
        result = np.dtype(object)
    if dtype is None or result not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return result


def is_identity(act_fn: ActivationBase) -> bool:
    """Whether an activation returns its input."""
    return isinstance(act_fn, Affine) and act_fn.slope == 1 and act_fn.intercept == 0


def record_activation_backward(program: Program, act_fn: ActivationBase, dZ: Array, dY: Array, Z: Array) -> None:
    """dZ = dY times the derivative of the activation at Z; dZ may be dY.  For ReLU, Z may be its output."""

    def multiply() -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # Exponential's derivative may be infinite
            np.multiply(dY, act_fn.grad(Z), out=dZ)

    if isinstance(act_fn, ReLU):
        elementwise.relu_backward(program, dZ.reshape(-1), dY.reshape(-1), Z.reshape(-1))
    elif not is_identity(act_fn):
        program.call(multiply)
    elif dZ is not dY:
        program.call(np.copyto, dZ, dY)
