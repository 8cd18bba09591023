"""Logistic regression on the codes of images.

A variational autoencoder needs no labels, so it can be trained on all images, and a classifier on the few that have
labels. In a pipeline of scikit-learn both are one model. Here 300 of 5,000 digits have labels::

    python examples/logistic_regression.py --epochs 10

compares the regression on codes with one on the pixels themselves.
"""

import argparse

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cvae


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--labels", type=int, default=300, help="how many images have labels")
    args = parser.parse_args()

    digits = cvae.datasets.load("mnist-sample")
    labelled, labels = digits.images[: args.labels], digits.labels[: args.labels]

    vae = cvae.VAE(T=16, n_epochs=args.epochs, random_state=0).fit(digits.images)
    codes = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(vae.transform(labelled), labels)
    on_codes = codes.score(vae.transform(digits.test_images), digits.test_labels)

    # The same in one piece, for all images with labels; images go through a pipeline as rows of pixels.
    rows, test_rows = (x.reshape(len(x), -1) for x in (digits.images, digits.test_images))
    whole = cvae.VAE(T=16, image_shape=(28, 28), n_epochs=args.epochs, random_state=0, verbose=False)
    pipeline = make_pipeline(whole, StandardScaler(), LogisticRegression(max_iter=1000)).fit(rows, digits.labels)

    pixels = LogisticRegression(max_iter=1000).fit(rows[: args.labels] / 255, labels)
    print(f"{args.labels} labels, pixels: {pixels.score(test_rows / 255, digits.test_labels):.1%} of test digits right")
    print(f"{args.labels} labels, codes:  {on_codes:.1%}")
    print(f"all labels, pipeline of VAE and regression: {pipeline.score(test_rows, digits.test_labels):.1%}")


if __name__ == "__main__":
    main()
