"""AddressSanitizer and UndefinedBehaviorSanitizer watch the compiled modules, the kernels alone, and exported C files.

    python tests/long/run.py sanitizers

Takes GCC with its sanitizers, Linux, and about an hour of one processor's time; what has been compiled is kept.  Of the
modules' three sets of kernels one is plain C, in which each operation is checked: those on vectors are not.
"""

import os
import subprocess
import sys
from pathlib import Path

import export_cases
import kernel_program
import pytest
from sanitized_build import build, summary, written

from cvae.export import to_c

# Integers that wrap around are none of C's, though Python's own flags allow them.
FLAGS = "-g1 -fno-omit-frame-pointer -fno-wrapv -fsanitize=address,undefined,float-cast-overflow"
COMPILER = f"""#!/bin/sh
case "$*" in
*CVAE_ISA=baseline*) set -- "$@" -O1 -DCVAE_PLAIN_C ;;
*CVAE_ISA=*) set -- "$@" -O1 ;;
*) set -- "$@" -O0 ;;
esac
exec gcc "$@" {FLAGS}
"""
VECTORS = [("-msse2",), ("-mavx2", "-mfma"), ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma")]

# What the modules compute: all of it by the best kernels, that of the kernels by plain C too.
SUITE = [
    ("", "tests/kernels tests/nn tests/engine tests/optim"),
    ("baseline", "tests/kernels"),
    ("", "tests/model/test_vae.py tests/model/test_training.py tests/model/test_any_layers.py"),
    ("", "tests/model/test_likelihoods.py tests/model/test_objectives.py tests/model/test_extreme_numbers.py"),
    ("", "tests/model/test_wrong_calls.py tests/model/test_streaming.py tests/model/test_checkpoint.py"),
    ("", "tests/data/test_gathering.py tests/data/test_minibatches.py tests/data/test_blocks.py"),
]


def library(name):
    return subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()


def environment(reports):
    """Return an environment in which Python runs sanitized modules, which write reports to a folder."""
    reports.mkdir()
    return {
        **os.environ,
        "LD_PRELOAD": f"{library('libasan.so')}:{library('libubsan.so')}",
        "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:log_path={reports}/address",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={reports}/undefined",
        "PYTHONMALLOC": "malloc",  # the allocator of small objects hides what is beyond them
    }


@pytest.fixture(scope="module")
def sanitized():
    return build("sanitized", COMPILER, "__asan_")


@pytest.mark.parametrize(("isa", "tests"), SUITE)
def test_the_suite_gives_no_report(sanitized, isa, tests, tmp_path):
    env = environment(tmp_path / "reports") | {"PYTHONPATH": str(sanitized)}
    if isa:
        env["CVAE_SIMD"] = isa
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests.split()]
    done = subprocess.run(command, cwd=sanitized, env=env, capture_output=True, text=True)
    assert written(tmp_path / "reports") == ""
    print(tests, isa, summary(done))


@pytest.mark.parametrize("vectors", [*VECTORS, ("-DCVAE_PLAIN_C",)], ids=" ".join)
@pytest.mark.parametrize("dtype", kernel_program.DTYPES)
def test_the_kernels_alone_give_no_report(dtype, vectors, tmp_path):
    if "-mavx512f" in vectors and "avx512vl" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("the processor has no AVX-512")
    program = kernel_program.compiled(tmp_path, "gcc", dtype, "-O1", *FLAGS.split(), *vectors)
    done = subprocess.run([program], capture_output=True, text=True, timeout=3600)
    assert done.stderr == ""  # also of memory that was not released
    assert done.returncode == 0
    assert len(kernel_program.results(done.stdout)) > 300


CALLS = """
#include <stdlib.h>
#define CVAE_DECLARATIONS
#include "model.c"
static REAL *numbers(size_t n) {
    REAL *p = malloc(n * sizeof(REAL));
    for (size_t i = 0; i < n; i++) p[i] = (REAL)(i * 37 % 101) / 101;
    return p;
}
int main(void) {
    enum { PIXELS = CVAE_ROWS * CVAE_COLS * CVAE_CHANNELS };
    REAL *image = numbers(PIXELS), *out = numbers(PIXELS), *mean = numbers(CVAE_T), *log_var = numbers(CVAE_T);
    REAL *noise = numbers(CVAE_T), *scratch = malloc(CVAE_SCRATCH * sizeof(REAL)), *values = numbers(2);
    (void)values;
    for (int i = 0; i < 2; i++) {
        cvae_encode(image, LABEL mean, log_var, scratch);
        cvae_decode(mean, LABEL out, scratch);
        cvae_reconstruct(image, LABEL out, scratch);
        (void)cvae_elbo(image, LABEL i ? noise : NULL, scratch);
    }
    free(image), free(out), free(mean), free(log_var), free(noise), free(scratch), free(values);
    return 0;
}
"""
LABELS = {"classes": "1,", "values": "values,"}


@pytest.mark.parametrize("flags", [("-DPLAIN_C99",), ("-march=native",)], ids=" ".join)
@pytest.mark.parametrize("name", [name for name in export_cases.CASES if name != "auto"])
def test_exported_files_give_no_report(name, flags, tmp_path):
    vae = export_cases.trained(name)
    to_c(vae, tmp_path / "model.c")
    (tmp_path / "main.c").write_text(CALLS)
    real, label = "float" if vae.dtype == "float32" else "double", LABELS.get(name, "")
    command = [
        "gcc",
        "-std=c99",
        "-O1",
        *FLAGS.split(),
        *flags,
        f"-DREAL={real}",
        f"-DLABEL={label}",
        "main.c",
        "model.c",
    ]
    subprocess.run([*command, "-o", "run", "-lm"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "run"], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 0


FAULTS = {
    "address": "int fault(int n) { char *p = malloc(8); int i = p[8 + n]; free(p); return i; }",
    "undefined": "int fault(int n) { return 0x7fffffff + n; }",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_noticed(kind, tmp_path):
    """In a module without Python's own sanitizers, as in the suite."""
    (tmp_path / "fault.c").write_text(f"#include <stdlib.h>\n{FAULTS[kind]}\n")
    subprocess.run(["gcc", *FLAGS.split(), "-shared", "-fPIC", "fault.c", "-o", "f.so"], cwd=tmp_path, check=True)
    program = "import ctypes; ctypes.CDLL('./f.so').fault(1)"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment(tmp_path / "reports"))
    assert "fault" in written(tmp_path / "reports")
