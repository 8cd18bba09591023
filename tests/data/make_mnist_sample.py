"""Make cvae/data/mnist_sample.npz, the digits that come with the package.

The sample is a random subset, in random order, of MNIST: 5,000 of the 60,000 training and 1,000 of
the 10,000 test digits with their labels, drawn without replacement from
numpy.random.default_rng(0), so the classes are as frequent as in MNIST. Pixels are unchanged.

    python tests/data/make_mnist_sample.py FOLDER [OUTPUT]

FOLDER holds MNIST's four IDX files, gzipped or not; OUTPUT defaults to cvae/data/mnist_sample.npz
of this repository. `cvae` must be importable.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cvae import datasets

N_TRAIN, N_TEST = 5_000, 1_000
OUTPUT = Path(__file__).parents[2] / "cvae" / "data" / "mnist_sample.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the sample of MNIST in the package.")
    parser.add_argument("folder", type=Path, help="the folder of MNIST's four IDX files")
    parser.add_argument("output", type=Path, nargs="?", default=OUTPUT)
    arguments = parser.parse_args()

    mnist = datasets.load(arguments.folder)
    rng = np.random.default_rng(0)
    train = rng.choice(len(mnist.images), N_TRAIN, replace=False)
    test = rng.choice(len(mnist.test_images), N_TEST, replace=False)
    np.savez_compressed(
        arguments.output,
        images=mnist.images[train],
        labels=mnist.labels[train],
        test_images=mnist.test_images[test],
        test_labels=mnist.test_labels[test],
    )
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
