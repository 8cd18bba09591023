"""setup.py builds for the machine that its compiler builds for, anew where what it builds with has changed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from setuptools import Distribution  # which brings distutils

from distutils.ccompiler import new_compiler  # isort: skip
from distutils.sysconfig import customize_compiler  # isort: skip

ROOT = Path(__file__).parents[2]


@pytest.fixture
def setup(monkeypatch):
    """The module setup.py, which runs nothing when it is imported."""
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("setup_of_cvae", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def build(setup, tmp_path):
    """A build_ext command with the compiler of this machine, and further flags of it."""

    def make(*flags):
        command = setup.BuildExt(Distribution())
        command.compiler, command.gnu = new_compiler(), True
        command.build_temp, command.build_lib = str(tmp_path / "temp"), str(tmp_path / "lib")
        customize_compiler(command.compiler)
        command.compiler.set_executable("compiler_so", [*command.compiler.compiler_so, *flags])
        return command

    return make


@pytest.mark.builds
def test_the_compiler_says_for_which_processor_it_compiles(setup, build):
    on_x86 = sysconfig.get_platform().endswith(("x86_64", "amd64"))
    assert build().can_build(setup.X86_PROBE) == on_x86
    assert not build("-U__x86_64__").can_build(setup.X86_PROBE)  # as a cross compiler, or -arch arm64 -arch x86_64
    assert not build("-D__x86_64__", "-D__ILP32__").can_build(setup.X86_PROBE)


@pytest.mark.builds
def test_for_another_processor_no_flags_of_x86_are_passed(setup, build, monkeypatch, tmp_path):
    command = build("-U__x86_64__")
    monkeypatch.chdir(tmp_path)
    command.extensions = [setup.extension("dense", limited=True)]
    monkeypatch.setattr(setup.build_ext, "build_extensions", lambda self: None)
    command.build_extensions()
    (module,) = command.extensions
    assert command.variants == {"baseline": []}
    assert not [flag for flag in module.extra_compile_args if flag.startswith("-mavx")]
    assert "CVAE_X86_VARIANTS" not in dict(module.define_macros)


@pytest.fixture
def small(tmp_path):
    """A function that builds, in a folder of its own, the package with one compiled module, and returns the output."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    shutil.copytree(ROOT / "cvae", tmp_path / "cvae", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    one = re.sub(r"MODULES = \(.*?\)", 'MODULES = ("condition",)', text, count=1, flags=re.DOTALL)
    (tmp_path / "setup.py").write_text(one, encoding="utf-8")

    def run(returncode=0, **environment):
        env = {name: value for name, value in os.environ.items() if name not in ("CC", "CFLAGS")} | environment
        command = [sys.executable, "setup.py", "build"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.builds
def test_what_was_made_with_other_flags_is_made_anew(small, tmp_path):
    compiled = "build/cython/csrc/condition.c"
    assert compiled in small()
    assert compiled not in small()
    for flags in ("-DA", "-DB", "-DA"):
        assert compiled in small(CFLAGS=flags)
        assert compiled not in small(CFLAGS=flags)
    script = tmp_path / "setup.py"
    script.write_text(script.read_text("utf-8").replace('FLAGS = [*EXACT, "-g0"', 'FLAGS = [*EXACT, "-g1"'), "utf-8")
    assert compiled in small(CFLAGS="-DA")
    assert "'nonexistent' compiles nothing" in small(1, CFLAGS="-DA", CC="nonexistent")
    assert compiled not in small(CFLAGS="-DA")


@pytest.mark.builds
def test_what_the_source_has_no_longer_is_not_built(small, tmp_path):
    (tmp_path / "cvae" / "old.py").write_text("")
    (tmp_path / "cvae" / "explorer" / "old.css").write_text("")
    small()
    (folder,) = (tmp_path / "build").glob("lib*")
    assert (folder / "cvae" / "old.py").exists()
    assert (folder / "cvae" / "explorer" / "old.css").exists()
    for name in ("old.py", "explorer/old.css"):
        (tmp_path / "cvae" / name).unlink()
    (folder / "cvae" / "_kernels" / "old.abi3.so").write_text("")
    assert "condition.c" not in small()
    source = [path.relative_to(tmp_path) for path in (tmp_path / "cvae").rglob("*") if path.is_file()]
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    (module,) = found - {*source}
    assert module.name.startswith("condition.")
    assert not [path for path in {*source} - found if path.suffix == ".py"]


@pytest.mark.builds
def test_without_a_compiler_one_sentence_says_so(small):
    lines = small(1, CC="/nowhere/cc").splitlines()
    assert lines[-1] == "cvae: building needs a C compiler, such as GCC or Clang, and '/nowhere/cc' compiles nothing"
    assert not [line for line in lines if "OpenMP" in line or "Errno" in line or "Traceback" in line]


@pytest.mark.parametrize(
    ("name", "found", "message"),
    [
        ("setuptools", "65.5.0", "setuptools 77 or newer, found 65.5.0"),
        ("cython", "3.0.12", "cython 3.1 or newer, found 3.0.12"),
        ("cython", None, "cython 3.1 or newer, found none"),
    ],
)
def test_what_the_build_requires_is_named(setup, monkeypatch, name, found, message):
    def version(name):
        if versions[name] is None:
            raise setup.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(setup.metadata, "version", version)
    versions = {"setuptools": "77.0.3", "cython": "3.1.0a1"}
    setup.check_requirements(["setuptools>=77", "cython>=3.1"])
    versions[name] = found
    with pytest.raises(SystemExit, match=f"^cvae: building needs {message}$"):
        setup.check_requirements(["setuptools>=77", "cython>=3.1"])


PROBE = """
#pragma GCC visibility push(default)
int is_nan(double x) { return x != x; }
double sum(double a, double b, double c) { return (a + b) - a + c * 0; }
"""


@pytest.mark.builds
@pytest.mark.skipif(sys.platform == "win32", reason="the flags are those of GCC and Clang")
@pytest.mark.parametrize("flags", ["-ffast-math", "-Ofast", "-funsafe-math-optimizations -ffinite-math-only"])
def test_flags_of_the_user_change_no_arithmetic(setup, monkeypatch, tmp_path, flags):
    monkeypatch.setenv("CFLAGS", flags)
    compiler = new_compiler()
    customize_compiler(compiler)
    assert flags.split()[0] in compiler.compiler_so
    assert flags.split()[0] in compiler.linker_so
    (tmp_path / "probe.c").write_text(PROBE)
    (tmp_path / "load.py").write_text(LOAD)
    monkeypatch.chdir(tmp_path)

    def results(compiled_with, linked_with):
        compiler.force = True
        objects = compiler.compile(["probe.c"], extra_postargs=compiled_with)
        compiler.link_shared_object(objects, "probe.so", extra_postargs=linked_with)
        done = subprocess.run([sys.executable, "load.py"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert results(setup.FLAGS, setup.EXACT) == ["1", "0.0", "nan", "True"]
    assert results([], [])[:3] != ["1", "0.0", "nan"]  # with the user's flags alone


LOAD = """
import ctypes, ctypes.util
libm = ctypes.CDLL(ctypes.util.find_library("m"))
def environment():
    memory = ctypes.create_string_buffer(64)
    libm.feclearexcept(61)
    libm.fegetenv(memory)
    return memory.raw
before = environment()
probe = ctypes.CDLL("./probe.so")
after = environment()
probe.is_nan.argtypes = [ctypes.c_double]
probe.sum.restype, probe.sum.argtypes = ctypes.c_double, [ctypes.c_double] * 3
print(probe.is_nan(float("nan")), probe.sum(1, 1e-30, 1), probe.sum(1, 0, float("inf")), after == before)
"""


@pytest.mark.parametrize("free_threaded", [0, 1, None])
def test_a_free_threaded_interpreter_gets_no_limited_api(setup, monkeypatch, free_threaded):
    monkeypatch.setattr(setup.sysconfig, "get_config_var", {"Py_GIL_DISABLED": free_threaded}.get)
    module = setup.extension("dense", limited=setup.has_limited_api())
    assert module.py_limited_api is not bool(free_threaded)
    assert ("Py_LIMITED_API" in dict(module.define_macros)) is not bool(free_threaded)


def test_the_description_for_an_index_needs_nothing_beside_it(setup):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = setup.description(readme)
    assert "import cvae" in text
    assert "## Limits" in text
    assert re.findall(r"\]\((?!https?:|#)", text) == []
    assert "![" not in text
    assert "The picture is from" not in text
    assert "<!--" not in text
    assert setup.description("![a](b.png)\n\nSee [the guide](docs/guide.md), [x](https://y.org).") == (
        "See the guide, [x](https://y.org)."
    )
