"""Predict how training scales, from the pieces of a step measured on one thread.

    python benchmarks/scaling.py [--batch 128 512 2048] [--plot docs/scaling.png] [--json FILE]

times every piece of every stage of a step of the default model, and replays the step for 1 to 64 threads, whose shares
of the pieces follow from program.pyx, and for 1 to 256 MPI ranks, with a model of the network. On one and two threads,
steps are also measured, in turn with the pieces, and the error of the prediction is printed.
"""

import argparse
import json
import os
import statistics
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
import replay
from stages import QUANTILE, measure_region, measure_step, measure_steps

import cvae

THREADS = (1, 2, 4, 8, 16, 32, 64)
MOST = THREADS[-1]
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STEPS = 4  # of a batch size in each round


def measure(batch: int, rounds: int) -> tuple[replay.Step, dict[int, float]]:
    """Return a step of the default model and, by the number of threads, the seconds that steps take on them."""
    images = np.random.default_rng(0).random((STEPS * batch, 28, 28, 1), dtype=np.float32)
    model = cvae.BernoulliVAE(random_state=0, verbose=False)
    possible = [n for n in (1, 2) if n <= (os.cpu_count() or 1)]
    seconds: dict[int, list[float]] = {n: [] for n in possible}
    measure_steps(model, images, batch, 1)
    for _ in range(rounds):
        for n, found in seconds.items():
            found += measure_steps(model, images, batch, n)
    step = measure_step(cvae.BernoulliVAE(random_state=0, verbose=False), images, batch, THREADS, rounds)
    for _ in range(rounds):
        for n, found in seconds.items():
            found += measure_steps(model, images, batch, n)
    return step, {n: float(np.quantile(found, QUANTILE)) for n, found in seconds.items()}


def print_threads(step: replay.Step, measured: dict[int, float], region: float) -> None:
    """Print efficiency, what limits it, and the error of the prediction."""
    print(f"\n## Batches of {step.batch}: {len(step.stages)} stages, {1e3 * step.outside:.2f} ms outside of programs\n")
    print("| threads | ms a step | measured | error | efficiency | lost most by | and by |")
    print("|---|---|---|---|---|---|---|")
    for n in THREADS:
        seconds = replay.step_seconds(step, n, region)
        known = f"{1e3 * measured[n]:.2f} | {seconds / measured[n] - 1:+.0%}" if n in measured else " | "
        first, second = (
            [f"{name}, {share:.0%}" for name, share in replay.losses(step, n, region)[:2]] if n > 1 else ("", "")
        )
        print(
            f"| {n} | {1e3 * seconds:.2f} | {known} | {replay.efficiency(step, n, region):.2f} | {first} | {second} |"
        )


def print_ranks(step: replay.Step, n_threads: int, region: float) -> None:
    """Print the efficiency of weak scaling: `step.batch` images for each rank."""
    nbytes = sum(step.gradients.values())
    title = f"{step.batch} images and {n_threads} thread{'s' if n_threads > 1 else ''} a rank"
    print(f"\n## MPI, {title}, {nbytes / 1e6:.1f} MB of gradients\n")
    print("| ranks |", " | ".join(f"{network.name} | overlapped" for network in replay.NETWORKS), "|")
    print("|---" * (1 + 2 * len(replay.NETWORKS)) + "|")
    for ranks in RANKS:
        cells = [
            f"{value:.2f}" for network in replay.NETWORKS for value in weak(step, n_threads, region, ranks, network)
        ]
        print(f"| {ranks} |", " | ".join(cells), "|")


def weak(step: replay.Step, n_threads: int, region: float, ranks: int, network: replay.Network) -> tuple[float, float]:
    """Return the efficiency of ranks that each have a batch: gradients summed after the backward pass, or during it."""
    one = replay.step_seconds(step, n_threads, region)
    first, second = (
        one / replay.rank_seconds(step, n_threads, region, ranks, network, overlaps=overlaps)
        for overlaps in (False, True)
    )
    return first, second


def print_stages(step: replay.Step) -> None:
    """Print pieces and times of all stages."""
    print(f"\n## The stages on {MOST} threads, batches of {step.batch}\n")
    print("| stage | pieces | ms, all together | longest, µs |")
    print("|---|---|---|---|")
    for stage in step.stages:
        count = "1 thread" if stage.alone else f"{MOST} shares" if stage.shares else len(stage.pieces[MOST])
        total, longest = stage.prepare[MOST] + stage.pieces[MOST].sum(), stage.pieces[MOST].max(initial=0)
        print(f"| {stage.name} | {count} | {1e3 * total:.3f} | {1e6 * longest:.0f} |")


def plot(path: str, steps: list[replay.Step], region: float) -> None:
    """Draw both kinds of efficiency."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for step in steps:
        left.plot(
            THREADS, [replay.efficiency(step, n, region) for n in THREADS], ".-", label=f"batches of {step.batch}"
        )
    left.set(xlabel="threads", ylabel="efficiency", title="One process")
    step = min(steps, key=lambda each: abs(each.batch - 512))
    for network in replay.NETWORKS:
        values = [weak(step, 1, region, ranks, network)[1] for ranks in RANKS]
        right.plot(RANKS, values, ".-", label=network.name)
    right.set(xlabel="ranks of one thread", title=f"MPI, {step.batch} images a rank")
    for axes, ticks in ((left, THREADS), (right, RANKS)):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_ylim(0, 1.05)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 512, 2048])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--region", type=float, help="µs that it costs to share a stage among two threads; else measured"
    )
    parser.add_argument("--stages", action="store_true", help="also print all stages")
    parser.add_argument("--plot", help="a picture to draw")
    parser.add_argument("--json", help="where to write all times")
    args = parser.parse_args()
    several = (os.cpu_count() or 1) > 1
    regions = [measure_region() for _ in range(3)] if several and args.region is None else [1e-6 * (args.region or 1)]
    region = statistics.median(regions)
    print(f"Sharing a stage among two threads costs {1e6 * region:.1f} µs, among n that times log2(n)")
    steps, document = [], {"region": region, "steps": []}
    for batch in args.batch:
        step, measured = measure(batch, args.rounds)
        steps.append(step)
        document["steps"].append({**asdict(step), "measured": measured})
        print_threads(step, measured, region)
    for step in steps:
        print_ranks(step, 1, region)
        if args.stages:
            print_stages(step)
    if args.plot:
        plot(args.plot, steps, region)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(document, file, default=_plain)
    return 0


def _plain(value: Any) -> Any:
    return value.tolist()


if __name__ == "__main__":
    sys.exit(main())
