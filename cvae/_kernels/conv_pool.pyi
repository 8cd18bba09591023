from cvae._kernels._types import Bytes, Geometry, Real
from cvae._kernels.program import Program

LARGEST_WINDOW: int  # pixels of a pooling's window
INACTIVE_PLACE: int  # the byte of a window whose maximum is not positive

def forward(
    program: Program, y: Real, argmax: Bytes, x: Real, w: Real, b: Real,
    *, conv: Geometry, pool: Geometry, winograd: bool, keep_weights: bool,
) -> None: ...  # fmt: skip
def backward(
    program: Program, dx: Real | None, dw: Real, db: Real, x: Real, argmax: Bytes, dy: Real, w: Real,
    *, conv: Geometry, pool: Geometry, winograd: bool,
) -> None: ...  # fmt: skip
