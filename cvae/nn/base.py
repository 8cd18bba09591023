"""numpy-ml's layer interface, implemented once on top of the protocol that the engine uses.

A new layer stores its constructor arguments in attributes of the same names and implements what
`cvae.nn.protocol.Layer` leaves open: `output_shape`, `record_forward`, `record_backward` and, if needed, `saved` and
`initialize`.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from cvae.checking import check_mapping
from cvae.nn.initializers import ActivationInitializer, OptimizerInitializer
from cvae.nn.protocol import Array, Layer, allocate
from cvae.optim.updates import Updates
from cvae.parsable import Named
from cvae.parsing import signature_of
from cvae.random import make_rng
from cvae.runtime.programs import run
from cvae.runtime.workspace import zeros_like
from cvae.undo import undone_on_error


class Retained(NamedTuple):
    """What a forward pass keeps for the backward pass and for `derived_variables`."""

    X: Array
    Y: Array
    saved: dict[str, Array]
    derived: dict[str, Any]


class LayerBase(Named, Layer, ABC):
    """Base of all layers.

    Parameters
    ----------
    optimizer : str, dict, optimizer or None
        How `update` changes the parameters. An optimizer instance is copied. None means plain SGD or, in a model, the
        model's optimizer.
    dtype : {"float32", "float64"}
        Of parameters, activations and gradients; inputs are converted to it. A model overrides it with its own.
    random_state : int, numpy.random.Generator or None
        Source of the starting parameters. None means fresh entropy or, in a model, the model's generator.

    Attributes
    ----------
    X : list of arrays
        The inputs that `forward` retained, each for one gradient.
    parameters, gradients : dict of arrays
        Parameters by name, and the sums of their gradients since the last `flush_gradients`.
    derived_variables : dict of lists
        numpy-ml's intermediate values, an entry for each retained input, computed on demand.
    trainable : bool
        False after `freeze`: gradients pass through, parameters do not change.
    """

    input_ndim: int | None = None
    derived_names: tuple[str, ...] = ()
    size_names: tuple[str, ...] = ()  # attributes set by the first input that are hyperparameters

    def __init_subclass__(cls) -> None:
        """Have a subclass that overrides the backward pass share no memory unless it says so itself."""
        for method, name, safe in (
            ("record_backward", "needs_output", True),
            ("record_backward", "overwrites_input", False),
            ("record_preactivation_backward", "overwrites_input", False),
            ("record_affine_backward", "overwrites_input", False),
        ):
            if method in vars(cls) and name not in vars(cls):
                setattr(cls, name, safe)

    def __init__(self, optimizer: Any = None, *, dtype: npt.DTypeLike = "float32", random_state: Any = None) -> None:
        self.optimizer = OptimizerInitializer(optimizer)()
        self.dtype = check_dtype(dtype)
        self.rng = None if random_state is None else make_rng(random_state)
        self.act_fn: Any = None
        self.trainable = True
        self.is_initialized = False
        self.parameters = {}
        self.gradients = {}
        self._has_own_optimizer, self._has_own_rng = optimizer is not None, random_state is not None
        self._retained: list[Retained] = []
        self._recall: Callable[[], None] | None = None

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The constructor arguments and the sizes, with the state of the optimizer."""
        names = [name for name in signature_of(type(self)).parameters if name != "random_state"]
        values = {name: getattr(self, name) for name in (*names, *self.size_names)}
        optimizer = self.optimizer
        state = {"cache": optimizer.cache, "hyperparameters": optimizer.hyperparameters, "cur_step": optimizer.cur_step}
        if "act_fn" in values and self.act_fn is not None:
            values["act_fn"] = str(self.act_fn)
        return {**values, "layer": type(self).__name__, "dtype": self.dtype.name, "optimizer": state}

    @property
    def X(self) -> list[Array]:
        """The inputs that `forward` retained."""
        return [retained.X for retained in self._retained_passes()]

    @property
    def derived_variables(self) -> dict[str, list[Any]]:
        """numpy-ml's intermediate values by name, an entry for each retained input."""
        if not self.is_initialized:
            return {}
        for each in self._retained_passes():
            if not each.derived:
                each.derived.update(self._derive(each))
        return {name: [each.derived[name] for each in self._retained] for name in self.derived_names}

    def recall_with(self, recall: Callable[[], None] | None) -> None:
        """Let `recall` run `forward` when the retained passes are requested after a forward pass of a whole model."""
        self._recall = recall

    @property
    def has_retained(self) -> bool:
        """Whether a forward pass waits for its gradient."""
        return bool(self._retained) or self._recall is not None

    def _retained_passes(self) -> list[Retained]:
        """Return the retained forward passes."""
        if self._recall is not None:
            recall, self._recall = self._recall, None
            recall()
        return self._retained

    def _derive(self, retained: Retained) -> dict[str, Any]:
        """Return the values named by `derived_names` for a retained forward pass."""
        return {}

    def forward(self, X: npt.ArrayLike, retain_derived: bool = True) -> Array:
        """Return the layer's output.

        Parameters
        ----------
        X : array
            A batch, with the examples along the first axis.
        retain_derived : bool
            Whether to keep what `backward` needs.

        Raises
        ------
        ValueError
            If `X` does not have the layer's number of axes or channels.
        """
        X = self._check_input(X)
        if not self.is_initialized:
            self.output_shape(X.shape)  # raises before weights are drawn for inputs that do not fit
        self.initialize(X.shape)
        shape, saved = self.output_shape(X.shape), allocate(self.saved(X.shape))
        if self.is_view:
            Y = X.reshape(shape)
        else:
            Y = np.empty(shape, self.dtype)
            run(self.record_forward, X, Y, saved, training=retain_derived)
        if retain_derived:
            self._retained_passes().append(Retained(X, Y.copy() if self.needs_output else Y, saved, {}))
        return Y

    def backward(self, dLdy: npt.ArrayLike | Sequence[Array], retain_grads: bool = True) -> Any:
        """Return the gradient of the loss with respect to the retained inputs.

        Parameters
        ----------
        dLdy : array, or list of arrays
            The gradient with respect to each output, one for each retained `forward`, in order.
        retain_grads : bool
            Whether to add the parameters' gradients to `gradients`.

        Returns
        -------
        array if one input was retained, else list of arrays

        Raises
        ------
        RuntimeError
            If no input was retained.
        ValueError
            If the gradients differ from the outputs in number or in a shape.
        """
        retained = self._retained_passes()
        if not retained:
            raise RuntimeError("backward needs a forward with retain_derived=True before it, got none")
        grads = list(dLdy) if isinstance(dLdy, (list, tuple)) else [dLdy]
        if len(grads) != len(retained):
            raise ValueError(f"dLdy must hold {len(retained)} gradients, one for each retained input, got {len(grads)}")
        dY = [self._check_gradient(grad, each) for grad, each in zip(grads, retained, strict=True)]
        dX = [self._backward_one(grad, each, retain_grads) for grad, each in zip(dY, retained, strict=True)]
        return dX[0] if len(dX) == 1 else dX

    def _backward_one(self, dY: Array, retained: Retained, retain_grads: bool) -> Array:
        X, Y, saved, _ = retained
        if self.is_view:
            return dY.reshape(X.shape)
        dX, grads = np.empty_like(X), None
        if retain_grads and self.trainable:
            grads = {name: np.empty_like(sums) for name, sums in self.gradients.items()}
        run(self.record_backward, dX, dY, X, Y, saved, grads)
        for name, grad in (grads or {}).items():
            self.gradients[name] += grad
        return dX

    def update(self, cur_loss: float | None = None) -> None:
        """Take an optimizer step with the accumulated gradients, then flush them; a frozen layer only flushes.

        All parameters change in place; none changes if an error is raised.
        """
        self.own_arrays()
        if self.trainable:
            Updates().apply([self], cur_loss)
        self.flush_gradients()

    def flush_gradients(self) -> None:
        """Discard the retained inputs and derived values and set the gradients to zero."""
        self._retained, self._recall = [], None
        self.own_arrays()
        for grad in self.gradients.values():
            grad.fill(0)

    def freeze(self) -> None:
        """Stop changing the parameters; gradients still pass through."""
        self.trainable = False

    def unfreeze(self) -> None:
        """Resume changing the parameters."""
        self.trainable = True

    def summary(self) -> dict[str, Any]:
        """Return the layer's name, parameters and hyperparameters (the arrays are the layer's own, not copies)."""
        hyperparameters = self.hyperparameters
        return {"layer": hyperparameters["layer"], "parameters": self.parameters, "hyperparameters": hyperparameters}

    def set_params(self, summary_dict: Mapping[str, Any]) -> LayerBase:
        """Restore what `summary` returned, or single values by name; arrays are copied.

        Parameters
        ----------
        summary_dict : dict
            The entries of its "parameters" and "hyperparameters", together with its other entries.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a name is unknown, a parameter's shape does not fit, or the summary is of another kind of layer.
        """
        values = check_mapping("summary_dict", summary_dict)
        parameters = check_mapping("parameters", values.pop("parameters", None))
        values |= check_mapping("hyperparameters", values.pop("hyperparameters", None))
        own = type(self).__name__
        if (layer := values.pop("layer", own)) != own:
            raise ValueError(f"layer must be {own!r}, got {layer!r}")
        parameters |= {k: values.pop(k) for k in list(values) if k in self.parameters}
        parameters = {k: v for k, v in parameters.items() if v is not None}
        with undone_on_error(self.parts()):
            self._check_names(values)
            for name, value in values.items():
                self._set_hyperparameter(name, value)
            self._check_names(parameters)  # which may depend on hyperparameters
            if parameters:
                self._set_parameters(parameters)
            self._check_sizes()
        return self

    def _check_names(self, names: Iterable[str]) -> None:
        """Raise ValueError unless these are names of hyperparameters and parameters."""
        known = {*self.hyperparameters, *self.parameters}
        for name in names:
            if name not in known:
                raise ValueError(f"set_params must get names out of {sorted(known)}, got {name!r}")

    def parts(self) -> list[LayerBase]:  # type: ignore[override]
        return [self]

    def join(self, *, optimizer: Any, dtype: npt.DTypeLike, rng: np.random.Generator | None) -> None:
        """Take a model's dtype and, unless the constructor was given them, a copy of its optimizer and its generator.

        The generator is shared with the model's other layers.
        """
        self.take_optimizer(optimizer)
        if not self._has_own_rng:
            self.rng = rng
        self.take_dtype(dtype)

    def diverged_parameter(self) -> str | None:
        """Return the name of a parameter with NaN or infinities in it, None if there is none."""
        for name, array in self.parameters.items():
            if array is None:
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                total = array.sum()
            # A sum of finite numbers may overflow. Both ends, for a mask would take a quarter of the array's memory.
            if not np.isfinite(total) and not np.isfinite([array.min(), array.max()]).all():
                return name
        return None

    def adopt_parameters(self, path: str) -> None:
        """Bring arrays that a user has assigned to `parameters` to the layer's dtype and the layout of its kernels.

        `path` is what error messages call the layer.

        Raises
        ------
        TypeError, ValueError
            If one is no array of real numbers, or has another shape than the one before.
        """
        for name, gradient in self.gradients.items():
            value: Any = self.parameters[name]
            is_array = isinstance(value, np.ndarray) and value.dtype == self.dtype and value.flags.c_contiguous
            array = value if is_array else np.ascontiguousarray(as_floats(value, f"{path}/{name}", self.dtype))
            if array.shape != gradient.shape:
                raise ValueError(f"{path}/{name} must have the shape {gradient.shape}, got {array.shape}")
            self.parameters[name] = array

    def own_arrays(self) -> None:
        """Replace parameters, gradients and optimizer state that cannot be written by copies, if there are any.

        Those of a model that joblib has loaded with a `mmap_mode`, for example, are read-only.
        """
        known = {name: value for name, value in self.parameters.items() if value is not None}
        gradients = dict(self.gradients)
        if not all(array.flags.writeable for array in (*known.values(), *gradients.values())):
            self._set_parameters(known)
            for name, gradient in gradients.items():
                self.gradients[name][...] = gradient
        self.optimizer.own_arrays()

    def take_dtype(self, dtype: npt.DTypeLike) -> None:
        """Take a model's dtype, with parameters and optimizer state if there are any."""
        given = {name: value for name, value in self.parameters.items() if value is not None}
        self.dtype = check_dtype(dtype)
        if given:
            self._set_parameters(given)
        self.optimizer = self.optimizer.as_dtype(self.dtype)

    def take_optimizer(self, optimizer: Any) -> None:
        """Take a copy of a model's optimizer, which goes on from the one before, unless the constructor was given one.

        See `OptimizerBase.continuing`.
        """
        if not self._has_own_optimizer:
            self.optimizer = OptimizerInitializer(optimizer)().continuing(self.optimizer)

    def _check_sizes(self) -> None:
        """Raise TypeError or ValueError if the hyperparameters are invalid or do not fit the parameters."""

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
        in_use = self._retained or any(value is not None for value in self.parameters.values())
        if dtype != self.dtype and in_use:
            raise ValueError(f"dtype must stay {self.dtype} once the layer has parameters or inputs, got {dtype}")
        self.dtype = dtype

    def _set_parameters(self, parameters: Mapping[str, npt.ArrayLike]) -> None:
        """Copy the given parameters; they determine the sizes that are still open."""
        raise ValueError(f"parameters must be empty, got {sorted(parameters)}")

    def _check_input(self, X: npt.ArrayLike) -> Array:
        X = np.ascontiguousarray(as_floats(X, "X", self.dtype))
        if X.size == 0 or (self.input_ndim is not None and X.ndim != self.input_ndim):
            wanted = "at least 1" if self.input_ndim is None else self.input_ndim
            raise ValueError(f"X must be a non-empty array of {wanted} dimensions, got the shape {X.shape}")
        return X

    def _check_gradient(self, grad: npt.ArrayLike, retained: Retained) -> Array:
        """Return a copy of the gradient for the output of a retained forward pass, or raise ValueError."""
        dY: Array = np.array(as_floats(grad, "dLdy", self.dtype), order="C")
        expected = self.output_shape(retained.X.shape)
        if dY.shape != expected:
            raise ValueError(f"dLdy must have the output's shape {expected}, got {dY.shape}")
        return dY

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what refers to the model that contains the layer, and gradients that are zero, as after `fit`."""
        gradients = {name: array if array.any() else None for name, array in self.gradients.items()}
        return {**vars(self), "_recall": None, "_retained": [], "gradients": gradients}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.gradients = dict(state["gradients"])
        for name, array in state["gradients"].items():
            parameter = self.parameters[name]
            if array is None and parameter is not None:
                self.gradients[name] = zeros_like(parameter)

    def __copy__(self) -> Self:
        """Return a layer with the same arrays, also those that pickles leave out."""
        other = object.__new__(type(self))
        vars(other).update({**vars(self), "_recall": None, "_retained": []})
        return other

    def __repr__(self) -> str:
        """Return the call string of the layer, without arguments that have their default values."""
        values = {**self.hyperparameters, "optimizer": str(self.optimizer) if self._has_own_optimizer else None}
        shown = [
            f"{name}={values[name]!r}"
            for name, parameter in signature_of(type(self)).parameters.items()
            if name in values and name != "dtype" and repr(values[name]) != repr(parameter.default)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def as_floats(values: npt.ArrayLike, name: str, dtype: npt.DTypeLike) -> Array:
    """Return real numbers as an array of this dtype, a view if possible; raise TypeError or ValueError for others."""
    try:
        if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
            raise ValueError("masked elements")
        array = np.asarray(values)
        if array.dtype.kind in "SUcmMV":
            raise (ValueError if array.dtype.kind in "SU" else TypeError)(f"the dtype {array.dtype}")
        return np.asarray(array, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} must be an array of real numbers, got {error}") from None


def check_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return `dtype` as float32 or float64, or raise ValueError."""
    try:
        result = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):  # NumPy parses text: "1 2" is a syntax error, a surrogate no Unicode
        result = np.dtype(object)
    if dtype is None or result not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return result
