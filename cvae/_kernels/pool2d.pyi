import numpy as np
import numpy.typing as npt

from cvae._kernels._types import Real
from cvae._kernels.program import Program

def max_forward(
    program: Program,
    y: Real,
    argmax: npt.NDArray[np.int32],
    x: Real,
    *,
    kernel_shape: tuple[int, int],
    stride: int,
    pad_top: int,
    pad_left: int,
) -> None: ...
def max_backward(
    program: Program,
    dx: Real,
    dy: Real,
    argmax: npt.NDArray[np.int32],
    *,
    kernel_shape: tuple[int, int],
    stride: int,
    pad_top: int,
    pad_left: int,
) -> None: ...
def average_forward(
    program: Program, y: Real, x: Real, *, kernel_shape: tuple[int, int], stride: int, pad_top: int, pad_left: int
) -> None: ...
def average_backward(
    program: Program, dx: Real, dy: Real, *, kernel_shape: tuple[int, int], stride: int, pad_top: int, pad_left: int
) -> None: ...
