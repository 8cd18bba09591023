"""Anomaly detection on pictures.

What a model of normal images finds improbable is an anomaly. Here the normal images are pieces of the photograph of a
palace, from scikit-learn, and the anomalies are other pieces of it into which something has been put that does not
belong there: a piece of the photograph of a flower, a scratch, or a dead block of the sensor. `VAEOutlierDetector` is
trained on normal pieces only. It needs scikit-learn, Pillow and Matplotlib::

    python examples/anomaly_detection.py --epochs 20 --picture anomalies.png

prints the area under the ROC curve, which is 1 if all anomalies score lower than all normal pieces and 0.5 by chance.
"""

import argparse

import numpy as np
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score

import cvae

SIZE = 32


def pieces(photograph, n, rng):
    """Return n square pieces, (n, SIZE, SIZE, 3), from random places."""
    rows, cols = (rng.integers(0, length - SIZE, n) for length in photograph.shape[:2])
    return np.stack([photograph[r : r + SIZE, c : c + SIZE] for r, c in zip(rows, cols, strict=True)])


def damaged(images, others, rng):
    """Return images with a foreign piece of 12x12 pixels, a scratch or a dead block of 8x8 each."""
    images = images.copy()
    for i, image in enumerate(images):
        row, col = rng.integers(0, SIZE - 12, 2)
        if i % 3 == 0:
            image[row : row + 12, col : col + 12] = others[i, :12, :12]
        elif i % 3 == 1:
            along = np.arange(12)
            image[row + along, col + along] = image[row + along, col + along + 1] = 255 - image.mean((0, 1))
        else:
            image[row : row + 8, col : col + 8] = (255, 0, 255)
    return images


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=3000, help="normal pieces to train on")
    parser.add_argument("--picture", help="draw the least probable pieces and where they are improbable, .png")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    palace, flower = load_sample_images().images
    left, right = palace[:, :420], palace[:, 420:]  # to train on, and to test on
    normal = pieces(right, 300, rng)
    anomalies = damaged(pieces(right, 300, rng), pieces(flower, 300, rng), rng)

    vae = cvae.VAE(T=32, likelihood="Gaussian('pixel')", n_epochs=args.epochs, random_state=0)
    detector = cvae.VAEOutlierDetector(vae, contamination=0.05).fit(pieces(left, args.images, rng))

    tested = np.concatenate([normal, anomalies])
    is_anomaly = np.repeat([False, True], 300)
    scores = detector.score_samples(tested)
    print(f"area under the ROC curve: {roc_auc_score(is_anomaly, -scores):.3f}")
    found = detector.predict(tested) == -1
    print(f"found {found[is_anomaly].mean():.0%} of the anomalies; false alarms: {found[~is_anomaly].mean():.0%}")
    if args.picture:
        cvae.plotting.outliers(tested, detector, args.picture, n=9, scores=scores)


if __name__ == "__main__":
    main()
