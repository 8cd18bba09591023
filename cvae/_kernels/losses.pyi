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
    *,
    scale: float,
) -> None: ...
def gaussian_kl(
    program: Program,
    kl: npt.NDArray[np.float64],
    dmean: Real,
    dlog_var: Real,
    mean: Real,
    log_var: Real,
    *,
    scale: float,
) -> None: ...
def total(
    program: Program,
    totals: npt.NDArray[np.float64],
    reconstruction: npt.NDArray[np.float64],
    kl: npt.NDArray[np.float64],
) -> None: ...
