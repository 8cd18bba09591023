"""Compare processes of one thread with one process of as many threads, on the same shards of every batch.

    python benchmarks/processes.py MNIST --processes 2 --batchsize 1024

Both train BernoulliVAE on the same images, in interleaved rounds; the ratio is that of the medians of images a second.
It needs mpi4py and mpiexec. Their models have the same bits, which is checked.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import cvae


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="file, folder or name of a data set")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batchsize", type=int, default=1024)
    parser.add_argument("--images", type=int, default=16_384)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # its number of threads
    return parser.parse_args()


def work(args: argparse.Namespace) -> None:
    """Train for two epochs, of which the second counts, and print its speed and a hash of the parameters."""
    from mpi4py import MPI

    images = cvae.datasets.load(args.data).images[: args.images]
    vae = cvae.BernoulliVAE(batchsize=args.batchsize, n_epochs=2, n_threads=args.worker, random_state=0, verbose=False)
    vae.fit(images, comm=MPI.COMM_WORLD)
    digest = hashlib.sha256()
    for layer in (*vae.encoder.values(), *vae.decoder.values()):
        for array in layer.parameters.values():
            digest.update(array.tobytes())
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps([vae.history_["images_per_second"][-1], digest.hexdigest()]))


def speed(args: argparse.Namespace, processes: int, threads: int) -> tuple[float, str]:
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if mpiexec is None:
        sys.exit("there is no mpiexec")
    command = [mpiexec, "-n", str(processes), sys.executable, *sys.argv, "--worker", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    images_per_second, digest = json.loads(done.stdout.splitlines()[-1])
    return images_per_second, digest


def main() -> None:
    args = parse_arguments()
    if args.worker is not None:
        work(args)
        return
    ways = {f"{args.processes} x 1 thread": (args.processes, 1), f"1 x {args.processes} threads": (1, args.processes)}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    digests = set()
    for _ in range(args.rounds):
        for name, way in ways.items():
            images_per_second, digest = speed(args, *way)
            speeds[name].append(images_per_second)
            digests.add(digest)
    medians = [statistics.median(values) for values in speeds.values()]
    for name, values in speeds.items():
        print(f"{name:>16}: median {statistics.median(values):8,.0f} images/s, best {max(values):8,.0f}")
    bits = "equal" if len(digests) == 1 else "NOT equal"
    print(f"ratio of the medians: {medians[0] / medians[1]:.2f}; the bits are {bits}")


if __name__ == "__main__":
    main()
