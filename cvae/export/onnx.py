"""Models as ONNX files."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from cvae.core import Core
from cvae.export.parts import take_apart
from cvae.io.files import replaced_file

PARTS = ("encoder", "decoder", "reconstruction", "score")
PIXELS = ("float32", "float64", "uint8")


def to_onnx(model: Core, path: str | os.PathLike[str], part: str = "encoder", *, pixels: str = "float32") -> None:
    """Write a part of a model to an ONNX file, for batches of any size n.

    Images are those that the model itself takes, (n, rows, cols, channels): its mapping of pixels, and its threshold
    of black and white, are part of the graph. Weights are float32, also those of a float64 model, because runtimes have
    no convolutions in double; mappings and losses are computed in double.

    Parameters
    ----------
    model : VAE
        With parameters.
    path : path
        An existing file is replaced only by a complete new one.
    part : {"encoder", "decoder", "reconstruction", "score"}
        "encoder": images to mean and log_var (n, T). "decoder": codes z (n, T) to images. "reconstruction": images to
        the decoded means of their codes. "score": images to elbo, reconstruction and kl (n,), in nats and double, with
        the terms of `cvae.VAE.elbo`. The code is the posterior's mean, where `elbo` draws it, so that an image always
        gets the same score.
    pixels : {"float32", "float64", "uint8"}
        The dtype of the images that the graph takes. Those of uint8 count as they do for the model: as 0..255, which
        it divides by 255, or as they are with a `value_range`.

    Notes
    -----
    A conditional model has one more input, labels: of a model of classes the index of each example's class in
    ``classes_``, int64 (n,); of one of values float32 (n, numbers of a label).

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    TypeError
        If `model` is no model.
    NotFittedError
        If the model has no parameters yet.
    ValueError
        If an argument is invalid, or there is no translation of a layer, an activation or the likelihood.
    OSError
        If the file cannot be written.

    Warns
    -----
    UserWarning
        If the model draws pixels black and white (``binarize="dynamic"`` or ``"fixed"``), which the graph does not.
    """
    data = onnx_model(model, part, pixels=pixels).SerializeToString()
    with replaced_file(path) as file:
        file.write(data)


def onnx_model(model: Core, part: str = "encoder", *, pixels: str = "float32") -> Any:
    """Return the ``onnx.ModelProto`` that `to_onnx` writes, with the same arguments and errors."""
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    if pixels not in PIXELS:
        raise ValueError(f"pixels must be one of {', '.join(PIXELS)}, got {pixels!r}")
    check_can_export()
    from cvae.export.onnx_parts import part_of  # which imports onnx

    return part_of(take_apart(model), part, pixels, f"The {part} of a {type(model).__name__} of cvae")


def check_can_export() -> None:
    """Raise ImportError unless the package onnx is installed."""
    if importlib.util.find_spec("onnx") is None:
        raise ImportError("exporting to ONNX needs the package onnx: pip install onnx")
