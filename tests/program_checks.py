"""Helpers for tests of programs: kernel options, recording and comparison."""

import numpy as np

from cvae._kernels import elementwise
from cvae._kernels.program import Program
from cvae.runtime.workspace import ALIGNMENT, aligned_empty

STRIDED = {"pad_top": 0, "pad_left": 0, "stride": 1}
CONV, POOL = {**STRIDED, "dilation": 0}, {**STRIDED, "kernel_shape": (2, 2)}


def assert_all_equal(got, expected):
    for array, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(array, other)


def logistic(x):
    return 1 / (1 + np.exp(-x))


def record(steps):
    program = Program()
    for kernel, arrays, options in steps:
        kernel(program, *arrays, **options)
    return program


def recorded_sigmoid(x):
    """Return a program that writes sigmoid(x) to an array, and that array."""
    program, out = Program(), np.full_like(x, np.nan)
    elementwise.sigmoid(program, out, x)
    return program, out


class Guarded:
    """A workspace of exactly as many bytes as are asked for, all bits set as in NaN, with a guard on both sides."""

    def reserve(self, nbytes):
        self.memory = aligned_empty(ALIGNMENT + nbytes + ALIGNMENT)
        self.memory.fill(0xFF)
        return self.memory[ALIGNMENT:-ALIGNMENT]

    def assert_guards_untouched(self):
        assert (self.memory[:ALIGNMENT] == 0xFF).all()
        assert (self.memory[-ALIGNMENT:] == 0xFF).all()
