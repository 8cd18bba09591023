"""Trainings on several processes of which one is killed, stopped or fails at a random time: all end, and can go on.

    python -m pytest tests/long/failing_processes.py

The figure of the documentation is that of 50 runs.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cvae

RUNS = int(os.environ.get("CVAE_RUNS", "50"))
LIMIT = 30  # seconds for all processes to end
PROGRAM = Path(__file__).parents[1] / "model" / "processes_program.py"
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def processes_of(pid):
    """Return the processes of the program that a launcher has started, at any depth."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            is_program = PROGRAM.name in Path(f"/proc/{child}/cmdline").read_text()
            found += ([child] if is_program else []) + processes_of(child)
    return found


@pytest.mark.parametrize("run", range(RUNS))
def test_all_processes_end_and_the_last_checkpoint_goes_on(run, tmp_path):
    chance = random.Random(run)
    n, delay = chance.choice([2, 3, 4]), chance.uniform(0, 2)
    how = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, "error"])
    path, victim = tmp_path / "model.safetensors", chance.randrange(n)
    failing = [victim, delay] if how == "error" else []
    command = [MPIEXEC, "-n", str(n), sys.executable, PROGRAM, "checkpoints", path, *failing]
    job = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        while not path.exists():
            assert job.poll() is None, job.communicate()
            time.sleep(0.02)
        if how != "error":
            time.sleep(delay)
            os.kill(sorted(processes_of(job.pid))[victim], how)
        _, errors = job.communicate(timeout=LIMIT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    assert job.returncode != 0
    assert how != "error" or f"process {victim} of {n} failed: MemoryError: no memory left" in errors
    vae = cvae.load(path)
    before = len(vae.history_.get("loss", ()))
    vae.partial_fit(cvae.datasets.load("mnist-sample").images[:90])
    assert len(vae.history_["loss"]) == before + 1, json.dumps(vae.history_)
