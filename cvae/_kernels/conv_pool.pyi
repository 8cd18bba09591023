from typing import Any

import numpy as np
import numpy.typing as npt

from cvae._kernels._types import Real
from cvae._kernels.program import Program

LARGEST_WINDOW: int  # pixels of a pooling's window
INACTIVE_PLACE: int  # the byte of a window whose maximum is not positive

def forward(
    program: Program,
    y: Real,
    argmax: npt.NDArray[np.uint8],
    x: Real,
    w: Real,
    b: Real,
    *,
    conv: dict[str, Any],
    pool: dict[str, Any],
    winograd: bool,
    keep_weights: bool,
) -> None: ...
def backward(
    program: Program,
    dx: Real | None,
    dw: Real,
    db: Real,
    x: Real,
    argmax: npt.NDArray[np.uint8],
    dy: Real,
    w: Real,
    *,
    conv: dict[str, Any],
    pool: dict[str, Any],
    winograd: bool,
) -> None: ...
