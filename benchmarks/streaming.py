"""Training on a file that is read block by block, beside training on images in memory.

    python benchmarks/streaming.py --gigabytes 20 --limit 1

writes a sparse file of uint8 images, trains a network on each of its parts in turn, in a process whose memory is
limited, and after each part as long on images in memory, in another process. It prints images per second of both,
their ratio, and the most memory that each process had.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import resource
import statistics
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import cvae

_IN_MEMORY_BYTES = 1 << 28
_GB = 10**9
NETWORKS: dict[str, dict[str, list[str]]] = {
    "auto": {},
    "light": {  # which takes images as fast as a disk gives them
        "encoder": ["Conv2D(out_ch=16, kernel_shape=4, stride=4, act_fn='ReLU')", "Flatten()"],
        "decoder": ["FullyConnected(n_out=64, act_fn='ReLU')"],
    },
}


def make_file(path: Path, n_bytes: float, image_shape: tuple[int, ...]) -> int:
    """Write a file of black images, which takes no space on most file systems, and return their number."""
    n = int(n_bytes) // int(np.prod(image_shape))
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(n, *image_shape))
    return n


def work(
    pipe: Connection, path: Path, network: str, threads: int, batchsize: int, limit: float | None, streams: bool
) -> None:
    """Train on the parts that are asked for, and answer with images per second and the peak of memory in bytes."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit), int(limit)))
    cvae.set_num_threads(threads)
    images = np.load(path, mmap_mode="r")
    if not streams:
        images = np.array(images[: _IN_MEMORY_BYTES // images[0].nbytes])
    vae = cvae.VAE(T=32, batchsize=batchsize, random_state=0, verbose=False, **NETWORKS[network])
    vae.partial_fit(np.array(images[:batchsize]))
    while (part := pipe.recv()) is not None:
        count = min(part.stop - part.start, len(images))
        given = cvae.datasets.Blocks(images[part]) if streams else images[:count]
        vae.partial_fit(given)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        pipe.send((vae.history_["images_per_second"][-1], peak))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the file")
    parser.add_argument("--parts", type=int, default=8, help="in how many parts it is trained on")
    parser.add_argument("--limit", type=float, help="gigabytes of memory of the process that reads the file")
    parser.add_argument("--network", choices=NETWORKS, default="auto", help="default: %(default)s")
    parser.add_argument("--image", default="64x64x3", help="rows x cols x channels")
    parser.add_argument("--batchsize", type=int, default=128)
    parser.add_argument("--threads", type=int, default=cvae.get_num_threads())
    parser.add_argument("--folder", help="where to write the file; default: a temporary folder")
    args = parser.parse_args()
    image_shape = tuple(map(int, args.image.split("x")))

    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "images.npy"
        n = make_file(path, args.gigabytes * _GB, image_shape)
        ends = np.linspace(0, n, args.parts + 1).astype(int).tolist()
        context, pipes, workers = multiprocessing.get_context("spawn"), [], []
        for streams in (True, False):
            pipe, other = context.Pipe()
            limit = args.limit * _GB if streams and args.limit else None
            arguments = (other, path, args.network, args.threads, args.batchsize, limit, streams)
            workers.append(context.Process(target=work, args=arguments, daemon=True))
            workers[-1].start()
            pipes.append(pipe)
        rates: list[list[float]] = [[], []]
        peaks = [0, 0]
        for start, end in itertools.pairwise(ends):
            for i, pipe in enumerate(pipes):
                pipe.send(slice(start, end))
                rate, peaks[i] = pipe.recv()
                rates[i].append(rate)
            print(f"images {start:,} to {end:,}: {rates[0][-1]:,.0f} and {rates[1][-1]:,.0f} per second", flush=True)
        for pipe, worker in zip(pipes, workers, strict=True):
            pipe.send(None)
            worker.join()
    ratios = [streamed / in_memory for streamed, in_memory in zip(*rates, strict=True)]
    seconds = sum((end - start) / rate for (start, end), rate in zip(itertools.pairwise(ends), rates[0], strict=True))
    print(f"{args.gigabytes:g} GB in blocks: {n / seconds:,.0f} images per second")
    print(f"of the speed in memory: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")
    print(f"peak of memory: {peaks[0] / 1e6:,.0f} MB; in memory: {peaks[1] / 1e6:,.0f} MB")


if __name__ == "__main__":  # the workers import this file too
    main()
