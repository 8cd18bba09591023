"""Kernels compiled for AArch64, where vectors are NEON's, run by an emulator and compared with those of x86-64.

    apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
    python tests/long/run.py kernels_on_aarch64

All of them, as one program (`kernel_program`) computes them on both, without vectors of a compiler too, and compiled by
Clang and for musl: `apt-get install clang musl-tools`.
"""

import subprocess

import kernel_program
import numpy as np
import pytest

COMPILED = [
    ("aarch64-linux-gnu-gcc", "-O3"),
    ("aarch64-linux-gnu-gcc", "-O0"),
    ("aarch64-linux-gnu-gcc", "-O3", "-DCVAE_PLAIN_C"),
    ("gcc", "-O0"),
    ("gcc", "-O3", "-DCVAE_PLAIN_C"),
    ("gcc", "-O3", "-mavx2", "-mfma"),
    ("clang", "-O3"),
    ("musl-gcc", "-O3"),
]


def computed(folder, dtype, compiler, *flags):
    """Return what the program computes, compiled for a number type."""
    program = kernel_program.compiled(folder, compiler, dtype, "-static", *flags)
    emulator = ["qemu-aarch64"] if compiler.startswith("aarch64") else []
    done = subprocess.run([*emulator, program], capture_output=True, text=True, check=True, timeout=600)
    return kernel_program.results(done.stdout)


@pytest.fixture(scope="module", params=kernel_program.DTYPES)
def expected(request, tmp_path_factory):
    arrays = computed(tmp_path_factory.mktemp("x86"), request.param, "gcc", "-O2")
    assert len(arrays) > 300
    assert all(np.isfinite(numbers).all() for _, _, numbers in arrays)
    return request.param, arrays


@pytest.mark.parametrize("how", COMPILED, ids=" ".join)
def test_it_computes_what_x86_does(expected, how, tmp_path):
    dtype, arrays = expected
    kernel_program.assert_close(computed(tmp_path, dtype, *how), arrays, dtype)
