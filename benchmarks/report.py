"""The output: the description of the machine, the Markdown table, the JSON file and the plot."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from measure import Figures
from peers import RIVALS, Variant
from summary import REFERENCE, strongest

from cvae._kernels import dispatch

HEADER = (
    "| case | threads | framework | its median | cvae's median | cvae is better by (quartiles) |\n"
    "|---|---:|---|---:|---:|---:|"
)
FRAMEWORKS = tuple(dict.fromkeys(variant.framework for variant in RIVALS))
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00")  # Okabe and Ito 2008
MARKERS = "osD^v"


def machine() -> dict[str, Any]:
    """Return a description of the CPU, its instruction sets, the number of available CPUs, and the system."""
    cpuinfo = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        fields = {name.strip(): value.strip() for name, _, value in reversed(list(lines))}
    flags = fields.get("flags", "").split()
    affinity = getattr(os, "sched_getaffinity", None)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "cpus": len(affinity(0)) if affinity else os.cpu_count(),
        "instruction_sets": [flag for flag in ("sse4_2", "avx2", "fma", "avx512f") if flag in flags],
        "cvae_uses": dispatch.instruction_set(),
        "load_average_before": load,
        "system": platform.platform(),
    }


def versions(variants: Sequence[Variant]) -> dict[str, str]:
    """Return the versions of Python, NumPy and the compared packages."""
    distributions = metadata.packages_distributions()
    found = {"python": platform.python_version()}
    for package in ("numpy", *(package for variant in variants for package in variant.packages)):
        names = distributions.get(package, [])
        found[package] = metadata.version(names[0]) if names else "not installed, from this folder"
    return found


def describe(machine: dict[str, Any], versions: dict[str, str]) -> str:
    """Format machine and versions as two lines of text."""
    sets = ", ".join(machine["instruction_sets"]) or "unknown"
    load = machine["load_average_before"]
    return (
        f"Machine: {machine['cpu']}, {machine['cpus']} CPUs, instruction sets {sets} "
        f"(cvae uses {machine['cvae_uses']}), {machine['system']}"
        f"{'' if load is None else f', load average before {load:.2f}'}\n"
        f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}"
    )


def rows(figures: Sequence[Figures]) -> str:
    """Format the rows of the Markdown table for one case, the strongest rival first; cvae alone if it has none."""
    own = next((f for f in figures if f.variant.framework == "cvae"), None)
    rivals = [f for f in figures if f is not own]
    if own is None or not rivals:
        return "\n".join(f"| {f.case} | {f.threads or ''} | {f.variant.label} | {_text(f)} | | |" for f in figures)
    rivals.sort(key=lambda f: f.ratio_quartiles[1])
    return "\n".join(
        f"| {f.case} | {f.threads or ''} | {f.variant.label} | {_text(f)} | {_text(own)} | {_factor(f)} |"
        for f in rivals
    )


def _text(figures: Figures) -> str:
    return f"{_three_digits(figures.median)} {figures.unit}"


def _factor(figures: Figures) -> str:
    low, median, high = (_three_digits(ratio) for ratio in figures.ratio_quartiles)
    return f"{median}x" if len(figures.ratios) == 1 else f"{median}x ({low} to {high})"


def _three_digits(value: float) -> str:
    """Format with three significant digits, or as an integer with separated thousands if it has more."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{decimals}f}"


def conclusions(summary: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Format the findings of `summary.summarize`, a line for each kind."""
    texts = {
        f"Training but {REFERENCE!r}, against PyTorch's better mode in each case": [
            f"{_three_digits(s['geometric_mean'])}x with {_threads(s['threads'])} (geometric mean of {s['cases']} "
            f"cases, the smallest {_three_digits(s['smallest'])}x: {s['smallest_case']!r})"
            for s in summary["training"]
        ],
        "Encode and decode one image": [
            f"{s['model']} {_three_digits(s['cvae_seconds'] * 1e6)} µs against "
            f"{_three_digits(s['rival_seconds'] * 1e6)} µs of {s['rival']}, "
            f"{_three_digits(s['ratio'])}x with {_threads(s['threads'])}"
            for s in summary["one_image"]
        ],
    }
    lines = [f"{subject}: {'; '.join(parts)}." for subject, parts in texts.items() if parts]
    if scaling := summary["scaling"]:
        few, many = scaling[0]["threads"]
        names = {"cvae": "cvae", "pytorch": "PyTorch"}
        parts = [f"{names[s['framework']]} {_three_digits(s['ratio'])}x" for s in scaling]
        lines.append(f"{_threads(many)} against {few} in {scaling[0]['case']!r}: {', '.join(parts)}.")
    return lines


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"


def as_json(
    machine: dict[str, Any],
    versions: dict[str, str],
    settings: dict[str, Any],
    notes: dict[str, list[str]],
    figures: Sequence[Figures],
    summary: dict[str, list[dict[str, Any]]],
) -> str:
    """Format all measurements, including the figures of each round, as JSON; `notes` has lists of lines by subject."""
    results = [
        {
            "case": f.case,
            "framework": f.variant.framework,
            "label": f.variant.label,
            "threads": f.threads,
            "unit": f.unit,
            "median": f.median,
            "ratio_quartiles": f.ratio_quartiles if f.ratios else None,
            "values": f.values,
            "ratios": f.ratios,
        }
        for f in figures
    ]
    document = {
        "machine": machine,
        "versions": versions,
        "settings": settings,
        **notes,
        "results": results,
        "summary": summary,
    }
    return json.dumps(document, indent=1)


def plot(figures: Sequence[Figures], path: Path) -> None:
    """Plot the ratios of cvae to the strongest variant of each framework.

    There is a row per case and a panel per number of threads.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rivals = strongest(figures)
    cases = list(dict.fromkeys(f.case for f in rivals))
    panels: list[int | None] = [*sorted({f.threads for f in rivals if f.threads})] or [None]
    figure = Figure(figsize=(3 + 3.5 * len(panels), 1.8 + 0.3 * len(cases)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, threads in zip(grid, panels, strict=True):
        shown = [f for f in rivals if f.threads == threads or (f.threads is None and threads == panels[-1])]
        _draw_panel(axes, shown, cases)
        axes.set_title("" if threads is None else _threads(threads), fontsize=10)
    handles = {h.get_label(): h for axes in grid for h in axes.get_legend_handles_labels()[0]}
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("How many times better cvae is than other frameworks on the same CPU")
    figure.savefig(path, dpi=120)


def _draw_panel(axes: Any, figures: Sequence[Figures], cases: Sequence[str]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    for f in figures:
        low, median, high = f.ratio_quartiles
        framework = FRAMEWORKS.index(f.variant.framework)
        axes.errorbar(
            median,
            cases.index(f.case),
            xerr=[[median - low], [high - median]],
            marker=MARKERS[framework],
            color=COLOURS[framework],
            label=f.variant.label.split(",")[0],
        )
    for row, case in enumerate(cases):
        nearest = min((f.ratio_quartiles for f in figures if f.case == case), default=None)
        if nearest:
            text = f"{_three_digits(nearest[1])}x  "
            axes.text(nearest[0], row, text, ha="right", va="center", fontsize=8, backgroundcolor="white", zorder=1.5)
    quartiles = [q for f in figures for q in f.ratio_quartiles] or [1.0]
    wide = max(quartiles) > 60
    axes.set_xscale("log")
    axes.set_xlim((0.2 if wide else 0.5) * min(1, *quartiles), max(3.0, 1.5 * max(quartiles)))
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.axvline(1, color="0.3", linewidth=1, zorder=1)
    axes.set_yticks(range(len(cases)), cases, fontsize=9)
    axes.set_ylim(len(cases) - 0.5, -0.5)
    axes.grid(axis="both", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
