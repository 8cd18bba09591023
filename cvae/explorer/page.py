"""The page's data, and the page."""

from __future__ import annotations

import html
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cvae.data.columns import warn_of_other_order
from cvae.data.intake import check_unmasked
from cvae.explorer.network import base64_of, network_of
from cvae.model import VAE
from cvae.plotting.codes import classes_of, principal_axes
from cvae.plotting.figures import as_names, class_colors, printable

MAX_IMAGES = 2000  # of the data set in the page
_MAX_SIDE = 64  # pixels of the data set's images there
_MAX_BYTES = 4 << 20  # of all of them
_MAX_CLASSES = 20  # with names in the legend


def page(vae: VAE, title: str, images: Any = None, labels: Any = None, names: Any = None) -> str:
    """Return the explorer of a trained model as HTML; the arguments are those of `cvae.explorer.write`."""
    network, weights = network_of(vae)
    rows, cols, channels = network["shape"]
    arrays = [array for layer in vae.decoder_.values() for array in layer.parameters.values() if array is not None]
    parameters = sum(array.size for array in arrays)
    facts = f"{rows}×{cols}×{channels} pixels · code of {vae.T} · {parameters:,} numbers in the decoder"
    data: dict[str, Any] = {"T": vae.T, "facts": facts, "network": network, "weights": weights}
    data["labels"] = _labels_of(vae)
    means = None
    if images is None:
        data["set"] = None
    else:
        data["set"], means = _set_of(vae, images, labels, names)
    data["plane"] = _plane(vae.T, means)
    # Within a script element "</script" would end it.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(printable(title)),
        "style": _asset("page.css"),
        "data": text,
        "decoder": _asset("decoder.js"),
        "explorer": _asset("explorer.js"),
    }
    pieces = _asset("page.html").split("{{")
    return pieces[0] + "".join(parts[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces[1:]))


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _labels_of(vae: VAE) -> dict[str, Any] | None:
    """Return what the page has to know of a conditional model's labels."""
    kind = vae._label_kind
    if kind is None:
        return None
    if vae.condition == "values":
        return {"n": kind.n_labels, "start": [0.0] * kind.n_labels, "names": None}
    start = [1.0] + [0.0] * (kind.n_labels - 1)
    return {"n": kind.n_labels, "start": start, "names": [printable(name, 40) for name in vae.classes_.tolist()]}


def _set_of(vae: VAE, images: Any, labels: Any, names: Any) -> tuple[dict[str, Any], npt.NDArray[np.floating]]:
    """Return what the page shows of a data set, and the images' codes (n, T)."""
    given = vae._as_images(images)
    warn_of_other_order(images, labels, "labels", "images")
    n = len(given)
    check_unmasked(labels, "labels")
    y = None if labels is None else np.asarray(labels)
    if y is not None and y.shape[:1] != (n,):
        raise ValueError(f"labels must be {n}, one for each image, got {len(y) if y.ndim else 'a single one'}")
    names = as_names(names, n)
    reduction = math.ceil(max(given.shape[1:3]) / _MAX_SIDE)
    size = math.prod(_reduced(given[:1], reduction).shape)
    n_shown = max(1, min(n, MAX_IMAGES, _MAX_BYTES // size))
    chosen = np.linspace(0, n - 1, n_shown).round().astype(int)
    shown = given[chosen]
    y = None if y is None else y[chosen]
    means, _ = vae.encode(shown, vae._if_conditional(y))  # an array, which `transform` returns unless set to frames
    thumbnails = np.rint(_reduced(vae._as_pictures(shown), reduction) * 255).astype(np.uint8)
    classes, legend, colors = _classes(y, n_shown)
    found: dict[str, Any] = {
        "codes": base64_of(means.astype(np.float32)),
        "spread": means.std(0, dtype=np.float64).tolist(),
        "thumbnails": base64_of(thumbnails),
        "thumbnail_shape": thumbnails.shape[1:],
        "classes": classes.tolist(),
        "legend": legend,
        "colors": colors,
        "names": _names(chosen, y, names),
        "ends": _far_apart(means),
    }
    if vae.condition is not None:
        numbers = vae._as_labels(y, n_shown)
        assert numbers is not None
        found["conditions"] = base64_of(numbers.numbers().astype(np.float32))
    return found, means


def _reduced(images: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    """Return every `factor`-th pixel, from the middle of each square, or of what there is in flat images."""
    top, left = (min(factor, side) // 2 for side in images.shape[1:3])
    return images[:, top::factor, left::factor]


def _classes(y: npt.NDArray[Any] | None, n: int) -> tuple[npt.NDArray[np.intp], list[str], list[str]]:
    """Return the class of each image as an index, the names of the classes, if they are few, and their colours."""
    if y is None or y.ndim != 1:
        return np.zeros(n, np.intp), [], class_colors(1)
    known, members = classes_of(y)
    legend = [printable(name, 40) for name in known.tolist()] if len(known) <= _MAX_CLASSES else []
    return members, legend, class_colors(len(known))


def _names(chosen: npt.NDArray[Any], y: npt.NDArray[Any] | None, names: Any) -> list[str]:
    """Return what stands below each image: the name of its file or its number, and its label."""
    found = [printable(i if names is None else names[i], 60) for i in chosen.tolist()]
    if y is None or y.ndim != 1:
        return found
    labels = [f"{label:.4g}" if isinstance(label, float) else printable(label, 40) for label in y.tolist()]
    return [f"{name}: {label}" for name, label in zip(found, labels, strict=True)]


def _far_apart(means: npt.NDArray[Any]) -> list[int]:
    """Return the first image and the one whose code is farthest from its own."""
    return [0, int(np.square(means - means[0]).sum(1).argmax())]


def _plane(T: int, means: npt.NDArray[Any] | None) -> dict[str, Any]:
    """Return the two axes of the map, through the mean of the prior, and a sentence about it."""
    axes, text = np.eye(2, T), f"Across: z1{', up: z2' if T > 1 else ''}."
    if means is not None and T > 2:
        directions, shares = principal_axes(means.astype(np.float64))
        axes, text = directions.T, f"The first two principal components, {shares.sum():.0%} of the variance."
    around = "Rings" if T > 1 else "Lines"
    return {"axes": axes.tolist(), "text": f"{text} {around}: 1, 2 and 3 standard deviations of the prior."}
