"""The subcommand `cvae sample`."""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from cvae import plotting
from cvae.cli.arguments import COUNT, SEED, add_file, add_force, add_model, add_output
from cvae.cli.inputs import label, load_model, set_threads
from cvae.cli.output import PICTURES, check_new_folder, check_output, print_written, shown
from cvae.io.files import replaced_file

HELP = "draw new images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    output = "picture to write, .png, or array of images in the model's units, .npy"
    add_output(parser, "FILE", output, required=False)
    add_force(parser)
    add_file(parser, "--separate", "new folder for a picture of each image, in folders by class", "DIR")
    n_help = "images, of all classes together as many of each (default: %(default)s)"
    parser.add_argument("-n", type=COUNT, metavar="N", default=64, help=n_help)
    parser.add_argument(
        "--label", metavar="LABEL", help="of a conditional model: a class (default: all), or values joined by commas"
    )
    parser.add_argument("--seed", type=SEED, metavar="N", help="seed of the random numbers (default: a new one)")


def run(args: argparse.Namespace) -> None:
    if args.output is None and args.separate is None:
        raise ValueError("-o/--output or --separate must be given")
    is_array = args.output is not None and Path(args.output).suffix.lower() == ".npy"
    if args.output is not None:
        endings = (*PICTURES, ".npy")
        check_output(args.output, (args.model,), endings, flag="the output of sample", force=args.force)
    if args.separate is not None:
        _check_folder(args.separate)
    set_threads(args)
    vae = load_model(args.model)
    seed = args.seed if args.seed is not None else secrets.randbelow(2**32)
    by_class = vae.condition == "classes" and args.label is None
    if by_class:
        # A row for each class, the same codes in all rows.
        n, classes = max(1, args.n // len(vae.classes_)), len(vae.classes_)
        if n * classes != args.n:
            print(f"{n * classes} images instead of {args.n}: {n} of each of {classes} classes")
        images = np.stack([vae.sample(n, random_state=seed, y=each) for each in vae.classes_])
    else:
        images = vae.sample(args.n, random_state=seed, y=label(vae, args.label))
    if is_array:
        with replaced_file(args.output) as file:
            np.save(file, images.reshape(-1, *images.shape[-3:]))
    elif args.output is not None:
        pictures, title = vae._as_pictures(images), f"Samples of {shown(Path(args.model).name)}"
        if by_class:
            plotting.class_samples(pictures, vae.classes_.tolist(), args.output, title)
        else:
            plotting.samples(pictures, args.output, title)
    if args.separate is not None:
        _write_separately(Path(args.separate), vae._as_pictures(images), vae.classes_.tolist() if by_class else None)
    if args.seed is None:
        print(f"drawn with --seed {seed}")
    print_written(*(path for path in (args.output, args.separate) if path is not None))


def _check_folder(folder: str) -> None:
    """Check that pictures can be written to a folder of their own."""
    _pillow()
    check_new_folder(folder, "--separate")
    if os.path.lexists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise ValueError(f"--separate must be a new or an empty folder, got {folder!r}")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("writing pictures needs Pillow: pip install Pillow") from error
    return Image


def _write_separately(folder: Path, pictures: np.ndarray, classes: list[Any] | None) -> None:
    """Write each image (..., rows, cols, channels) to a file of its own, in a folder for each class."""
    channels = pictures.shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"--separate needs grey or RGB images, got {channels} channels; -o FILE.npy takes any")
    pixels = np.rint(pictures * 255).astype(np.uint8)
    groups = [(folder, pixels)] if classes is None else list(zip(_folders(folder, classes), pixels, strict=True))
    for path, images in groups:
        path.mkdir(parents=True, exist_ok=True)
        digits = len(str(len(images) - 1))
        for i, image in enumerate(images):
            _pillow().fromarray(image[..., 0] if channels == 1 else image).save(path / f"{i:0{digits}}.png")


def _folders(folder: Path, classes: list[Any]) -> list[Path]:
    """Return a folder for each class, called like it if that can be the name of one."""
    names = [str(each) for each in classes]
    if all(name == Path(name).name and name.isprintable() and not name.startswith(".") for name in names):
        return [folder / name for name in names]
    return [folder / f"class-{i}" for i in range(len(classes))]
