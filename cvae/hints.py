"""What takes the place of attributes that other libraries' objects have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OF_MODELS = {
    "predict": "reconstruct returns images, transform codes, score_samples how probable images are",
    "evaluate": "score and elbo return how probable images are",
    "generate": "sample draws new images",
    "compile": "optimizer and objective are arguments of the constructor",
    "train": "fit trains",
    "history": "history_ has the losses of all epochs",
    "layers": "encoder_ and decoder_ are the layers by name",
    **dict.fromkeys(("get_weights", "weights"), "parameters has the arrays of all layers"),
    "reparameterize": "encode returns mean and log variance of the codes",
    "reconstruction_error": "error_map returns where, and elbo how much, images differ from what the model knows",
    **dict.fromkeys(("save_weights", "save_model", "dump"), "save writes the model to a file"),
    **dict.fromkeys(("load", "load_weights", "load_model"), "cvae.load returns the model in a file"),
    "state_dict": "cvae.export.to_state_dict returns one",
    "load_state_dict": "cvae.export.from_state_dict takes one",
    **dict.fromkeys(("to", "cuda", "cpu"), "models run on the CPU"),
}


def no_attribute(owner: Any, name: str, hints: Mapping[str, str]) -> AttributeError:
    """Return the error for an attribute that does not exist, with what to use instead if `hints` has its name."""
    hint = f": {hints[name]}" if name in hints else ""
    message = f"{type(owner).__name__!r} object has no attribute {name!r}{hint}"
    return AttributeError(message, name=name, obj=owner)
