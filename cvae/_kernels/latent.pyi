import numpy as np
import numpy.typing as npt

from cvae._kernels._types import Real
from cvae._kernels.program import Program

def sample(program: Program, z: Real, deviation: Real, mean: Real, log_var: Real, code: Real, noise: Real) -> None: ...
def backward(
    program: Program,
    dcode: Real,
    dz: Real,
    noise: Real,
    deviation: Real,
    dmean: Real,
    dlog_var: Real,
    factors: npt.NDArray[np.float64] | None = None,
) -> None: ...
