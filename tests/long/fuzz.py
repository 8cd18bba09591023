"""Hostile files in millions: `python tests/long/run.py fuzz --minutes 60`.

The kinds of files take turns (`fuzz_worker.py`). Corpora, counts and findings stay in the folder `fuzz` of `--keep`,
from which the next run goes on. What guides the changes by the code they reach is atheris: `pip install atheris`.
"""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

KINDS = ("model", "png", "tiff", "pictures", "npy", "npz", "idx", "idx-gz", "table", "hdf5", "zarr", "config")
WORKER = Path(__file__).with_name("fuzz_worker.py")
KEEP = Path(os.environ.get("CVAE_LONG_KEEP", "build")).absolute() / "fuzz"
MINUTES = os.environ.get("CVAE_LONG_MINUTES", "6")


def counts(kind):
    """Return how many inputs of a kind were read and refused, in all runs."""
    return struct.unpack("<QQ", (KEEP / kind / "count").read_bytes())


@pytest.fixture(scope="module", autouse=True)
def fuzzed():
    """All kinds in turns, until the time is over."""
    subprocess.run([sys.executable, WORKER, KEEP, MINUTES, *KINDS], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_read_or_refused_by_name(kind):
    findings = {
        path.name: path.read_text(errors="replace")[-1500:] for path in (KEEP / kind / "findings").glob("*.txt")
    }
    read, refused = counts(kind)
    print(f"{kind}: {read + refused:,} inputs, {read:,} of them read")
    assert not findings, "\n\n".join(f"{name}\n{text}" for name, text in findings.items())
    assert read
    assert refused
