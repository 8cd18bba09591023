from cvae._kernels._types import Real
from cvae._kernels.program import Program

def conv2d_forward(
    program: Program,
    y: Real,
    x: Real,
    w: Real,
    b: Real,
    *,
    stride: int,
    dilation: int,
    pad_top: int,
    pad_left: int,
    relu: bool,
) -> None: ...
def conv2d_grad_input(
    program: Program, dx: Real, dy: Real, w: Real, *, stride: int, dilation: int, pad_top: int, pad_left: int
) -> None: ...
def conv2d_transpose(
    program: Program,
    y: Real,
    x: Real,
    w: Real,
    b: Real,
    *,
    stride: int,
    dilation: int,
    pad_top: int,
    pad_left: int,
    relu: bool,
) -> None: ...
def conv2d_grad_weight(
    program: Program, dw: Real, db: Real, x: Real, dy: Real, *, stride: int, dilation: int, pad_top: int, pad_left: int
) -> None: ...
