"""Plots of a model: reconstructions, samples, the latent space and the training history.

Requires matplotlib (``pip install "cvae-cpu[plot]"``). Figures are drawn on an Agg canvas without pyplot, so
that its windows and global state are unaffected. Images are enlarged by an integer factor to keep their pixels
square. The class colours are the ten of Petroff, https://arxiv.org/abs/2107.02270, which are accessible to
colour-blind readers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.data.checks import check_range, clipped
from cvae.data.images import as_images
from cvae.io.files import replaced_file

_DPI = 128  # a power of two, so that the conversion of pixels to inches is exact
_WIDTH = 1000  # approximate width of a picture, pixels
_MARGIN = 14  # around a grid, pixels
_TITLE_HEIGHT = 34  # above a grid, pixels
_ROW_LABEL_WIDTH = 106  # left of a grid with labelled rows, pixels
_FORMATS = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".webp")
_TEXT = "#222222"
_FAINT = "#bbbbbb"
_CLASS_COLORS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip


def check_can_plot(path: str | os.PathLike[str]) -> None:
    """Check that a picture can be written, for use before any long work.

    Parameters
    ----------
    path : str or path
        File to write; its suffix determines the format.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the suffix is not that of a supported format.

    Examples
    --------
    >>> check_can_plot("samples.png")
    >>> check_can_plot("samples.npy")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: a picture's name must end in .png, ... or .webp, got 'samples.npy'
    """
    _matplotlib()
    if Path(path).suffix.lower() not in _FORMATS:
        expected = f"{', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}"
        raise ValueError(f"a picture's name must end in {expected}, got {os.fspath(path)!r}")


def reconstructions(
    images: npt.ArrayLike,
    reconstructions: npt.ArrayLike,
    path: str | os.PathLike[str],
    title: str = "Reconstructions",
) -> None:
    """Draw images above their reconstructions.

    Parameters
    ----------
    images, reconstructions : array_like, shape (n, rows, cols[, channels])
        Values in [0, 1], or uint8 in 0..255; 1 (grey) or 3 (RGB) channels.
    path : str or path
        File to write; its suffix determines the format.
    title : str

    Raises
    ------
    ValueError
        If the images are invalid, the shapes differ, or the suffix of `path` is not that of a supported format.
    ImportError
        If matplotlib is not installed.
    """
    originals, results = _as_rgb(images, "images"), _as_rgb(reconstructions, "reconstructions")
    if originals.shape != results.shape:
        raise ValueError(f"reconstructions must have the shape of images, {originals.shape}, got {results.shape}")
    n, _, cols, _ = originals.shape
    scale = max(1, round(84 / cols))
    columns = max(1, min(n, 10, round((_WIDTH - _ROW_LABEL_WIDTH) / (scale * cols))))
    between = np.full((n, 2, scale * cols, 3), 255, np.uint8)
    pairs = np.concatenate([_enlarge(originals, scale), between, _enlarge(results, scale)], axis=1)
    _save_grid(pairs, columns, 8, path, title, ("original", "reconstruction"))


def samples(images: npt.ArrayLike, path: str | os.PathLike[str], title: str = "Samples") -> None:
    """Draw images in an approximately square grid.

    Parameters
    ----------
    images : array_like, shape (n, rows, cols[, channels])
        As in `reconstructions`.
    path, title
        As in `reconstructions`.

    Raises
    ------
    ValueError, ImportError
        As in `reconstructions`.
    """
    pixels = _as_rgb(images, "images")
    n, rows, cols, _ = pixels.shape
    columns = min(n, math.ceil(math.sqrt(n * rows / cols)))
    gap = 6 if columns <= 16 else 2
    cell_width = (_WIDTH - 2 * _MARGIN) // max(columns, 6) - gap  # do not enlarge a few images to the full width
    _save_grid(_enlarge(pixels, max(1, cell_width // cols)), columns, gap, path, title)


def class_samples(
    images: npt.ArrayLike, classes: Sequence[Any], path: str | os.PathLike[str], title: str = "Samples of each class"
) -> None:
    """Draw images in a grid with a row for each class.

    Parameters
    ----------
    images : array_like, shape (classes, n, rows, cols[, channels])
        Each as in `reconstructions`; for example ``[vae.sample(10, random_state=0, y=label) for label in classes]``,
        where the images of a column are decoded from the same code.
    classes : sequence
        Labels of the rows.
    path, title
        As in `reconstructions`.

    Raises
    ------
    ValueError, ImportError
        As in `reconstructions`.
    """
    given = np.asarray(images)
    if given.ndim not in (4, 5) or len(given) != len(classes):
        expected = f"({len(classes)}, n, rows, cols, channels) or ({len(classes)}, n, rows, cols)"
        raise ValueError(f"images must have the shape {expected}, got {given.shape}")
    pixels = [_as_rgb(of_class, "images") for of_class in given]
    n, _, cols, _ = pixels[0].shape
    scale = max(1, round(min(84, (_WIDTH - _ROW_LABEL_WIDTH) / n) / cols))
    between = np.full((n, 2, scale * cols, 3), 255, np.uint8)
    parts = [part for of_class in pixels for part in (between, _enlarge(of_class, scale))]
    _save_grid(np.concatenate(parts[1:], axis=1), n, 2, path, title, tuple(str(label)[:16] for label in classes))


def latent(
    means: npt.ArrayLike,
    labels: npt.ArrayLike | None,
    path: str | os.PathLike[str],
    title: str = "Latent space",
) -> None:
    """Draw the latent means of images, coloured by class.

    The plot is a histogram for T = 1, a scatter plot for T = 2, and a scatter plot of the first two principal
    components for T > 2, whose axis labels give the share of the variance that each explains.

    Parameters
    ----------
    means : array_like of finite floats, shape (n, T)
        As returned by `BernoulliVAE.transform`.
    labels : array_like, shape (n,), or None
        Classes, as numbers or strings.
    path, title
        As in `reconstructions`.

    Raises
    ------
    ValueError
        If `means` or `labels` is invalid or the suffix of `path` is not that of a supported format.
    ImportError
        If matplotlib is not installed.
    """
    points = np.asarray(means, dtype=np.float64)
    if points.ndim != 2 or points.size == 0 or not np.isfinite(points).all():
        raise ValueError(f"means must be finite and of shape (n, T), got shape {points.shape}")
    if labels is not None and np.shape(labels) != (len(points),):
        raise ValueError(f"labels must have shape ({len(points)},), got {np.shape(labels)}")
    classes, members = np.array([]), np.zeros(len(points), int)
    if labels is not None:
        classes, members = np.unique(np.asarray(labels), return_inverse=True)
    colors = _class_colors(max(1, len(classes)))
    is_histogram = points.shape[1] == 1
    figure = _new_figure(_WIDTH, 620 if is_histogram else 820)
    axes = _new_axes(figure, title)
    draw = _draw_histogram if is_histogram else _draw_scatter
    draw(axes, points, members, colors)
    if len(classes):
        _add_legend(axes, classes, colors)
    _save(figure, path)


def history(history: Mapping[str, Sequence[float]], path: str | os.PathLike[str]) -> None:
    """Draw the negative ELBO and the KL divergence by epoch.

    Parameters
    ----------
    history : mapping of str to sequence of floats
        `BernoulliVAE.history_`: ``reconstruction`` and ``kl`` in nats per image, with an entry per epoch, and
        ``val_reconstruction`` and ``val_kl`` if there were validation images.
    path
        As in `reconstructions`.

    Raises
    ------
    ValueError
        If the suffix of `path` is not that of a supported format.
    ImportError
        If matplotlib is not installed.
    """
    figure = _new_figure(_WIDTH, 420)
    panels = (("Negative ELBO", ("reconstruction", "kl")), ("KL divergence", ("kl",)))
    for column, (title, terms) in enumerate(panels):
        axes = _new_axes(figure, title, (1, 2, column + 1))
        for prefix, label, color in (("", "training", 0), ("val_", "test", 2)):
            if f"{prefix}kl" in history:
                values = np.sum([history[prefix + term] for term in terms], axis=0)
                marker = "o" if len(values) < 3 else None
                epochs = np.arange(1, len(values) + 1)
                axes.plot(epochs, values, marker=marker, color=_CLASS_COLORS[color], label=label)
        axes.set_xlabel("epoch", color=_TEXT)
        axes.set_ylabel("nats per image", color=_TEXT)
        axes.locator_params(axis="x", integer=True)
        axes.legend(frameon=False, labelcolor=_TEXT)
    _save(figure, path)


def _draw_histogram(axes: Any, points: np.ndarray, members: np.ndarray, colors: list[str]) -> None:
    """Draw a histogram of one latent dimension (n, 1), stacked by class."""
    groups = [points[members == i, 0] for i in range(len(colors))]
    bins = min(80, max(10, round(math.sqrt(len(points)))))
    axes.hist(groups, bins=bins, stacked=True, color=colors)
    axes.set_xlabel("latent mean", color=_TEXT)
    axes.set_ylabel("images", color=_TEXT)


def _draw_scatter(axes: Any, points: np.ndarray, members: np.ndarray, colors: list[str]) -> None:
    """Draw a scatter plot of two latent dimensions (n, 2), or of the first two principal components of more."""
    names = ["latent mean 1", "latent mean 2"]
    if points.shape[1] > 2:
        points, shares = _principal_components(points)
        names = [f"principal component {i + 1} ({shares[i]:.0%} of the variance)" for i in range(2)]
    order = np.random.default_rng(0).permutation(len(points))  # so that no class covers the others
    size = min(30.0, max(2.0, 40_000 / len(points)))
    color = np.array(colors)[members[order]]
    axes.scatter(*points[order].T, s=size, c=color, alpha=0.8, linewidths=0)
    axes.set_xlabel(names[0], color=_TEXT)
    axes.set_ylabel(names[1], color=_TEXT)
    axes.set_aspect("equal", adjustable="datalim")  # the same scale on both axes


def _principal_components(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project (n, T) onto the two directions of largest variance; return the projections and shares of variance."""
    centred = points - points.mean(axis=0)
    directions, variances, _ = np.linalg.svd(centred.T @ centred)  # (T, T), (T,)
    largest = np.abs(directions).argmax(axis=0)
    directions *= np.sign(directions[largest, range(len(largest))])  # makes the sign deterministic
    return centred @ directions[:, :2], variances[:2] / (variances.sum() or 1.0)


def _class_colors(n: int) -> list[str]:
    """Return a colour for each of n classes; more than ten get shades from blue to yellow."""
    if n <= len(_CLASS_COLORS):
        return list(_CLASS_COLORS[:n])
    stops = np.array([[0, 80, 180], [150, 60, 150], [210, 70, 60], [250, 200, 60]])
    place = np.linspace(0, len(stops) - 1, n)
    channels = [np.interp(place, range(len(stops)), channel) for channel in stops.T]
    return [f"#{round(r):02x}{round(g):02x}{round(b):02x}" for r, g, b in zip(*channels, strict=True)]


def _add_legend(axes: Any, classes: np.ndarray, colors: list[str]) -> None:
    """Add a legend to the right of the axes, thinned out evenly to at most 40 classes."""
    every = math.ceil(len(classes) / 40)
    for name, color in zip(classes[::every], colors[::every], strict=True):
        axes.scatter([], [], s=40, color=color, label=str(name))
    legend = axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        labelcolor=_TEXT,
        fontsize=9,
        ncols=math.ceil(len(classes[::every]) / 20),
        title="class",
    )
    legend.get_title().set_color(_TEXT)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _as_rgb(images: npt.ArrayLike, name: str) -> np.ndarray:
    """Convert images to (n, rows, cols, 3) uint8."""
    pixels = clipped(as_images(images, name=name))
    check_range(pixels, name=name)
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.multiply(pixels, 255.0)).astype(np.uint8)
    if pixels.shape[3] == 1:
        return np.repeat(pixels, 3, axis=3)
    if pixels.shape[3] != 3:
        raise ValueError(f"{name} must have 1 (grey) or 3 (RGB) channels to be drawn, got {pixels.shape[3]}")
    return pixels


def _enlarge(pixels: np.ndarray, scale: int) -> np.ndarray:
    return pixels.repeat(scale, axis=1).repeat(scale, axis=2)


def _save_grid(
    cells: np.ndarray,
    columns: int,
    gap: int,
    path: str | os.PathLike[str],
    title: str,
    row_labels: tuple[str, ...] = (),
) -> None:
    """Save a grid of cells (n, rows, cols, 3), with a label left of each of the cells' equally high parts."""
    mosaic = _mosaic(cells, columns, gap)
    left = _ROW_LABEL_WIDTH if row_labels else _MARGIN
    width = max(left + mosaic.shape[1] + _MARGIN, _WIDTH // 2)
    height = _TITLE_HEIGHT + mosaic.shape[0] + _MARGIN
    figure = _new_figure(width, height)
    figure.figimage(mosaic, left, _MARGIN, origin="upper")
    figure.text(left / width, 1 - 10 / height, title, size=10, color=_TEXT, va="top", parse_math=False)
    rows = cells.shape[1]
    for top in range(0, mosaic.shape[0], rows + gap):
        for part, label in enumerate(row_labels):
            centre = _TITLE_HEIGHT + top + rows * (part + 0.5) / len(row_labels)
            x, y = (left - 8) / width, 1 - centre / height
            figure.text(x, y, label, size=7, color=_TEXT, ha="right", va="center", parse_math=False)
    _save(figure, path)


def _mosaic(cells: np.ndarray, columns: int, gap: int) -> np.ndarray:
    """Arrange cells (n, rows, cols, 3) line by line on white, `gap` pixels apart."""
    n, rows, cols, _ = cells.shape
    lines = math.ceil(n / columns)
    shape = (lines * (rows + gap) - gap, columns * (cols + gap) - gap, 3)
    mosaic = np.full(shape, 255, np.uint8)
    for i, cell in enumerate(cells):
        top, left = i // columns * (rows + gap), i % columns * (cols + gap)
        mosaic[top : top + rows, left : left + cols] = cell
    return mosaic


def _matplotlib() -> tuple[Any, Any]:
    """Return matplotlib's Figure and FigureCanvasAgg."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plotting needs matplotlib: pip install "cvae-cpu[plot]"') from error
    return Figure, FigureCanvasAgg


def _new_figure(width: int, height: int) -> Any:
    """Return a white figure of width x height pixels."""
    figure_class, canvas_class = _matplotlib()
    figure = figure_class(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # inches
    canvas_class(figure)
    return figure


def _new_axes(figure: Any, title: str, place: tuple[int, int, int] = (1, 1, 1)) -> Any:
    axes = figure.add_subplot(*place, facecolor="white")
    axes.set_title(title, size=11, color=_TEXT, loc="left", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(color=_FAINT, labelcolor=_TEXT, labelsize=8)
    return axes


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure; an existing file is replaced only by a complete one."""
    check_can_plot(path)
    with replaced_file(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:].lower(), dpi=_DPI, facecolor="white")
