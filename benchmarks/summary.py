"""The findings of a run: training overall, scaling with threads, and the latency of a single image."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import geometric_mean
from typing import Any

import numpy as np
from cases import CASES
from measure import Figures

TRAINING = frozenset(case.name for case in CASES if case.work == "train")
REFERENCE = CASES[0].name
ONE_IMAGE = {
    case.name: case.name.removeprefix(f"{case.work}, ").removesuffix("batch 1").removesuffix(", ") or "default model"
    for case in CASES
    if case.work != "train" and case.batch == 1
}
"""The model's name by the name of the case."""


def strongest(figures: Sequence[Figures]) -> list[Figures]:
    """Return the figures of each framework's variant closest to cvae, for each case and number of threads."""
    best: dict[tuple[str, int | None, str], Figures] = {}
    for f in sorted((f for f in figures if f.ratios), key=lambda f: f.ratio_quartiles[1]):
        if f.variant.framework != "cvae":
            best.setdefault((f.case, f.threads, f.variant.framework), f)
    return [f for f in figures if f in best.values()]


def summarize(figures: Sequence[Figures]) -> dict[str, list[dict[str, Any]]]:
    """Return all findings by kind; a list is empty if the run did not measure what it requires."""
    return {"training": training(figures), "scaling": scaling(figures), "one_image": one_image(figures)}


def training(figures: Sequence[Figures]) -> list[dict[str, Any]]:
    """Return the geometric mean and the smallest of the training cases' median ratios, by number of threads.

    Each case, except for the reference case, which is reported by itself, counts once, against the variant of PyTorch
    that is closest to cvae in it.
    """
    ratios: dict[int | None, dict[str, float]] = defaultdict(dict)
    for f in strongest(figures):
        if f.case in TRAINING - {REFERENCE} and f.variant.framework == "pytorch":
            ratios[f.threads][f.case] = f.ratio_quartiles[1]
    return [
        {
            "threads": threads,
            "cases": len(by_case),
            "geometric_mean": geometric_mean(by_case.values()),
            "smallest": min(by_case.values()),
            "smallest_case": min(by_case, key=by_case.__getitem__),
        }
        for threads, by_case in ratios.items()
        if len(by_case) > 1
    ]


def scaling(figures: Sequence[Figures]) -> list[dict[str, Any]]:
    """Return the speed-up of training the default model from the fewest to the most threads.

    Each number of threads is represented by its fastest variant. Only cvae and PyTorch are included.
    """
    rates: dict[str, dict[int, float]] = defaultdict(dict)
    for f in figures:
        if f.case == REFERENCE and f.threads is not None and f.variant.framework in ("cvae", "pytorch"):
            by_threads = rates[f.variant.framework]
            by_threads[f.threads] = max(f.median, by_threads.get(f.threads, 0.0))
    return [
        {"framework": framework, "case": REFERENCE, "threads": [few, many], "ratio": rate[many] / rate[few]}
        for framework, rate in rates.items()
        if (few := min(rate)) < (many := max(rate))
    ]


def one_image(figures: Sequence[Figures]) -> list[dict[str, Any]]:
    """Return the total seconds to encode one image and decode one code, by model, number of threads and rival.

    A rival is the variant of PyTorch, or of ONNX Runtime, with the smallest total.
    """
    medians: dict[tuple[str, int | None, str, str], list[float]] = defaultdict(list)
    for f in figures:
        if f.case in ONE_IMAGE and f.variant.framework in ("cvae", "pytorch", "onnxruntime"):
            key = ONE_IMAGE[f.case], f.threads, f.variant.framework, f.variant.label
            medians[key].append(float(np.median(1 / np.array(f.values))))
    sums: dict[tuple[str, int | None], dict[str, tuple[float, str]]] = defaultdict(dict)
    for (model, threads, framework, label), seconds in medians.items():
        if len(seconds) == 2:
            by_framework = sums[model, threads]
            by_framework[framework] = min((sum(seconds), label), by_framework.get(framework, (math.inf, "")))
    found = []
    for (model, threads), by_framework in sums.items():
        own, _ = by_framework.pop("cvae", (0.0, ""))
        for seconds, rival in by_framework.values() if own else ():
            seconds_of = {"cvae_seconds": own, "rival_seconds": seconds}
            found.append({"model": model, "threads": threads, "rival": rival, **seconds_of, "ratio": seconds / own})
    return found
