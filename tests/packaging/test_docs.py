"""README, the documentation's pages and the examples: all of their Python and all calls of the command run.

The blocks of a page run one after another, Python's in one namespace, with one epoch, few images and few samples. What
cannot run says so: "```python no-run".
"""

import functools
import re
import runpy
import shlex
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.cli.main import main

ROOT = Path(__file__).parents[2]
WRITTEN = [path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "generated"]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(WRITTEN)]
BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"python", "sh", "c", "toml"}
OTHER_COMMANDS = {"cc", "pip", "pytest", "ruff", "mypy", "cython-lint", "sphinx-build", "python"}
FEW, FEW_TESTED = 200, 120


class Block(NamedTuple):
    """A block of a page: its language, whether it runs, and its text with empty lines before it, for tracebacks."""

    language: str
    runs: bool
    text: str


def blocks(page):
    text, found = page.read_text(encoding="utf-8"), []
    for match in BLOCK.finditer(text):
        language, *words = match[1].split()
        if not language.startswith("{"):
            lines_before = text.count("\n", 0, match.start(2))
            found.append(Block(language, words != ["no-run"], "\n" * lines_before + match[2]))
    return found


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with the files that pages name, as the working directory, and built-in sets of few images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    rng = np.random.default_rng(0)
    for path, count in {"scans": 8, "fruit/train/apple": 8, "fruit/train/pear": 8, "fruit/test/apple": 4}.items():
        Path(path).mkdir(parents=True)
        for i in range(count):
            shape = (40 + i, 36, 3) if path == "scans" else (20, 20, 3)
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(f"{path}/{i}.png")
    np.savetxt("pixels.csv", rng.integers(0, 256, (20, 64)), "%d", ",")
    real = cvae.datasets.load

    @functools.wraps(real)
    def load(source, **options):
        if source not in cvae.datasets.names():
            return real(source, **options)
        whole = real("mnist-sample", **options)
        train, test = slice(FEW), slice(FEW_TESTED)
        return replace(
            whole,
            images=whole.images[train],
            labels=whole.labels[train],
            test_images=whole.test_images[test],
            test_labels=whole.test_labels[test],
        )

    monkeypatch.setattr(cvae.datasets, "load", load)
    yield tmp_path
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def quick(code):
    """Return code with one epoch, few samples and small mixtures."""
    code = re.sub(r"\b(n_epochs|--epochs)([= ])\d+", r"\1\g<2>1", code)
    code = re.sub(r"\bn_samples=\d+", "n_samples=2", code)
    return re.sub(r"\bn_components=\d+", "n_components=2", code)


def run_shell(block):
    """Run the calls of the command in a shell's block, and check that what others name exists."""
    for line in block.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            program, *words = shlex.split(part, comments=True) or ["pytest"]
            if program == "cvae":
                epochs = ["--epochs", "1"] if words[0] == "demo" else []
                assert main([*words, *epochs]) == 0, line
                continue
            assert program in OTHER_COMMANDS, line
            if program == "python":
                assert (ROOT / words[0]).is_file(), line
            if program == "pip":
                check_extras(words[-1])


def check_extras(requirement):
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.search(r"\[(.*)\]", requirement)
    assert named is None or set(named[1].split(",")) <= set(known)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_of_a_page_run_one_after_another(page, small):
    namespace = {"__name__": page.stem}
    for language, runs, text in blocks(page):
        assert language in LANGUAGES
        if language == "toml":
            Path("settings.toml").write_text(text)
        elif runs and language == "python":
            exec(compile(quick(text), page.name, "exec"), namespace)
        elif runs and language == "sh":
            run_shell(quick(text))


EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NEED_A_MODEL = {"pytorch_module"}  # and PyTorch; the tests of the export run it


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(example, small, monkeypatch, capsys):
    text = example.read_text(encoding="utf-8")
    assert f"python examples/{example.name}" in text
    if example.stem in NEED_A_MODEL:
        return
    monkeypatch.setattr(sys, "argv", [example.name, "--epochs", "1"])
    if '"--picture"' in text:
        sys.argv += ["--picture", "picture.png"]
    if '"--images"' in text:
        sys.argv += ["--images", str(FEW)]
    runpy.run_path(str(example), run_name="__main__")
    assert len(capsys.readouterr().out) > 20
    if '"--picture"' in text:
        assert Path("picture.png").read_bytes().startswith(b"\x89PNG")


def test_relative_links_lead_to_files():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]*)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_a_command_is_known_for_every_picture():
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn = {match[1]: match[2] for match in re.finditer(r"^\| `([\w/]+\.png)` \| (.*) \|$", table, re.MULTILINE)}
    found = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.png")}
    assert set(drawn) == found
    for picture, command in drawn.items():
        for script in re.findall(r"python (\S+\.py)", command):
            assert (ROOT / script).is_file(), picture


def test_all_public_names_are_in_the_api():
    text = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.rst"))
    modules = {name for name in cvae.__all__ if f"cvae.{name}" in sys.modules and name not in ("load", "minibatch")}
    for name in set(cvae.__all__) - modules - {"__version__"}:
        assert re.search(rf"::\s+(cvae\.)?{name}$", text, re.MULTILINE), name
    for name in modules:
        assert f"automodule:: cvae.{name}" in text


def test_the_citation_has_the_packages_version():
    assert f"version: {cvae.__version__}\n" in (ROOT / "CITATION.cff").read_text()
