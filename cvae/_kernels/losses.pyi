import numpy as np
import numpy.typing as npt

from cvae._kernels._types import Real
from cvae._kernels.program import Program

def bce_with_logits(
    program: Program,
    reconstruction: npt.NDArray[np.float64],
    dlogits: Real | None,
    logits: Real,
    y: Real,
    weights: npt.NDArray[np.float64] | None,
) -> None: ...
def gaussian_kl(
    program: Program,
    kl: npt.NDArray[np.float64],
    dmean: Real | None,
    dlog_var: Real | None,
    mean: Real,
    log_var: Real,
    weights: npt.NDArray[np.float64] | None,
) -> None: ...
def total(
    program: Program, total: npt.NDArray[np.float64], values: npt.NDArray[np.float64], divisor: int = 1
) -> None: ...
