from cvae._kernels._types import Real, Workspace

def conv2d_forward(
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
    workspace: Workspace,
    n_threads: int,
) -> None: ...
def conv2d_grad_input(
    dx: Real,
    dy: Real,
    w: Real,
    *,
    stride: int,
    dilation: int,
    pad_top: int,
    pad_left: int,
    workspace: Workspace,
    n_threads: int,
) -> None: ...
def conv2d_grad_weight(
    dw: Real,
    db: Real,
    x: Real,
    dy: Real,
    *,
    stride: int,
    dilation: int,
    pad_top: int,
    pad_left: int,
    workspace: Workspace,
    n_threads: int,
) -> None: ...
