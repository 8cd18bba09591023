import numpy as np
import numpy.typing as npt

from cvae._kernels._types import Real
from cvae._kernels.program import Program

Scalars = npt.NDArray[np.float64]

def update(
    program: Program, rule: str, param: Real, states: tuple[Real, ...], grad: Real, scalars: Scalars
) -> None: ...
def sum_of_squares(x: Real, *, n_threads: int) -> float: ...
