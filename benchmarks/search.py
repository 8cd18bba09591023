"""Measure how many models a second a search trains, one after another and several at once.

    python benchmarks/search.py [--jobs 2] [--rounds 5] [--json FILE]

GridSearchCV trains 20 models of the built-in digits: one after another, each on all CPUs, and then `--jobs` at once by
joblib's loky and threading, in turn. The table has the median of the rounds, and of their ratios to one after another;
scores must be equal to the last bit. The last column says what a fit costs besides its epochs: checking, making layers,
drawing weights, recording programs.
"""

import argparse
import json
import os
import statistics
import sys
import time
from contextlib import nullcontext

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import cvae

GRID = {"T": [2, 4, 8, 16, 32], "lr": [0.001, 0.002]}  # for two folds each
MODELS = {
    "dense layers": lambda **how: cvae.VAE("mlp", **how),
    "strided convolutions": lambda **how: cvae.VAE(**how),
    "BernoulliVAE": lambda **how: cvae.BernoulliVAE(optimizer="Adam", **how),
}


def ways(jobs: int) -> dict[str, dict[str, object] | None]:
    """Return joblib's settings by name; None for one model after another."""
    return {
        "one after another": None,
        f"loky, n_jobs={jobs}": {"backend": "loky", "n_jobs": jobs},
        f"threading, n_jobs={jobs}": {"backend": "threading", "n_jobs": jobs},
    }


def search(model: cvae.VAE, images: np.ndarray, settings: dict[str, object] | None) -> tuple[float, bytes]:
    """Return the seconds of a search and its scores."""
    with nullcontext() if settings is None else joblib.parallel_config(**settings):
        start = time.perf_counter()
        found = GridSearchCV(model, GRID, cv=2, refit=False).fit(images)
        seconds = time.perf_counter() - start
    scores = [found.cv_results_[f"split{i}_test_score"] for i in range(2)]
    return seconds, np.stack(scores).tobytes()


def around_epochs(model: cvae.VAE, images: np.ndarray) -> tuple[float, float]:
    """Return the milliseconds of a fit outside of its epochs, and their share of it."""
    outside, whole = [], []
    for _ in range(5):
        start = time.perf_counter()
        fitted = clone(model).fit(images)
        whole.append(time.perf_counter() - start)
        outside.append(whole[-1] - sum(fitted.history_["seconds"]))
    return 1e3 * statistics.median(outside), statistics.median(outside) / statistics.median(whole)


def measure(name: str, images: np.ndarray, epochs: int, jobs: int, rounds: int) -> dict[str, object]:
    """Measure a model in all ways, in turn; raise SystemExit if a score differs."""
    model = MODELS[name](n_epochs=epochs, random_state=0, verbose=False)
    seconds: dict[str, list[float]] = {way: [] for way in ways(jobs)}
    scores = set()
    for number in range(rounds + 1):
        for way, settings in ways(jobs).items():
            took, found = search(model, images, settings)
            scores.add(found)
            if number:  # the first round starts workers
                seconds[way].append(took)
    if len(scores) != 1:
        raise SystemExit(f"{name}: scores differ between backends")
    fixed, share = around_epochs(model, images)
    return {"model": name, "seconds": seconds, "fit_milliseconds_outside_epochs": fixed, "share_of_fit": share}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=max(2, os.cpu_count() or 2), help="models at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--only", choices=[*MODELS], help="one of the models")
    parser.add_argument("--json", help="where to write the seconds of all rounds")
    args = parser.parse_args()
    images, results = cvae.datasets.load("mnist-sample").images[: args.images], []
    count = 2 * len(GRID["T"]) * len(GRID["lr"])
    print(f"{count} models, {len(images) // 2} images each, {args.epochs} epochs, {cvae.get_num_threads()} threads\n")
    print("| model | way | models/s | against one after another | outside epochs, a fit |")
    print("|---|---|---|---|---|")
    for name in MODELS if args.only is None else [args.only]:
        result = measure(name, images, args.epochs, args.jobs, args.rounds)
        results.append(result)
        first, *_ = result["seconds"].values()
        outside = f"{result['fit_milliseconds_outside_epochs']:.1f} ms, {result['share_of_fit']:.0%}"
        for way, seconds in result["seconds"].items():
            ratio = statistics.median(alone / took for alone, took in zip(first, seconds, strict=True))
            print(
                f"| {name} | {way} | {count / statistics.median(seconds):.2f} | {ratio:.2f}x | {outside} |", flush=True
            )
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
