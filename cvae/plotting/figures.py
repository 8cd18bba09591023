"""Figures and axes: made with pyplot or without, their texts, and how they are saved.

The class colours are the ten of Petroff, https://arxiv.org/abs/2107.02270, which are accessible to colour-blind
readers.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cvae.io.files import as_path, replaced_file

DPI = 128  # a power of two, so that the conversion of pixels to inches is exact
WIDTH = 1000  # approximate width of a picture, pixels
TEXT = "#222222"
FAINT = "#bbbbbb"
CLASS_COLORS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
FORMATS = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".webp")


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
    TypeError
        If `path` is neither a str nor a path.
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
    _check_matplotlib()
    name = as_path(path)
    if Path(name).suffix.lower() not in FORMATS:
        expected = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise ValueError(f"a picture's name must end in {expected}, got {name!r}")


def _check_matplotlib() -> None:
    try:
        _import_matplotlib()
    except ImportError as error:
        raise ImportError("plotting needs matplotlib: pip install matplotlib") from error


def _import_matplotlib() -> None:
    """Import matplotlib, also where MPLBACKEND names the backend of a notebook that is not installed here.

    Notebooks set it for all programs that they start, which may be of another environment, and matplotlib then fails.
    """
    backend, prefix = os.environ.get("MPLBACKEND", ""), "module://"
    module = backend.removeprefix(prefix).partition(".")[0]
    is_missing = backend.startswith(prefix) and "matplotlib" not in sys.modules and find_spec(module) is None
    if is_missing:
        del os.environ["MPLBACKEND"]
    try:
        import matplotlib.figure  # noqa: F401
    finally:
        if is_missing:
            os.environ["MPLBACKEND"] = backend


def new_figure(width: int, height: int, path: str | os.PathLike[str] | None, *, constrained: bool = False) -> Any:
    """Return a white figure of width x height pixels, which is one of pyplot's unless it will be saved to a path."""
    if path is None:
        _check_matplotlib()
    else:
        check_can_plot(path)
    size: dict[str, Any] = {"figsize": (width / DPI, height / DPI), "dpi": DPI, "facecolor": "white"}
    size["layout"] = "none"  # whatever matplotlibrc says: axes in exact places are not to be arranged
    if path is None:
        from matplotlib import pyplot

        figure = pyplot.figure(**size)
    else:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(**size)
        FigureCanvasAgg(figure)
    if constrained:
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)  # inches
    return figure


def check_axes(ax: Any) -> None:
    """Raise TypeError unless this can be drawn to: an array of axes, a figure, pyplot and polar or 3-D axes cannot."""
    if ax is None:
        return
    if not (hasattr(ax, "imshow") and hasattr(ax, "set_title")):
        hint = ", of which one is meant" if isinstance(ax, np.ndarray | list | tuple) else ""
    elif ax.name == "3d" or not ax.transData.is_separable:
        hint = f" of the projection {ax.name!r}, not 'rectilinear'"
    else:
        return
    raise TypeError(f"ax must be matplotlib axes or None, got {type(ax).__name__}{hint}")


def styled(axes: Any, title: str) -> Any:
    """Return axes with a title and without the lines at the top and on the right."""
    axes.set_title(printable(title), size=11, color=TEXT, loc="left", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(color=FAINT, labelcolor=TEXT, labelsize=8)
    return axes


def printable(text: Any, limit: int = 120) -> str:
    """Return a text that any font can be asked to draw: in one line, not too long, and valid Unicode.

    Names of files may hold bytes that are no text, which Python keeps as lone surrogates.

    Examples
    --------
    >>> printable("mod\\udce8le\\n1")
    'mod?le 1'
    """
    valid = str(text).encode("utf-8", "replace").decode("utf-8")
    line = "".join(character if character.isprintable() else " " for character in valid)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def as_names(names: Any, n: int) -> list[Any] | None:
    """Return the names of n images in their order, which the index of a column of pandas need not be; None for None."""
    if names is None:
        return None
    if not hasattr(names, "__len__"):
        raise TypeError(f"names must be a sequence with one for each image, got {type(names).__name__}")
    if len(names) != n:
        raise ValueError(f"names must be {n}, one for each image, got {len(names)}")
    return list(names)


def save(figure: Any, path: str | os.PathLike[str] | None) -> None:
    """Write a figure, or that of a subfigure, if to a path; an existing file is replaced only by a complete one."""
    if path is None:
        return
    check_can_plot(path)
    with replaced_file(path) as file, warnings.catch_warnings():
        # Characters that the font does not have become boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.figure.savefig(file, format=Path(as_path(path)).suffix[1:].lower(), dpi=DPI, facecolor="white")


def class_colors(n: int) -> list[str]:
    """Return a colour for each of n classes; more than ten get shades from blue to yellow."""
    if n <= len(CLASS_COLORS):
        return list(CLASS_COLORS[:n])
    stops = np.array([[0, 80, 180], [150, 60, 150], [210, 70, 60], [250, 200, 60]])
    place = np.linspace(0, len(stops) - 1, n)
    channels = [np.interp(place, range(len(stops)), channel) for channel in stops.T]
    return [f"#{round(r):02x}{round(g):02x}{round(b):02x}" for r, g, b in zip(*channels, strict=True)]


def add_legend(axes: Any, classes: np.ndarray, colors: list[str]) -> None:
    """Add a legend to the right of the axes, thinned out evenly to at most 40 classes."""
    every = math.ceil(len(classes) / 40)
    names = [printable(name, 30) or " " for name in classes[::every]]
    handles = [
        axes.scatter([], [], s=40, color=color, label=name) for name, color in zip(names, colors[::every], strict=True)
    ]
    legend = axes.legend(
        handles,
        [" "] * len(names),  # as matplotlib leaves out names that begin with "_"
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        labelcolor=TEXT,
        fontsize=9,
        ncols=math.ceil(len(names) / 20),
        title="class",
    )
    legend.get_title().set_color(TEXT)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)
        text.set_parse_math(False)
