"""The command as a process, for the tests of its subcommands."""

import os
import subprocess
import sys
from pathlib import Path

import cvae

# One thread, so that threads of processes that share the cores do not wait for each other.
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(cvae.__file__).parents[1]),
}
SMALL = (  # settings of a model that trains within moments
    *("--latent-dim", "16", "--enc-conv1-out-ch", "4", "--enc-conv2-out-ch", "4"),
    *("--enc-conv1-kernel-shape", "3x3", "--enc-conv2-kernel-shape", "3", "--seed", "1"),
)


def start(*arguments, cwd, **options):
    command = [sys.executable, "-m", "cvae", *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT} | options
    return subprocess.Popen(command, cwd=cwd, text=True, **options)


def run(*arguments, cwd, **options):
    """Run a command that must succeed and return its standard output and standard error."""
    process = start(*arguments, cwd=cwd, **options)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out, err


def refuse(*arguments, cwd, **options):
    """Run a command that must fail and return its error message."""
    process = start(*arguments, cwd=cwd, **options)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 2, (out, err)
    assert out == ""
    assert err.startswith("cvae: error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    return err.removeprefix("cvae: error: ").strip()


def wait_for_epoch_1(process):
    """Wait until `train` has written that the first epoch is done."""
    while not (line := process.stderr.readline()).startswith("cvae: epoch 1: "):
        assert line, "the process has ended"
