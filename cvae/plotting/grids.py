"""Grids of images, of which each pixel is a square of whole pixels of the picture."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.data.checks import check_finite
from cvae.data.images import as_images
from cvae.plotting.figures import TEXT, WIDTH, check_axes, new_figure, printable, save

MARGIN = 14  # around a grid, pixels
ROW_LABEL_WIDTH = 106  # left of a grid with labelled rows, pixels
CELL = 84  # approximate width of an image in a grid of rows, pixels
MAX_CHANNELS = 16  # drawn beside each other
_TITLE_HEIGHT = 34  # above a grid, pixels
_CAPTION_HEIGHT = 13  # of a line below each cell, pixels
_EXCESS = 0.5  # by which pixels may miss [0, 1], as means of normally distributed pixels do
_SEPARATOR = 160  # grey of the line between channels
_FLATTEST = 8  # the ratio of an image's sides, beyond which its pixels are no squares
_MAX_PIXELS, _MAX_SIDE = 100_000_000, 60_000  # of a grid; matplotlib draws no side of more than 65,535


def as_rgb(images: npt.ArrayLike, name: str, value_range: Sequence[float] | None = None) -> np.ndarray:
    """Convert images to (n, rows, cols, 3) uint8, or (n, rows, wider, 3) for channels that stand beside each other.

    Flat ones, such as rows of numbers, become bars.

    Raises
    ------
    ValueError
        If they are no images, or without `value_range` hold pixels that are far from [0, 1].
    """
    pixels = as_images(images, name=name)
    check_finite(pixels, name=name)
    if pixels.dtype != np.uint8 or value_range is not None:
        low, high = (0.0, 1.0) if value_range is None else _ends(value_range)
        units = (pixels - low) / (high - low)
        if value_range is None and not -_EXCESS <= units.min() <= units.max() <= 1 + _EXCESS:
            found = f"from {pixels.min()} to {pixels.max()}"
            raise ValueError(f"{name} must hold values in [0, 1] (uint8: 0..255) without value_range, got {found}")
        pixels = np.rint(units.clip(0, 1) * 255.0).astype(np.uint8)
    pixels = thickened(pixels)
    if pixels.shape[3] not in (1, 3):
        pixels = beside(pixels, _SEPARATOR)
    return np.broadcast_to(pixels, (*pixels.shape[:3], 3))


def check_grid(n: int, columns: int, image_shape: Sequence[int], name: str) -> None:
    """Raise ValueError, before any work, if a grid of n images (rows, cols, channels) is too large to be drawn.

    `name` is the argument that decides how many there are.
    """
    rows, cols, channels = image_shape
    taller, wider = _stretch(rows, cols)
    wider *= 1 if channels in (1, 3) else min(channels, MAX_CHANNELS)
    _check_cells(n, columns, taller * rows, wider * cols, name)


def _check_cells(n: int, columns: int, rows: int, cols: int, name: str) -> None:
    """Raise ValueError if a grid of n cells of so many rows and columns of pixels is too large to be drawn."""
    width, height = columns * cols, math.ceil(n / columns) * rows
    if width * height > _MAX_PIXELS or max(width, height) > _MAX_SIDE:
        raise ValueError(
            f"{name} must make a picture of at most {_MAX_PIXELS:,} pixels, {_MAX_SIDE:,} along a side, got {n:,} "
            f"images in {columns:,} columns, {width:,} x {height:,} pixels"
        )


def _ends(value_range: Sequence[float]) -> tuple[float, float]:
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError):
        raise TypeError(f"value_range must be two numbers (low, high), got {value_range!r}") from None
    if not low < high:
        raise ValueError(f"value_range must be (low, high) with low < high, got {value_range!r}")
    return low, high


def beside(images: np.ndarray, separator: float) -> np.ndarray:
    """Return the first channels of images (n, rows, cols, channels) beside each other, as (n, rows, wider, 1)."""
    n, rows, cols, channels = images.shape
    shown = min(channels, MAX_CHANNELS)
    wide = np.full((n, rows, shown, cols + 1), separator, images.dtype)
    wide[..., :cols] = images[..., :shown].transpose(0, 1, 3, 2)
    return wide.reshape(n, rows, -1)[:, :, :-1, np.newaxis]


def thickened(images: np.ndarray) -> np.ndarray:
    """Return flat images (n, rows, cols, channels) with each row or column several times, and others as they are."""
    taller, wider = _stretch(*images.shape[1:3])
    return images.repeat(taller, axis=1).repeat(wider, axis=2) if taller * wider > 1 else images


def _stretch(rows: int, cols: int) -> tuple[int, int]:
    """Return how many times the rows and the columns of an image are drawn, so that it is not too flat to be seen."""
    return math.ceil(cols / (_FLATTEST * rows)), math.ceil(rows / (_FLATTEST * cols))


def enlarge(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Return images (n, rows, cols, 3) whose pixels are squares."""
    return pixels.repeat(scale, axis=1).repeat(scale, axis=2)


def cell_scale(cols: int, width: float = CELL) -> int:
    """Return by which factor images of so many columns come closest to a width."""
    return max(1, round(width / cols))


def labelled_columns(n: int, width: int) -> int:
    """Return how many of n cells of this width stand beside each other in a grid with labelled rows, at most ten."""
    return max(1, min(n, 10, round((WIDTH - ROW_LABEL_WIDTH) / width)))


def stack(parts: Sequence[np.ndarray], scale: int) -> np.ndarray:
    """Return enlarged images of the same shape above each other, two white pixels apart."""
    n, _, cols, _ = parts[0].shape
    between = np.full((n, 2, scale * cols, 3), 255, np.uint8)
    pieces = [piece for part in parts for piece in (between, enlarge(part, scale))]
    return np.concatenate(pieces[1:], axis=1)


def draw_grid(
    cells: np.ndarray,
    *,
    columns: int,
    gap: int,
    title: str,
    path: str | os.PathLike[str] | None,
    ax: Any,
    row_labels: Sequence[str] = (),
    captions: Sequence[str] = (),
) -> Any:
    """Draw cells (n, rows, cols, 3) line by line; return the axes, in which a unit is a pixel.

    `row_labels` stand left of each line, beside equally high parts of its cells; `captions` below each cell, in lines.
    """
    check_axes(ax)
    _check_cells(len(cells), columns, cells.shape[1], cells.shape[2], "images")
    lines_below = max((caption.count("\n") + 1 for caption in captions), default=0)
    line_gap = gap + lines_below * _CAPTION_HEIGHT
    mosaic = _mosaic(cells, columns, gap, line_gap)
    height, width, _ = mosaic.shape
    axes = ax if ax is not None else _exact_axes(width, height, title, path, labelled=len(row_labels) > 0)
    if ax is not None and title:
        axes.set_title(printable(title), size=10, color=TEXT, loc="left", parse_math=False)
    # Square pixels in axes of any shape; those of a figure of its own have the shape of the mosaic.
    axes.imshow(mosaic, interpolation="nearest", origin="upper", aspect="auto" if ax is None else "equal")
    axes.set_axis_off()
    texts: dict[str, Any] = {"color": TEXT, "parse_math": False, "clip_on": False}
    _, rows, cols, _ = cells.shape
    for top in range(0, height, rows + line_gap):
        for part, label in enumerate(row_labels):
            centre = top + rows * (part + 0.5) / len(row_labels) - 0.5
            axes.text(-8, centre, printable(label, 16), size=7, ha="right", va="center", **texts)
    per_line = max(6, int(cols / 4.6))  # characters of this size
    for i, caption in enumerate(captions):
        line, column = divmod(i, columns)
        x, y = column * (cols + gap) + cols / 2, line * (rows + line_gap) + rows + 1
        short = "\n".join(printable(part, per_line) for part in caption.split("\n"))
        axes.text(x, y, short, size=6, ha="center", va="top", **texts)
    save(axes.figure, path)
    return axes


def _exact_axes(width: int, height: int, title: str, path: str | os.PathLike[str] | None, *, labelled: bool) -> Any:
    """Return axes of width x height pixels in a figure of their own, which leaves room for a title and row labels."""
    left = ROW_LABEL_WIDTH if labelled else MARGIN
    full_width = max(left + width + MARGIN, WIDTH // 2)
    full_height = _TITLE_HEIGHT + height + MARGIN
    figure = new_figure(full_width, full_height, path)
    limit = (full_width - left) // 8
    place = {"size": 10, "color": TEXT, "va": "top", "parse_math": False}
    figure.text(left / full_width, 1 - 10 / full_height, printable(title, limit), **place)
    return figure.add_axes((left / full_width, MARGIN / full_height, width / full_width, height / full_height))


def _mosaic(cells: np.ndarray, columns: int, gap: int, line_gap: int) -> np.ndarray:
    """Arrange cells (n, rows, cols, 3) line by line on white, with room for captions below the last line too."""
    n, rows, cols, _ = cells.shape
    lines = math.ceil(n / columns)
    shape = (lines * (rows + line_gap) - gap, columns * (cols + gap) - gap, 3)
    mosaic = np.full(shape, 255, np.uint8)
    for i, cell in enumerate(cells):
        top, left = i // columns * (rows + line_gap), i % columns * (cols + gap)
        mosaic[top : top + rows, left : left + cols] = cell
    return mosaic
