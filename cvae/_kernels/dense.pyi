from cvae._kernels._types import Real, Step
from cvae._kernels.program import Program

def dense_forward(program: Program, y: Real, x: Real, w: Real, b: Real, *, relu: bool) -> None: ...
def dense_backward(
    program: Program, dx: Real | None, dw: Real | None, db: Real | None, x: Real, dy: Real, w: Real,
    *, skip_dead: bool, update: Step | None = None,
) -> None: ...  # fmt: skip
