"""How much memory training takes, and how much there is: estimates before anything of that size is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cvae.engine.network import fused
from cvae.nn.base import LayerBase
from cvae.nn.protocol import Shape

_DRAWN = 20  # bytes for each weight of a layer while its starting weights are drawn, in float64, and converted


def training_bytes(
    layers: Sequence[LayerBase], counts: Sequence[int], depth: int, batch_shape: Shape, code_shape: Shape
) -> int:
    """Return about how many bytes a model takes in training, without the images that it is trained on.

    Parameters
    ----------
    layers : sequence of layers
        From images to codes and from codes to images, of known sizes; they need no parameters.
    counts : sequence of int
        How many parameters each layer has.
    depth : int
        How many of the layers are the encoder's.
    batch_shape : (n, rows, cols, channels)
        Of the images of a batch.
    code_shape : (rows, T)
        Of their codes.
    """
    itemsize = layers[0].dtype.itemsize
    # With gradients and the optimizers' state.
    total = itemsize * sum(count * (2 + n_states(layer)) for layer, count in zip(layers, counts, strict=True))
    encoder, decoder = _activations(layers[:depth], batch_shape), _activations(layers[depth:], code_shape)
    # Gradients with respect to outputs take turns in two places.
    total += sum(encoder) + sum(decoder) + 2 * max(*encoder, *decoder) + itemsize * math.prod(batch_shape)
    return max(total, _DRAWN * max(counts))


def n_states(layer: LayerBase) -> int:
    """Return how many numbers the layer's optimizer keeps for each parameter."""
    return max(1, len(layer.optimizer.state_names))


def _activations(layers: Sequence[LayerBase], shape: Shape) -> list[int]:
    """Return the bytes that each layer's output for a batch takes, with what it saves for the backward pass."""
    sizes = []
    for layer in fused(layers, shape):
        saved = sum(math.prod(each) * np.dtype(dtype).itemsize for each, dtype in layer.saved(shape).values())
        shape = layer.output_shape(shape)
        sizes.append(saved + (0 if layer.is_view else math.prod(shape) * layer.dtype.itemsize))
    return sizes


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return how much memory this process can still get, with swap space; None if the system does not say.

    The least of what the machine has available and what the container's limit (control groups v2 or v1) leaves.
    """
    found = [_of_machine(root / "proc/meminfo"), *_of_container(root / "sys/fs/cgroup")]
    known = [each for each in found if each is not None]
    return min(known, default=None)


def _of_machine(path: Path) -> int | None:
    try:
        rows = dict(line.split(":", 1) for line in path.read_text(encoding="utf-8").splitlines())
        return 1024 * sum(int(rows[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _of_container(folder: Path) -> list[int | None]:
    files = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
    left: list[int | None] = []
    for limit, usage in files:
        try:
            in_use = int((folder / usage).read_text(encoding="utf-8"))
            # Pages of files are given back when memory is short.
            stat = dict(
                line.split()
                for line in (folder / usage).with_name("memory.stat").read_text(encoding="utf-8").splitlines()
            )
            left.append(int((folder / limit).read_text(encoding="utf-8")) - in_use + int(stat.get("inactive_file", 0)))
        except (OSError, ValueError):  # none of this version, or "max"
            left.append(None)
    return left
