"""Training from a file larger than memory.

The images of an ``.npy`` file are memory-mapped: of a batch, only the images that are in it are read. `fit` copies
them batch by batch, and never the whole set::

    python examples/larger_than_memory.py --images 100000

writes such a file, trains on it, and prints its size beside the most memory that the process ever took. HDF5 and Zarr
files are read at once, so large sets are best converted as `write` does, some images at a time.
"""

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

import cvae

SIZE = 64


def write(path, n, block=1000):
    """Write n pictures of ellipses, (n, SIZE, SIZE, 3) uint8, a block at a time."""
    rng = np.random.default_rng(0)
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(n, SIZE, SIZE, 3))
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    for start in range(0, n, block):
        count = min(block, n - start)
        cx, cy, rx, ry = (rng.uniform(low, high, (count, 1, 1)) for low, high in 2 * [(20, 44)] + 2 * [(6, 18)])
        inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
        colours = rng.integers(64, 256, (count, 1, 1, 3), dtype=np.uint8)
        images[start : start + count] = inside[..., np.newaxis] * colours
    images.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--file", help="where to write the images; default: a temporary folder")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(args.file or Path(folder) / "ellipses.npy")
        write(path, args.images)
        images = cvae.datasets.load(path).images  # np.load(path, mmap_mode="r") does the same
        vae = cvae.VAE(T=8, random_state=0).fit(images, n_epochs=args.epochs)
        size = path.stat().st_size
        print(f"loss {vae.history_['loss'][-1]:.0f} nats per image")
    # The pages of the file that the system keeps in its cache count too, as long as nobody else needs the memory.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"file {size / 1e6:,.0f} MB, peak of the process {peak / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
