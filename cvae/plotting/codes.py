"""The space of codes: where images lie in it, and what the decoder makes of its points."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.checking import check_number, check_size
from cvae.data.columns import warn_of_other_order
from cvae.data.intake import as_numbers, check_unmasked
from cvae.model import VAE
from cvae.plotting.figures import TEXT, WIDTH, add_legend, check_axes, class_colors, new_figure, save, styled
from cvae.plotting.grids import CELL, MARGIN, ROW_LABEL_WIDTH, as_rgb, check_grid, draw_grid, enlarge
from cvae.plotting.images import Path

_MAX_ROWS = 32  # dimensions that are drawn unless they are asked for


def latent(
    means: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    path: Path = None,
    title: str = "Latent space",
    *,
    method: str = "pca",
    ax: Any = None,
) -> Any:
    """Draw the latent means of images, coloured by class.

    The plot is a histogram for T = 1, a scatter plot for T = 2, and for T > 2 a scatter plot of the first two principal
    components, whose axis labels give the share of the variance that each explains, or of UMAP's two dimensions.

    Parameters
    ----------
    means : array_like of finite floats, shape (n, T)
        As returned by `VAE.transform`.
    labels : array_like, shape (n,), optional
        Classes, as numbers or strings; what is missing (None, NaN, NA) is one of its own.
    path, title, ax
        As in `reconstructions`.
    method : {"pca", "umap"}
        How more than two dimensions become two; "umap" needs umap-learn (McInnes, Healy & Melville 2018, "UMAP: Uniform
        Manifold Approximation and Projection for Dimension Reduction").

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError
        If `means` or `labels` is invalid or the suffix of `path` is not that of a supported format.
    ImportError
        If matplotlib, or umap-learn if needed, is not installed.
    """
    try:
        points = as_numbers(means, "means").astype(np.float64)
    except TypeError:
        expected = "means must be an array of numbers, (n, T), such as vae.transform(images)"
        raise TypeError(f"{expected}, got an object of type {type(means).__name__}") from None
    if points.ndim != 2 or points.size == 0 or not np.isfinite(points).all():
        raise ValueError(f"means must be finite and of shape (n, T), got shape {points.shape}")
    check_unmasked(labels, "labels")
    if labels is not None and np.shape(labels) != (len(points),):
        raise ValueError(f"labels must have shape ({len(points)},), got {np.shape(labels)}")
    if method not in ("pca", "umap"):
        raise ValueError(f"method must be 'pca' or 'umap', got {method!r}")
    warn_of_other_order(means, labels, "labels", "means")
    check_axes(ax)
    classes, members = np.array([]), np.zeros(len(points), int)
    if labels is not None:
        classes, members = classes_of(np.asarray(labels))
    colors = class_colors(max(1, len(classes)))
    is_histogram = points.shape[1] == 1
    if not is_histogram:
        points, names = _in_the_plane(points, method)
    if ax is None:
        ax = new_figure(WIDTH, 620 if is_histogram else 820, path, constrained=True).add_subplot(facecolor="white")
    axes = styled(ax, title)
    if is_histogram:
        _draw_histogram(axes, points, members, colors)
    else:
        _draw_scatter(axes, points, members, colors, names)
    if len(classes):
        add_legend(axes, classes, colors)
    save(axes.figure, path)
    return axes


def latent_plane(
    vae: VAE,
    path: Path = None,
    title: str | None = None,
    *,
    n: int = 15,
    dimensions: Sequence[int] = (0, 1),
    at: npt.ArrayLike | None = None,
    y: Any = None,
    ax: Any = None,
) -> Any:
    """Draw the images of a grid of codes, which divide the prior N(0, I) of two dimensions into equal shares.

    Parameters
    ----------
    vae : trained model
        Of T >= 2.
    path, ax
        As in `reconstructions`.
    title : str, optional
        Default: one that says which dimensions and numbers are shown.
    n : int
        Images from left to right, and from bottom to top.
    dimensions : (int, int)
        Which ones grow to the right and upwards, from 0 to T - 1.
    at : array, shape (T,), or an image, optional
        Where the other dimensions are, as in `VAE.interpolate`. Default: at 0.
    y : label
        Of a conditional model.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError, TypeError, ImportError
        If an argument is invalid, the model is not trained, or matplotlib is not installed.
    """
    base = _base_code(vae, at, y)
    if vae.T < 2:
        raise ValueError(f"vae must have codes of at least two numbers for a plane, got T={vae.T}; traversals draw one")
    chosen = _dimensions(vae, dimensions)
    if len(chosen) != 2 or chosen[0] == chosen[1]:
        raise ValueError(f"dimensions must be two different ones of T={vae.T}, got {tuple(dimensions)!r}")
    across, up = chosen
    size = check_size("n", n)
    check_grid(size * size, size, vae._require_fitted(), "n")
    values = np.array([NormalDist().inv_cdf((i + 0.5) / size) for i in range(size)])
    codes = np.tile(base, (size * size, 1))
    codes[:, across], codes[:, up] = np.tile(values, size), values[::-1].repeat(size)
    pixels = as_rgb(vae._as_pictures(vae.decode(codes, y)), "images")
    cells = enlarge(pixels, max(1, (WIDTH - 2 * MARGIN) // (max(size, 6) * pixels.shape[2])))
    if title is None:
        ends = f"from {values[0]:.2g} to {values[-1]:.2g}"
        title = f"Decoded codes: dimension {across + 1} to the right and {up + 1} upwards, {ends}"
    return draw_grid(cells, columns=size, gap=0, title=title, path=path, ax=ax)


def traversals(
    vae: VAE,
    path: Path = None,
    title: str | None = None,
    *,
    n: int = 11,
    limit: float = 3.0,
    dimensions: Sequence[int] | None = None,
    at: npt.ArrayLike | None = None,
    y: Any = None,
    ax: Any = None,
) -> Any:
    """Draw a row of images for each dimension of the code, which alone changes along the row.

    Parameters
    ----------
    vae : trained model
    path, ax
        As in `reconstructions`.
    title : str, optional
        Default: one that says what is shown.
    n : int
        Images in a row.
    limit : float
        The dimension goes from -limit, on the left, to limit.
    dimensions : sequence of ints, optional
        Which ones, from 0 to T - 1. Default: all, or those 32 that change the image most.
    at : array, shape (T,), or an image, optional
        Where the other dimensions are, as in `VAE.interpolate`. Default: at 0, the mean of the prior.
    y : label
        Of a conditional model.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError, TypeError, ImportError
        If an argument is invalid, the model is not trained, or matplotlib is not installed.
    """
    base = _base_code(vae, at, y)
    size = check_size("n", n)
    chosen = _dimensions(vae, range(vae.T) if dimensions is None else dimensions)
    n_rows = min(vae.T, _MAX_ROWS) if dimensions is None else len(chosen)
    check_grid(size * n_rows, size, vae._require_fitted(), "n")
    values = np.linspace(-1, 1, size) * check_number("limit", limit, "(0, inf)") if size > 1 else np.zeros(1)
    rows = []
    for dimension in chosen:
        codes = np.tile(base, (size, 1))
        codes[:, dimension] = values
        rows.append(vae._as_pictures(vae.decode(codes, y)))
    if dimensions is None and len(rows) > _MAX_ROWS:
        spread = [row.std(0).mean() for row in rows]
        shown = sorted(np.argsort(spread)[::-1][:_MAX_ROWS].tolist())
        chosen, rows = [chosen[i] for i in shown], [rows[i] for i in shown]
    pixels = as_rgb(np.concatenate(rows), "images")
    width = min(CELL, (WIDTH - ROW_LABEL_WIDTH) // size)
    cells = enlarge(pixels, max(1, width // pixels.shape[2]))
    by_row = cells.reshape(len(chosen), size, *cells.shape[1:])
    # A cell is a column of images, so that each has a label on its left.
    columns = by_row.transpose(1, 0, 2, 3, 4).reshape(size, -1, *cells.shape[2:])
    if title is None:
        title = f"Each dimension of the code from {values[0]:.3g} to {values[-1]:.3g}"
    labels = [f"dimension {dimension + 1}" for dimension in chosen]
    return draw_grid(columns, columns=size, gap=0, title=title, path=path, ax=ax, row_labels=labels)


def classes_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes in order and the index of each label among them; of several types, or missing, as text."""
    if labels.dtype.kind in "OT":
        values = labels.tolist()
        for label in values:
            is_known = label is None or isinstance(label, str | bytes | numbers.Real | np.generic)
            if not is_known and type(label).__name__ != "NAType":
                raise TypeError(f"labels must be numbers, strings or None, got {label!r:.100}")
        is_sortable = len({type(label) for label in values}) == 1 and isinstance(values[0], str | bytes | numbers.Real)
        labels = np.array(values if is_sortable else [str(label) for label in values])
    return np.unique(labels, return_inverse=True)


def _base_code(vae: VAE, at: npt.ArrayLike | None, y: Any) -> np.ndarray:
    """Return the code, (T,), around which others are drawn."""
    if not isinstance(vae, VAE):
        raise TypeError(f"vae must be a trained model, got {type(vae).__name__}")
    vae._require_fitted()
    if at is None:
        return np.zeros(vae.T)
    return vae._code_of(at, "at", vae._as_labels(y, 1), 0)


def _dimensions(vae: VAE, dimensions: Sequence[int]) -> list[int]:
    """Return indices of dimensions of the code, which may count from the end."""
    try:
        found = [operator.index(dimension) for dimension in dimensions]
    except TypeError:
        raise TypeError(f"dimensions must be a sequence of ints, got {dimensions!r}") from None
    if not found or not all(-vae.T <= dimension < vae.T for dimension in found):
        raise ValueError(f"dimensions must be from 0 to {vae.T - 1}, got {tuple(dimensions)!r}")
    return [dimension % vae.T for dimension in found]


def _in_the_plane(points: np.ndarray, method: str) -> tuple[np.ndarray, list[str]]:
    """Return points (n, 2) for (n, T), and what their axes are called."""
    if points.shape[1] == 2:
        return points, ["latent mean 1", "latent mean 2"]
    if method == "pca":
        axes, shares = principal_axes(points)
        projected = (points - points.mean(axis=0)) @ axes
        return projected, [f"principal component {i + 1} ({shares[i]:.0%} of the variance)" for i in range(2)]
    try:
        import umap
    except ImportError as error:
        raise ImportError("method='umap' needs umap-learn: pip install umap-learn") from error
    embedded = umap.UMAP(n_neighbors=max(2, min(15, len(points) - 1)), random_state=0, n_jobs=1).fit_transform(points)
    return np.asarray(embedded, np.float64), ["UMAP 1", "UMAP 2"]


def principal_axes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two directions of largest variance of points (n, T), as (T, 2), and their shares of the variance."""
    centred = points - points.mean(axis=0)
    directions, variances, _ = np.linalg.svd(centred.T @ centred)  # (T, T), (T,)
    largest = np.abs(directions).argmax(axis=0)
    directions *= np.sign(directions[largest, range(len(largest))])  # makes the sign deterministic
    return directions[:, :2], variances[:2] / (variances.sum() or 1.0)


def _draw_histogram(axes: Any, points: np.ndarray, members: np.ndarray, colors: list[str]) -> None:
    """Draw a histogram of one latent dimension (n, 1), stacked by class."""
    groups = [points[members == i, 0] for i in range(len(colors))]
    bins = min(80, max(10, round(math.sqrt(len(points)))))
    axes.hist(groups, bins=bins, stacked=True, color=colors)
    axes.set_xlabel("latent mean", color=TEXT)
    axes.set_ylabel("images", color=TEXT)


def _draw_scatter(axes: Any, points: np.ndarray, members: np.ndarray, colors: list[str], names: Sequence[str]) -> None:
    """Draw points (n, 2) in the colours of their classes."""
    order = np.random.default_rng(0).permutation(len(points))  # so that no class covers the others
    size = min(30.0, max(2.0, 40_000 / len(points)))
    color = np.array(colors)[members[order]]
    axes.scatter(*points[order].T, s=size, c=color, alpha=0.8, linewidths=0)
    axes.set_xlabel(names[0], color=TEXT)
    axes.set_ylabel(names[1], color=TEXT)
    axes.set_aspect("equal", adjustable="datalim")  # the same scale on both axes
