"""The argument parser of the command `cvae`: its subcommands and their flags."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

import cvae
from cvae import layers
from cvae.architectures import ARCHITECTURES
from cvae.checking import MAX_COUNT
from cvae.cli.completion import suggest
from cvae.conditions import KINDS
from cvae.likelihoods import Likelihood
from cvae.nn.convolution import ALGORITHMS
from cvae.objectives import Objective
from cvae.parsing import normalized, subclasses_by_name


class _Setting(NamedTuple):
    """The command-line flag of an argument of a model."""

    flag: str
    metavar: str
    parse: Callable[[str], Any]
    help: str
    nargs: str | None = None
    alias: str | None = None


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)
        self._list: str | None = None  # the last flag of a list of words that was seen
        self._negative_number_matcher = re.compile(r"-\.?[0-9]")  # of ranges and lists of values too: -1:1, -0.5,2

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse an option with -- for a value, which argparse takes for none and passes on as an empty list."""
        for word in args if args is not None else sys.argv[1:]:
            if word == "--":
                break
            if word.startswith("-") and word.endswith("=--"):
                self.error(f"argument {word[:-3]}: expected one argument")
        return super().parse_known_args(args if args is None else self._with_data_first(args), namespace)

    def _with_data_first(self, words: Sequence[str]) -> list[str]:
        """Move DATA to the front where it follows a list of layers, which takes all words up to the next option."""
        flags = [flag for action in self._actions if action.nargs == "*" for flag in action.option_strings]
        for i, word in enumerate(words):
            if word in flags:
                end = next((j for j in range(i + 1, len(words)) if words[j].startswith("-")), len(words))
                if end > i + 2 and _is_data(words[end - 1]):
                    return [words[end - 1], *words[: end - 1], *words[end:]]
                self._list = word
        return [*words]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is none of an option's choices, with the one that it resembles."""
        choices = [*map(str, action.choices or ())]
        if action.choices is not None and value not in action.choices:
            similar = difflib.get_close_matches(str(value), choices, 1)
            hint = f", did you mean {similar[0]}?" if similar else ""
            raise argparse.ArgumentError(action, f"invalid choice: {value!r} (one of {', '.join(choices)}){hint}")

    def error(self, message: str) -> NoReturn:
        if message.startswith("the following arguments are required: DATA") and self._list is not None:
            message += f"; DATA stands before {self._list}, which takes all words that follow it"
        self.exit(2, f"cvae: error: {message} (see {self.prog} --help)\n")


def _is_data(word: str) -> bool:
    """Return whether a word after layers is no layer but the name of data that exist."""
    if "(" in word or normalized(word) in map(normalized, layers.__all__):
        return False
    path = file_name(word)
    return word in cvae.datasets.names() or os.path.exists(path) or os.path.exists(path.rpartition(":")[0])


def _int_from(lowest: int, highest: float = MAX_COUNT) -> Callable[[str], int]:
    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if lowest <= (number := int(text)) <= highest:
                return number
        raise argparse.ArgumentTypeError(f"must be an int >= {lowest}, got {text!r}")

    return parse


def _ints(text: str) -> tuple[int, ...]:
    """Parse ints joined by x: "28x28" is (28, 28)."""
    try:
        return tuple(int(number) for number in text.lower().split("x"))
    except ValueError:
        message = f"must be ints joined by x, such as 28x28, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def _int_or_ints(text: str) -> int | tuple[int, ...]:
    ints = _ints(text)
    return ints if len(ints) > 1 else ints[0]


def _crop(text: str) -> str | int | tuple[int, ...]:
    return text if text == "fit" else _int_or_ints(text)


def _pad(text: str) -> str | int | tuple[int, ...]:
    # The constructor checks words such as "same".
    return text if text.isalpha() else _int_or_ints(text)


def _number_or_word(text: str) -> float | str:
    # The constructor checks words such as "dynamic".
    try:
        return float(text)
    except ValueError:
        return text


def _range(text: str) -> tuple[float, ...] | str:
    """Parse "data", or two numbers joined by a colon: "-1:1" is (-1.0, 1.0)."""
    if text == "data":
        return text
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        message = f"must be data, or two numbers joined by a colon, such as 0:65535, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None
    return low, high


COUNT = _int_from(1)
SEED = _int_from(0, math.inf)
DEFAULT_SEED = 2  # makes each run of a command train the same model

READING = ("crop", "resize", "grey", "background")  # how images are read

_NETWORKS = ", ".join(ARCHITECTURES)

_SETTINGS = {
    "T": _Setting("--T", "N", COUNT, "size of the latent code", alias="--latent"),
    "latent_dim": _Setting("--latent-dim", "N", COUNT, "width of the hidden dense layers"),
    "optimizer": _Setting("--optimizer", "CALL", str, "optimizer with its arguments"),
    "lr": _Setting("--lr", "X", float, "learning rate, in the place of the optimizer's own"),
    "global_clip_norm": _Setting("--global-clip-norm", "X", float, "largest norm of all gradients together"),
    "init": _Setting("--init", "NAME", str, "initialization of the weights"),
    "binarize": _Setting("--binarize", "HOW", _number_or_word, "pixels to 0 and 1: dynamic, fixed or a threshold"),
    "n_epochs": _Setting("--epochs", "N", COUNT, "passes over the images"),
    "batchsize": _Setting("--batchsize", "N", COUNT, "images per batch"),
    "beta": _Setting("--beta", "X", float, "weight of the KL divergence"),
    "image_shape": _Setting("--image-shape", "RxC[xCH]", _ints, "shape of the images"),
    "value_range": _Setting(
        "--value-range", "LOW:HIGH", _range, "what is black and white, or data for all that there is"
    ),
    "condition": _Setting("--condition", "KIND", str, "train a model of images given their labels: classes or values"),
    "algorithm": _Setting("--algorithm", "NAME", str, "convolution algorithm: auto, direct or winograd"),
    "dtype": _Setting("--dtype", "TYPE", str, "float32 or float64"),
    "random_state": _Setting("--seed", "N", SEED, f"seed of the random numbers (default: {DEFAULT_SEED})"),
}
# Any of these makes a `cvae.VAE`, whose other arguments have that class's defaults.
_NETWORK_SETTINGS = {
    "encoder": _Setting("--encoder", "LAYER", str, f"{_NETWORKS}, or 'Conv2D(out_ch=32, kernel_shape=3)' ...", "*"),
    "decoder": _Setting("--decoder", "LAYER", str, f"{_NETWORKS}, or 'FullyConnected(n_out=256)' ...", "*"),
    "likelihood": _Setting("--likelihood", "CALL", str, "of a pixel, such as gaussian or 'Gaussian(scale=0.1)'"),
    "objective": _Setting("--objective", "CALL", str, "what training minimizes, such as 'IWAE(k=5)'"),
}
_WORDS: dict[str, Iterable[str]] = {  # that a shell suggests
    **dict.fromkeys(("encoder", "decoder"), ARCHITECTURES),
    "likelihood": subclasses_by_name(Likelihood),
    "objective": subclasses_by_name(Objective),
    "condition": KINDS,
    "algorithm": ALGORITHMS,
    "dtype": ("float32", "float64"),
}
_LAYER_SETTINGS = {  # --enc-conv1-pad, ...
    "pad": ("PAD", _pad, "zero padding of {}: N, RxC, TxBxLxR, same or valid"),
    "out_ch": ("N", COUNT, "output channels of {}"),
    "stride": ("N", COUNT, "stride of {}"),
    "kernel_shape": ("RxC", _int_or_ints, "kernel shape of {}"),
}


def settings() -> dict[str, _Setting]:
    """Return the flags by argument of a model, those of the encoder's layers last."""
    found = _SETTINGS | _NETWORK_SETTINGS
    for name in inspect.signature(cvae.BernoulliVAE).parameters:
        if name.startswith("enc_"):
            _, layer, setting = name.split("_", 2)
            metavar, parse, help = _LAYER_SETTINGS[setting]
            flag = "--" + name.replace("_", "-")
            found[name] = _Setting(flag, metavar, parse, help.format(layer))
    return found


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting; one that is not given is absent from the parsed arguments."""
    parameters = {**inspect.signature(cvae.VAE).parameters, **inspect.signature(cvae.BernoulliVAE).parameters}
    for name, setting in settings().items():
        default = parameters[name].default
        text = "x".join(map(str, default)) if isinstance(default, tuple) else default
        added = parser.add_argument(
            *filter(None, (setting.flag, setting.alias)),
            dest=name,
            metavar=setting.metavar,
            type=setting.parse,
            nargs=setting.nargs,
            default=argparse.SUPPRESS,
            help=setting.help if default in (None, inspect.Parameter.empty) else f"{setting.help} (default: {text})",
        )
        if name in _WORDS:
            suggest(added, _WORDS[name])


def file_name(text: str) -> str:
    """Return the name of a file, with the home for ~, which a shell leaves as it is in --output=~/x."""
    return text if not text.startswith("~") or os.path.lexists(text.partition(os.sep)[0]) else os.path.expanduser(text)


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=file_name, help="a model file")


def add_data(parser: argparse.ArgumentParser, name: str = "data", **options: Any) -> None:
    """Add the data, DATA or a flag, and how they are read."""
    known = ", ".join(cvae.datasets.names())
    help = f"images: {known}, a file (file.h5:NAME for one of its arrays) or a folder"
    added = parser.add_argument(name, metavar="DATA", type=file_name, help=help, **options)
    suggest(added, cvae.datasets.names())
    reading = parser.add_argument_group("how images are read")  # `READING` has the names
    reading.add_argument("--crop", metavar="RxC", type=_crop, help="keep the middle; fit: all that fits --resize")
    reading.add_argument("--resize", metavar="RxC", type=_int_or_ints, help="scale to this many rows and columns")
    reading.add_argument("--grey", "--gray", action=argparse.BooleanOptionalAction, help="make all grey, or all RGB")
    reading.add_argument("--background", metavar="COLOUR", help="of transparent pictures, such as white or #336699")


def add_part(parser: argparse.ArgumentParser, default: str) -> None:
    choices = ("train", "val", "test", "all")
    parser.add_argument("--part", choices=choices, help=f"part of the data (default: {default})")


def add_output(parser: argparse.ArgumentParser, metavar: str, help: str, *, required: bool = True) -> None:
    parser.add_argument("-o", "--output", metavar=metavar, type=file_name, required=required, help=help)


def add_file(parser: argparse.ArgumentParser, flag: str, help: str, metavar: str = "FILE") -> None:
    """Add a flag whose value is the name of a file or a folder."""
    parser.add_argument(flag, metavar=metavar, type=file_name, help=help)


def add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace existing files, but no input")


def given(args: argparse.Namespace, names: Iterable[str]) -> list[str]:
    """Return the flags among these, called as in the parsed arguments, that have a value other than None."""
    flags = {action.dest: action.option_strings for action in args.parser._actions}
    found = {name: getattr(args, name) for name in names}
    return [flags[name][value is False] for name, value in found.items() if value is not None]  # --grey or --no-grey
