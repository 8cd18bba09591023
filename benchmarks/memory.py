"""Peak memory of training on 256x256x3 images in batches of 32, by cvae and by PyTorch.

    python benchmarks/memory.py

trains the network that `cvae.VAE()` makes for such images for a few steps, each framework in a process of its own, and
prints the most memory that the process had, with the framework itself and the images, which are bytes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from cases import Network
from peers import CVAE, RIVALS
from worker import Worker

import cvae
from cvae.architectures import ARCHITECTURES

IMAGE_SHAPE, BATCH, N_IMAGES, STEPS = (256, 256, 3), 32, 64, 4


def automatic_network() -> Network:
    """Return the network of `cvae.VAE()` as call strings."""
    auto = ARCHITECTURES["auto"]
    layers = auto.encoder(IMAGE_SHAPE), auto.decoder(IMAGE_SHAPE, IMAGE_SHAPE[2])
    encoder, decoder = (tuple(map(repr, part)) for part in layers)
    return Network(encoder, decoder, n_codes=32, image_shape=IMAGE_SHAPE)


def main() -> None:
    network, layers = automatic_network(), None
    rivals = [each for each in RIVALS if each.framework == "pytorch" and each.is_installed and each.can_build(network)]
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        np.save(images, np.random.default_rng(0).integers(0, 256, (N_IMAGES, *IMAGE_SHAPE), dtype=np.uint8))
        for variant in (CVAE, *rivals):
            worker = Worker(variant, cvae.get_num_threads())
            worker.build(network, BATCH, images, layers)
            layers = worker.call("layers") if variant is CVAE else layers
            worker.call("train", STEPS)
            print(f"{variant.label}: {worker.call('peak_memory'):,.0f} MB", flush=True)
            worker.close()


if __name__ == "__main__":  # the workers import this file too
    main()
