from typing import Unpack

from cvae._kernels._types import Real, Strided
from cvae._kernels.program import Program

FEW_CHANNELS: int  # at most, for a forward pass along rows alone
MAX_KERNEL: int  # rows and columns of a kernel, at most, for each one of stride

def outputs(kernel: int) -> int: ...
def forward(
    program: Program, y: Real, x: Real, w: Real, b: Real, *, relu: bool, **spacing: Unpack[Strided]
) -> None: ...
def transpose(
    program: Program, y: Real, x: Real, w: Real, b: Real, *, relu: bool, **spacing: Unpack[Strided]
) -> None: ...
def backward(
    program: Program, dx: Real | None, dw: Real | None, db: Real | None, x: Real, dy: Real, w: Real,
    **spacing: Unpack[Strided],
) -> None: ...  # fmt: skip
