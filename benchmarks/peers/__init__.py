"""The frameworks that are compared: a module for each, all with the interface of `Peer`.

This module imports none of them, so that each can run in a process that holds no other.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module, util
from typing import Any

import numpy as np
import numpy.typing as npt
from cases import Model

Array = npt.NDArray[np.floating]
Images = npt.NDArray[np.floating | np.uint8]

ROUND_SECONDS = 0.3


@dataclass(frozen=True)
class Variant:
    """A framework with one choice of its settings.

    Attributes
    ----------
    framework : str
        What `--peers` calls it.
    label : str
        What the tables call it.
    packages : tuple of str
        The import names of what it consists of; the first is the one to import.
    implementation : str
        "module:class" of its `Peer`.
    options : dict
        Keyword arguments of the class: the settings.
    max_batch : int or None
        Only cases with batches of at most so many images are measured.
    reference_case_only : bool
        Only the case "train, batch 128" is measured, for comparison or because each takes minutes to compile.
    in_race : bool
        The seconds to a test ELBO are measured nevertheless.
    before_import : str
        Statements without which the import fails.
    environment : mapping of str to str
        Environment variables of its process.
    """

    framework: str
    label: str
    packages: tuple[str, ...]
    implementation: str
    options: Mapping[str, Any] = field(default_factory=dict)
    max_batch: int | None = None
    reference_case_only: bool = False
    in_race: bool = False
    before_import: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_installed(self) -> bool:
        """Whether all of its packages can be found; nothing is imported."""
        return all(util.find_spec(package) is not None for package in self.packages)

    def load(self) -> type[Peer]:
        """Import the framework and return its class."""
        module, name = self.implementation.split(":")
        peer: type[Peer] = getattr(import_module(module), name)
        return peer


CVAE = Variant("cvae", "cvae", ("cvae",), "peers.cvae_peer:CvaePeer")

_TORCH = ("torch",), "peers.pytorch_peer:PyTorchPeer"
_KERAS = ("tensorflow", "keras"), "peers.keras_peer:KerasPeer"
_ALIAS = "import collections.abc; collections.Hashable = collections.abc.Hashable; "

# PyTorch allocates its tensors anew in every step.  As it is installed, the C library hands the large ones back to the
# system each time, and the page faults take a fifth to a quarter of a training step.
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}

RIVALS = (
    Variant("pytorch", "PyTorch", *_TORCH, environment=_KEEP_MEMORY),
    Variant("pytorch", "PyTorch, channels_last", *_TORCH, {"channels_last": True}, environment=_KEEP_MEMORY),
    Variant(
        "pytorch",
        "PyTorch, channels_last, malloc as installed",
        *_TORCH,
        {"channels_last": True},
        reference_case_only=True,
        in_race=True,
    ),
    Variant(
        "pytorch",
        "PyTorch, torch.compile",
        *_TORCH,
        {"channels_last": True, "compiled": True},
        reference_case_only=True,
        environment=_KEEP_MEMORY,
    ),
    Variant("jax", "JAX", ("jax", "jaxlib"), "peers.jax_peer:JaxPeer"),
    Variant("keras", "Keras (TensorFlow)", *_KERAS),
    Variant("keras", "Keras (TensorFlow), XLA", *_KERAS, {"xla": True}, reference_case_only=True),
    Variant(
        "numpy-ml",
        "numpy-ml (float64)",
        ("numpy_ml",),
        "peers.numpy_ml_peer:NumpyMlPeer",
        max_batch=16,
        before_import=_ALIAS,
    ),
)


class Peer(ABC):
    """A framework's model with a set of images, ready to train, encode and decode.

    Parameters
    ----------
    model : Model
    batch : int
        Images in a batch.
    threads : int
        Threads that the framework may use.
    images : array, shape (n, rows, cols, channels)
        Of the model's dtype, with values in [0, 1]; or uint8, which means 0..255, stays so in
        memory and is scaled batch by batch.  At least one batch.
    seed : int
        Start of the order of the images and of the noise; cvae also draws its weights from it.
    """

    def __init__(self, model: Model, batch: int, threads: int, images: Images, seed: int) -> None:
        self.model = model
        self.batch = batch
        self.threads = threads
        self.n_images = len(images)
        self._next_image = 0

    @abstractmethod
    def train(self, n_steps: int) -> None:
        """Take training steps; each image window of `windows` is passed over in random order."""

    @abstractmethod
    def encode(self) -> Any:
        """Give the means and log-variances of the codes of the first batch of images."""

    @abstractmethod
    def decode(self) -> Any:
        """Give the pixel probabilities for a batch of codes."""

    @abstractmethod
    def loss(self, images: Array, noise: Array) -> float:
        """Give the loss in nats per image, with the noise (n, T) that is to be used."""

    def describe(self) -> str:
        """Give the settings that the framework chose for itself, if any."""
        return ""

    def windows(self, n_steps: int) -> Iterator[tuple[int, int]]:
        """Split steps into ranges (first, last + 1) of images that lie side by side.

        A call goes on where the last one ended, so that in the end all images are seen.  A single
        step is one batch: all frameworks then train on the same images, whatever their order.
        """
        while n_steps > 0:
            if self._next_image + self.batch > self.n_images:
                self._next_image = 0
            first = self._next_image
            steps = min(n_steps, (self.n_images - first) // self.batch)
            self._next_image += steps * self.batch
            n_steps -= steps
            yield first, self._next_image

    def repeat(self, work: str, times: int) -> None:
        """Do some work ("train", "encode" or "decode") on so many batches."""
        if work == "train":
            self.train(times)
            return
        call = getattr(self, work)
        for _ in range(times):
            call()

    def calibrate(self, work: str) -> int:
        """Warm up, and give the number of batches that take about `ROUND_SECONDS`."""
        self.repeat(work, 2)
        times = 1
        while (seconds := self.seconds(work, times)) < ROUND_SECONDS / 2:
            times *= 2
        return max(1, round(times * ROUND_SECONDS / seconds))

    def seconds(self, work: str, times: int) -> float:
        """Time some work, after one batch of it that wakes up threads and caches."""
        self.repeat(work, 1)
        start = time.perf_counter()
        self.repeat(work, times)
        return time.perf_counter() - start
