"""The weights of images in the loss."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from cvae.data.intake import as_numbers

Array = npt.NDArray[np.float64]


class Weights(TypedDict, total=False):
    """The keyword argument of `fit` and `partial_fit` that has the weights."""

    sample_weight: Any


# What Keras and others call arguments of `fit`.
_OTHERS_NAMES = {
    "epochs": "n_epochs",
    "batch_size": "batchsize",
    "validation_split": "validation_fraction",
    "weights": "sample_weight",
    **dict.fromkeys(("eval_set", "val_data", "X_val", "x_val", "X_test"), "validation_data"),
    **dict.fromkeys(("early_stopping", "patience"), "callbacks=[cvae.callbacks.EarlyStopping(...)]"),
    **dict.fromkeys(("learning_rate", "lr"), "set_params(lr=...)"),
}


def check_names(given: Weights, method: str, elsewhere: Collection[str] = ()) -> None:
    """Raise TypeError for keyword arguments of `method` other than weights; those in `elsewhere` are `fit`'s."""
    unknown = sorted(given.keys() - Weights.__annotations__.keys())
    if unknown:
        name = unknown[0]
        hint = f", which is {_OTHERS_NAMES[name]} here" if name in _OTHERS_NAMES else ""
        if name in elsewhere:
            hint = ", which fit takes: it goes on, too, after set_params(warm_start=True)"
        raise TypeError(f"{method} got an unexpected keyword argument {name!r}{hint}")


def as_weights(given: Weights, n: int, rows: npt.NDArray[np.intp] | None = None) -> Array | None:
    """Return the weights of n images, shape (n,), scaled to a mean of 1; None if all images count the same.

    The mean is that of the images in `rows`, if these are given.

    Raises
    ------
    TypeError
        If there is another keyword argument, or weights that are not real numbers.
    ValueError
        If there is not one weight, at least 0 and finite, for each image, or all are 0.
    """
    check_names(given, "fit")
    value = given.get("sample_weight")
    if value is None:
        return None
    weights = as_numbers(value, "sample_weight")
    if weights.ndim == 0:
        weights = np.full(n, weights)
    if weights.shape != (n,):
        raise ValueError(f"sample_weight must have the shape ({n},), a weight for each image, got {weights.shape}")
    weights = weights.astype(np.float64)
    is_valid = np.isfinite(weights) & (weights >= 0)
    if not is_valid.all():
        first = int(np.argmin(is_valid))
        raise ValueError(f"sample_weight must hold finite numbers >= 0, got {weights[first]} for image {first}")
    counted = weights if rows is None else weights[rows]
    if not counted.any():
        raise ValueError("sample_weight must have a weight above 0, got only zeros")
    if (counted == counted[0]).all():
        return None
    counted = counted / counted.max()  # so that the sum is finite
    weights = np.zeros(n)
    weights[slice(None) if rows is None else rows] = counted * (len(counted) / counted.sum())
    return weights
