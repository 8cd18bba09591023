from typing import Unpack

from cvae._kernels._types import Padding, Real
from cvae._kernels.program import Program

FEW_CHANNELS: int  # at most, for a forward pass along rows alone
MAX_KERNEL: int  # rows and columns of a kernel, at most

def outputs(kernel: int) -> int: ...
def forward(program: Program, y: Real, x: Real, w: Real, b: Real, *, relu: bool, **pad: Unpack[Padding]) -> None: ...
def transpose(program: Program, y: Real, x: Real, w: Real, b: Real, *, relu: bool, **pad: Unpack[Padding]) -> None: ...
def backward(
    program: Program, dx: Real | None, dw: Real | None, db: Real | None, x: Real, dy: Real, w: Real,
    **pad: Unpack[Padding],
) -> None: ...  # fmt: skip
