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
def continuous_bernoulli(
    program: Program,
    loss: npt.NDArray[np.float64],
    dlogits: Real | None,
    logits: Real,
    y: Real,
    weights: npt.NDArray[np.float64] | None,
) -> None: ...
def gaussian(
    program: Program,
    loss: npt.NDArray[np.float64],
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: npt.NDArray[np.float64] | None,
    scale: float,
) -> None: ...
def laplace(
    program: Program,
    loss: npt.NDArray[np.float64],
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: npt.NDArray[np.float64] | None,
    scale: float,
) -> None: ...
def gaussian_per_pixel(
    program: Program,
    loss: npt.NDArray[np.float64],
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: npt.NDArray[np.float64] | None,
    bound: float,
) -> None: ...
def laplace_per_pixel(
    program: Program,
    loss: npt.NDArray[np.float64],
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: npt.NDArray[np.float64] | None,
    bound: float,
) -> None: ...
def discretized_logistic(
    program: Program,
    loss: npt.NDArray[np.float64],
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: npt.NDArray[np.float64] | None,
    bound: float,
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
def total(program: Program, total: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> None: ...
