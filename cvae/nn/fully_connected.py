"""A dense layer with a bias and an activation."""

from typing import Any

import numpy.typing as npt

from cvae._kernels import dense
from cvae._kernels.program import Program
from cvae.engine.updates import Updates
from cvae.nn.activations import ReLU
from cvae.nn.base import Array, WeightedLayer
from cvae.parsing import check_size


class FullyConnected(WeightedLayer):
    """``Y = act_fn(X @ W + b)`` for a batch X (n, n_in).

    Parameters
    ----------
    n_out : int or None
        Number of outputs; None has to be replaced, by setting the attribute, before the first `forward`.
    act_fn : str, activation or None
        None is the identity.
    init : str
        How the weights start (see `cvae.nn.initializers.WeightInitializer`).
    optimizer : str, dict, optimizer or None
    dtype : {"float32", "float64"}
    random_state : int, numpy.random.Generator or None
        Where the weights are drawn from.

    Notes
    -----
    Parameters are W (n_in, n_out) and b (1, n_out); they are created by the first `forward`, which sets n_in.

    Examples
    --------
    >>> import numpy as np
    >>> layer = FullyConnected(n_out=3, act_fn="Tanh", random_state=0)
    >>> layer.forward(np.ones((2, 5))).shape
    (2, 3)
    """

    input_ndim = 2

    def __init__(
        self,
        n_out: int | None,
        act_fn: Any = None,
        init: str = "glorot_uniform",
        optimizer: Any = None,
        *,
        dtype: npt.DTypeLike = "float32",
        random_state: Any = None,
    ) -> None:
        super().__init__(act_fn, optimizer, init, dtype, random_state)
        self.n_in: int | None = None
        self.n_out = n_out
        self._check_sizes()

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return {
            "layer": "FullyConnected",
            "init": self.init,
            "n_in": self.n_in,
            "n_out": self.n_out,
            "act_fn": str(self.act_fn),
            "dtype": self.dtype.name,
            "optimizer": self._optimizer_summary(),
        }

    def _check_sizes(self) -> None:
        if self.n_out is not None:
            self.n_out = check_size(self.n_out, "n_out")
        super()._check_sizes()

    def _outputs(self) -> int:
        if self.n_out is None:
            raise ValueError("n_out must be set before the first forward, got None")
        return self.n_out

    def output_shape(self, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        return in_shape[0], self._outputs()

    def _weight_shape(self, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.n_in is not None and self.n_in != in_shape[1]:
            raise ValueError(f"X must have {self.n_in} columns, got {in_shape[1]}")
        return in_shape[1], self._outputs()

    def _bias_shape(self) -> tuple[int, ...]:
        return 1, self._outputs()

    def _take_sizes(self, W_shape: tuple[int, ...]) -> None:
        if len(W_shape) != 2 or (self.n_out is not None and W_shape[1] != self.n_out):
            raise ValueError(f"W must have the shape {('n_in', self.n_out)}, got {W_shape}")
        if self.is_initialized and W_shape[0] != self.n_in:
            raise ValueError(f"W must have {self.n_in} rows, got {W_shape[0]}")
        self.n_in, self.n_out = W_shape

    def record_affine(self, program: Program, X: Array, Z: Array, relu: bool) -> None:
        dense.dense_forward(program, Z, X, self.W, self.b, relu=relu)

    def record_grads(
        self, program: Program, dX: Array | None, dW: Array | None, db: Array | None, X: Array, dZ: Array
    ) -> None:
        dense.dense_backward(program, dX, dW, db, X, dZ, self.W, skip_dead=self._has_dead_units)

    def record_descent(self, program: Program, dX: Array | None, X: Array, dZ: Array, updates: Updates) -> None:
        step = updates.step_of(self, "W")
        if step is None:
            super().record_descent(program, dX, X, dZ, updates)
            return
        db = self.gradients["b"].reshape(-1)
        dense.dense_backward(program, dX, None, db, X, dZ, self.W, skip_dead=self._has_dead_units, update=step)
        updates.record(program, self, ["b"])

    @property
    def _has_dead_units(self) -> bool:
        """Whether there may well be units that have no gradient in a whole batch."""
        return isinstance(self.act_fn, ReLU)
