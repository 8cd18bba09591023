"""Copies of the package that another compiler builds, or a sanitizer watches (tests/long)."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from kernel_program import ROOT


def build(name, compiler, *symbols):
    """Build the package in a folder that is kept, with a shell script as its compiler, and return the folder.

    What has been compiled before is compiled again only if its sources have changed.  All modules must refer to
    the symbols, of which the beginnings are given.
    """
    folder = Path(os.environ.get("CVAE_LONG_KEEP", ROOT / "build")) / name
    folder.mkdir(parents=True, exist_ok=True)
    for each in ("csrc", "cvae", "tests"):
        shutil.copytree(ROOT / each, folder / each, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.so", "*.pyc"))
    for each in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy2(ROOT / each, folder)
    script = folder / "compiler"
    if not script.exists() or script.read_text() != compiler:
        script.write_text(compiler)
        script.chmod(0o755)
        for module in folder.glob("**/*.so"):
            module.unlink()
    compiled_in(folder)
    assert len(modules(folder)) == len(list(ROOT.glob("csrc/*.pyx")))
    for module in modules(folder):
        found = subprocess.run(["nm", "-D", module], capture_output=True, text=True, check=True).stdout
        assert not [symbol for symbol in symbols if f" {symbol}" not in found], module
    return folder


def compiled_in(folder):
    """Compile what has changed in a folder that `build` has made, and return what was said about it."""
    script = folder / "compiler"
    env = {**os.environ, "CC": str(script), "LDSHARED": f"{script} -shared"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-20_000:]
    return done.stdout


def modules(folder):
    return sorted(folder.glob("cvae/_kernels/*.so"))


def written(reports):
    """Return all that a sanitizer has written to a folder, but for what it says of too much memory asked for."""
    lines = [line for path in sorted(reports.iterdir()) for line in path.read_text(errors="replace").splitlines()]
    return "\n".join(line for line in lines if "WARNING: AddressSanitizer failed to allocate" not in line)


def summary(done):
    """Return how many tests have passed, from what pytest printed; they all must have."""
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    return re.findall(r"^.*\d+ passed.*$", done.stdout, re.MULTILINE)[-1]
