"""A dense layer with a bias and an activation."""

from typing import Any

import numpy.typing as npt

from cvae._kernels import dense
from cvae._kernels.program import Program
from cvae.checking import MAX_AXIS, check_size
from cvae.nn.activations import ReLU
from cvae.nn.protocol import Array, Arrays, Shape
from cvae.nn.weighted import WeightedLayer
from cvae.optim.updates import Updates


class FullyConnected(WeightedLayer):
    """``Y = act_fn(X @ W + b)`` for a batch X (n, n_in).

    Parameters
    ----------
    n_out : int or None
        Number of outputs; if None, the attribute must be set before the first `forward`.
    act_fn : str, activation or None
        None means the identity.
    init : str
        Distribution of the starting weights (see `cvae.initializers.WeightInitializer`).
    optimizer : str, dict, optimizer or None
    dtype : {"float32", "float64"}
    random_state : int, numpy.random.Generator or None
        Source of the starting weights.

    Notes
    -----
    The parameters W (n_in, n_out) and b (1, n_out) are created by the first `forward`, which sets n_in.

    Examples
    --------
    >>> import numpy as np
    >>> layer = FullyConnected(n_out=3, act_fn="Tanh", random_state=0)
    >>> layer.forward(np.ones((2, 5))).shape
    (2, 3)
    """

    size_names = ("n_in",)
    input_ndim = 2
    overwrites_input = True

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

    def _check_sizes(self) -> None:
        if self.n_out is not None:
            self.n_out = check_size("n_out", self.n_out, MAX_AXIS)
        super()._check_sizes()

    def _outputs(self) -> int:
        if self.n_out is None:
            raise ValueError("n_out must be set before the first forward, got None")
        return self.n_out

    def output_shape(self, in_shape: Shape) -> Shape:
        return in_shape[0], self._outputs()

    def _weight_shape(self, in_shape: Shape) -> Shape:
        if self.n_in is not None and self.n_in != in_shape[1]:
            raise ValueError(f"X must have {self.n_in} columns, got {in_shape[1]}")
        return in_shape[1], self._outputs()

    def _take_sizes(self, W_shape: Shape) -> None:
        if len(W_shape) != 2 or (self.n_out is not None and W_shape[1] != self.n_out):
            raise ValueError(f"W must have the shape {('n_in', self.n_out)}, got {W_shape}")
        if self.is_initialized and W_shape[0] != self.n_in:
            raise ValueError(f"W must have {self.n_in} rows, got {W_shape[0]}")
        self.n_in, self.n_out = W_shape

    def record_affine(self, program: Program, x: Array, z: Array, *, relu: bool, training: bool) -> None:
        dense.dense_forward(program, z, x, self.W, self.b, relu=relu)

    def record_affine_backward(
        self, program: Program, dx: Array | None, dz: Array, x: Array, grads: Arrays | None
    ) -> None:
        dW, db = (None, None) if grads is None else (grads["W"], grads["b"].reshape(-1))
        dense.dense_backward(program, dx, dW, db, x, dz, self.W, skip_dead=self._has_dead_units)

    def record_descent(
        self, program: Program, dx: Array | None, dy: Array, x: Array, y: Array, saved: Arrays, updates: Updates
    ) -> None:
        update = updates.of(self, "W")
        if update is None or type(self) is not FullyConnected:  # a subclass may compute something else
            super().record_descent(program, dx, dy, x, y, saved, updates)
            return
        self._record_activation_backward(program, dy, y, saved)
        db = self.gradients["b"].reshape(-1)
        dense.dense_backward(program, dx, None, db, x, dy, self.W, skip_dead=self._has_dead_units, update=update)
        updates.record(program, self, ["b"])

    @property
    def _has_dead_units(self) -> bool:
        """Whether some units are likely to have zero gradients in a whole batch."""
        return isinstance(self.act_fn, ReLU)
