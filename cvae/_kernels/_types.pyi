"""Types shared by the stubs of the compiled modules; there is no module of this name at run time."""

from typing import Any, Protocol, TypedDict

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.floating[Any]]
"""float32 or float64, C-contiguous; all arrays of a call have the same dtype."""

Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int32]
Indices = npt.NDArray[np.intp]

Geometry = dict[str, Any]
"""A window's or a convolution's, as the keyword arguments of the plain kernels."""

Step = tuple[str, tuple[Real, ...], Doubles]
"""An optimizer's step of a parameter: the rule, the arrays of its state, and its scalars."""

class Padding(TypedDict):
    pad_top: int
    pad_left: int

class Strided(Padding):
    stride: int

class Spacing(Strided):
    dilation: int

class Window(Strided):
    kernel_shape: tuple[int, int]

class Workspace(Protocol):
    def reserve(self, nbytes: int) -> Bytes: ...
