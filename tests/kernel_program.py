"""A program that calls every kernel without Python (tests/long/kernel_program): compiling it, and its numbers."""

import subprocess
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "tests" / "long" / "kernel_program"
FLAGS = ("-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-DCVAE_ISA=baseline", f"-I{ROOT}/csrc/kernels")
DTYPES = ("float32", "float64")


def compiled(folder, compiler, dtype, *flags):
    """Return the program, compiled for a number type by a compiler with further flags."""
    program = folder / "program"
    double = f"-DCVAE_DOUBLE={int(dtype == 'float64')}"
    sources = (SOURCE / "main.c", ROOT / "csrc" / "kernels" / "variant.c")
    subprocess.run([compiler, *FLAGS, *flags, double, *sources, "-o", program, "-lm"], check=True)
    return program


def results(output):
    """Return what the program has written: (name of a kernel, roundings behind a number at most, numbers)."""
    found = []
    for line in output.splitlines():
        name, roundings, *numbers = line.split()
        found.append((name, int(roundings), np.array(numbers, np.float64)))
    return found


def assert_close(got, expected, dtype):
    """Assert that the results of two compilers differ by no more than another order of the same sums explains.

    A number that n roundings lead to, each of at most half an epsilon of what is summed up, differs from another such
    number by n epsilons, in the unit of the largest number of its array.
    """
    assert [(name, n, len(numbers)) for name, n, numbers in got] == [(name, n, len(x)) for name, n, x in expected]
    for (name, roundings, numbers), (_, _, other) in zip(got, expected, strict=True):
        unit = np.finfo(dtype).eps * np.abs(other).max(initial=0)
        np.testing.assert_allclose(numbers, other, rtol=0, atol=roundings * unit, err_msg=name)
