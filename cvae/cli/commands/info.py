"""The subcommand `cvae info`."""

from __future__ import annotations

import argparse
import platform

import numpy as np

import cvae
from cvae._kernels import dispatch
from cvae.cli.arguments import file_name
from cvae.cli.inputs import load_model, set_threads
from cvae.cli.output import listed, log, print_table
from cvae.cli.saving import n_epochs
from cvae.installation import REMEDY, other_projects

HELP = "print versions, instruction sets, threads, and a model's settings and layers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=file_name, nargs="?", help="a model file")


def run(args: argparse.Namespace) -> None:
    set_threads(args)
    vae = None if args.model is None else load_model(args.model)
    print_table(
        {
            "cvae": cvae.__version__,
            "instruction set": dispatch.instruction_set(),
            "available": ", ".join(dispatch.available()),
            "threads": cvae.get_num_threads(),
            "OpenMP": "yes" if dispatch.has_openmp() else "no",
            "NumPy": np.__version__,
            "Python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        }
    )
    if others := other_projects():
        log(f"warning: {', '.join(others)} also installs a package cvae; {REMEDY}")
    if vae is not None:
        layers = vae._layers().values()
        sizes = [np.size(x) for layer in layers for x in layer.parameters.values() if x is not None]
        print()
        print_table(
            {
                "model": args.model,
                "images": "x".join(map(str, vae._require_fitted())),
                "parameters": f"{sum(sizes):,}",
                "epochs trained": n_epochs(vae),
                **_labels(vae),
                **vae.get_params(),
            }
        )
        print()
        print(vae.summary())


def _labels(vae: cvae.VAE) -> dict[str, str]:
    """Return what there is to say of the labels of a conditional model."""
    if vae.condition is None:
        return {}
    if vae.condition == "classes":
        return {"classes": f"{len(vae.classes_)}: {listed(vae.classes_.tolist())}"}
    n = vae._label_kind.n_labels if vae._label_kind is not None else 0
    return {"labels": f"{n} number{'s' * (n != 1)}, --label {','.join(['X'] * n)}"}
