from cvae._kernels._types import Doubles, Real
from cvae._kernels.program import Program

def bce_with_logits(
    program: Program, reconstruction: Doubles, dlogits: Real | None, logits: Real, y: Real, weights: Doubles | None
) -> None: ...
def continuous_bernoulli(
    program: Program,
    loss: Doubles,
    dlogits: Real | None,
    logits: Real,
    y: Real,
    weights: Doubles | None,
) -> None: ...
def gaussian(
    program: Program,
    loss: Doubles,
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: Doubles | None,
    scale: float,
) -> None: ...
def laplace(
    program: Program,
    loss: Doubles,
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: Doubles | None,
    scale: float,
) -> None: ...
def gaussian_per_pixel(
    program: Program,
    loss: Doubles,
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: Doubles | None,
    bound: float,
) -> None: ...
def laplace_per_pixel(
    program: Program,
    loss: Doubles,
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: Doubles | None,
    bound: float,
) -> None: ...
def discretized_logistic(
    program: Program,
    loss: Doubles,
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: Doubles | None,
    bound: float,
) -> None: ...
def gaussian_shared(
    program: Program,
    loss: Doubles,
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: Doubles | None,
    bound: float,
) -> None: ...
def gaussian_optimal(
    program: Program,
    loss: Doubles,
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: Doubles | None,
    least: float,
) -> None: ...
def laplace_shared(
    program: Program,
    loss: Doubles,
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: Doubles | None,
    bound: float,
) -> None: ...
def laplace_optimal(
    program: Program,
    loss: Doubles,
    doutputs: Real | None,
    outputs: Real,
    y: Real,
    weights: Doubles | None,
    least: float,
) -> None: ...
def add_constant(program: Program, values: Doubles, constant: float) -> None: ...
def gaussian_kl(
    program: Program, kl: Doubles, dmean: Real | None, dlog_var: Real | None, mean: Real, log_var: Real,
    weights: Doubles | None,
) -> None: ...  # fmt: skip
def total(program: Program, total: Doubles, values: Doubles, divisor: int = 1) -> None: ...
