"""What takes processes of its own: import time, installed size, peak memory, seconds to a test ELBO."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import util
from pathlib import Path

import numpy as np
from cases import Model
from measure import Figures, add_ratios
from peers import Variant
from worker import Worker, WorkerError

TARGET_ELBO = -145.0  # nats per test image
IMPORT = "import time"
SIZE = "installed size"
MEMORY = "peak memory, an epoch of MNIST"
ELBO = f"seconds to a test ELBO of {TARGET_ELBO:g}"
NAMES = (IMPORT, SIZE, MEMORY, ELBO)

BATCH = 128
IMPORT_ROUNDS = 7
ELBO_STEPS = 100  # training steps between evaluations
ELBO_EPOCHS = 50  # a framework that has not arrived by then is left out
ELBO_IMAGES = 1000  # evaluated at a time


def one_of_each(variants: Sequence[Variant]) -> list[Variant]:
    """The first variant of each framework."""
    first: dict[str, Variant] = {}
    for variant in variants:
        first.setdefault(variant.framework, variant)
    return list(first.values())


def import_times(variants: Sequence[Variant]) -> list[Figures]:
    """Seconds that `import` takes in a new process, less those of `import numpy`, in turns."""
    frameworks = one_of_each(variants)
    figures = [Figures(IMPORT, variant, None, "s") for variant in frameworks]
    for _ in range(IMPORT_ROUNDS):
        numpy_seconds = _process_seconds("import numpy")
        for variant, measured in zip(frameworks, figures, strict=True):
            statement = f"{variant.before_import}import numpy, {variant.packages[0]}"
            measured.values.append(max(_process_seconds(statement) - numpy_seconds, 0.001))
    return add_ratios(figures)


def _process_seconds(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, capture_output=True)
    return time.perf_counter() - start


def installed_sizes(variants: Sequence[Variant]) -> list[Figures]:
    """MB of the packages on the disk, without byte code and without what they depend on."""
    figures = []
    for variant in one_of_each(variants):
        size = sum(_megabytes(package) for package in variant.packages)
        figures.append(Figures(SIZE, variant, None, "MB", [size]))
    return add_ratios(figures)


def _megabytes(package: str) -> float:
    spec = util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return sum(path.stat().st_size for path in files) / 1e6


def peak_memories(variants: Sequence[Variant], threads: int, images: Path) -> list[Figures]:
    """The most MB that a process held in one epoch of training on float32 images in its memory.

    The first variant is cvae.
    """
    n_steps = len(np.load(images, mmap_mode="r")) // BATCH
    figures = []
    parameters = None
    for variant in variants:
        worker = Worker(variant, threads)
        try:
            worker.build(Model(), BATCH, images, parameters)
            parameters = parameters or worker.call("parameters")
            worker.call("train", n_steps)
            peak = worker.call("peak_memory")
            figures.append(Figures(MEMORY, variant, threads, "MB", [peak]))
        except WorkerError as error:
            print(f"{variant.label}: memory not measured: {error}", file=sys.stderr)
        finally:
            worker.close()
    return add_ratios(figures)


def seconds_to_elbo(workers: Sequence[Worker], images: Path, test_images: np.ndarray) -> list[Figures]:
    """Seconds of training until the ELBO of the test images reaches `TARGET_ELBO`, in turns.

    The first worker is cvae's; all start from its weights.  The clock stops while the ELBO is
    estimated, with one draw of the code for each image.
    """
    parameters = None
    for worker in workers:
        worker.build(Model(), BATCH, images, parameters)
        parameters = parameters or worker.call("parameters")
    waiting = dict.fromkeys(workers, 0.0)
    figures = []
    for _ in range(0, len(np.load(images, mmap_mode="r")) // BATCH * ELBO_EPOCHS, ELBO_STEPS):
        for worker in list(waiting):
            start = time.perf_counter()
            worker.call("train", ELBO_STEPS)
            waiting[worker] += time.perf_counter() - start
            if elbo(worker, test_images) >= TARGET_ELBO:
                seconds = waiting.pop(worker)
                figures.append(Figures(ELBO, worker.variant, worker.threads, "s", [seconds]))
    for worker in waiting:
        print(f"{worker.variant.label}: did not reach the ELBO", file=sys.stderr)
    return add_ratios(figures)


def elbo(worker: Worker, images: np.ndarray) -> float:
    """The mean ELBO in nats per image, always with the same noise."""
    rng = np.random.default_rng(3)
    total = 0.0
    for start in range(0, len(images), ELBO_IMAGES):
        part = images[start : start + ELBO_IMAGES]
        noise = rng.standard_normal((len(part), Model().n_codes), dtype=np.float32)
        total -= worker.call("loss", part, noise) * len(part)
    return total / len(images)
