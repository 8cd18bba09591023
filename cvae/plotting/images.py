"""Images beside what a model makes of them, and images that it draws."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.checking import check_size
from cvae.data.columns import warn_of_other_order
from cvae.data.images import as_images
from cvae.data.intake import as_array
from cvae.model import VAE
from cvae.plotting.figures import WIDTH
from cvae.plotting.grids import (
    CELL,
    MARGIN,
    ROW_LABEL_WIDTH,
    as_rgb,
    cell_scale,
    check_grid,
    draw_grid,
    enlarge,
    labelled_columns,
    stack,
)
from cvae.random import make_rng

Path = str | os.PathLike[str] | None


def reconstructions(
    images: npt.ArrayLike,
    reconstructions: npt.ArrayLike | VAE,
    path: Path = None,
    title: str = "Reconstructions",
    *,
    y: Any = None,
    value_range: Sequence[float] | None = None,
    ax: Any = None,
) -> Any:
    """Draw images above their reconstructions.

    Parameters
    ----------
    images : array_like, shape (n, rows, cols[, channels])
        Values in [0, 1], or uint8 in 0..255, or in the `value_range`; in the units of the model if there is one.
    reconstructions : array_like of the same shape, or a trained model
        A model reconstructs the images.
    path : str or path, optional
        File to write; its suffix determines the format.
    title : str
    y : array or label, optional
        Labels of the images for a conditional model.
    value_range : (low, high), optional
        The values of black and white.
    ax : matplotlib axes, optional
        Where to draw. Default: a new figure, see `cvae.plotting`.

    Returns
    -------
    matplotlib axes
        A unit is a pixel of the drawn grid.

    Raises
    ------
    ValueError
        If the images are invalid, the shapes differ, or the suffix of `path` is not that of a supported format.
    ImportError
        If matplotlib is not installed.
    """
    if isinstance(reconstructions, VAE):
        images, reconstructions = with_reconstructions(reconstructions, images, y)
    originals = as_rgb(images, "images", value_range)
    results = as_rgb(reconstructions, "reconstructions", value_range)
    if originals.shape != results.shape:
        wanted, found = (as_images(given).shape for given in (images, reconstructions))
        raise ValueError(f"reconstructions must have the shape of images, {wanted}, got {found}")
    labels = ("original", "reconstruction")
    cells = stack([originals, results], cell_scale(originals.shape[2]))
    columns = labelled_columns(len(cells), cells.shape[2])
    return draw_grid(cells, columns=columns, gap=8, title=title, path=path, ax=ax, row_labels=labels)


def with_reconstructions(vae: VAE, images: npt.ArrayLike, y: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Return images and what a model makes of them, both from 0, black, to 1, white."""
    vae._require_fitted()
    given = vae._as_images(images)
    warn_of_other_order(images, y, of="images")
    return vae._as_pictures(given), vae._as_pictures(vae.reconstruct(given, y))


def samples(
    images: npt.ArrayLike | VAE,
    path: Path = None,
    title: str = "Samples",
    *,
    n: int = 64,
    random_state: Any = None,
    y: Any = None,
    value_range: Sequence[float] | None = None,
    ax: Any = None,
) -> Any:
    """Draw images in an approximately square grid.

    Parameters
    ----------
    images : array_like, shape (n, rows, cols[, channels]), or a trained model
        As in `reconstructions`. A model draws `n` new ones.
    path, title, value_range, ax
        As in `reconstructions`.
    n, random_state, y
        As in `VAE.sample`, for a model.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError, ImportError
        As in `reconstructions`.
    """
    if isinstance(images, VAE):
        rows, cols, _ = shape = images._require_fitted()
        check_grid(check_size("n", n), _columns(n, rows, cols), shape, "n")
        images = images._as_pictures(images.sample(n, random_state, y=y))
    pixels = as_rgb(images, "images", value_range)
    count, rows, cols, _ = pixels.shape
    columns = _columns(count, rows, cols)
    gap = 6 if columns <= 16 else 2
    cell_width = (WIDTH - 2 * MARGIN) // max(columns, 6) - gap  # do not enlarge a few images to the full width
    cells = enlarge(pixels, max(1, cell_width // cols))
    return draw_grid(cells, columns=columns, gap=gap, title=title, path=path, ax=ax)


def _columns(n: int, rows: int, cols: int) -> int:
    """Return how many images of n stand beside each other in a grid that is about a square."""
    return min(n, max(1, math.ceil(math.sqrt(n * rows / cols))))


def class_samples(
    images: npt.ArrayLike | VAE,
    classes: Sequence[Any] | None = None,
    path: Path = None,
    title: str = "Samples of each class",
    *,
    n: int = 10,
    random_state: Any = 0,
    value_range: Sequence[float] | None = None,
    ax: Any = None,
) -> Any:
    """Draw images in a grid with a row for each class.

    Parameters
    ----------
    images : array_like, shape (classes, n, rows, cols[, channels]), or a trained model with condition="classes"
        Each as in `reconstructions`. A model draws `n` images of each class, those of a column from the same code.
    classes : sequence, optional
        Labels of the rows. Default: all that a model knows.
    path, title, value_range, ax
        As in `reconstructions`.
    n, random_state
        As in `VAE.sample`, for a model.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError, ImportError
        As in `reconstructions`.
    """
    if classes is not None and (isinstance(classes, str | os.PathLike) or not hasattr(classes, "__len__")):
        raise TypeError(f"classes must be a sequence of labels, one for each row, got {classes!r}")
    if isinstance(images, VAE):
        vae = images
        if vae.condition != "classes":
            raise ValueError(f"images must be an array or a model with condition='classes', got {vae!r}")
        shape = vae._require_fitted()
        classes = vae.classes_.tolist() if classes is None else classes
        if not len(classes):
            raise ValueError("classes must hold at least one label, got none")
        vae._as_labels(classes, len(classes), "classes")
        check_grid(check_size("n", n) * len(classes), n, shape, "n")
        is_seed = isinstance(random_state, int | np.integer)
        seed = random_state if is_seed else int(make_rng(random_state).integers(2**31))
        images = np.stack([vae._as_pictures(vae.sample(n, seed, y=label)) for label in classes])
    if isinstance(images, list | tuple):
        images = [as_array(of_class, "images") for of_class in images]
    given = as_array(images, "images")
    labels = list(range(len(given))) if classes is None else list(classes)
    if given.ndim not in (4, 5) or len(given) != len(labels):
        expected = f"({len(labels)}, n, rows, cols, channels) or ({len(labels)}, n, rows, cols)"
        raise ValueError(f"images must have the shape {expected}, got {given.shape}")
    pixels = [as_rgb(of_class, "images", value_range) for of_class in given]
    count, _, cols, _ = pixels[0].shape
    scale = cell_scale(cols, min(CELL, (WIDTH - ROW_LABEL_WIDTH) / count))
    rows = tuple(map(str, labels))
    return draw_grid(stack(pixels, scale), columns=count, gap=2, title=title, path=path, ax=ax, row_labels=rows)
