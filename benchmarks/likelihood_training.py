"""Training of one row of benchmarks/likelihood.py by cvae, interrupted and resumed at any time."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from likelihood_rows import Row
from numpy.typing import NDArray

import cvae

POINTS = 24  # estimates of the likelihood on the way
WAY_IMAGES, WAY_SAMPLES = 500, 500  # of which each is made
FEW_SAMPLES = 100  # of every test image, where not all get as many as the final estimate needs
SAVE_SECONDS = 60
Images = NDArray[np.uint8]


class Run:
    """A row and a seed, with their files in a folder: the model and its progress.

    Parameters
    ----------
    row : Row
    seed : int
    epochs : int
        Over which the learning rate falls; of an earlier run in this folder if there is one.
    folder : path
    threads : int

    Attributes
    ----------
    progress : dict
        `epochs`, `seconds` (time of training), `cpu_seconds`, and `curve`, a list of (epoch, seconds, negative log
        likelihood).
    """

    def __init__(self, row: Row, seed: int, epochs: int, folder: Path, threads: int) -> None:
        self.row, self.seed, self.folder, self.threads = row, seed, folder, threads
        folder.mkdir(parents=True, exist_ok=True)
        self.model_path, self.progress_path = folder / "model.safetensors", folder / "progress.json"
        self.progress: dict[str, Any] = {"epochs": epochs, "seconds": 0.0, "cpu_seconds": 0.0, "curve": []}
        self.vae: cvae.VAE | None = None
        if self.model_path.exists() and self.progress_path.exists():
            self.progress = json.loads(self.progress_path.read_text())
            self.vae = cvae.load(self.model_path)
            self.vae.n_threads = threads

    @property
    def epochs_done(self) -> int:
        return 0 if self.vae is None else len(self.vae.history_.get("loss", ()))

    @property
    def is_done(self) -> bool:
        return self.epochs_done >= self.progress["epochs"]

    def train(self, images: Images, test: Images, seconds: float = math.inf) -> None:
        """Train until all epochs are done or, at the end of an epoch, `seconds` have passed."""
        if self.vae is None:
            self.vae = new_model(self.row, self.seed, self.progress["epochs"], len(images), self.threads)
        vae, started, saved = self.vae, time.perf_counter(), time.perf_counter()
        vae.warm_start = True
        points = set(way_points(self.progress["epochs"]))
        while not self.is_done and time.perf_counter() - started < seconds:
            wall, cpu = time.perf_counter(), time.process_time()
            vae.fit(images, n_epochs=1, verbose=False)
            self.progress["seconds"] += time.perf_counter() - wall
            self.progress["cpu_seconds"] += time.process_time() - cpu
            if self.epochs_done in points:
                nll = -float(vae.log_likelihood(test[:WAY_IMAGES], WAY_SAMPLES).mean())
                self.progress["curve"].append((self.epochs_done, self.progress["seconds"], nll))
                print(
                    f"{self.folder.name}: epoch {self.epochs_done}/{self.progress['epochs']}, "
                    f"{self.progress['seconds']:.0f} s, loss {vae.history_['loss'][-1]:.2f}, "
                    f"NLL {nll:.2f} ({WAY_IMAGES} images, {WAY_SAMPLES} samples)",
                    flush=True,
                )
            if time.perf_counter() - saved > SAVE_SECONDS or self.is_done:
                self.save()
                saved = time.perf_counter()
        self.save()

    def save(self) -> None:
        """Write the model, then the progress; an interruption in between repeats some epochs' bookkeeping only."""
        assert self.vae is not None
        self.vae.save(self.model_path)
        partial = self.progress_path.with_suffix(".tmp")
        partial.write_text(json.dumps(self.progress))
        os.replace(partial, self.progress_path)

    def evaluate(self, test: Images, n_samples: int, n_images: int) -> dict[str, Any]:
        """Return the negative log likelihood of the test images, its standard error, the bound and the active units.

        Only the first `n_images` are estimated with `n_samples`. All are with `FEW_SAMPLES`, and the mean difference of
        both estimates of the former, which varies little, corrects the mean of all.
        """
        assert self.vae is not None
        log_p = self.vae.log_likelihood(test[:n_images], n_samples)
        nll, variance = -float(log_p.mean()), log_p.var() / len(log_p)
        if n_images < len(test):
            few = self.vae.log_likelihood(test, FEW_SAMPLES)
            difference = log_p - few[:n_images]
            nll = -float(few.mean() + difference.mean())
            variance = few.var() / len(few) + difference.var() / len(difference)
        return {
            "nll": nll,
            "standard_error": math.sqrt(variance),
            "elbo": float(self.vae.elbo(test).mean()),
            "active_units": int(self.vae.active_units(test).sum()),
            "images": len(log_p),
            "samples": n_samples,
        }


def new_model(row: Row, seed: int, epochs: int, n_images: int, threads: int) -> cvae.VAE:
    """Return an untrained model whose learning rate falls over this many epochs."""
    steps = epochs * math.ceil(n_images / row.batchsize)
    schedule = (
        f"CosineScheduler(initial_lr={row.lr}, steps={steps}, final_lr={row.final_lr}, "
        f"warmup_steps={min(1000, steps // 20)})"
    )
    # Otherwise many dimensions of the code are given up in the first epochs, and stay unused.
    warm_up = f"beta=Linear(start=0, end=1, steps={max(1, steps // 20)})"
    return cvae.VAE(
        *row.layers,
        objective=row.objective.format(warm_up=warm_up),
        T=row.T,
        optimizer=f"Adam(eps=0.0001, lr_scheduler={schedule})",
        binarize="dynamic",
        batchsize=row.batchsize,
        n_threads=threads,
        random_state=seed,
        verbose=False,
    )


def way_points(epochs: int) -> list[int]:
    """Return the epochs after which the likelihood is estimated, closer together in the beginning."""
    return sorted({max(1, round(epochs * (i / POINTS) ** 2)) for i in range(1, POINTS + 1)})


def images_per_second(row: Row, images: Images, threads: int, seconds: float = 5.0) -> float:
    """Return how many images a second a new model trains on."""
    vae = new_model(row, 0, 1000, len(images), threads)
    part = images[: 20 * row.batchsize]
    vae.warm_start = True
    vae.fit(part, n_epochs=1)
    started, n = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        vae.fit(part, n_epochs=1)
        n += len(part)
    return n / (time.perf_counter() - started)
