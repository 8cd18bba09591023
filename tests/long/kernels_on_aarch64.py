"""Kernels compiled for AArch64, where vectors are NEON's, run by an emulator and compared with those of x86-64.

    apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
    python tests/long/run.py kernels_on_aarch64

Convolutions, their weights' gradients, dense layers and sums of columns, as one program (`kernels_main.c`) computes
them on both, without vectors of a compiler too, and compiled by Clang and for musl.
"""

import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FLAGS = [
    "-std=gnu11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-DCVAE_ISA=baseline",
    f"-I{ROOT}/csrc/kernels",
    "-static",
]
SOURCES = [Path(__file__).with_name("kernels_main.c"), ROOT / "csrc" / "kernels" / "variant.c"]


def computed(folder, compiler, dtype, *flags, emulator=()):
    """Return the numbers that the program writes, compiled with a compiler and run by an emulator."""
    program = folder / "program"
    double = f"-DCVAE_DOUBLE={int(dtype == 'float64')}"
    subprocess.run([*compiler, *FLAGS, *flags, double, *SOURCES, "-o", program, "-lm"], check=True)
    done = subprocess.run([*emulator, program], capture_output=True, check=True, timeout=600)
    return np.frombuffer(done.stdout, dtype)


@pytest.fixture(scope="module", params=["float32", "float64"])
def expected(request, tmp_path_factory):
    numbers = computed(tmp_path_factory.mktemp("x86"), ["gcc"], request.param, "-O2")
    assert len(numbers) > 4000
    assert np.isfinite(numbers).all()
    return numbers


@pytest.mark.parametrize("flags", [("-O3",), ("-O0",), ("-O3", "-DCVAE_PLAIN_C")], ids=" ".join)
def test_aarch64_computes_what_x86_does(expected, flags, tmp_path):
    got = computed(tmp_path, ["aarch64-linux-gnu-gcc"], expected.dtype.name, *flags, emulator=["qemu-aarch64"])
    np.testing.assert_allclose(got, expected, rtol=0, atol=20 * np.finfo(expected.dtype).eps * np.abs(expected).max())


@pytest.mark.parametrize(
    "compiler", [("gcc", "-O0"), ("gcc", "-O3", "-mavx2", "-mfma"), ("clang", "-O3"), ("musl-gcc", "-O3")], ids=" ".join
)
def test_other_compilers_and_libraries_do_too(expected, compiler, tmp_path):
    """Clang, and musl instead of GNU's C library: `apt-get install clang musl-tools`."""
    got = computed(tmp_path, compiler[:1], expected.dtype.name, *compiler[1:])
    np.testing.assert_allclose(got, expected, rtol=0, atol=20 * np.finfo(expected.dtype).eps * np.abs(expected).max())
