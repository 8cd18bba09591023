"""The subcommand `cvae evaluate`."""

from __future__ import annotations

import argparse

from cvae.cli.arguments import COUNT, add_data, add_file, add_force, add_model, add_part
from cvae.cli.inputs import evaluation_data, image_names, load
from cvae.cli.output import NATS, check_output, print_json, print_table, print_written, write_csv

HELP = "print the ELBO of the test images, or of all images if there are none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    add_part(parser, "test, or what there is")
    parser.add_argument(
        "--log-likelihood", type=COUNT, metavar="N", help="also estimate log p(x) from N samples of each code"
    )
    add_file(parser, "--scores", "also write these numbers of each image, .csv")
    add_force(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> None:
    if args.scores is not None:
        check_output(args.scores, (args.model, args.data), [".csv"], flag="--scores", force=args.force)
    vae, dataset = load(args)
    images, labels, which = evaluation_data(vae, dataset, args.part)
    reconstruction, kl = vae.elbo_terms(images, y=labels)
    scores = {"elbo": -(reconstruction + kl), "reconstruction": reconstruction, "kl": kl}
    if args.log_likelihood is not None:
        scores["log_likelihood"] = vae.log_likelihood(images, n_samples=args.log_likelihood, y=labels)
    if args.scores is not None:
        columns = [values.tolist() for values in scores.values()]
        rows = [(*name, *row) for name, *row in zip(image_names(dataset, args.part), *columns, strict=True)]
        write_csv(args.scores, ["image", "part", *scores], rows)
    results = {name: float(values.mean()) for name, values in scores.items()}
    if args.json:
        print_json({"data": args.data, "images": len(images), **results, "unit": NATS})
        return
    names = {
        "elbo": "ELBO",
        "reconstruction": "reconstruction loss",
        "kl": "KL divergence",
        "log_likelihood": f"log-likelihood ({args.log_likelihood} samples)",
    }
    lines = {names[name]: f"{value:.2f} {NATS}" for name, value in results.items()}
    print_table({"data": f"{len(images):,} {which}", **lines})
    if args.scores is not None:
        print_written(args.scores)
