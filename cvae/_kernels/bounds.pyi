import numpy as np
import numpy.typing as npt

from cvae._kernels._types import Real
from cvae._kernels.program import Program

def free_bits(
    program: Program,
    total: npt.NDArray[np.float64],
    dmean: Real,
    dlog_var: Real,
    mean: Real,
    log_var: Real,
    weights: npt.NDArray[np.float64],
    least: float,
) -> None: ...
def importance_weighted(
    program: Program,
    total: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    doutputs: Real,
    dmean: Real,
    dlog_var: Real,
    reconstruction: npt.NDArray[np.float64],
    z: Real,
    noise: Real,
    deviation: Real,
    log_var: Real,
    image_weights: npt.NDArray[np.float64],
    doubly: bool,
) -> None: ...
