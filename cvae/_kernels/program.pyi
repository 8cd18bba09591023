from collections.abc import Callable
from typing import Any

from cvae._kernels._types import Workspace

class Program:
    def call(self, function: Callable[..., Any], *arguments: Any) -> None: ...
    def run(self, *, workspace: Workspace, n_threads: int) -> None: ...
