from cvae._kernels._types import Doubles, Real
from cvae._kernels.program import Program

def forward(
    program: Program,
    y: Real,
    mean: Real,
    variance: Real,
    x: Real,
    scaler: Real,
    intercept: Real,
    *,
    groups: int,
    epsilon: float,
    relu: bool,
) -> None: ...
def apply(
    program: Program,
    y: Real,
    x: Real,
    mean: Real,
    variance: Real,
    scaler: Real,
    intercept: Real,
    *,
    epsilon: float,
    relu: bool,
) -> None: ...
def backward(
    program: Program,
    dx: Real | None,
    dscaler: Real | None,
    dintercept: Real | None,
    dy: Real,
    x: Real,
    mean: Real,
    variance: Real,
    scaler: Real,
    *,
    groups: int,
    epsilon: float,
    measured: bool,
) -> None: ...
def keep_statistics(program: Program, kept: Real, is_kept: Doubles, mean: Real, variance: Real) -> None: ...
def move_running(
    program: Program, running_mean: Real, running_variance: Real, kept: Real, is_kept: Doubles, momentum: float
) -> None: ...
