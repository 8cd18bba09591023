"""The subcommand `cvae plot`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import cvae
from cvae import plotting
from cvae.cli.arguments import COUNT, READING, SEED, add_data, add_force, add_model, add_output, add_part, given
from cvae.cli.inputs import class_labels, evaluation_data, first, image_names, label, load_data, load_model, set_threads
from cvae.cli.output import PICTURES, check_output, print_written

HELP = "draw the training, the codes, or images that a model finds probable and improbable"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = "; ".join(f"{kind}: {drawing.text}" for kind, drawing in _OF_MODEL.items())
    others = "; ".join(f"{kind}: {drawing.text}" for kind, drawing in _OF_DATA.items())
    parser.add_argument("kind", metavar="KIND", choices=(*_OF_MODEL, *_OF_DATA), help=f"{kinds}; with DATA {others}")
    add_model(parser)
    add_data(parser, nargs="?")
    add_part(parser, "test, or what there is")
    add_output(parser, "PICTURE", "picture to write, .png")
    add_force(parser)
    parser.add_argument("-n", type=COUNT, metavar="N", help="how many images, in a row or in all")
    label_help = "of a conditional model: of samples (default: all classes), plane and traversals"
    parser.add_argument("--label", metavar="LABEL", help=label_help)
    parser.add_argument("--method", choices=("pca", "umap"), help="of latent (default: pca)")
    parser.add_argument("--seed", type=SEED, metavar="N", help="of samples")


def run(args: argparse.Namespace) -> None:
    if args.kind in _OF_MODEL and args.data is not None:
        raise ValueError(f"DATA must be left out for {args.kind}, got {args.data!r}")
    if args.kind in _OF_DATA and args.data is None:
        raise ValueError(f"DATA must be given for {args.kind}")
    drawing = (_OF_MODEL | _OF_DATA)[args.kind]
    if useless := given(args, {*_OPTIONS} - {*drawing.options}):
        raise ValueError(f"{', '.join(sorted(useless))} must be left out for {args.kind}")
    check_output(args.output, (args.model, args.data), PICTURES, flag="the output of plot", force=args.force)
    set_threads(args)
    drawing.draw(load_model(args.model), args)
    print_written(args.output)


def _n(args: argparse.Namespace) -> dict[str, Any]:
    return {} if args.n is None else {"n": args.n}


def _history(vae: cvae.VAE, args: argparse.Namespace) -> None:
    plotting.history(vae, args.output)


def _samples(vae: cvae.VAE, args: argparse.Namespace) -> None:
    if vae.condition == "classes" and args.label is None:
        plotting.class_samples(vae, path=args.output, random_state=args.seed, **_n(args))
    else:
        plotting.samples(vae, args.output, random_state=args.seed, y=label(vae, args.label), **_n(args))


def _plane(vae: cvae.VAE, args: argparse.Namespace) -> None:
    plotting.latent_plane(vae, args.output, y=label(vae, args.label), **_n(args))


def _traversals(vae: cvae.VAE, args: argparse.Namespace) -> None:
    plotting.traversals(vae, args.output, y=label(vae, args.label), **_n(args))


def _latent(vae: cvae.VAE, args: argparse.Namespace) -> None:
    dataset = load_data(args.data, args, vae._require_fitted())
    images, labels, which = evaluation_data(vae, dataset, args.part)
    classes = class_labels(dataset, args.part)
    method = args.method or "pca"
    plotting.latent(vae.transform(images, labels), classes, args.output, f"Codes of {which}", method=method)


def _reconstructions(vae: cvae.VAE, args: argparse.Namespace) -> None:
    images, labels, which, _ = _first(vae, args, 40)
    plotting.reconstructions(images, vae, args.output, f"Reconstructions of {which}", y=labels)


def _errors(vae: cvae.VAE, args: argparse.Namespace) -> None:
    images, labels, which, names = _first(vae, args, 20)
    plotting.error_maps(images, vae, args.output, f"Where {which} are improbable", captions=names, y=labels)


def _ranking(vae: cvae.VAE, args: argparse.Namespace) -> None:
    dataset = load_data(args.data, args, vae._require_fitted())
    images, labels, which = evaluation_data(vae, dataset, args.part)
    names = [name for name, _ in image_names(dataset, args.part)]
    title = f"Most probable {which}, and least probable ones below"
    plotting.best_and_worst(images, vae, args.output, title, names=names, y=labels, **_n(args))


def _first(vae: cvae.VAE, args: argparse.Namespace, default: int) -> tuple[Any, Any, str, list[str]]:
    """Return the first images, as many as -n says, with what goes with them."""
    dataset, n = load_data(args.data, args, vae._require_fitted()), args.n or default
    images, labels, which = evaluation_data(vae, dataset, args.part)
    names = [name for name, _ in image_names(dataset, args.part)]
    return *first(n, images, labels), which, names[:n]


class _Drawing(NamedTuple):
    """A kind of picture: what it shows, what draws it, and which options it takes."""

    text: str
    draw: Callable[[cvae.VAE, argparse.Namespace], None]
    options: tuple[str, ...]


_READING = ("part", *READING)
_OPTIONS = (*_READING, "n", "label", "method", "seed")  # that have no effect on some kinds
_OF_MODEL = {
    "history": _Drawing("the ELBO by epoch", _history, ()),
    "samples": _Drawing("new images", _samples, ("n", "label", "seed")),
    "plane": _Drawing("a grid of two dimensions of the code", _plane, ("n", "label")),
    "traversals": _Drawing("a row for each dimension", _traversals, ("n", "label")),
}
_OF_DATA = {
    "latent": _Drawing("the codes of images", _latent, (*_READING, "method")),
    "reconstructions": _Drawing("images above their reconstructions", _reconstructions, (*_READING, "n")),
    "ranking": _Drawing("the most and least probable images", _ranking, (*_READING, "n")),
    "errors": _Drawing("which of their pixels are improbable", _errors, (*_READING, "n")),
}
