"""Valgrind watches every kernel, without Python: nothing is read that was not written, nor anything beyond its memory.

    apt-get install valgrind
    python tests/long/run.py valgrind

Valgrind knows no AVX-512; sanitizers.py runs the same program with it.
"""

import subprocess

import kernel_program
import pytest

VECTORS = [("-msse2",), ("-mavx2", "-mfma"), ("-DCVAE_PLAIN_C",)]
# Uninitialised numbers show when they are printed.
MEMCHECK = ["valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=all"]


def watched(program):
    return subprocess.run([*MEMCHECK, program], capture_output=True, text=True, timeout=3600)


@pytest.mark.parametrize("vectors", VECTORS, ids=" ".join)
@pytest.mark.parametrize("dtype", kernel_program.DTYPES)
def test_memory_is_used_as_it_should(dtype, vectors, tmp_path):
    done = watched(kernel_program.compiled(tmp_path, "gcc", dtype, "-O2", "-g", *vectors))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(kernel_program.results(done.stdout)) > 300


@pytest.mark.parametrize("fault", ['int n; printf("%d", n);', "char *p = malloc(8); p[8] = 0; free(p);"])
def test_a_fault_is_noticed(fault, tmp_path):
    (tmp_path / "fault.c").write_text(
        f"#include <stdio.h>\n#include <stdlib.h>\nint main(void) {{ {fault} return 0; }}\n"
    )
    subprocess.run(["gcc", "-O0", "-w", "fault.c", "-o", "fault"], cwd=tmp_path, check=True)
    assert watched(tmp_path / "fault").returncode == 99
