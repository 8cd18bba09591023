from cvae._kernels._types import Real, Scalars
from cvae._kernels.program import Program

def update(
    program: Program, rule: str, param: Real, states: tuple[Real, ...], grad: Real, scalars: Scalars
) -> None: ...
def sum_of_squares(x: Real, *, n_threads: int) -> float: ...
