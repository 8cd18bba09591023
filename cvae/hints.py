"""What takes the place of attributes, arguments and losses that other libraries have."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
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

_OF_ARGUMENTS = {  # of layers, optimizers, callbacks and likelihoods
    **dict.fromkeys(("filters", "out_channels", "n_filters", "channels"), "out_ch"),
    **dict.fromkeys(("units", "out_features", "n_units", "size"), "n_out"),
    **dict.fromkeys(("kernel_size", "kernel", "pool_size"), "kernel_shape"),
    "strides": "stride",
    "padding": "pad",
    "output_padding": "output_pad",
    "dilation_rate": "dilation",
    **dict.fromkeys(("activation", "act", "nonlinearity"), "act_fn"),
    **dict.fromkeys(("kernel_initializer", "weight_init", "initializer"), "init"),
    **dict.fromkeys(("scale_factor", "upsampling"), "factor"),
    **dict.fromkeys(("target_shape", "output_shape"), "shape"),
    **dict.fromkeys(("num_groups", "n_groups"), "groups"),
    "eps": "epsilon",
    "epsilon": "eps",
    **dict.fromkeys(("beta_1", "beta1"), "decay1"),
    **dict.fromkeys(("beta_2", "beta2"), "decay2"),
    **dict.fromkeys(("rho", "alpha"), "decay"),
    **dict.fromkeys(("learning_rate", "step_size"), "lr"),
    **dict.fromkeys(("clipnorm", "max_norm"), "clip_norm"),
    **dict.fromkeys(("scheduler", "schedule"), "lr_scheduler"),
    **dict.fromkeys(("sigma", "std", "var", "variance"), "scale"),
    **dict.fromkeys(("kl_weight", "beta_kl"), "beta"),
    "restore_best_weights": "restore_best",
    "threshold": "min_delta",
    **dict.fromkeys(("filepath", "filename", "dirpath", "file"), "path"),
    "save_top_k": "save_best_only",
    "every_n_train_steps": "every_batches",
    **dict.fromkeys(("log_dir", "logdir", "save_dir"), "folder"),
}
_OF_ALL = {
    **dict.fromkeys(
        ("in_ch", "in_channels", "in_features", "num_features", "input_shape", "n_in"), "found from the images"
    ),
    **dict.fromkeys(("bias", "use_bias"), "always true"),
    "betas": "decay1 and decay2",
    "weight_decay": "an argument of AdamW",
    "save_weights_only": "optimizer_state=False",
    "mode": "left out: the smallest loss is the best",
    "verbose": "an argument of the model and of fit",
    "name": "left out",
}

_OF_CLASSES = {  # by their kind, and by names as `parsing.normalized` writes them
    "likelihood": {  # the one that a loss is the logarithm of
        **dict.fromkeys(("mse", "mseloss", "l2", "meansquarederror", "normal"), "Gaussian(scale=1)"),
        **dict.fromkeys(("mae", "l1", "l1loss", "meanabsoluteerror"), "Laplace(scale=1)"),
        **dict.fromkeys(("bce", "bceloss", "bcewithlogits", "binarycrossentropy", "crossentropy"), "Bernoulli"),
    },
}


_OF_CALLBACKS = {
    **dict.fromkeys(("on_fit_begin", "on_fit_start", "on_train_start"), "on_train_begin"),
    **dict.fromkeys(("on_epoch_start", "on_train_epoch_begin", "on_train_epoch_start"), "on_epoch_begin"),
    **dict.fromkeys(("on_batch_start", "on_train_batch_begin", "on_train_batch_start"), "on_batch_begin"),
    "on_train_batch_end": "on_batch_end",
    **dict.fromkeys(("on_train_epoch_end", "on_validation_end", "on_validation_epoch_end"), "on_epoch_end"),
    "on_fit_end": "on_train_end",
}


def of_callback(method: str) -> str | None:
    """Return what a method of other libraries' callbacks is called here, None if that is unknown."""
    return _OF_CALLBACKS.get(method)


def of_class(kind: str, name: str) -> str:
    """Return what to write for another library's name of a loss, for the end of a message; nothing if unknown."""
    meant = _OF_CLASSES.get(kind, {}).get(name)
    return "" if meant is None else f": its loss is that of {meant!r}"


def of_argument(name: str, parameters: Collection[str]) -> str:
    """Return what another library's name of an argument is here, for the end of a message; nothing if that is unknown.

    Parameters
    ----------
    name : str
    parameters : collection of str
        The names that there are.
    """
    known = _OF_ARGUMENTS.get(name)
    close = difflib.get_close_matches(name, parameters, 1, 0.8)
    meant = known if known in parameters else _OF_ALL.get(name) or (close[0] if close else None)
    return "" if meant is None else f", which is {meant} here"


def no_attribute(owner: Any, name: str, hints: Mapping[str, str]) -> AttributeError:
    """Return the error for an attribute that does not exist, with what to use instead if `hints` has its name."""
    hint = f": {hints[name]}" if name in hints else ""
    message = f"{type(owner).__name__!r} object has no attribute {name!r}{hint}"
    return AttributeError(message, name=name, obj=owner)
