"""The comparison with other frameworks: it runs, and compares only frameworks that agree with cvae."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import cvae

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROW = "| train, batch 1 | 1 | "


def run(*arguments):
    """Run the command with the same cvae as the tests."""
    path = os.pathsep.join([str(Path(cvae.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, BENCHMARKS / "compare.py", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_smallest(tmp_path, peers):
    """Run the smallest training case; return the table's rows as lists of cells, and the JSON document."""
    file = tmp_path / "results.json"
    case = ["--quick", "--only", "train, batch 1", "--threads", 1, "--rounds", 2]
    process = run(*case, "--peers", peers, "--json", file, "--plot", tmp_path / "ratios.png")
    assert process.returncode == 0, process.stdout + process.stderr
    lines = process.stdout.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith(ROW)]
    return rows, json.loads(file.read_text())


@pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch to compare with")
def test_smallest_case_against_pytorch(tmp_path):
    rows, document = run_smallest(tmp_path, "pytorch")

    own, *rivals = document["results"]
    assert own["label"] == "cvae"
    assert {rival["label"] for rival in rivals} == {"PyTorch", "PyTorch, channels_last"}
    for result in document["results"]:
        assert (result["case"], result["threads"], result["unit"]) == ("train, batch 1", 1, "images/s")
        assert len(result["values"]) == 2
        assert min(result["values"]) > 0
        assert result["ratios"] == pytest.approx([a / b for a, b in zip(own["values"], result["values"], strict=True)])
        assert result["median"] == pytest.approx(np.median(result["values"]))
        assert result["ratio_quartiles"] == pytest.approx(np.quantile(result["ratios"], [0.25, 0.5, 0.75]))
    assert document["machine"]["cpus"] >= 1
    assert document["versions"].keys() >= {"python", "numpy", "cvae", "torch"}
    assert document["summary"].keys() == {"training", "scaling", "one_image"}

    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")
    assert {row[2] for row in rows} == {rival["label"] for rival in rivals}
    for row in rows:
        assert row[3].endswith(" images/s")
        assert row[4].endswith(" images/s")
        assert "x (" in row[5]


def test_without_other_frameworks_cvae_is_measured_alone(tmp_path):
    rows, document = run_smallest(tmp_path, "")
    assert [row[2] for row in rows] == ["cvae"]
    assert [result["label"] for result in document["results"]] == ["cvae"]
    (check,) = document["checks"]
    assert "1,060,762 parameters" in check


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--peers", "abacus"], "abacus"),
        (["--only", "train, batch 0"], "batch 0"),
        (["--threads", "two"], "two"),
        (["--rounds", "0"], "0"),
        (["--json", "no/such/folder/results.json"], "no/such/folder"),
        (["--mnist", "no/such/digits"], "no/such/digits"),
    ],
)
def test_wrong_arguments_are_refused(arguments, named):
    process = run("--quick", *arguments)
    assert process.returncode == 2
    assert named in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr


class FakeWorker:
    """A stand-in for a framework with predefined losses, outputs or errors."""

    def __init__(self, variant, *losses, output=(1.0, 1.0, 1.0)):
        self.variant = variant
        self.outputs = [np.array(output)]
        self.threads = 1
        self.losses = list(losses)

    def build(self, model, batch, images, parameters, seed=0):
        pass

    def call(self, method, *arguments):
        parameters = {"FC1.W": np.zeros((5, 256))}
        answers = {"parameters": parameters, "describe": "", "train": None, "calibrate": 20, "seconds": 2.0}
        answers |= {"layers": None, "outputs": self.outputs}
        answer = self.losses.pop(0) if method == "loss" else answers[method]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_only_frameworks_that_compute_the_same_are_measured(tmp_path, modules):
    measure, peers, cases = modules("measure", "peers", "cases")
    own = FakeWorker(peers.CVAE, 547.0, 519.0)
    same = FakeWorker(peers.RIVALS[0], 547.001, 519.5)
    other_start = FakeWorker(peers.RIVALS[1], 547.1, 519.0)
    untrained = FakeWorker(peers.RIVALS[4], 547.0, 547.0)
    not_finite = FakeWorker(peers.RIVALS[5], 547.0, np.nan)

    workers = [own, same, other_start, untrained, not_finite]
    figures, notes = measure.compare(cases.CASES[0], workers, 3, tmp_path)

    assert [f.variant.label for f in figures] == ["cvae", "PyTorch"]
    assert [f.values for f in figures] == [[1280.0] * 3] * 2
    assert len(notes) == 5
    assert ["not measured" in note for note in notes] == [False, False, True, True, True]


def test_what_cannot_train_is_measured_if_its_outputs_are_the_same(tmp_path, modules):
    measure, peers, cases = modules("measure", "peers", "cases")
    runtime = peers.RIVALS[-1]
    assert not runtime.trains
    own = FakeWorker(peers.CVAE, 547.0, 519.0)
    same = FakeWorker(runtime, output=(1.0, 1.0, 1 + 9e-6))
    other = FakeWorker(runtime, output=(1.0, 1.0, 1 + 2e-5))
    not_finite = FakeWorker(runtime, output=(1.0, np.nan, 1.0))

    case = next(case for case in cases.CASES if case.name == "encode, batch 1")
    figures, notes = measure.compare(case, [own, same, other, not_finite], 3, tmp_path)

    assert [f.variant.label for f in figures] == ["cvae", "ONNX Runtime"]
    assert ["not measured" in note for note in notes] == [False, False, True, True]


def test_cases_are_measured_with_the_frameworks_that_have_them(modules):
    command, peers, cases = modules("command", "peers", "cases")

    def frameworks(work, model):
        case = cases.Case("a case", work, 1, model)
        return {v.framework for v in (peers.CVAE, *peers.RIVALS) if command.suits(v, case, "full")}

    every = {"cvae", "pytorch", "jax", "keras", "numpy-ml", "onnxruntime"}
    assert frameworks("train", cases.Model()) == every - {"onnxruntime"}
    assert frameworks("decode", cases.Model()) == every
    assert frameworks("train", cases.DENSE) == {"cvae", "pytorch"}
    assert frameworks("encode", cases.DENSE) == {"cvae", "pytorch", "onnxruntime"}


def test_bytes_train_like_the_same_images_as_floats(tmp_path, modules):
    peers, cases, worker, whole_runs = modules("peers", "cases", "worker", "whole_runs")
    model = cases.Model(image_shape=(12, 12, 1), kernel=3)
    digits = np.random.default_rng(0).integers(0, 100, (96, 12, 12, 1), np.uint8)
    floats = digits.astype(np.float32) / 255
    np.save(tmp_path / "bytes.npy", digits)
    np.save(tmp_path / "floats.npy", floats)
    noise = np.zeros((96, model.n_codes), np.float32)
    installed = [v for v in (peers.CVAE, *peers.RIVALS) if v.is_installed and v.trains and v.framework != "numpy-ml"]
    parameters = None
    for variant in whole_runs.one_of_each(installed):
        process = worker.Worker(variant, 1)
        try:
            losses = []
            for name in ("bytes", "floats"):
                process.build(model, 32, tmp_path / f"{name}.npy", parameters, seed=3)
                parameters = parameters or process.call("parameters")
                before = process.call("loss", floats, noise)
                process.call("train", 6)
                process.call("encode")
                losses.append(process.call("loss", floats, noise))
        finally:
            process.close()
        assert losses[0] == pytest.approx(losses[1], rel=1e-5), variant.label
        assert max(losses) < before - 0.1, variant.label


def race(modules, tmp_path, monkeypatch, *losses_of_each):
    """Measure the seconds to an ELBO of -145 for two seeds, with at most two evaluations each."""
    whole_runs, peers = modules("whole_runs", "peers")
    for name, value in {"ELBO_SEEDS": (0, 1), "ELBO_STEPS": 1, "ELBO_EPOCHS": 1}.items():
        monkeypatch.setattr(whole_runs, name, value)
    np.save(tmp_path / "images.npy", np.zeros((2 * whole_runs.BATCH, 1), np.uint8))
    variants = (peers.CVAE, *peers.RIVALS)
    workers = [FakeWorker(variant, *losses) for variant, losses in zip(variants, losses_of_each, strict=False)]
    figures, notes = whole_runs.seconds_to_elbo(workers, tmp_path / "images.npy", np.zeros((10, 1)))
    return {f.variant.label: f for f in figures}, notes


def test_seconds_to_an_elbo_are_told_for_each_seed(tmp_path, modules, monkeypatch):
    figures, notes = race(modules, tmp_path, monkeypatch, [146.0, 145.0, 144.0], [150.0, 140.0, 150.0, 140.0])
    assert list(figures) == ["cvae", "PyTorch"]
    assert [len(f.values) for f in figures.values()] == [2, 2]
    assert [len(f.ratios) for f in figures.values()] == [2, 2]
    assert notes == []


def test_a_seed_that_one_arrives_too_late_with_counts_for_none(tmp_path, modules, monkeypatch):
    losses = [140.0, 140.0], [150.0, 150.0, 140.0], [150.0] * 4
    figures, notes = race(modules, tmp_path, monkeypatch, *losses)
    assert list(figures) == ["cvae", "PyTorch"]
    assert [len(f.values) for f in figures.values()] == [1, 1]
    late, dropped = notes
    assert "PyTorch, channels_last is left out" in late
    assert "seed 0 is discarded, as PyTorch did not reach it" in dropped


def test_a_framework_that_fails_in_the_race_is_named(tmp_path, modules, monkeypatch):
    (worker,) = modules("worker")
    failure = worker.WorkerError("out of memory")
    figures, notes = race(modules, tmp_path, monkeypatch, [140.0, 140.0], [failure, failure])
    assert list(figures) == ["cvae"]
    assert "PyTorch: not measured: out of memory" in notes[0]


@pytest.mark.parametrize("missing", ["", "pip"])
def test_wheel_is_built_from_a_clean_copy_of_the_sources(tmp_path, modules, monkeypatch, missing):
    (whole_runs,) = modules("whole_runs")
    source, folder = tmp_path / "tree", tmp_path / "out"
    for file in ("setup.py", "cvae/module.py", "cvae/module.so", "build/old.o", ".git/config"):
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).touch()
    folder.mkdir()

    def build(command, **_):
        copied = {p.relative_to(command[-1]).as_posix() for p in Path(command[-1]).rglob("*") if p.is_file()}
        assert copied == {"setup.py", "cvae/module.py"}
        Path(command[command.index("--wheel-dir") + 1], "cvae.whl").write_bytes(bytes(2_000_000))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(whole_runs.subprocess, "run", build)
    monkeypatch.setattr(whole_runs.util, "find_spec", lambda name: None if name == missing else name)
    figures, notes = whole_runs.wheel_size(source, folder)
    assert [(f.variant.label, f.values, f.unit) for f in figures] == ([] if missing else [("cvae", [2.0], "MB")])
    assert notes == ([f"wheel size: left out, because {missing} cannot be imported"] if missing else [])


def test_summary_takes_the_better_pytorch_of_each_case(modules):
    measure, peers, summary, report = modules("measure", "peers", "summary", "report")
    figures = []
    for case, threads, *rates in (
        ("train, batch 128", 1, 800.0, 200.0, 400.0),
        ("train, batch 1", 1, 800.0, 100.0, 50.0),
        ("train, batch 16", 1, 800.0, 100.0, 400.0),
        ("encode, batch 1", 1, 1000.0, 500.0, 250.0),
        ("decode, batch 1", 1, 1000.0, 250.0, 500.0 / 3),
        ("train, batch 128", 2, 1200.0, 600.0, 500.0),
    ):
        variants = (peers.CVAE, *peers.RIVALS[:2])
        measured = [measure.Figures(case, v, threads, "images/s", [r]) for v, r in zip(variants, rates, strict=True)]
        figures += measure.add_ratios(measured)
    found = summary.summarize(figures)

    (training,) = found["training"]
    assert training["geometric_mean"] == pytest.approx(4)  # of 8 and 2
    assert (training["threads"], training["cases"]) == (1, 2)
    assert (training["smallest"], training["smallest_case"]) == (2, "train, batch 16")
    assert {s["framework"]: s["ratio"] for s in found["scaling"]} == {"cvae": 1.5, "pytorch": 1.5}
    (one_image,) = found["one_image"]
    assert (one_image["model"], one_image["rival"]) == ("default model", "PyTorch")
    assert one_image["cvae_seconds"] == pytest.approx(0.002)
    assert one_image["rival_seconds"] == pytest.approx(0.006)
    lines = report.conclusions(found)
    assert "4.00x with 1 thread" in lines[0]
    assert "3.00x with 1 thread" in lines[1]
    assert lines[2] == "2 threads against 1 in 'train, batch 128': cvae 1.50x, PyTorch 1.50x."
    assert report.conclusions(summary.summarize([])) == []


def test_summary_tells_the_latency_of_each_model_against_each_rival(modules):
    measure, peers, summary, report = modules("measure", "peers", "summary", "report")
    variants = (peers.CVAE, *peers.RIVALS[:2], peers.RIVALS[-1])
    figures = [
        measure.Figures(case, variant, 2, "images/s", [rate])
        for case in ("encode, World Models, batch 1", "decode, World Models, batch 1")
        for variant, rate in zip(variants, (1000.0, 500.0, 250.0, 2000.0), strict=True)
    ]
    found = summary.summarize(figures)["one_image"]
    assert [(s["model"], s["threads"], s["rival"], s["ratio"]) for s in found] == [
        ("World Models", 2, "PyTorch", pytest.approx(2)),
        ("World Models", 2, "ONNX Runtime", pytest.approx(0.5)),
    ]
    (line,) = report.conclusions({"training": [], "scaling": [], "one_image": found})
    assert "World Models 2,000 µs against 4,000 µs of PyTorch, 2.00x with 2 threads" in line


def test_training_is_compared_in_many_configurations(modules):
    (cases,) = modules("cases")
    names = [case.name for case in cases.CASES]
    configurations = {(c.batch, c.model) for c in cases.CASES if c.work == "train" and "full" in c.modes}
    assert len(set(names)) == len(names)
    assert len(configurations - {(128, cases.Model())}) >= 12
