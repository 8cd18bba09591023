"""The course of a training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvae.model import VAE
from cvae.nn.base import as_floats
from cvae.plotting.figures import CLASS_COLORS, TEXT, WIDTH, new_figure, save, styled

# A panel for each of these, unless there are no numbers for it: its title and the sum that it shows.
_PANELS = (("Negative ELBO", ("reconstruction", "kl")), ("KL divergence", ("kl",)))
_OTHERWISE = (("Loss", ("loss",)),)
_CURVES = (("", "training", 0), ("val_", "validation", 2))


def history(
    history: Mapping[str, Sequence[float]] | VAE,
    path: str | os.PathLike[str] | None = None,
    *,
    figure: Any = None,
) -> Any:
    """Draw the negative ELBO and the KL divergence by epoch, of training and validation images.

    Parameters
    ----------
    history : mapping of str to sequence of floats, or a trained model
        `VAE.history_`: ``reconstruction`` and ``kl`` in nats per image, with an entry per epoch, and
        ``val_reconstruction`` and ``val_kl`` if there were validation images; without these ``loss``. Numbers that are
        not finite leave gaps.
    path : str or path, optional
        File to write; its suffix determines the format.
    figure : matplotlib figure, optional
        Where to draw. Default: a new one, see `cvae.plotting`.

    Returns
    -------
    matplotlib figure

    Raises
    ------
    TypeError
        If `history` is neither a mapping nor a model, or `figure` is not one.
    ValueError
        If there is no epoch to draw, or the suffix of `path` is not that of a supported format.
    ImportError
        If matplotlib is not installed.
    """
    values = history.history_ if isinstance(history, VAE) else history
    if not isinstance(values, Mapping):
        raise TypeError(f"history must be a mapping such as history_, or a model, got {type(values).__name__}")
    terms = {prefix + term for prefix, _, _ in _CURVES for term in ("loss", "reconstruction", "kl")}
    known = {
        name: as_floats(numbers, f"{name} of history", np.float64) for name, numbers in values.items() if name in terms
    }
    if figure is not None and not hasattr(figure, "add_subplot"):
        raise TypeError(f"figure must be a matplotlib figure or None, got {type(figure).__name__}")
    if any(numbers.ndim != 1 for numbers in known.values()):
        raise ValueError(f"history must hold a number for each epoch, got {values!r}")
    panels = [(title, _curves(known, terms)) for title, terms in _PANELS]
    if not panels[0][1]:
        panels = [(title, _curves(known, terms)) for title, terms in (*_OTHERWISE, _PANELS[1])]
    panels = [(title, curves) for title, curves in panels if curves]
    if not panels:
        raise ValueError(f"history must hold at least one epoch of loss or reconstruction and kl, got {sorted(values)}")
    if figure is None:
        figure = new_figure(WIDTH, 420, path, constrained=True)
    for column, (title, curves) in enumerate(panels, start=1):
        axes = styled(figure.add_subplot(1, len(panels), column, facecolor="white"), title)
        for label, color, numbers in curves:
            finite = np.where(np.isfinite(numbers), numbers, np.nan)
            marker = "o" if np.isfinite(numbers).sum() < 3 else None
            axes.plot(np.arange(1, len(finite) + 1), finite, marker=marker, color=CLASS_COLORS[color], label=label)
        axes.set_xlabel("epoch", color=TEXT)
        axes.set_ylabel("nats per image", color=TEXT)
        axes.locator_params(axis="x", integer=True)
        axes.legend(frameon=False, labelcolor=TEXT)
    save(figure, path)
    return figure


def _curves(known: Mapping[str, np.ndarray], terms: Sequence[str]) -> list[tuple[str, int, np.ndarray]]:
    """Return label, colour and values of each curve whose terms are all known, and of at least one epoch."""
    found = []
    for prefix, label, color in _CURVES:
        parts = [known.get(prefix + term, np.array([])) for term in terms]
        length = min(map(len, parts))
        if length:
            found.append((label, color, np.sum([part[:length] for part in parts], axis=0)))
    return found
