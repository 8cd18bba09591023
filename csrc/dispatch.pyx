# Chooses the kernels, those of the best instruction set of this CPU or of the one that CVAE_SIMD names, and reports
# what OpenMP offers.

import os

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "cpu.h" nogil:
    ctypedef struct kernel_table:
        const char *name

    int cpu_level()
    int openmp_enabled()
    int openmp_max_threads()
    const kernel_table *const kernels_f32[]
    const kernel_table *const kernels_f64[]
    int kernel_levels


def available():
    """The names of the instruction sets that this CPU can run, slowest first."""
    return tuple([kernels_f32[level].name.decode() for level in range(min(cpu_level(), kernel_levels - 1) + 1)])


def instruction_set():
    """The name of the instruction set in use."""
    return kernels_f32[chosen].name.decode()


def has_openmp():
    """Whether the kernels were built with OpenMP."""
    return bool(openmp_enabled())


def omp_max_threads():
    """The number of threads OpenMP would use now: OMP_NUM_THREADS, a limit set by threadpoolctl, or the CPUs."""
    return openmp_max_threads()


cdef int choose() except -1:
    """The level of the instruction set to use."""
    names = available()
    wanted = os.environ.get("CVAE_SIMD") or names[len(names) - 1]
    if wanted not in names:
        raise ImportError(f"CVAE_SIMD must be one of {', '.join(names)} on this CPU, got {wanted!r}")
    return names.index(wanted)


cdef int chosen = choose()
# For the other modules (tables.pxd).
f32 = PyCapsule_New(<void *> kernels_f32[chosen], "cvae._kernels.dispatch.f32", NULL)
f64 = PyCapsule_New(<void *> kernels_f64[chosen], "cvae._kernels.dispatch.f64", NULL)
