"""Train models of binary MNIST and hold their likelihoods against published ones.

    python benchmarks/likelihood.py MNIST --hours 1 --rows vae-1
    python benchmarks/likelihood.py MNIST --hours 12 --rows all --seeds 3 --pytorch --json nll.json --plot nll.png

MNIST is a folder with the four files of the data set. Every pixel of every batch is drawn black or white anew, with its
grey value as the probability. Each row gets the same share of the hours, and a schedule of as many epochs as fit into
it. An interrupted command goes on where it was when it is given again; another folder (`--folder`) starts anew.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from likelihood_rows import ROWS
from likelihood_training import Run, images_per_second
from peers import KEEP_MEMORY

import cvae

HERE = Path(__file__).parent


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("data", help="folder with MNIST's files")
    parser.add_argument("--rows", default="vae-1", help=f"comma-separated, or all: {', '.join(ROWS)}")
    parser.add_argument("--hours", type=float, default=1.0, help="of training, for all rows, seeds and frameworks")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=cvae.get_num_threads())
    parser.add_argument("--samples", type=int, default=5000, help="codes for the likelihood of an image")
    parser.add_argument(
        "--images", type=int, default=10_000, help="test images with so many; all others get fewer, see `Run.evaluate`"
    )
    parser.add_argument("--folder", type=Path, default=Path("likelihood-runs"), help="of the models and their progress")
    parser.add_argument("--pytorch", action="store_true", help="have PyTorch train the same rows as long")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--plot", type=Path, help="picture of the likelihoods over time")
    parser.add_argument("--picture", type=Path, help="picture of what the last row's model draws")
    args = parser.parse_args()
    args.rows = [*ROWS] if args.rows == "all" else args.rows.split(",")
    for row in args.rows:
        if row not in ROWS:
            parser.error(f"--rows must be out of {', '.join(ROWS)}, got {row!r}")
    return args


def main() -> None:
    args = parse_arguments()
    data = cvae.datasets.load(args.data)
    frameworks = 2 if args.pytorch else 1
    seconds = args.hours * 3600 / (len(args.rows) * args.seeds * frameworks)
    results: dict[str, Any] = {}
    for name in args.rows:
        runs = [_trained(args, name, seed, data, seconds) for seed in range(args.seeds)]
        results[name] = {"published": ROWS[name].published, "source": ROWS[name].source, "seeds": runs}
        if args.pytorch:
            results[name]["pytorch"] = [_trained_by_pytorch(args, name, seed, seconds) for seed in range(args.seeds)]
        if args.json:
            args.json.write_text(json.dumps({"threads": args.threads, "rows": results}, indent=1))
    print(table(results))
    if args.plot:
        plot(results, args.plot)
    if args.picture:
        draw(args.folder / f"{args.rows[-1]}-seed0" / "model.safetensors", data.test_images, args.picture)


def _trained(args: argparse.Namespace, name: str, seed: int, data: Any, seconds: float) -> dict[str, Any]:
    row, folder = ROWS[name], args.folder / f"{name}-seed{seed}"
    run = Run(row, seed, 0, folder, args.threads)
    if run.vae is None:  # otherwise it goes on with the schedule that it began with
        rate = images_per_second(row, data.images, args.threads)
        run.progress["epochs"] = max(1, int(seconds * rate / len(data.images)))
    run.train(data.images, data.test_images)
    if "evaluation" not in run.progress or run.progress["evaluation"]["samples"] != args.samples:
        run.progress["evaluation"] = run.evaluate(data.test_images, args.samples, args.images)
        run.save()
    return run.progress


def _trained_by_pytorch(args: argparse.Namespace, name: str, seed: int, seconds: float) -> dict[str, Any]:
    output = args.folder / f"{name}-seed{seed}" / "pytorch.json"
    if not output.exists() or json.loads(output.read_text())["curve"][-1][1] < 0.8 * seconds:
        command = [sys.executable, str(HERE / "likelihood_pytorch.py"), name, args.data, str(output)]
        options = ["--seconds", str(seconds), "--threads", str(args.threads), "--seed", str(seed)]
        subprocess.run([*command, *options], env=os.environ | KEEP_MEMORY, check=True)
    result: dict[str, Any] = json.loads(output.read_text())
    return result


def table(results: dict[str, Any]) -> str:
    """Return a Markdown table of the rows."""
    lines = [
        "| row | NLL, nats | published | active units | images, samples | epochs | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        found = [seed["evaluation"] for seed in row["seeds"]]
        nlls = [each["nll"] for each in found]
        error = (
            f" ± {statistics.stdev(nlls):.2f}"
            if len(nlls) > 1
            else f" (standard error {found[0]['standard_error']:.2f})"
        )
        units = "/".join(str(each["active_units"]) for each in found)
        epochs, minutes = row["seeds"][0]["epochs"], row["seeds"][0]["seconds"] / 60
        lines.append(
            f"| {name} | {statistics.mean(nlls):.2f}{error} | {row['published']:.2f} ({row['source']}) | {units} | "
            f"{found[0]['images']}, {found[0]['samples']} | {epochs} | {minutes:.0f} |"
        )
    return "\n".join(lines)


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw each row's negative log likelihood over the time of training."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for i, (name, row) in enumerate(results.items()):
        for runs, style, label in ((row["seeds"], "-", name), (row.get("pytorch", []), ":", f"{name}, PyTorch")):
            for number, run in enumerate(runs):
                minutes, nlls = [point[1] / 60 for point in run["curve"]], [point[2] for point in run["curve"]]
                axes.plot(minutes, nlls, style, color=f"C{i}", label=label if number == 0 else None)
        axes.axhline(row["published"], color=f"C{i}", linewidth=0.8, alpha=0.5)
    lowest = min(point[2] for row in results.values() for run in row["seeds"] for point in run["curve"])
    axes.set(
        xscale="log",
        ylim=(lowest - 1, lowest + 20),
        xlabel="minutes of training",
        ylabel="negative log likelihood, nats",
    )
    axes.legend()
    figure.savefig(path, dpi=120)


def draw(model: Path, test: Any, path: Path, rows: int = 4, cols: int = 8) -> None:
    """Draw digits of the test set above their reconstructions, and samples beside them."""
    import matplotlib.pyplot as plt

    vae = cvae.load(model)
    digits = test[: rows * cols]
    pairs = np.stack([digits / 255, vae.reconstruct(digits)], axis=1)  # (rows * cols, 2, 28, 28, 1)
    pairs = pairs.reshape(rows, cols, 2, *digits.shape[1:]).swapaxes(1, 2)
    samples = vae.sample(2 * rows * cols, random_state=0)
    figure, sides = plt.subplots(1, 2, figsize=(10, 5.2), layout="constrained")
    titles = ("test digits above their reconstructions", "samples")
    for axes, images, title in zip(sides, (pairs, samples), titles, strict=True):
        images = images.reshape(2 * rows, cols, *digits.shape[1:])
        axes.imshow(np.hstack(np.hstack(images)), cmap="gray", vmin=0, vmax=1)
        axes.set_title(title)
        axes.axis("off")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
