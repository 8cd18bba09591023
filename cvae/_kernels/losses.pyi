from cvae._kernels._types import Doubles, Real
from cvae._kernels.program import Program

def bce_with_logits(
    program: Program, reconstruction: Doubles, dlogits: Real | None, logits: Real, y: Real, weights: Doubles | None
) -> None: ...
def gaussian_kl(
    program: Program, kl: Doubles, dmean: Real | None, dlog_var: Real | None, mean: Real, log_var: Real,
    weights: Doubles | None,
) -> None: ...  # fmt: skip
def total(program: Program, total: Doubles, values: Doubles) -> None: ...
