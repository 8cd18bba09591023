"""The latent explorer: one HTML file in which a model's decoder runs.

It has a slider for each dimension of the code, a map of a data set's codes and interpolation between two of them. It
needs no server and no network, and works on a phone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from cvae.explorer.page import page
from cvae.io.files import replaced_file
from cvae.model import VAE

__all__ = ["write"]


def write(
    vae: VAE,
    path: str | os.PathLike[str],
    images: Any = None,
    labels: Any = None,
    *,
    names: Sequence[Any] | None = None,
    title: str = "Latent explorer",
) -> None:
    """Write a page that decodes codes with the weights of a model.

    Parameters
    ----------
    vae : trained model
        Of layers, activations and a likelihood of this package.
    path : str or path
        The HTML file to write; an existing one is replaced.
    images : array, shape (n, rows, cols, channels), optional
        Images whose codes the map shows, as for `VAE.transform`; of more than 2,000, or of fewer large ones, as many
        evenly spread ones. They are in the page, large ones with fewer pixels.
    labels : array, shape (n,), optional
        Their classes, which become colours, as in `cvae.plotting.latent`; those of a conditional model, which needs
        them with images.
    names : sequence, optional
        What to call each image, such as by the name of its file. Default: its number.
    title : str

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, the model is not trained, or has a layer, activation or likelihood of the user's own.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import cvae, os, tempfile
    >>> digits = cvae.datasets.load("mnist-sample")
    >>> vae = cvae.VAE("mlp", T=2, random_state=0, verbose=False).fit(digits.images[:256], n_epochs=1)
    >>> path = os.path.join(tempfile.mkdtemp(), "explorer.html")
    >>> cvae.explorer.write(vae, path, digits.test_images, digits.test_labels)
    """
    if not isinstance(vae, VAE):
        raise TypeError(f"vae must be a trained model, got {type(vae).__name__}")
    text = page(vae, title, images, labels, names)
    with replaced_file(path) as file:
        file.write(text.encode("utf-8"))
