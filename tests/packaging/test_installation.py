"""Files of another project in the package's folder are noticed, whichever of the two was installed last."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_vae import subprocess_environment

import cvae


@pytest.fixture
def run(tmp_path):
    """A function that runs Python, which finds a package of links to the files of this one in a folder of its own."""
    (tmp_path / "cvae").mkdir()
    for path in Path(cvae.__file__).parent.iterdir():
        if path.name != "__pycache__":
            (tmp_path / "cvae" / path.name).symlink_to(path)

    def run(*arguments):
        environment = subprocess_environment() | {"PYTHONPATH": str(tmp_path)}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    run.package = tmp_path / "cvae"
    return run


def test_an_installation_of_its_own_is_silent(run):
    done = run("-W", "error", "-c", "import cvae; print(cvae.__path__)")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(run.package) in done.stdout


def test_import_warns_of_modules_of_another_project(run):
    (run.package / "cvae.py").write_text("class CompressionVAE: pass")
    done = run("-c", "import cvae; print(cvae.VAE.__name__)")
    assert done.stdout == "VAE\n"
    assert "UserWarning: files of another project" in done.stderr
    assert "pip uninstall cvae cvae-cpu" in done.stderr


@pytest.mark.parametrize("init", ["", None], ids=["replaced", "uninstalled"])
def test_the_command_says_so_where_the_other_project_has_taken_the_package(run, init):
    (run.package / "__init__.py").unlink()
    if init is not None:
        (run.package / "__init__.py").write_text(init)
    done = run("-c", "import sys; from cvae.cli.main import main; sys.exit(main(['info']))")
    assert done.returncode == 2
    assert done.stderr.startswith("cvae: error: the package cvae has been replaced")
    assert done.stderr.count("\n") == 1


EDITABLE = """
import importlib.machinery, runpy, sys
class Finder:  # as that of setuptools, which looks for the package after the folders of sys.path
    def find_spec(name, path, target=None):
        return importlib.machinery.PathFinder.find_spec(name, [{package!r}]) if name.startswith("cvae.") else None
sys.meta_path.insert(0, Finder)
sys.argv = ["cvae", "info"]
runpy.run_module("cvae", run_name="__main__", alter_sys=True)
"""


def test_the_command_names_a_folder_that_hides_an_editable_installation(tmp_path):
    (tmp_path / "cvae").mkdir()
    program = EDITABLE.format(package=str(Path(cvae.__file__).parent))
    environment = {name: value for name, value in subprocess_environment().items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    expected = f"the folder {tmp_path / 'cvae'} hides the package cvae; rename it, or work in another folder"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"cvae: error: {expected}\n")


def test_info_names_the_other_projects(run, tmp_path):
    for name in ("cvae", "cvae-cpu", "unrelated"):
        (tmp_path / f"{name}-9.9.dist-info").mkdir()
        (tmp_path / f"{name}-9.9.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 9.9")
        record = "other/cvae/x.py,," if name == "unrelated" else "cvae/__init__.py,,"
        (tmp_path / f"{name}-9.9.dist-info" / "RECORD").write_text(record)
    done = run("-m", "cvae", "info")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert "cvae 9.9 also installs a package cvae; run: pip uninstall cvae" in line
