"""The argument parser of the command `cvae`: its subcommands and their flags."""

from __future__ import annotations

import argparse
import contextlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import cvae
from cvae.architectures import ARCHITECTURES


class _Setting(NamedTuple):
    """The command-line flag of an argument of a model."""

    flag: str
    metavar: str
    parse: Callable[[str], Any]
    help: str
    nargs: str | None = None
    alias: str | None = None


class _Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"cvae: error: {message} (see {self.prog} --help)\n")


def _int_from(lowest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if (number := int(text)) >= lowest:
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


_COUNT = _int_from(1)
_SEED = _int_from(0)
DEFAULT_SEED = 2  # makes each run of a command train the same model

_NETWORKS = ", ".join(ARCHITECTURES)

_SETTINGS = {
    "T": _Setting("--T", "N", _COUNT, "size of the latent code", alias="--latent"),
    "latent_dim": _Setting("--latent-dim", "N", _COUNT, "width of the hidden dense layers"),
    "optimizer": _Setting("--optimizer", "CALL", str, "optimizer with its arguments"),
    "init": _Setting("--init", "NAME", str, "initialization of the weights"),
    "binarize": _Setting("--binarize", "HOW", _number_or_word, "pixels to 0 and 1: dynamic, fixed or a threshold"),
    "n_epochs": _Setting("--epochs", "N", _COUNT, "passes over the images"),
    "batchsize": _Setting("--batchsize", "N", _COUNT, "images per batch"),
    "beta": _Setting("--beta", "X", float, "weight of the KL divergence"),
    "image_shape": _Setting("--image-shape", "RxC[xCH]", _ints, "shape of the images"),
    "value_range": _Setting(
        "--value-range", "LOW:HIGH", _range, "what is black and white, or data for all that there is"
    ),
    "condition": _Setting("--condition", "KIND", str, "train a model of images given their labels: classes or values"),
    "algorithm": _Setting("--algorithm", "NAME", str, "convolution algorithm: auto, direct or winograd"),
    "dtype": _Setting("--dtype", "TYPE", str, "float32 or float64"),
    "random_state": _Setting("--seed", "N", _SEED, f"seed of the random numbers (default: {DEFAULT_SEED})"),
}
# Any of these makes a `cvae.VAE`, whose other arguments have that class's defaults.
_NETWORK_SETTINGS = {
    "encoder": _Setting("--encoder", "LAYER", str, f"{_NETWORKS}, or 'Conv2D(out_ch=32, kernel_shape=3)' ...", "*"),
    "decoder": _Setting("--decoder", "LAYER", str, f"{_NETWORKS}, or 'FullyConnected(n_out=256)' ...", "*"),
    "likelihood": _Setting("--likelihood", "CALL", str, "of a pixel, such as gaussian or 'Gaussian(scale=0.1)'"),
    "objective": _Setting("--objective", "CALL", str, "what training minimizes, such as 'IWAE(k=5)'"),
}
_LAYER_SETTINGS = {  # --enc-conv1-pad, ...
    "pad": ("PAD", _pad, "zero padding of {}: N, RxC, TxBxLxR, same or valid"),
    "out_ch": ("N", _COUNT, "output channels of {}"),
    "stride": ("N", _COUNT, "stride of {}"),
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


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting; one that is not given is absent from the parsed arguments."""
    parameters = {**inspect.signature(cvae.VAE).parameters, **inspect.signature(cvae.BernoulliVAE).parameters}
    for name, setting in settings().items():
        default = parameters[name].default
        text = "x".join(map(str, default)) if isinstance(default, tuple) else default
        parser.add_argument(
            *filter(None, (setting.flag, setting.alias)),
            dest=name,
            metavar=setting.metavar,
            type=setting.parse,
            nargs=setting.nargs,
            default=argparse.SUPPRESS,
            help=setting.help if default in (None, inspect.Parameter.empty) else f"{setting.help} (default: {text})",
        )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = _Parser(prog="cvae", description="Convolutional variational autoencoders on the CPU.")
    parser.add_argument("--version", action="version", version=f"cvae {cvae.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        added.set_defaults(command=name)
        added.add_argument("--threads", type=_COUNT, metavar="N", help="number of threads")
        return added

    demo = command("demo", "train on the built-in digits and write a model, its history and pictures")
    demo.add_argument("--out", metavar="DIR", default="cvae-demo", help="default: %(default)s")
    demo.add_argument("--epochs", type=_COUNT, metavar="N", default=25, help="default: %(default)s")
    demo.add_argument("--seed", type=_SEED, metavar="N", default=DEFAULT_SEED, help="default: %(default)s")

    train = command("train", "train a model; Ctrl-C stops the training and saves the model")
    _add_data(train)
    _add_output(train, "MODEL", "file to write, .safetensors")
    train.add_argument("--history", metavar="FILE", help="also write the history, .csv")
    train.add_argument("--resume", metavar="MODEL", help="continue training this model")
    train.add_argument("--config", metavar="FILE", help="arguments of the model by name, .toml; flags override them")
    train.add_argument("--quiet", action="store_true", help="do not show progress")
    _add_settings(train)

    evaluate = command("evaluate", "print the ELBO of the test images, or of all images if there are none")
    _add_model(evaluate)
    _add_data(evaluate)
    evaluate.add_argument(
        "--log-likelihood", type=_COUNT, metavar="N", help="also estimate log p(x) from N samples of each code"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON")

    sample = command("sample", "draw new images")
    _add_model(sample)
    _add_output(sample, "PICTURE", "picture to write, .png")
    sample.add_argument("-n", type=_COUNT, metavar="N", default=64, help="default: %(default)s")
    sample.add_argument(
        "--label", metavar="LABEL", help="of a conditional model: a class (default: all), or values joined by commas"
    )
    sample.add_argument("--seed", type=_SEED, metavar="N", help="seed of the random numbers (default: none)")

    reconstruct = command("reconstruct", "draw the first test images above their reconstructions")
    _add_model(reconstruct)
    _add_data(reconstruct)
    _add_output(reconstruct, "PICTURE", "picture to write, .png")
    reconstruct.add_argument("-n", type=_COUNT, metavar="N", default=40, help="default: %(default)s")

    encode = command("encode", "write the latent means of the images, test images excluded, as .npy")
    _add_model(encode)
    _add_data(encode)
    _add_output(encode, "FILE", "array to write, (n, T), .npy")

    info = command("info", "print versions, instruction sets, threads, and a model's settings and layers")
    info.add_argument("model", metavar="MODEL", nargs="?", help="a model file")
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model file")


def _add_data(parser: argparse.ArgumentParser) -> None:
    known = ", ".join(cvae.datasets.names())
    parser.add_argument("data", metavar="DATA", help=f"images: {known}, a file or a folder")


def _add_output(parser: argparse.ArgumentParser, metavar: str, help: str) -> None:
    parser.add_argument("-o", "--output", metavar=metavar, required=True, help=help)
