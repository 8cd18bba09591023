"""Training on several processes, and in parts on one: the same bits everywhere, and no process left behind."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cvae

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
pytest.importorskip("mpi4py", reason="mpi4py is not installed")
pytestmark = pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")
PROGRAM = Path(__file__).parent / "processes_program.py"
LIMIT = 120  # seconds, far more than any of these takes: what hangs fails


def command(n, *arguments):
    return [MPIEXEC, "-n", str(n), sys.executable, *map(str, arguments)]


def answer(n, *arguments):
    """Return what a function of the program prints when n processes run it."""
    done = subprocess.run(command(n, PROGRAM, *arguments), capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def bits():
    return answer(1, "same_bits")


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_models_have_the_same_bits_on_any_number_of_processes(n, bits):
    assert answer(n, "same_bits") == bits


def test_parts_of_the_images_may_lie_in_different_processes():
    assert answer(1, "parts") == answer(3, "parts")


def test_accumulated_batches_have_the_same_bits_on_any_number_of_processes():
    assert answer(1, "accumulate") == answer(2, "accumulate")


def test_callbacks_of_the_first_process_change_the_model_of_all():
    found = answer(2, "callbacks")
    assert found["same"]
    assert found["called"] == [found["epochs"], 0]
    assert found["epochs"] == 4
    assert found["lr"] < 0.001


def test_without_a_seed_all_processes_have_the_model_of_the_first():
    assert answer(2, "seedless") == 1


def test_an_interrupted_training_goes_on_with_the_same_bits_on_another_number(tmp_path, bits):
    path = tmp_path / "model.safetensors"
    assert answer(4, "interrupted", path) == 2
    assert answer(1, "resumed", path) == answer(2, "resumed", path) == bits["auto"]


@pytest.mark.parametrize(
    ("where", "first", "last"),
    [
        ("argument", "ProcessFailed: process 1 of 2 failed: ValueError: batchsize", "ValueError: batchsize"),
        ("data", "ValueError: X must be the same in all processes", "ValueError: X must be the same in all processes"),
        ("step", "ProcessFailed: process 1 of 2 failed: MemoryError: no memory left", "MemoryError: no memory left"),
        ("callback", "OSError: the disk is full", "ProcessFailed: process 0 of 2 failed: OSError: the disk is full"),
        ("loss", "FloatingPointError: the loss became", "FloatingPointError: the loss became"),
    ],
)
def test_an_error_in_one_process_is_one_in_all(where, first, last):
    got = answer(2, "failing", where)
    assert got[0].startswith(first), got
    assert got[1].startswith(last), got


def test_a_process_that_is_killed_ends_all_and_leaves_a_checkpoint(tmp_path):
    path = tmp_path / "model.safetensors"
    job = subprocess.Popen(command(2, PROGRAM, "checkpoints", path), stderr=subprocess.PIPE, start_new_session=True)
    try:
        while not path.exists() or cvae.load(path)._position is None:
            time.sleep(0.05)
        os.kill(max(_processes_of(job.pid)), signal.SIGKILL)
        job.communicate(timeout=LIMIT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    assert job.returncode != 0
    vae = cvae.load(path)
    before = len(vae.history_.get("loss", ()))
    vae.partial_fit(cvae.datasets.load("mnist-sample").images[:90])
    assert len(vae.history_["loss"]) == before + 1


def _processes_of(pid):
    """Return the Python processes that a launcher has started, at any depth."""
    found = []
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        is_python = PROGRAM.name in Path(f"/proc/{child}/cmdline").read_text()
        found += ([child] if is_python else []) + _processes_of(child)
    return found


def test_the_command_trains_on_the_processes_of_a_launcher(tmp_path):
    arguments = ["--epochs", "1", "--seed", "0", "--batchsize", "512", "--optimizer", "Adam"]
    for n in (1, 2):
        run = [*command(n, "-m", "cvae", "train", "mnist-sample"), "-o", f"{n}.safetensors", *arguments]
        done = subprocess.run(run, capture_output=True, text=True, timeout=LIMIT, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"cvae: {n} process" in done.stderr
        assert done.stdout.count("wrote") == 1
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()
    done = subprocess.run(run, capture_output=True, text=True, timeout=LIMIT, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("cvae: error: the file 2.safetensors exists") == 1
    assert "Traceback" not in done.stderr
