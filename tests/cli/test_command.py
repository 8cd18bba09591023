"""The command when the package cannot be imported: a one-line error and exit code 2, as for any user error."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from small_vae import subprocess_environment

from cvae._kernels import dispatch

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
REFUSED = f"CVAE_SIMD must be one of {', '.join(dispatch.available())} on this CPU, got 'nonsense'"


@pytest.fixture
def script(tmp_path):
    """A console script as installers generate it."""
    module, function = tomllib.loads(PROJECT.read_text())["project"]["scripts"]["cvae"].split(":")
    path = tmp_path / "cvae"
    path.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    return path


def python(*arguments, simd="nonsense"):
    environment = {**subprocess_environment(), "CVAE_SIMD": simd}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("arguments", [["--help"], ["info"], []], ids=str)
@pytest.mark.parametrize("as_module", [True, False], ids=["python -m cvae", "cvae"])
def test_an_unknown_instruction_set_is_one_sentence(script, as_module, arguments):
    done = python(*(["-m", "cvae"] if as_module else [script]), *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"cvae: error: {REFUSED}\n")


def test_the_script_works(script):
    done = python(script, "info", simd="baseline")
    assert (done.returncode, done.stderr) == (0, "")
    assert "baseline" in done.stdout


# A module that is imported where the command begins, raises the signal and goes on as others do.
INTERRUPTED = """
import importlib.abc, signal, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as error:
                raise ImportError("turned into another exception") from error

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("name", ["numpy", "cvae.model", "cvae.cli.main", "cvae.cli.commands.train", "argparse"])
@pytest.mark.parametrize("as_module", [True, False], ids=["python -m cvae", "cvae"])
def test_an_interrupt_during_imports_is_a_line(script, tmp_path, as_module, name):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(INTERRUPTED.format(name=name))
    environment = subprocess_environment()
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), environment.get("PYTHONPATH"))))
    command = [sys.executable, *(["-m", "cvae"] if as_module else [str(script)]), "info"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "cvae: interrupted\n")


def test_other_programs_get_an_interrupt_during_imports(tmp_path):
    program = "try:\n    import cvae\nexcept ImportError as error:\n    print(error)\n"
    (tmp_path / "train.py").write_text(f"{INTERRUPTED.format(name='cvae.model')}\n{program}")
    done = python("-P", tmp_path / "train.py", simd="baseline")
    assert (done.returncode, done.stdout, done.stderr) == (0, "turned into another exception\n", "")


@pytest.mark.parametrize("name", ["cvae.py", "train.py"])
def test_other_programs_get_the_exception(tmp_path, name):
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    path.write_text("try:\n    from cvae import layers\nexcept ImportError as error:\n    print(error)\n")
    done = python("-P", path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{REFUSED}\n", "")
