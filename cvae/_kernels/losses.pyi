import numpy as np
import numpy.typing as npt

from cvae._kernels._types import Real

def bce_with_logits(
    reconstruction: npt.NDArray[np.float64],
    probabilities: Real | None,
    dlogits: Real | None,
    logits: Real,
    y: Real,
    *,
    scale: float,
    n_threads: int,
) -> None: ...
def gaussian_kl(
    kl: npt.NDArray[np.float64], dmean: Real, dlog_var: Real, mean: Real, log_var: Real, *, scale: float
) -> None: ...
