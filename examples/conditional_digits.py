"""Digits of a chosen class.

A model with ``condition="classes"`` is one of images given their labels. Its code then holds what the label does not
say, the handwriting, so that one code decoded with each label gives ten digits of one hand::

    python examples/conditional_digits.py --epochs 30 --picture classes.png
"""

import argparse

import numpy as np

import cvae


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--picture", help="draw the rows of both pictures, .png")
    args = parser.parse_args()

    digits = cvae.datasets.load("mnist-sample")
    vae = cvae.VAE(T=6, condition="classes", optimizer="Adam(lr=0.002)", random_state=0)
    vae.fit(digits.images, digits.labels, n_epochs=args.epochs)
    print(f"test ELBO: {vae.score(digits.test_images, digits.test_labels):.1f} nats per image")

    # A row for each hand: a test digit, and all classes decoded from its code.
    codes, _ = vae.encode(digits.test_images[:8], digits.test_labels[:8])
    rows = [
        np.concatenate([image[np.newaxis] / 255, vae.decode(np.tile(code, (10, 1)), vae.classes_)])
        for image, code in zip(digits.test_images[:8], codes, strict=True)
    ]
    print(f"{len(rows)} hands, {len(rows[0]) - 1} digits each")
    if args.picture:
        names = [str(label) for label in digits.test_labels[:8]]
        cvae.plotting.class_samples(np.stack(rows), names, args.picture, "Test digits, and all classes in their hand")


if __name__ == "__main__":
    main()
