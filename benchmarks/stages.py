"""How long each piece of each stage of a training step takes on one thread, and what it costs to share a stage."""

import importlib
import pkgutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import cvae
import cvae._kernels
from cvae._kernels import elementwise
from cvae._kernels.program import Program
from cvae.runtime.workspace import workspace

QUANTILE = 0.25  # of repeated times: other processes only ever add to them
SHARED = 40_000  # elements of the little stage that shows what sharing costs
REPEATED = 100


@dataclass(frozen=True)
class Stage:
    """A stage of a step; times are seconds, by the number of threads, for some stages do other things on many.

    Attributes
    ----------
    name : str
        Layer, kernel and number of the stage among the kernel's.
    layer : str
        "" if the stage is of none with weights.
    prepare : dict of float
        What each thread does before its first piece.
    pieces : dict of array
        Of each piece or, if `shares`, of each thread's share, which is done in one call; empty where the stage is left
        out.
    shares : bool
    alone : bool
        Whether one thread does all of it.
    descends : bool
        Whether it is part of the backward pass.
    """

    name: str
    layer: str
    prepare: dict[int, float]
    pieces: dict[int, np.ndarray]
    shares: bool
    alone: bool
    descends: bool


@dataclass
class Step:
    """A training step.

    Attributes
    ----------
    batch : int
    stages : list of Stage
    outside : float
        Seconds between the programs: Python, random numbers.
    gradients : dict
        Bytes of the gradients of each layer.
    """

    batch: int
    stages: list[Stage]
    outside: float
    gradients: dict[str, int]


@dataclass
class _Recorder:
    """Runs programs in the place of `execute`, timing their pieces, and knows which kernel recorded which stage."""

    n_threads: int = 1
    end: float = 0.0
    runs: list[tuple[float, Program, Any]] = field(default_factory=list)  # each with the time since the one before
    programs: list[Program] = field(default_factory=list)  # which keeps their ids from being used again
    kernels: dict[int, list[tuple[str, set[int], int, int]]] = field(default_factory=dict)

    def execute(self, program: Program, n_threads: int | None = None) -> None:
        gap = time.perf_counter() - self.end
        self.runs.append((gap, program, program.timed(workspace=workspace, n_threads=self.n_threads)))
        self.end = time.perf_counter()

    def noting(self, name: str, record: Callable[..., Any]) -> Callable[..., Any]:
        """Return a recording function that notes its stages under a name, with the addresses of its arrays."""

        def noted(*arguments: Any, **options: Any) -> Any:
            program = arguments[0] if arguments else None
            if not isinstance(program, Program):
                return record(*arguments, **options)
            before = program.n_stages
            result = record(*arguments, **options)
            self.programs.append(program)
            arrays = {each.ctypes.data for each in arguments if isinstance(each, np.ndarray)}
            self.kernels.setdefault(id(program), []).append((name, arrays, before, program.n_stages))
            return result

        return noted


@contextmanager
def _recording(recorder: _Recorder) -> Iterator[None]:
    """Have training run by the recorder."""
    replaced = []

    def replace(owner: Any, name: str, by: Any) -> None:
        replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, by)

    for found in pkgutil.iter_modules(cvae._kernels.__path__):
        module = importlib.import_module(f"cvae._kernels.{found.name}")
        for name, function in vars(module).copy().items():
            if found.name not in ("program", "dispatch") and callable(function) and not isinstance(function, type):
                replace(module, name, recorder.noting(f"{found.name}.{name}", function))
    for room in ("passes", "data.gathering"):
        replace(importlib.import_module(f"cvae.{room}"), "execute", recorder.execute)
    try:
        yield
    finally:
        for owner, name, former in reversed(replaced):
            setattr(owner, name, former)


def measure_step(model: cvae.VAE, images: np.ndarray, batch: int, threads: Sequence[int], rounds: int) -> Step:
    """Train on batches of images, timing all pieces, and return the step; `threads` are those to divide stages for."""
    recorder, batches = _Recorder(), len(images) // batch
    model.set_params(batchsize=batch)
    runs: dict[int, list[Any]] = {n: [] for n in threads}
    gaps = []
    with _recording(recorder):
        model.partial_fit(images)
        for _ in range(rounds):
            for recorder.n_threads in threads:
                recorder.runs.clear()
                model.partial_fit(images)
                per_step = len(recorder.runs) // batches
                steps = [recorder.runs[i * per_step : (i + 1) * per_step] for i in range(1, batches)]
                runs[recorder.n_threads] += steps
                gaps += [sum(gap for gap, *_ in step) for step in steps]
    layers = {
        each.ctypes.data: path.split("/")[1]
        for path, layer in model._layers().items()
        for each in layer.parameters.values()
        if each is not None
    }
    gradients = {
        path.split("/")[1]: sum(each.nbytes for each in layer.gradients.values())
        for path, layer in model._layers().items()
        if layer.gradients
    }
    return Step(batch, _stages(recorder, runs, layers), float(np.quantile(gaps, QUANTILE)), gradients)


def _stages(recorder: _Recorder, runs: dict[int, list[Any]], layers: dict[int, str]) -> list[Stage]:
    """Return the stages of steps that were run several times for several numbers of threads."""
    stages, steps = [], next(iter(runs.values()))
    for number, (_, program, timed) in enumerate(steps[0]):
        names = _names(recorder.kernels[id(program)], layers)
        for i, (_, _, alone) in enumerate(timed):
            every = {n: [step[number][2][i] for step in of_n] for n, of_n in runs.items()}
            pieces = {n: _lower([seconds for _, seconds, _ in found]) for n, found in every.items()}
            prepare = {n: float(_lower([first for first, *_ in found])) for n, found in every.items()}
            shares = len({len(each) for each in pieces.values() if len(each)}) > 1
            stages.append(Stage(*names[i], prepare, pieces, shares, alone, number == len(steps[0]) - 1))
    return stages


def _lower(seconds: list[Any]) -> np.ndarray:
    """Return the quantile of repeated times, or that of each of a list of times."""
    return np.quantile(seconds, QUANTILE, axis=0)


def _names(kernels: list[tuple[str, set[int], int, int]], layers: dict[int, str]) -> list[tuple[str, str]]:
    """Return name and layer of each stage of a program."""
    names = []
    for kernel, arrays, first, last in kernels:
        layer = next((name for address, name in layers.items() if address in arrays), "")
        for i in range(first, last):
            number = f" ({i - first + 1} of {last - first})" if last - first > 1 else ""
            names.append((f"{layer} {kernel}{number}".strip(), layer))
    return names


def measure_region(n_threads: int = 2) -> float:
    """Return the seconds that it costs to share a stage among two threads, besides the work."""
    program, x = Program(), np.zeros(SHARED, np.float32)
    y = np.zeros_like(x)
    for _ in range(REPEATED):
        elementwise.relu_backward(program, y, x, x)
    seconds: dict[int, list[float]] = {1: [], n_threads: []}
    for _ in range(200):
        for n, found in seconds.items():
            start = time.perf_counter()
            program.run(workspace=workspace, n_threads=n)
            found.append((time.perf_counter() - start) / REPEATED)
    alone, shared = map(min, seconds.values())  # what disturbs is longer than all of this
    return max(0.0, shared - alone / n_threads)


def measure_steps(model: cvae.VAE, images: np.ndarray, batch: int, n_threads: int) -> list[float]:
    """Return the seconds of training steps as they run on so many threads."""
    ends: list[float] = []

    class Clock(cvae.callbacks.Callback):
        def on_batch_end(self, vae: Any, number: int, loss: float) -> None:
            ends.append(time.perf_counter())

    model.set_params(batchsize=batch, n_threads=n_threads, warm_start=True)
    model.fit(images, n_epochs=1, callbacks=[Clock()], verbose=False)
    model.set_params(n_threads=None)
    return np.diff(ends).tolist()
