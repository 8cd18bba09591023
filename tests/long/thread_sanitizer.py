"""ThreadSanitizer watches the threads of programs: every layer, activation, likelihood, objective and optimizer.

    apt-get install clang libomp-dev
    python tests/long/run.py thread_sanitizer

GNU's OpenMP is not compiled for it; Clang's tells it, by Archer, where threads wait for each other.  ThreadSanitizer
must be there before all else, so a program that is compiled with it runs the interpreter, of which it takes a shared
library; what has been compiled is kept.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from kernel_program import ROOT
from sanitized_build import build, summary, written

FLAGS = ["-O1", "-g1", "-fno-omit-frame-pointer", "-fsanitize=thread"]
# One set of kernels is enough; that they are compiled for x86-64 is concluded from a probe.
COMPILER = f"""#!/bin/sh
case "$*" in *-fopenmp*) ;; *probe.c*) set -- "$@" -U__x86_64__ ;; esac
exec clang "$@" {" ".join(FLAGS)}
"""
INTERPRETER = """
#include <Python.h>
int main(int argc, char **argv) { return Py_BytesMain(argc, argv); }
"""
SUITE = [
    ["tests/engine/test_thread_cases.py", "-k", "float32"],
    ["tests/kernels/test_program.py", "tests/kernels/test_program_kernels.py"],
    ["tests/engine/test_determinism.py"],
    ["tests/model/test_many_models.py", "-k", "thread"],  # forked processes hang under it
]


def interpreter(folder):
    """Compile Python's interpreter with ThreadSanitizer and return its path."""
    (folder / "python.c").write_text(INTERPRETER)
    library = Path(sysconfig.get_config_var("LIBDIR"))
    version = sysconfig.get_config_var("LDVERSION")
    command = ["clang", *FLAGS, "-rdynamic", f"-I{sysconfig.get_path('include')}", "python.c", "-o", "python"]
    command += [f"-L{library}", f"-lpython{version}", f"-Wl,-rpath,{library}"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "python"


def run(python, *arguments, cwd, reports):
    """Run a program under ThreadSanitizer, and return what happened and its reports."""
    reports.mkdir()
    archer = sorted(Path("/usr/lib").glob("llvm-*/lib/libarcher.so"))[-1]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(cwd), *sys.path))),
        "OMP_TOOL_LIBRARIES": str(archer),
        "TSAN_OPTIONS": f"ignore_noninstrumented_modules=1:log_path={reports}/report",
    }
    # Without random addresses, of which ThreadSanitizer can take only some.
    command = ["setarch", "-R", python, *arguments]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=7200)
    return done, written(reports)


@pytest.fixture(scope="module")
def sanitized():
    """The folder of the package, and the interpreter for it."""
    folder = build("thread_sanitized", COMPILER, "__tsan_")
    needed = subprocess.run(["nm", "-D", *folder.glob("cvae/_kernels/program*.so")], capture_output=True, text=True)
    assert "__kmpc_fork_call" in needed.stdout  # with Clang's OpenMP
    return folder, interpreter(folder)


@pytest.mark.parametrize("tests", SUITE, ids=" ".join)
def test_threads_of_programs_give_no_report(sanitized, tests, tmp_path):
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    folder, python = sanitized
    done, reports = run(python, *command, cwd=folder, reports=tmp_path / "reports")
    assert reports == ""
    print(*tests, summary(done))


TRIAL = """
#include "claim.h"
static ptrdiff_t next;
static int pieces[1000], sum;
void claimed(void) {
    next = 0;
#pragma omp parallel num_threads(4)
    for (ptrdiff_t i; (i = claim(&next, 1)) < 1000;) pieces[i]++;
    for (int i = 0; i < 1000; i++) sum += pieces[i];
}
void shared(void) {
#pragma omp parallel num_threads(4)
    for (int i = 0; i < 1000; i++) sum++;
}
"""


@pytest.mark.parametrize(("function", "is_reported"), [("claimed", False), ("shared", True)])
def test_what_threads_share_is_noticed(function, is_reported, tmp_path):
    """As programs claim their pieces, and without that."""
    (tmp_path / "trial.c").write_text(TRIAL)
    command = ["clang", *FLAGS, "-fopenmp", f"-I{ROOT}/csrc", "-shared", "-fPIC", "trial.c", "-o", "trial.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    program = f"import ctypes; library = ctypes.CDLL('./trial.so'); [library.{function}() for _ in range(20)]"
    _, reports = run(interpreter(tmp_path), "-c", program, cwd=tmp_path, reports=tmp_path / "reports")
    assert ("data race" in reports) is is_reported
