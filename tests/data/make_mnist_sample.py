"""Make cvae/data/mnist_sample.npz, the sample of MNIST included in the package.

The sample consists of 5,000 of MNIST's 60,000 training digits and 1,000 of its 10,000 test digits, with their
labels, drawn in random order without replacement by numpy.random.default_rng(0). The pixels are unchanged.

    python tests/data/make_mnist_sample.py FOLDER [OUTPUT]

FOLDER contains MNIST's four IDX files, gzipped or not; OUTPUT defaults to cvae/data/mnist_sample.npz in this
repository. `cvae` must be importable.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cvae import datasets

N_TRAIN, N_TEST = 5_000, 1_000
OUTPUT = Path(__file__).parents[2] / "cvae" / "data" / "mnist_sample.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the sample of MNIST included in the package.")
    parser.add_argument("folder", type=Path, help="a folder with MNIST's four IDX files")
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
