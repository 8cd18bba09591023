from typing import Unpack

from cvae._kernels._types import Real, Spacing
from cvae._kernels.program import Program

def conv2d_forward(
    program: Program, y: Real, x: Real, w: Real, b: Real, *, relu: bool, **spacing: Unpack[Spacing]
) -> None: ...
def conv2d_grad_input(program: Program, dx: Real, dy: Real, w: Real, **spacing: Unpack[Spacing]) -> None: ...
def conv2d_grad_weight(program: Program, dw: Real, db: Real, x: Real, dy: Real, **spacing: Unpack[Spacing]) -> None: ...
