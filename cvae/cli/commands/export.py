"""The subcommand `cvae export`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cvae.cli.arguments import add_file, add_force, add_model
from cvae.cli.inputs import load_model, set_threads
from cvae.cli.output import check_output, print_written
from cvae.export import to_c, to_npz, to_onnx, to_torch_file
from cvae.export.c import check_prefix
from cvae.export.onnx import PARTS, PIXELS, check_can_export

HELP = "write a model for other programs: as ONNX, as C, or its weights for PyTorch or NumPy"

# The ending of each kind of file.
_ENDINGS = {"onnx": ".onnx", "c": ".c", "torch": ".safetensors", "npz": ".npz"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_file(parser, "--onnx", "write a part of the model, .onnx")
    parser.add_argument("--part", choices=PARTS, help="for --onnx (default: encoder)")
    parser.add_argument("--pixels", choices=PIXELS, help="for --onnx: the dtype of its images (default: float32)")
    add_file(parser, "--c", "write the whole model as one C99 file without dependencies, .c")
    parser.add_argument("--prefix", metavar="NAME", help="for --c: of its functions (default: cvae)")
    add_file(parser, "--torch", "write the weights as a PyTorch state dict, .safetensors")
    add_file(parser, "--npz", "write the weights in cvae's layout, .npz")
    add_force(parser)


def run(args: argparse.Namespace) -> None:
    paths = {kind: getattr(args, kind) for kind in _ENDINGS if getattr(args, kind) is not None}
    if not paths:
        raise ValueError("one of --onnx, --c, --torch and --npz must be given, got none")
    given = {
        "onnx": {name: getattr(args, name) for name in ("part", "pixels") if getattr(args, name) is not None},
        "c": {} if args.prefix is None else {"prefix": args.prefix},
    }
    for kind, options in given.items():
        if options and kind not in paths:
            raise ValueError(f"--{next(iter(options))} must be left out without --{kind}")
    if args.prefix is not None:
        check_prefix(args.prefix)
    _check_outputs(args.model, paths, args.force)
    set_threads(args)
    vae = load_model(args.model)
    writers: dict[str, Callable[..., None]] = {"onnx": to_onnx, "c": to_c, "torch": to_torch_file, "npz": to_npz}
    for kind, path in paths.items():
        writers[kind](vae, path, **given.get(kind, {}))
        print_written(path)


def _check_outputs(model: str, paths: dict[str, str], force: bool) -> None:
    """Raise ValueError or OSError unless all files can be written and are different ones."""
    others: list[str | None] = [model]
    for kind, path in paths.items():
        check_output(path, others, [_ENDINGS[kind]], flag=f"--{kind}", force=force)
        others.append(path)
    if "onnx" in paths:
        check_can_export()
