"""AddressSanitizer and UndefinedBehaviorSanitizer watch the compiled modules, the kernels alone, and exported C files.

    python tests/long/run.py sanitizers

Takes GCC with its sanitizers, Linux, and about an hour of one processor's time; what has been compiled is kept.  Of the
modules' three sets of kernels one is plain C, in which each operation is checked: those on vectors are not.
"""

import os
import subprocess
import sys
import sysconfig
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
    ("", "tests/kernels"),
    ("", "tests/nn tests/engine tests/optim"),
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


# Where both are loaded, log_path of either sets the path of AddressSanitizer alone, because their functions for that
# have one name. The other would write to the standard error, which pytest catches.
UNDEFINED = """
#include <dlfcn.h>
__attribute__((constructor)) static void set_path(void) {
    void *function = dlsym(dlopen("LIBRARY", RTLD_NOW | RTLD_NOLOAD), "__sanitizer_set_report_path");
    ((void (*)(const char *))function)("REPORTS/undefined");
}
"""


def environment(reports):
    """Return an environment in which Python runs sanitized modules, which write reports to a folder."""
    reports.mkdir()
    undefined, setting = library("libubsan.so"), reports.with_suffix(".so")
    text = UNDEFINED.replace("LIBRARY", undefined).replace("REPORTS", str(reports))
    subprocess.run(["gcc", "-xc", "-", "-shared", "-fPIC", "-o", setting], input=text, text=True, check=True)
    return {
        **os.environ,
        "LD_PRELOAD": f"{library('libasan.so')}:{undefined}:{setting}",
        "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:log_path={reports}/address",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={reports}/address",
        "PYTHONMALLOC": "malloc",  # the allocator of small objects hides what is beyond them
    }


@pytest.fixture(scope="module")
def sanitized():
    return build("sanitized", COMPILER, "__asan_", "__ubsan_handle_add_overflow")


@pytest.mark.parametrize(("isa", "tests"), SUITE)
def test_the_suite_gives_no_report(sanitized, isa, tests, tmp_path):
    env = environment(tmp_path / "reports") | {"PYTHONPATH": str(sanitized)}
    if isa:
        env["CVAE_SIMD"] = isa
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests.split()]
    done = subprocess.run(command, cwd=sanitized, env=env, capture_output=True, text=True)
    reports = written(tmp_path / "reports")
    assert not reports, reports[:20_000]  # all of it, which pytest would cut
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


# What a report says, and a function that makes it for 1.
FAULTS = {
    "heap-buffer-overflow": "char *p = malloc(8); int i = p[7 + n]; free(p); return i;",
    "heap-use-after-free": "char *p = malloc(8); free(p); return p[n];",
    "stack-buffer-overflow": "volatile int a[4] = {0}; return *(a + 3 + n);",
    "signed integer overflow": "return 0x7fffffff + n;",
    "shift exponent 32 is too large": "return 1 << (31 + n);",
    "index 4 out of bounds": "static int a[4], b[4]; b[0] = n; return a[3 + n] + b[n];",
    "division by zero": "return 1 / (n - 1);",
    "misaligned address": "static int a[4]; return *(int *)((char *)a + n);",
    "outside the range of representable values": "return (int)(n * 1e30);",
    "null pointer passed as argument": "char a[4]; memcpy(a, n ? NULL : a, n - 1); return 0;",
}
TEST = "import ctypes\ndef test_fault(): ctypes.CDLL('./fault.so').fault(1)\n"


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_noticed(kind, tmp_path):
    """In a module that is compiled as the package's are, where pytest catches what is printed."""
    compiler, source = tmp_path / "compiler", tmp_path / "fault.c"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    source.write_text(f"#include <stdlib.h>\n#include <string.h>\nint fault(int n) {{ {FAULTS[kind]} }}\n")
    flags = sysconfig.get_config_var("CFLAGS").split()
    command = [compiler, *flags, "-w", "-shared", "-fPIC", "-DCVAE_ISA=baseline", source, "-o", "fault.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "test_fault.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_fault.py"]
    subprocess.run(command, cwd=tmp_path, env=environment(tmp_path / "reports"), capture_output=True)
    report = written(tmp_path / "reports")
    assert kind in report
    assert " in fault " in report
