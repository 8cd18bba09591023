"""Encoding a Dask array block by block.

A model is trained on the first images of an array in blocks, and encodes all blocks where they are: in the threads of
this process, or on a cluster::

    python examples/dask_arrays.py
    python examples/dask_arrays.py --cluster tcp://scheduler:8786

What is sent to a worker is a copy of the model without the state of its optimizer, a third of its size. No worker holds
more than a block at a time, and the codes are a Dask array again.
"""

import argparse
import pickle

import dask.array as da

import cvae


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--cluster", help="the address of a Dask scheduler; default: threads of this process")
    args = parser.parse_args()
    if args.cluster:
        from distributed import Client

        Client(args.cluster)  # from here on computes all arrays

    digits = cvae.datasets.load("mnist-sample")
    images = da.from_array(digits.images, chunks=(100, 28, 28, 1))  # or da.from_zarr("images.zarr")
    vae = cvae.VAE("mlp", T=8, random_state=0).fit(images[:1000], n_epochs=args.epochs)

    lean = vae.copy(optimizer_state=False)
    print(f"pickles: {len(pickle.dumps(vae)) / 1e6:.1f} MB, {len(pickle.dumps(lean)) / 1e6:.1f} MB to send")
    codes = images.map_blocks(lean.transform, dtype="float32", chunks=(100, 8), drop_axis=(2, 3))
    scores = images.map_blocks(lean.score_samples, dtype="float64", chunks=(100,), drop_axis=(1, 2, 3))
    mean, elbo = da.compute(codes.mean(0), scores.mean())
    print(f"codes {codes.shape}, their mean {mean.round(2)}, ELBO {elbo:.1f} nats per image")


if __name__ == "__main__":
    main()
