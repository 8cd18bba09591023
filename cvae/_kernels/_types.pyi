"""What the stubs of the compiled modules have in common; there is no module of this name at run time."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.floating[Any]]
"""float32 or float64, C-contiguous; all arrays of a call have the same dtype."""

Scalars = npt.NDArray[np.float64]

Step = tuple[str, tuple[Real, ...], Scalars]
"""An optimizer's step of a parameter: the rule, the arrays of its state, and its scalars."""

class Workspace(Protocol):
    def reserve(self, nbytes: int) -> npt.NDArray[np.uint8]: ...
