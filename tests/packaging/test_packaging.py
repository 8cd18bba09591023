"""The package as users get it: built from the sdist, installed into a clean environment, imported and used."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.builds

ROOT = Path(__file__).parents[2]
TRAIN = """
import cvae, sys
digits = cvae.datasets.load("mnist-sample")
vae = cvae.BernoulliVAE(T=2, latent_dim=16, random_state=0, verbose=False)
before = -vae.fit(digits.images[:200], n_epochs=1).score(digits.test_images[:100])
after = -vae.fit(digits.images[:200], n_epochs=3).score(digits.test_images[:100])
assert after < before, (before, after)
vae.save(sys.argv[1])
assert cvae.load(sys.argv[1]).score(digits.test_images[:100]) == -after
print(cvae.__version__, cvae.__file__)
"""


def run(*command, cwd):
    """Run a command that must succeed and return its output."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CFLAGS")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist and the wheel built from it, and the output of the build."""
    folder = tmp_path_factory.mktemp("dist")
    output = run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return folder, output


def test_build_has_no_compiler_warnings(built):
    assert re.findall(r".*\.(?:c|h|pyx|pxd):.*warning.*", built[1]) == []


def test_sdist_holds_all_sources(built):
    (path,) = built[0].glob("cvae_cpu-*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = [path.relative_to(ROOT).as_posix() for folder in ("csrc", "tests") for path in (ROOT / folder).rglob("*")]
    wanted = [name for name in tracked if name.endswith((".py", ".pyx", ".pxd", ".h", ".c", ".npz"))]
    assert {*wanted, "setup.py", "pyproject.toml", "LICENSE", "README.md"} <= names


def test_wheel_holds_only_what_runs(built):
    (path,) = built[0].glob("cvae_cpu-*.whl")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (metadata,) = [archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    assert "Description-Content-Type: text/markdown" in metadata
    assert "](docs/" not in metadata
    exported = "cvae/export/kernels.c"  # becomes a part of exported models
    sources = [name for name in names if name.endswith((".pyx", ".pxd", ".c", ".h")) or "tests/" in name]
    assert sources == [exported]
    modules = [name for name in names if name.startswith("cvae/_kernels/") and name.endswith(".so")]
    assert len(modules) == len(list((ROOT / "csrc").glob("*.pyx")))
    for module in modules:
        assert f"{module.partition('.')[0]}.pyi" in names
    assert {"cvae/py.typed", "cvae/data/mnist_sample.npz", "cvae/data/LICENSE-mnist.txt"} <= set(names)
    assets = ("page.html", "page.css", "decoder.js", "explorer.js")
    assert {f"cvae/explorer/{asset}" for asset in assets} <= set(names)
    assert path.stat().st_size < 5_000_000


def test_clean_environment_imports_and_trains(built, tmp_path):
    (wheel,) = built[0].glob("cvae_cpu-*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", wheel, cwd=tmp_path)
    installed = run(python, "-m", "pip", "list", "--format=freeze", cwd=tmp_path)
    assert {line.partition("==")[0] for line in installed.split()} >= {"cvae-cpu", "numpy", "safetensors", "tqdm"}
    version, _, path = run(python, "-W", "error", "-c", TRAIN, tmp_path / "model.safetensors", cwd=tmp_path).partition(
        " "
    )
    assert version == wheel.name.split("-")[1]
    assert str(tmp_path / "env") in path
    assert "instruction set" in run(tmp_path / "env" / "bin" / "cvae", "info", cwd=tmp_path).lower()


def test_unchanged_rebuild_does_nothing(tmp_path):
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("csrc", "cvae"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    build = (sys.executable, "setup.py", "build_ext", "--inplace")
    assert "variant.c" in run(*build, cwd=tmp_path)
    again = run(*build, cwd=tmp_path)
    assert "variant.c" not in again
    assert "csrc" not in again
    (tmp_path / "csrc" / "kernels" / "pool2d.h").touch()
    rebuilt = run(*build, cwd=tmp_path)
    assert "variant.c" in rebuilt
    assert "csrc/conv2d" not in rebuilt


def test_source_tree_that_is_not_built_says_what_to_run(tmp_path):
    shutil.copytree(ROOT / "cvae", tmp_path / "cvae", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", "import cvae"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "pip install -e" in done.stderr.splitlines()[-1]
