from cvae._kernels._types import Real, Workspace

def forward(
    y: Real,
    x: Real,
    w: Real,
    b: Real,
    *,
    pad_top: int,
    pad_left: int,
    relu: bool,
    workspace: Workspace,
    n_threads: int,
) -> None: ...
def backward(
    dx: Real | None,
    dw: Real | None,
    db: Real | None,
    x: Real,
    dy: Real,
    w: Real,
    *,
    pad_top: int,
    pad_left: int,
    workspace: Workspace,
    n_threads: int,
) -> None: ...
