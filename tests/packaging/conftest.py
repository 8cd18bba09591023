"""Access to the files beside the package."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch):
    """A function that imports modules of the benchmarks' command by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return lambda *names: [importlib.import_module(name) for name in names]
