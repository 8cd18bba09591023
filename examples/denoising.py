"""Removing noise.

A model cannot describe noise by a short code, so what it reconstructs of a noisy image is the image without the noise.
Neither clean images nor pairs are needed: this one is trained on noisy digits, and never sees a clean one. The
likelihood says how strong the noise is::

    python examples/denoising.py --epochs 30 --picture denoised.png

prints how far the noisy test digits and their reconstructions are from the clean ones.
"""

import argparse

import numpy as np

import cvae


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--noise", type=float, default=0.4, help="standard deviation; pixels are from 0 to 1")
    parser.add_argument("--picture", help="draw noisy digits above what is left of them, .png")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    digits = cvae.datasets.load("mnist-sample")
    clean = digits.test_images / 255
    noisy, to_train_on = (x + rng.normal(0, args.noise, x.shape) for x in (clean, digits.images / 255))

    vae = cvae.VAE(T=16, likelihood=f"Gaussian(scale={args.noise})", random_state=0)
    denoised = vae.fit(to_train_on, n_epochs=args.epochs).reconstruct(noisy)
    for name, images in (("noisy", noisy), ("denoised", denoised)):
        print(f"{name}: root mean squared error {np.sqrt(np.mean((images - clean) ** 2)):.3f}")
    if args.picture:
        images = noisy[:20].clip(0, 1), denoised[:20].clip(0, 1)
        cvae.plotting.reconstructions(*images, args.picture, "Noisy test digits, and without the noise")


if __name__ == "__main__":
    main()
