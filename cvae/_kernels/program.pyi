from collections.abc import Callable
from typing import Any

from cvae._kernels._types import Workspace

MAX_THREADS: int

class Program:
    @property
    def stages(self) -> object: ...
    @property
    def kept(self) -> list[Any]: ...
    def call(self, function: Callable[..., Any], *arguments: Any) -> None: ...
    def run(self, *, workspace: Workspace, n_threads: int) -> None: ...
