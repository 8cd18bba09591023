"""Models from the flags of the command and from configuration files."""

from __future__ import annotations

import difflib
import inspect
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cvae
from cvae import layers
from cvae.cli.arguments import DEFAULT_SEED, settings
from cvae.data.cells import UTF8, is_utf_16
from cvae.io.files import check_regular
from cvae.parsing import normalized

_OF_NETWORKS = ("encoder", "decoder", "likelihood", "objective")  # what tells that a `cvae.VAE` is meant


def new_model(flags: Mapping[str, Any], config: str | None = None) -> cvae.VAE:
    """Return numpy-ml's model or, if a network, the likelihood or the objective is given, a `cvae.VAE` with it.

    Parameters
    ----------
    flags : mapping
        Arguments of the model by name, as the parser of the command returns them.
    config : path, optional
        A TOML file with further arguments, which those of the same name in `flags` override.

    Raises
    ------
    ValueError
        If an argument is unknown, invalid, or not one of the model that the others ask for.
    OSError
        If the file cannot be read.
    """
    networks = {name: _as_network(value) for name, value in flags.items() if name in ("encoder", "decoder")}
    arguments = {"random_state": DEFAULT_SEED, **({} if config is None else read_config(config)), **flags, **networks}
    given = [name for name in _OF_NETWORKS if name in arguments]
    model_class = cvae.VAE if given else cvae.BernoulliVAE
    foreign = [name for name in arguments if name not in inspect.signature(model_class).parameters]
    if foreign:
        known = settings()
        shown = {name: known[name].flag if name in flags else f"{name} in {config}" for name in (*foreign, *given)}
        names = ", ".join(shown[name] for name in foreign)
        raise ValueError(f"{names} must be left out with {shown[given[0]]}{_remedy(foreign, arguments)}")
    model = model_class(**arguments)
    try:
        model._sync()
        return model
    except TypeError as error:  # of a value in the file; those of flags are checked by the parser
        raise ValueError(str(error)) from error


def _remedy(foreign: Sequence[str], arguments: Mapping[str, Any]) -> str:
    """Return what a `cvae.VAE` has in the place of the first of these arguments of numpy-ml's model."""
    name = foreign[0]
    if name == "beta" and "objective" not in arguments:
        return f"; --objective 'ELBO(beta={arguments[name]:g})' is the same"
    if name == "beta":
        return "; it is an argument of the objective, as in 'ELBO(beta=4)'"
    if name == "latent_dim":
        return "; layers have their own width, as in --encoder Flatten 'FullyConnected(n_out=256)'"
    return "; layers have their own settings, as in --encoder 'Conv2D(out_ch=32, kernel_shape=3)' Flatten"


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return arguments of a model by name from a TOML file, arrays as tuples unless they are layers.

    The file may begin with the mark that Windows' editors write, also of UTF-16.

    Raises
    ------
    ValueError
        If it is not TOML, or holds anything else.
    OSError
        If it cannot be read.
    """
    check_regular(path)  # a fifo would block
    with open(path, "rb") as file:
        content = file.read()
        try:
            values = tomllib.loads(content.decode("utf-16" if is_utf_16(content) else UTF8))
        except (ValueError, RecursionError) as error:  # of the syntax, of bytes that are no text, or of deep lists
            raise ValueError(f"{os.fspath(path)} must be a TOML file: {error}") from None
    known = {*inspect.signature(cvae.VAE).parameters, *inspect.signature(cvae.BernoulliVAE).parameters}
    for name in values:
        if name not in known:
            expected = f"arguments of a model such as {_resembled(name, known) or 'T or encoder'}"
            raise ValueError(f"{os.fspath(path)} must hold {expected}, got {name!r}")
    return {
        name: tuple(value) if isinstance(value, list) and name not in ("encoder", "decoder") else value
        for name, value in values.items()
    }


def _resembled(name: str, known: Iterable[str]) -> str | None:
    """Return the argument that is meant by the name of its flag, or by one much like its own, None if there is none."""
    flags = {
        flag.lstrip("-"): argument
        for argument, setting in settings().items()
        for flag in filter(None, (setting.flag, setting.alias))
    }
    word = name.replace("_", "-")
    if word in flags:
        return flags[word]
    similar = difflib.get_close_matches(name, known, 1)
    return similar[0] if similar else None


def _as_network(words: Sequence[str]) -> Sequence[str] | str:
    """Return a list of layers as it is; a single word that is no layer is the name of a network."""
    if len(words) != 1 or "(" in words[0] or normalized(words[0]) in map(normalized, layers.__all__):
        return words
    return words[0]
