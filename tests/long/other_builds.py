"""The package compiled without OpenMP, and without optimization, passes its tests; without OpenMP, with the same bits.

    python tests/long/run.py other_builds

Takes GCC, and about half an hour of one processor's time; what has been compiled is kept.
"""

import os
import subprocess
import sys

import pytest
from kernel_program import ROOT
from sanitized_build import build, compiled_in, summary

COMPILERS = {
    "without_openmp": '#!/bin/sh\ncase "$*" in *-fopenmp*) exit 1 ;; esac\nexec gcc "$@"\n',
    "unoptimized": '#!/bin/sh\nexec gcc "$@" -O0\n',
}
SUITE = [
    "tests/kernels",
    "tests/engine/test_determinism.py tests/engine/test_forks.py tests/engine/test_threads.py",
    "tests/model/test_vae.py tests/model/test_training.py tests/model/test_checkpoint.py",
    "tests/model/test_many_models.py",
]
# Trains on two threads where there are, as the ordinary build does.
DIGESTS = """
import hashlib
from thread_cases import cases, results
for name, arguments in cases().items():
    for dtype in ("float32", "float64"):
        numbers = b"".join(array.tobytes() for array in results(arguments, dtype, 2))
        print(name, dtype, hashlib.sha256(numbers).hexdigest())
"""


def python(folder, *arguments):
    """Run Python with the package in a folder."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(folder / "tests")))}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module", params=COMPILERS)
def folder(request):
    return build(request.param, COMPILERS[request.param])


@pytest.mark.parametrize("tests", SUITE)
def test_it_passes_its_tests(folder, tests):
    print(folder.name, summary(python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests.split())))


def test_without_openmp_there_is_one_thread_and_setup_says_so_once():
    folder = build("without_openmp", COMPILERS["without_openmp"])
    said = compiled_in(folder)
    assert said.count("the compiler does not support OpenMP, so the kernels will use one thread") == 1
    program = "import cvae; cvae.set_num_threads(3); print(cvae.__file__, cvae.get_num_threads())"
    assert python(folder, "-c", program).stdout.split() == [str(folder / "cvae" / "__init__.py"), "1"]


def test_without_openmp_the_bits_are_the_same():
    folder = build("without_openmp", COMPILERS["without_openmp"])
    without, ordinary = (python(each, "-c", DIGESTS) for each in (folder, ROOT))
    assert without.returncode == ordinary.returncode == 0, without.stderr + ordinary.stderr
    assert len(ordinary.stdout.splitlines()) > 60
    assert without.stdout == ordinary.stdout
