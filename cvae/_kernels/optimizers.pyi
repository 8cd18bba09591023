from cvae._kernels._types import Real

def sgd(
    param: Real, velocity: Real, grad: Real, *, lr: float, momentum: float, grad_scale: float, n_threads: int
) -> None: ...
def adagrad(
    param: Real, sum_of_squares: Real, grad: Real, *, lr: float, eps: float, grad_scale: float, n_threads: int
) -> None: ...
def rmsprop(
    param: Real,
    mean_square: Real,
    grad: Real,
    *,
    lr: float,
    decay: float,
    eps: float,
    grad_scale: float,
    n_threads: int,
) -> None: ...
def adam(
    param: Real,
    mean: Real,
    variance: Real,
    grad: Real,
    *,
    lr: float,
    decay1: float,
    decay2: float,
    eps: float,
    step: int,
    grad_scale: float,
    n_threads: int,
) -> None: ...
def sum_of_squares(x: Real, *, n_threads: int) -> float: ...
