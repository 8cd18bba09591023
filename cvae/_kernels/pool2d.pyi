import numpy as np
import numpy.typing as npt

from cvae._kernels._types import Real

def max_forward(
    y: Real,
    argmax: npt.NDArray[np.int32],
    x: Real,
    *,
    kernel_shape: tuple[int, int],
    stride: int,
    pad_top: int,
    pad_left: int,
    n_threads: int,
) -> None: ...
def max_backward(
    dx: Real,
    dy: Real,
    argmax: npt.NDArray[np.int32],
    *,
    kernel_shape: tuple[int, int],
    stride: int,
    pad_top: int,
    pad_left: int,
    n_threads: int,
) -> None: ...
def average_forward(
    y: Real, x: Real, *, kernel_shape: tuple[int, int], stride: int, pad_top: int, pad_left: int, n_threads: int
) -> None: ...
def average_backward(
    dx: Real, dy: Real, *, kernel_shape: tuple[int, int], stride: int, pad_top: int, pad_left: int, n_threads: int
) -> None: ...
