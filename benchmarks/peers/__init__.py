"""The compared frameworks: a module for each, which implements the interface `Peer`.

This module imports none of them, so that each can run in a process without the others.
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
from cases import Model, Network

Array = npt.NDArray[np.floating]
Images = npt.NDArray[np.floating | np.uint8]

ROUND_SECONDS = 0.3


@dataclass(frozen=True)
class Variant:
    """A framework with a choice of its settings.

    Attributes
    ----------
    framework : str
        The name used by `--peers`.
    label : str
        The name used in tables.
    packages : tuple of str
        The import names of its packages, the one to import first.
    implementation : str
        "module:class" of its `Peer` for a `Model`; empty if that is made from layers, too.
    options : dict
        The settings, as keyword arguments of the class.
    max_batch : int or None
        The largest batch that is measured.
    reference_case_only : bool
        Whether to measure only the case "train, batch 128", for comparison or because compilation takes minutes.
    in_race : bool
        Whether to measure the seconds to a test ELBO even so.
    before_import : str
        Statements that the import requires.
    environment : mapping of str to str
        Environment variables of the process.
    from_layers : str
        "module:class" of its `Peer` that is made from `layers.Layers`; empty if it has none.
    trains : bool
        Whether it can train; otherwise only encoding and decoding are measured.
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
    from_layers: str = ""
    trains: bool = True

    @property
    def is_installed(self) -> bool:
        """Whether all packages can be found, without importing them."""
        return all(util.find_spec(package) is not None for package in self.packages)

    def takes_layers(self, model: Model | Network) -> bool:
        """Whether its `Peer` for a model is made from the layers, otherwise from the parameters by name."""
        return isinstance(model, Network) or not self.implementation

    def can_build(self, model: Model | Network) -> bool:
        """Whether it has a `Peer` for a model."""
        return bool(self.from_layers if self.takes_layers(model) else self.implementation)

    def load(self, model: Model | Network) -> type[Peer]:
        """Import the framework and return its `Peer` for a model."""
        module, name = (self.from_layers if self.takes_layers(model) else self.implementation).split(":")
        peer: type[Peer] = getattr(import_module(module), name)
        return peer


_CVAE = "peers.cvae_peer:CvaePeer"
CVAE = Variant("cvae", "cvae", ("cvae",), _CVAE, from_layers=_CVAE)

_TORCH = ("torch",), "peers.pytorch_peer:PyTorchPeer"
_TORCH_LAYERS = "peers.pytorch_layers_peer:PyTorchLayersPeer"
_KERAS = ("tensorflow", "keras"), "peers.keras_peer:KerasPeer"
_ALIAS = "import collections.abc; collections.Hashable = collections.abc.Hashable; "

# PyTorch allocates new tensors in every training step. By default, glibc returns the memory of large ones to the system
# each time, and the resulting page faults take a fifth to a quarter of a training step.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}

RIVALS = (
    Variant("pytorch", "PyTorch", *_TORCH, environment=KEEP_MEMORY, from_layers=_TORCH_LAYERS),
    Variant(
        "pytorch",
        "PyTorch, channels_last",
        *_TORCH,
        {"channels_last": True},
        environment=KEEP_MEMORY,
        from_layers=_TORCH_LAYERS,
    ),
    Variant(
        "pytorch",
        "PyTorch, channels_last, default malloc",
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
        environment=KEEP_MEMORY,
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
    Variant(
        "onnxruntime",
        "ONNX Runtime",
        ("onnxruntime", "onnx"),
        implementation="",
        from_layers="peers.onnxruntime_peer:OnnxRuntimePeer",
        trains=False,
    ),
)


class Peer(ABC):
    """A framework's model with a set of images, ready to train, encode and decode.

    Parameters
    ----------
    model : Model or Network
    batch : int
        Images per batch.
    threads : int
        Number of threads that the framework may use.
    images : array, shape (n, rows, cols, channels)
        At least one batch, in the model's dtype with values in [0, 1], or uint8 in 0..255, which is kept in
        memory and scaled batch by batch.
    seed : int
        Seed of the order of the images and the noise, and in cvae of the weights.
    """

    def __init__(self, model: Model | Network, batch: int, threads: int, images: Images, seed: int) -> None:
        self.model = model
        self.batch = batch
        self.threads = threads
        self.n_images = len(images)
        self._next_image = 0

    @abstractmethod
    def train(self, n_steps: int) -> None:
        """Do training steps, on each range of `windows` in random order."""

    @abstractmethod
    def encode(self) -> Any:
        """Return the means and log-variances of the codes of the first batch of images."""

    @abstractmethod
    def decode(self) -> Any:
        """Return the pixel probabilities for a batch of codes."""

    @abstractmethod
    def loss(self, images: Array, noise: Array) -> float:
        """Return the loss in nats per image with the given noise (n, T)."""

    def describe(self) -> str:
        """Return settings that the peer chose by measurement, if any."""
        return ""

    def windows(self, n_steps: int) -> Iterator[tuple[int, int]]:
        """Yield ranges (start, end) of consecutive images for the given number of training steps.

        Each call continues where the last one ended, so that all images are used. With `n_steps` = 1 the range
        is one batch, so that all frameworks train on the same images in spite of their random order.
        """
        while n_steps > 0:
            if self._next_image + self.batch > self.n_images:
                self._next_image = 0
            start = self._next_image
            n_batches = min(n_steps, (self.n_images - start) // self.batch)
            self._next_image += n_batches * self.batch
            n_steps -= n_batches
            yield start, self._next_image

    def repeat(self, work: str, times: int) -> None:
        """Do some work ("train", "encode" or "decode") on the given number of batches."""
        if work == "train":
            self.train(times)
            return
        call = getattr(self, work)
        for _ in range(times):
            call()

    def calibrate(self, work: str) -> int:
        """Warm up, and return the number of batches that take about `ROUND_SECONDS`."""
        self.repeat(work, 2)
        times = 1
        while (seconds := self.seconds(work, times)) < ROUND_SECONDS / 2:
            times *= 2
        return max(1, round(times * ROUND_SECONDS / seconds))

    def seconds(self, work: str, times: int) -> float:
        """Return the duration of some work, after one untimed batch that wakes threads and warms caches."""
        self.repeat(work, 1)
        start = time.perf_counter()
        self.repeat(work, times)
        return time.perf_counter() - start
