"""Measuring a case: check that all frameworks agree, then time them in alternation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cases import Case, Model, Network
from peers import Variant
from worker import Worker, WorkerError

import cvae

CHECK_STEPS = 10
CHECK_IMAGES = 64
N_RANDOM_IMAGES = 1024
SAME_LOSS = 1e-5  # largest relative difference with the same weights and noise, also after training with that noise
SIMILAR_LOSS = 0.005  # largest relative difference after training with different noise
SAME_OUTPUT = 1e-5  # largest difference relative to the largest output, where there is no training to compare
DISAGREES = "it does not compute what cvae computes"


@dataclass
class Figures:
    """The measurements of one variant in one case.

    Attributes
    ----------
    case : str
    variant : Variant
    threads : int or None
        None if the number has no effect.
    unit : {"images/s", "s", "ms", "MB"}
    values : list of float
        A value per round, or per seed.
    ratios : list of float
        For each value, the factor by which cvae's value is better.
    """

    case: str
    variant: Variant
    threads: int | None
    unit: str
    values: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of the values."""
        return float(np.median(self.values))

    @property
    def ratio_quartiles(self) -> tuple[float, float, float]:
        """The lower quartile, median and upper quartile of the ratios."""
        low, median, high = np.quantile(self.ratios, (0.25, 0.5, 0.75))
        return float(low), float(median), float(high)


def add_ratios(figures: list[Figures]) -> list[Figures]:
    """Compute the ratios of the figures of one case, if cvae's are among them, and return the figures."""
    own = next((f.values for f in figures if f.variant.framework == "cvae"), None)
    for measured in figures:
        pairs = zip(own or (), measured.values, strict=bool(own))
        more_is_better = measured.unit == "images/s"
        measured.ratios = [c / v if more_is_better else v / c for c, v in pairs]
    return figures


def make_images(model: Model | Network, folder: Path) -> Path:
    """Write the images for a model to a .npy file, unless it exists, and return its path.

    The images are MNIST's digits for 28x28x1, and uniform noise in [0, 1] for all other shapes.
    """
    path = folder / f"{'x'.join(map(str, model.image_shape))}-{model.dtype}.npy"
    if not path.exists():
        if model.image_shape == (28, 28, 1):
            digits = cvae.datasets.load("mnist-sample").images
            images = digits.astype(model.dtype) / 255
        else:
            rng = np.random.default_rng(0)
            images = rng.random((N_RANDOM_IMAGES, *model.image_shape)).astype(model.dtype)
        np.save(path, images)
    return path


def compare(case: Case, workers: Sequence[Worker], rounds: int, folder: Path) -> tuple[list[Figures], list[str]]:
    """Measure one case with all workers; the first is cvae, the others are its rivals.

    Returns
    -------
    figures : list of Figures
        Those of cvae first, then those of the rivals that agree with it.
    notes : list of str
        A line per worker: its losses in the check, or the reason why it was not measured.
    """
    ready, notes = agreeing(case, workers, folder)
    batches: dict[Worker, int] = {}
    figures = {worker: Figures(case.name, worker.variant, worker.threads, "images/s") for worker in ready}
    for _ in range(rounds):
        for worker in list(figures):
            try:
                if worker not in batches:
                    batches[worker] = worker.call("calibrate", case.work)
                seconds = worker.call("seconds", case.work, batches[worker])
            except WorkerError as error:
                if worker is workers[0]:
                    raise
                notes.append(f"{worker.variant.label}: not measured: {error}")
                del figures[worker]
            else:
                figures[worker].values.append(batches[worker] * case.batch / seconds)
    return add_ratios(list(figures.values())), notes


def agreeing(case: Case, workers: Sequence[Worker], folder: Path) -> tuple[list[Worker], list[str]]:
    """Build the models; return the workers of cvae and of the rivals that agree with it, and a note per worker.

    All start from cvae's weights. A rival agrees if its loss with the same noise has a small relative difference
    from cvae's, both before training and after the same number of training steps on the same batches, each with
    noise of its own, or, with a `Network`, whose faster training depends more on the noise, with the same. One that
    cannot train agrees if its codes and pixel probabilities differ little from cvae's.
    """
    path = make_images(case.model, folder)
    images = np.load(path, mmap_mode="r")[-CHECK_IMAGES:].copy()
    noise = np.random.default_rng(2).normal(size=(CHECK_IMAGES, case.model.n_codes))
    noise = noise.astype(case.model.dtype)

    train, tolerance = _train_with_own_noise, SIMILAR_LOSS
    if isinstance(case.model, Network):
        train, tolerance = _train_with_same_noise, SAME_LOSS

    cvae_worker, *rivals = workers
    cvae_worker.build(case.model, case.batch, path, None)
    parameters = cvae_worker.call("parameters")
    layers = cvae_worker.call("layers")
    n_parameters = sum(array.size for array in parameters.values())
    outputs = cvae_worker.call("outputs", images, noise)
    expected = _losses(cvae_worker, images, noise, train)
    ready = [cvae_worker]
    notes = [f"cvae: {n_parameters:,} parameters, {_describe(expected)}"]
    for worker in rivals:
        try:
            takes_layers = worker.variant.takes_layers(case.model)
            worker.build(case.model, case.batch, path, layers if takes_layers else parameters)
            if worker.variant.trains:
                losses = _losses(worker, images, noise, train)
                agrees = np.all(np.abs(losses / expected - 1) <= (SAME_LOSS, tolerance))
                found = _describe(losses)
            else:
                difference = _largest_difference(worker.call("outputs", images, noise), outputs)
                agrees = difference <= SAME_OUTPUT
                found = f"outputs differ by {difference:.0e}"
            settings = worker.call("describe")
        except WorkerError as error:
            notes.append(f"{worker.variant.label}: not measured: {error}")
            continue
        note = f"{worker.variant.label}: {found}" + (f", {settings}" if settings else "")
        if agrees:
            ready.append(worker)
            notes.append(note)
        else:
            notes.append(f"{note}: not measured, because {DISAGREES}")
    return ready, notes


def _losses(worker: Worker, images: np.ndarray, noise: np.ndarray, train: Callable[..., None]) -> np.ndarray:
    """Return the losses before and after training."""
    before = worker.call("loss", images, noise)
    train(worker, images, noise)
    return np.array([before, worker.call("loss", images, noise)])


def _train_with_own_noise(worker: Worker, images: np.ndarray, noise: np.ndarray) -> None:
    """Train on the first batches."""
    for _ in range(CHECK_STEPS):
        worker.call("train", 1)  # one at a time, so that batches are not shuffled


def _train_with_same_noise(worker: Worker, images: np.ndarray, noise: np.ndarray) -> None:
    """Train on these images, each of which gets another row of the noise in each step."""
    for step in range(CHECK_STEPS):
        worker.call("train_with", images, np.roll(noise, step, axis=0))


def _largest_difference(outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Return the largest difference of any output, relative to the largest number of its kind; NaN if any is."""
    differences = [np.abs(o - e).max() / np.abs(e).max() for o, e in zip(outputs, expected, strict=True)]
    return float(np.max(differences))


def _describe(losses: np.ndarray) -> str:
    return f"loss {losses[0]:.3f} nats, after {CHECK_STEPS} steps {losses[1]:.3f}"
