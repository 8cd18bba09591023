"""Training from a file larger than memory.

The images of an ``.npy`` file are memory-mapped, and `cvae.datasets.Blocks` reads them block by block: one half of its
buffer is trained on while the other is read::

    python examples/larger_than_memory.py --images 100000 --buffer 2000

writes such a file, trains on it, encodes it into another file, and prints its size beside the most memory that the
process took for that. Files of more than 1 GiB are read so without `Blocks`, as are HDF5 datasets and Zarr arrays.
"""

import argparse
import multiprocessing
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
    parser.add_argument("--buffer", type=int, default=1000, help="images in memory")
    parser.add_argument("--file", help="where to write the images; default: a temporary folder")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(args.file or Path(folder) / "ellipses.npy")
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(path, args.images))
        writer.start()  # in a process of its own, whose memory does not count
        writer.join()
        images = cvae.datasets.Blocks(np.load(path, mmap_mode="r"), buffer=args.buffer)
        vae = cvae.VAE(T=8, random_state=0).fit(images, n_epochs=args.epochs)
        target, shape = path.with_suffix(".codes.npy"), (len(images), 8)
        codes = np.lib.format.open_memmap(target, mode="w+", dtype=np.float32, shape=shape)
        vae.transform(images, out=codes)
        size = path.stat().st_size
        print(f"loss {vae.history_['loss'][-1]:.0f} nats per image, codes of {len(codes):,} images")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"file {size / 1e6:,.0f} MB, peak of the process {peak / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
