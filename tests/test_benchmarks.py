"""The comparison with other frameworks: it runs, and compares only what computes the same."""

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import cvae

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
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
    """Run the smallest training case; the table's rows as lists of cells, and the JSON document."""
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
    ],
)
def test_wrong_arguments_are_refused(arguments, named):
    process = run("--quick", *arguments)
    assert process.returncode == 2
    assert named in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr


class FakeWorker:
    """Stands for a framework whose losses before and after training are given."""

    def __init__(self, variant, *losses):
        self.variant = variant
        self.threads = 1
        self.losses = list(losses)

    def build(self, model, batch, images, parameters):
        pass

    def call(self, method, *arguments):
        parameters = {"FC1.W": np.zeros((5, 256))}
        answers = {"parameters": parameters, "describe": "", "train": None, "calibrate": 20, "seconds": 2.0}
        return self.losses.pop(0) if method == "loss" else answers[method]


def test_only_frameworks_that_compute_the_same_are_measured(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    measure, peers, cases = (importlib.import_module(name) for name in ("measure", "peers", "cases"))
    own = FakeWorker(peers.CVAE, 547.0, 519.0)
    same = FakeWorker(peers.RIVALS[0], 547.001, 519.5)
    other_start = FakeWorker(peers.RIVALS[1], 547.1, 519.0)
    untrained = FakeWorker(peers.RIVALS[3], 547.0, 547.0)
    not_finite = FakeWorker(peers.RIVALS[4], 547.0, np.nan)

    workers = [own, same, other_start, untrained, not_finite]
    figures, notes = measure.compare(cases.CASES[0], workers, 3, tmp_path)

    assert [f.variant.label for f in figures] == ["cvae", "PyTorch"]
    assert [f.values for f in figures] == [[1280.0] * 3] * 2
    assert len(notes) == 5
    assert ["not measured" in note for note in notes] == [False, False, True, True, True]
