"""The command: parse the arguments, measure, print and write the results."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import report
import whole_runs
from cases import CASES, Case
from measure import Figures, compare
from peers import CVAE, RIVALS, Variant
from summary import summarize
from worker import Worker

import cvae

ROUNDS = {"quick": 7, "default": 31, "full": 15}
REFERENCE_CASE = CASES[0]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; `variants`, `cases`, `runs`, `threads` and `rounds` are derived from it."""
    installed = [variant for variant in RIVALS if variant.is_installed]
    names = list(dict.fromkeys(variant.framework for variant in installed))
    parser = argparse.ArgumentParser(description="Compare cvae with other frameworks on this CPU.")
    mode = parser.add_mutually_exclusive_group()
    for name, text in (
        ("quick", "about a minute: a few cases on all CPUs, in few rounds"),
        ("full", "an hour or two: all cases, import time, sizes, memory; with --mnist also the time to reach an ELBO"),
    ):
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name, help=text)
    parser.set_defaults(mode="default")
    text = f"the frameworks to compare with (default: all that are installed, {', '.join(names) or 'none'})"
    parser.add_argument("--peers", metavar="A,B", default=",".join(names), help=text)
    parser.add_argument("--threads", metavar="N,M", help="the numbers of threads (default: 1 and all CPUs)")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of about 0.3 s each")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="only some cases, such as 'train, batch*'")
    parser.add_argument("--mnist", type=Path, metavar="DIR", help="a folder with MNIST's IDX files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a JSON file")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="plot the ratios")
    options = parser.parse_args(arguments)

    wanted = [name for name in options.peers.split(",") if name]
    if unknown := set(wanted) - set(names):
        parser.error(f"--peers must be among the installed {', '.join(names) or '(none)'}, got {', '.join(unknown)}")
    options.variants = [CVAE, *(variant for variant in installed if variant.framework in wanted)]
    options.threads = _numbers_of_threads(parser, options)
    _check_files(parser, options)
    options.rounds = ROUNDS[options.mode] if options.rounds is None else options.rounds
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    options.cases = [c for c in CASES if options.mode in c.modes and fnmatchcase(c.name, options.only)]
    runs = whole_runs.NAMES if options.mode == "full" else ()
    options.runs = [name for name in runs if fnmatchcase(name, options.only)]
    if not options.cases and not options.runs:
        parser.error(f"--only must match a case of this mode, got {options.only!r}")
    return options


def _numbers_of_threads(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[int]:
    if options.threads is None:
        all_cpus = cvae.get_num_threads()
        return [all_cpus] if options.mode == "quick" else sorted({1, all_cpus})
    try:
        numbers = [int(number) for number in options.threads.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        parser.error(f"--threads must be integers >= 1 separated by commas, got {options.threads!r}")
    return numbers


def _check_files(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Reject file arguments that would otherwise fail only after the measurements."""
    for name, file in (("--json", options.json), ("--plot", options.plot)):
        if file and not file.parent.is_dir():
            parser.error(f"{name} must be a file in an existing folder, got {file}")
    if options.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib, which is not installed")
    if options.mnist:
        try:
            options.mnist = cvae.datasets.load(options.mnist)
        except (OSError, ValueError) as error:
            parser.error(f"--mnist: {error}")
        if options.mnist.images.dtype != np.uint8 or options.mnist.test_images is None:
            parser.error(f"--mnist must hold uint8 training and test images, got {options.mnist}")


def suits(variant: Variant, case: Case, mode: str) -> bool:
    """Return whether a variant is measured in a case."""
    if not variant.can_build(case.model) or (case.work == "train" and not variant.trains):
        return False
    if variant.reference_case_only and (mode != "full" or case is not REFERENCE_CASE):
        return False
    return variant.max_batch is None or case.batch <= variant.max_batch


@contextmanager
def started(variants: Sequence[Variant], threads: int) -> Iterator[list[Worker]]:
    """Start a process for each variant; all are terminated at the end of the block."""
    with ExitStack() as stack:
        workers = []
        for variant in variants:
            workers.append(Worker(variant, threads))
            stack.callback(workers[-1].close)
        yield workers


def measure_cases(options: argparse.Namespace, folder: Path) -> tuple[list[Figures], list[str]]:
    """Measure all cases with all numbers of threads and print each when it is finished."""
    figures, notes = [], []
    used = [v for v in options.variants if any(suits(v, case, options.mode) for case in options.cases)]
    for threads in options.threads:
        with started(used, threads) as workers:
            for case in options.cases:
                chosen = [worker for worker in workers if suits(worker.variant, case, options.mode)]
                measured, checks = compare(case, chosen, options.rounds, folder)
                figures += measured
                notes += [f"{case.name}, threads {threads}: {line}" for line in checks]
                print(report.rows(measured), flush=True)
    return figures, notes


def measure_whole_runs(options: argparse.Namespace, folder: Path) -> whole_runs.Measured:
    """Measure what only the full mode does and print each result when it is available."""
    threads = max(options.threads)
    trainable = [v for v in options.variants if suits(v, REFERENCE_CASE, "default")]
    images = folder / "images.npy"
    digits = options.mnist or cvae.datasets.load("mnist-sample")
    np.save(images, np.resize(digits.images, (60_000, *digits.images.shape[1:])))

    def elbo() -> whole_runs.Measured:
        if options.mnist is None:
            return [], [f"{whole_runs.ELBO}: left out, because it needs --mnist"]
        test_images = np.divide(options.mnist.test_images, 255, dtype=np.float32)
        with started([v for v in options.variants if v in trainable or v.in_race], threads) as workers:
            return whole_runs.seconds_to_elbo(workers, images, test_images)

    runs: dict[str, Callable[[], whole_runs.Measured]] = {
        whole_runs.IMPORT: lambda: whole_runs.import_times(options.variants),
        whole_runs.SIZE: lambda: whole_runs.installed_sizes(options.variants),
        whole_runs.WHEEL: lambda: whole_runs.wheel_size(Path(__file__).parents[1], folder),
        whole_runs.MEMORY: lambda: whole_runs.peak_memories(trainable, threads, images),
        whole_runs.ELBO: elbo,
    }
    figures, notes = [], []
    for name in options.runs:
        measured, remarks = runs[name]()
        figures += measured
        notes += remarks
        if measured:
            print(report.rows(measured), flush=True)
    return figures, notes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a framework could not be measured or does not agree with cvae, otherwise 0."""
    options = parse_arguments(arguments)
    machine, versions = report.machine(), report.versions(options.variants)
    print(f"{report.describe(machine, versions)}\n\n{report.HEADER}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        figures, checks = measure_cases(options, Path(name))
        more_figures, remarks = measure_whole_runs(options, Path(name)) if options.runs else ([], [])
    figures += more_figures
    summary = summarize(figures)
    for line in report.conclusions(summary):
        print(f"\n{line}")
    for title, lines in (("Losses with the same weights, images and training steps", checks), ("Remarks", remarks)):
        if lines:
            print(f"\n{title}:\n")
            print("\n".join(f"- {line}" for line in lines))
    settings = {"mode": options.mode, "rounds": options.rounds, "threads": options.threads}
    if options.json:
        notes = {"checks": checks, "remarks": remarks}
        options.json.write_text(report.as_json(machine, versions, settings, notes, figures, summary))
    if options.plot:
        report.plot(figures, options.plot)
    return int(any("not measured" in line for line in (*checks, *remarks)))
