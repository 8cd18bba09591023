"""The subcommand `cvae outliers`."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from typing import Any

from cvae import plotting
from cvae.cli.arguments import COUNT, add_data, add_file, add_force, add_model, add_output, add_part
from cvae.cli.inputs import evaluation_data, image_names, load, load_data
from cvae.cli.output import (
    NATS,
    PICTURES,
    check_output,
    print_json,
    print_table,
    print_written,
    shown,
    write_csv,
)
from cvae.scores import SCORES, check_contamination, image_scores, threshold

HELP = "find the images that a model thinks least probable"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_part(parser, "all")
    add_output(parser, "FILE", "also write the score of each image, .csv", required=False)
    parser.add_argument("--top", type=COUNT, metavar="N", default=20, help="how many to show (default: %(default)s)")
    add_file(parser, "--picture", "also draw these, and where they are improbable, .png", "PICTURE")
    add_force(parser)
    parser.add_argument("--score", choices=SCORES, default="elbo", help="default: %(default)s")
    parser.add_argument(
        "--samples", type=COUNT, metavar="N", default=10, help="codes drawn for each image (default: %(default)s)"
    )
    parser.add_argument(
        "--contamination",
        type=_contamination,
        metavar="SHARE",
        default="auto",
        help="share of outliers, up to 0.5; auto: those far below the usual scores (default: %(default)s)",
    )
    add_file(parser, "--normal", "normal images whose scores set the threshold instead", "DATA")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> None:
    inputs = (args.model, args.data, args.normal)
    if args.output is not None:
        check_output(args.output, inputs, [".csv"], flag="the output of outliers", force=args.force)
    if args.picture is not None:
        check_output(args.picture, (*inputs, args.output), PICTURES, flag="--picture", force=args.force)
    vae, dataset = load(args)
    part = args.part or "all"
    images, labels, which = evaluation_data(vae, dataset, part)
    names = image_names(dataset, part)
    scores = image_scores(vae, images, args.score, args.samples, labels)
    usual = scores
    if args.normal is not None:
        others, of_others, _ = evaluation_data(vae, load_data(args.normal, args, vae._require_fitted()), "all")
        usual = image_scores(vae, others, args.score, args.samples, of_others)
    least = threshold(usual, args.contamination)
    worst = scores.argsort(kind="stable")[: args.top].tolist()
    if args.output is not None:
        rows = zip(names, scores.tolist(), strict=True)
        write_csv(
            args.output,
            ["image", "part", "score", "is_outlier"],
            [(*name, score, int(score < least)) for name, score in rows],
        )
    if args.picture is not None:
        title = f"The least probable of {len(images):,} {which}"
        captions = [name for name, _ in names]
        plotting.outliers(images, vae, args.picture, title, n=args.top, scores=scores, names=captions, y=labels)
    n_outliers = int((scores < least).sum())
    if args.json:
        listed = [{"image": names[i][0], "part": names[i][1], "score": float(scores[i])} for i in worst]
        found = {"data": args.data, "images": len(images), "outliers": n_outliers, "threshold": least}
        print_json({**found, "worst": listed, "unit": NATS})
        return
    print_table({"data": f"{len(images):,} {which}", "outliers": f"{n_outliers:,}, below {least:.2f} {NATS}"})
    print()
    several = len({part for _, part in names}) > 1
    _print_worst([(names[i] if several else names[i][:1], float(scores[i])) for i in worst], least)
    print_written(*(path for path in (args.output, args.picture) if path is not None))


def _print_worst(worst: Sequence[tuple[tuple[str, ...], float]], least: float) -> None:
    """Print a line for each of the images, given as names, perhaps with parts, and scores."""
    names = [" ".join(shown(word) for word in reversed(name)) for name, _ in worst]
    width = max(map(len, names)) + 2
    for name, (_, score) in zip(names, worst, strict=True):
        print(f"{name:{width}}{score:.2f}{' outlier' if score < least else ''}")


def _contamination(text: str) -> Any:
    share: float | str = text
    with contextlib.suppress(ValueError):
        share = float(text)
    try:
        check_contamination(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be auto or a number in (0, 0.5], got {text!r}") from None
    return share
