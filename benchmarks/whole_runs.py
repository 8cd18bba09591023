"""Measurements of whole processes: import time, sizes, peak memory and seconds to a test ELBO."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import util
from pathlib import Path

import numpy as np
from cases import Model
from measure import Figures, add_ratios
from peers import CVAE, Variant
from worker import Worker, WorkerError

TARGET_ELBO = -145.0  # nats per test image
IMPORT = "import time"
SIZE = "installed size"
WHEEL = "wheel size"
MEMORY = "peak memory, an epoch of MNIST"
ELBO = f"seconds to a test ELBO of {TARGET_ELBO:g}"
NAMES = (IMPORT, SIZE, WHEEL, MEMORY, ELBO)

BATCH = 128
IMPORT_ROUNDS = 7
BUILD_TOOLS = ("pip", "setuptools", "Cython")
NOT_SOURCE = (".*", "build", "dist", "*.egg-info", "*.so", "__pycache__")
ELBO_SEEDS = (0, 1, 2)
ELBO_STEPS = 100  # training steps between evaluations
ELBO_EPOCHS = 50  # of training at most
ELBO_IMAGES = 1000  # images evaluated at a time

Measured = tuple[list[Figures], list[str]]
"""Figures, and a note for each figure that is missing."""


def one_of_each(variants: Sequence[Variant]) -> list[Variant]:
    """Return the first variant of each framework."""
    first: dict[str, Variant] = {}
    for variant in variants:
        first.setdefault(variant.framework, variant)
    return list(first.values())


def import_times(variants: Sequence[Variant]) -> Measured:
    """Measure the milliseconds of an import in a new process, less those of `import numpy`, in alternation."""
    frameworks = one_of_each(variants)
    figures = [Figures(IMPORT, variant, None, "ms") for variant in frameworks]
    for _ in range(IMPORT_ROUNDS):
        numpy_ms = _process_milliseconds("import numpy")
        for variant, measured in zip(frameworks, figures, strict=True):
            statement = f"{variant.before_import}import numpy, {variant.packages[0]}"
            measured.values.append(max(_process_milliseconds(statement) - numpy_ms, 1.0))
    return add_ratios(figures), []


def _process_milliseconds(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, capture_output=True)
    return (time.perf_counter() - start) * 1000


def installed_sizes(variants: Sequence[Variant]) -> Measured:
    """Measure the installed packages in MB, without byte code and dependencies."""
    figures = []
    for variant in one_of_each(variants):
        size = sum(_megabytes(package) for package in variant.packages)
        figures.append(Figures(SIZE, variant, None, "MB", [size]))
    return add_ratios(figures), []


def _megabytes(package: str) -> float:
    spec = util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return sum(path.stat().st_size for path in files) / 1e6


def wheel_size(source: Path, folder: Path) -> Measured:
    """Measure the wheel built from cvae's source tree in MB; those of others would have to be downloaded.

    It is built from a copy, so that the tree is not changed and existing build products are not included.
    """
    if missing := [tool for tool in BUILD_TOOLS if util.find_spec(tool) is None]:
        return [], [f"{WHEEL}: left out, because {', '.join(missing)} cannot be imported"]
    copy = folder / "source"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    build = [sys.executable, "-m", "pip", "wheel", *options, str(copy)]
    process = subprocess.run(build, capture_output=True, text=True)
    if process.returncode:
        reason = (process.stderr.strip() or f"exit code {process.returncode}").splitlines()[-1]
        return [], [f"{WHEEL}: left out, because pip could not build it: {reason}"]
    (wheel,) = folder.glob("*.whl")
    return [Figures(WHEEL, CVAE, None, "MB", [wheel.stat().st_size / 1e6])], []


def peak_memories(variants: Sequence[Variant], threads: int, images: Path) -> Measured:
    """Measure the peak memory, in MB, of a process that trains for an epoch on the images of a .npy file in memory.

    The first variant must be cvae.
    """
    n_steps = len(np.load(images, mmap_mode="r")) // BATCH
    figures, notes = [], []
    parameters = None
    for variant in variants:
        # The environment that makes some variants faster keeps freed memory, so it is not used here.
        worker = Worker(replace(variant, environment={}), threads)
        try:
            worker.build(Model(), BATCH, images, parameters)
            parameters = parameters or worker.call("parameters")
            worker.call("train", n_steps)
            peak = worker.call("peak_memory")
            figures.append(Figures(MEMORY, variant, threads, "MB", [peak]))
        except WorkerError as error:
            notes.append(f"{MEMORY}: {variant.label}: not measured: {error}")
        finally:
            worker.close()
    return add_ratios(figures), notes


def seconds_to_elbo(workers: Sequence[Worker], images: Path, test_images: np.ndarray) -> Measured:
    """Measure the seconds of training until the ELBO of the test images reaches `TARGET_ELBO`, for several seeds.

    The first worker must be cvae's. A framework that never reaches it is left out; a seed with which one of the others
    does not reach it is discarded for all, so that all medians are over the same seeds.
    """
    seconds, notes = {}, []
    for seed in ELBO_SEEDS:
        seconds[seed], failures = _race(workers, seed, images, test_images)
        notes += failures
    arrived = [worker for worker in workers if any(worker in times for times in seconds.values())]
    too_late = f"did not reach it within {ELBO_EPOCHS} epochs"
    notes += [f"{ELBO}: {w.variant.label} is left out, as it {too_late}" for w in workers if w not in arrived]
    figures = {worker: Figures(ELBO, worker.variant, worker.threads, "s") for worker in arrived}
    for seed, times in seconds.items():
        if late := [worker.variant.label for worker in arrived if worker not in times]:
            notes.append(f"{ELBO}: seed {seed} is discarded, as {' and '.join(late)} {too_late}")
            continue
        for worker, measured in figures.items():
            measured.values.append(times[worker])
    return add_ratios([measured for measured in figures.values() if measured.values]), notes


def _race(
    workers: Sequence[Worker], seed: int, images: Path, test_images: np.ndarray
) -> tuple[dict[Worker, float], list[str]]:
    """Return the seconds of the workers that reach the ELBO, and a note for each that fails.

    All start from cvae's weights and train in alternation. The first training step, which compiles, and the estimation
    of the ELBO are not timed.
    """
    running: dict[Worker, float] = {}
    arrived: dict[Worker, float] = {}
    notes = []
    parameters = None
    for worker in workers:
        try:
            worker.build(Model(), BATCH, images, parameters, seed)
            parameters = parameters or worker.call("parameters")
            worker.call("train", 1)
            running[worker] = 0.0
        except WorkerError as error:
            notes.append(f"{ELBO}, seed {seed}: {worker.variant.label}: not measured: {error}")
    for _ in range(0, len(np.load(images, mmap_mode="r")) // BATCH * ELBO_EPOCHS, ELBO_STEPS):
        for worker in list(running):
            try:
                start = time.perf_counter()
                worker.call("train", ELBO_STEPS)
                running[worker] += time.perf_counter() - start
                if elbo(worker, test_images) >= TARGET_ELBO:
                    arrived[worker] = running.pop(worker)
            except WorkerError as error:
                notes.append(f"{ELBO}, seed {seed}: {worker.variant.label}: not measured: {error}")
                del running[worker]
    return arrived, notes


def elbo(worker: Worker, images: np.ndarray) -> float:
    """Return the mean ELBO in nats per image, with one draw per code, which is the same in every call."""
    rng = np.random.default_rng(3)
    total = 0.0
    for start in range(0, len(images), ELBO_IMAGES):
        part = images[start : start + ELBO_IMAGES]
        noise = rng.standard_normal((len(part), Model().n_codes), dtype=np.float32)
        total -= worker.call("loss", part, noise) * len(part)
    return total / len(images)
