"""Images by how probable a model finds them, and which of their pixels it finds improbable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cvae.checking import check_size
from cvae.data.columns import warn_of_other_order
from cvae.data.images import as_images
from cvae.data.intake import as_array
from cvae.model import VAE
from cvae.nn.base import as_floats
from cvae.plotting.figures import as_names
from cvae.plotting.grids import as_rgb, beside, cell_scale, draw_grid, enlarge, labelled_columns, stack, thickened
from cvae.plotting.images import Path, with_reconstructions
from cvae.scores import image_scores

if TYPE_CHECKING:
    from cvae.outliers import VAEOutlierDetector


def best_and_worst(
    images: npt.ArrayLike,
    scores: npt.ArrayLike | VAE | VAEOutlierDetector,
    path: Path = None,
    title: str = "Most probable images, and least probable ones below",
    *,
    n: int = 10,
    names: Sequence[Any] | None = None,
    y: Any = None,
    value_range: Sequence[float] | None = None,
    ax: Any = None,
) -> Any:
    """Draw the images of the highest scores, and below them those of the lowest, with their scores.

    Parameters
    ----------
    images : array_like, shape (m, rows, cols[, channels])
        As in `reconstructions`.
    scores : array_like, shape (m,), or a trained model or outlier detector
        The larger, the better. A model computes them as `cvae.scores.image_scores`, a detector as it is set to.
    path, title, y, value_range, ax
        As in `reconstructions`.
    n : int
        Images in each of the two rows, if there are as many.
    names : sequence, optional
        What to write below each of the m images besides its score, such as the name of its file.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError, TypeError, ImportError
        As in `reconstructions`, and if there is not one score for each image.
    """
    vae = _model(scores)
    given = as_images(images, name="images") if vae is None else vae._as_images(images)
    warn_of_other_order(images, y, of="images")
    found = _scores(given, scores, y)
    order = np.argsort(-found, kind="stable")
    count = min(check_size("n", n), len(order))
    chosen = np.concatenate([order[:count], order[::-1][:count]])
    shown = given[chosen] if vae is None else vae._as_pictures(given[chosen])
    pixels = as_rgb(shown, "images", value_range)
    cells = enlarge(pixels, cell_scale(pixels.shape[2]))
    captions = _captions(found, names, chosen)
    return draw_grid(cells, columns=count, gap=8, title=title, path=path, ax=ax, captions=captions)


def error_maps(
    images: npt.ArrayLike,
    errors: npt.ArrayLike | VAE | VAEOutlierDetector,
    path: Path = None,
    title: str = "Where images are improbable",
    *,
    reconstructions: npt.ArrayLike | None = None,
    captions: Sequence[str] = (),
    y: Any = None,
    value_range: Sequence[float] | None = None,
    ax: Any = None,
) -> Any:
    """Draw images above their reconstructions and maps of their errors.

    The colours of all maps have the same scale, the square root of what an error exceeds the first percentile by, up to
    the 99.8th in light yellow, so that images compare. The maps of grey and RGB images are sums over the channels.

    Parameters
    ----------
    images : array_like, shape (n, rows, cols[, channels])
        As in `reconstructions`.
    errors : array_like of the same shape, or a trained model or outlier detector
        As from `VAE.error_map`, which is what a model computes, beside the reconstructions.
    path, title, y, value_range, ax
        As in `reconstructions`.
    reconstructions : array_like of the same shape, optional
        Drawn between images and maps.
    captions : sequence of str
        Texts below the images, one for each or none.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError, TypeError, ImportError
        As in `reconstructions`.
    """
    texts = _texts(captions)
    vae = _model(errors)
    if vae is not None:
        labels = vae._if_conditional(y)
        given = vae._as_images(images)
        warn_of_other_order(images, labels, of="images")
        errors = vae.error_map(given, y=labels)
        images, reconstructions = with_reconstructions(vae, given, labels)
    parts, rows = [as_rgb(images, "images", value_range)], ["image"]
    if reconstructions is not None:
        parts, rows = [*parts, as_rgb(reconstructions, "reconstructions", value_range)], [*rows, "reconstruction"]
    maps = as_floats(errors, "errors", np.float64)
    maps = maps[..., np.newaxis] if maps.ndim == 3 else maps
    if maps.ndim != 4 or len(maps) != len(parts[0]) or not np.isfinite(maps).all():
        wanted = as_images(images).shape
        raise ValueError(f"errors must be finite and of the shape of images, {wanted}, got {np.shape(errors)}")
    parts.append(_colored(maps))
    arrays = {"reconstructions": reconstructions} if reconstructions is not None else {}
    for (name, array), part in zip((arrays | {"errors": maps}).items(), parts[1:], strict=True):
        if part.shape != parts[0].shape:
            wanted = as_images(images).shape
            raise ValueError(f"{name} must have the shape of images, {wanted}, got {np.shape(array)}")
    if texts and len(texts) != len(maps):
        raise ValueError(f"captions must be {len(maps)}, one for each image, or none, got {len(texts)}")
    cells = stack(parts, cell_scale(parts[0].shape[2]))
    columns = labelled_columns(len(cells), cells.shape[2])
    rows.append("error")
    return draw_grid(
        cells, columns=columns, gap=8, title=title, path=path, ax=ax, row_labels=rows, captions=texts
    )  # fmt: skip


def outliers(
    images: npt.ArrayLike,
    detector: VAEOutlierDetector | VAE,
    path: Path = None,
    title: str = "Least probable images",
    *,
    n: int = 20,
    scores: npt.ArrayLike | None = None,
    names: Sequence[Any] | None = None,
    y: Any = None,
    ax: Any = None,
) -> Any:
    """Draw the images of the lowest scores, the lowest first, with their reconstructions and maps of their errors.

    Parameters
    ----------
    images : array_like, shape (m, rows, cols[, channels])
        In the units of the model.
    detector : fitted outlier detector or trained model
    path, title, y, ax
        As in `reconstructions`.
    n : int
        Number of images to draw, if there are as many.
    scores : array_like, shape (m,), optional
        The larger, the more normal. Default: those of the detector, or of the model as in `best_and_worst`.
    names : sequence, optional
        What to write below each of the m images besides its score.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError, TypeError, ImportError
        As in `reconstructions`, and if there is not one score for each image.
    """
    vae = _model(detector)
    if vae is None:
        raise TypeError(f"detector must be an outlier detector or a model, got {type(detector).__name__}")
    given = vae._as_images(images)
    warn_of_other_order(images, y, of="images")
    found = _scores(given, detector if scores is None else scores, y)
    chosen = np.argsort(found, kind="stable")[: check_size("n", n)]
    labels, kind = vae._if_conditional(y), vae._label_kind
    vae._as_labels(labels, len(given))  # checks them, also where scores are given
    if kind is not None and not kind.is_single(np.shape(labels)):
        labels = as_array(labels, "y")[chosen]
    return error_maps(given[chosen], vae, path, title, captions=_captions(found, names, chosen), y=labels, ax=ax)


def _model(thing: Any) -> VAE | None:
    """Return a model, or that of a detector; None for arrays."""
    if _is_detector(thing):
        fitted: VAE = thing._fitted()
        return fitted
    return thing if isinstance(thing, VAE) else None


def _is_detector(thing: Any) -> bool:
    return hasattr(thing, "decision_function") and hasattr(thing, "error_map")  # whose class is slow to import


def _scores(images: np.ndarray, scores: Any, y: Any) -> np.ndarray:
    """Return the scores (n,) of images, computed if a model or detector is given."""
    if _is_detector(scores):
        scores = scores.score_samples(images, y)
    elif isinstance(scores, VAE):
        scores = image_scores(scores, images, y=scores._if_conditional(y))
    found = as_floats(scores, "scores", np.float64)
    if found.shape != (len(images),):
        raise ValueError(f"scores must have the shape ({len(images)},), got {found.shape}")
    return found


def _captions(scores: np.ndarray, names: Sequence[Any] | None, chosen: np.ndarray) -> list[str]:
    found, known = [f"{scores[i]:.4g}" for i in chosen], as_names(names, len(scores))
    return found if known is None else [f"{known[i]}\n{text}" for i, text in zip(chosen, found, strict=True)]


def _texts(captions: Any) -> list[str]:
    try:
        texts = None if isinstance(captions, str) else list(captions)
    except TypeError:
        texts = None
    if texts is None or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"captions must be a sequence of str, got {captions!r}")
    return texts


def _colored(maps: np.ndarray) -> np.ndarray:
    """Return maps (n, rows, cols, channels) as colours (n, rows, cols, 3) of one scale, uint8."""
    from matplotlib import colormaps  # checked to be there by as much as a figure needs it

    maps = thickened(maps)
    wide = maps.sum(3) if maps.shape[3] in (1, 3) else beside(maps, np.nan)[..., 0]
    low, high = np.percentile(wide[np.isfinite(wide)], [1, 99.8])
    units = np.clip((wide - low) / ((high - low) or 1), 0, 1)
    colors = colormaps["inferno"](np.sqrt(units), bytes=True)[..., :3]
    colors[np.isnan(wide)] = 255
    return np.ascontiguousarray(colors)
