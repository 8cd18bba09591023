# What the Cython modules share: types and constants of kernels/kernels.h, the tables of kernels, and checks.
#
# A module that calls kernels declares kernel_table itself, with just the members it needs (kernels/kernel_list.h).

from cpython.pycapsule cimport PyCapsule_Import

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct window_shape:
        ptrdiff_t n, h, w, c, k, r, s, oh, ow, stride, dilation, pad_top, pad_left

    enum:
        BLOCK_ROWS
        FEW_CHANNELS
        INACTIVE
        BLOCK_DEPTH
        KERNEL_ROWS
        MAX_WINOGRAD_KERNEL

    int winograd_outputs(ptrdiff_t taps)


cdef enum:
    MAX_OFFSET = 1 << 30     # largest stride, dilation and padding, so that no position in an image overflows


# The kernel_table for float, and that for double, which dispatch.pyx chose.
cdef inline const void *import_f32() except NULL:
    return PyCapsule_Import("cvae._kernels.dispatch.f32", 0)


cdef inline const void *import_f64() except NULL:
    return PyCapsule_Import("cvae._kernels.dispatch.f64", 0)


# The end of range `index`, when [0, end) is split into ranges of `size`.
cdef inline ptrdiff_t range_end(ptrdiff_t index, ptrdiff_t size, ptrdiff_t end) noexcept nogil:
    return min((index + 1) * size, end)


cdef inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return (a + b - 1) // b


# A number of an array of floats, or of doubles if itemsize is theirs, as a double.
cdef inline double number_at(const void *numbers, ptrdiff_t index, ptrdiff_t itemsize) noexcept nogil:
    if itemsize == sizeof(float):
        return (<const float *> numbers)[index]
    return (<const double *> numbers)[index]


cdef inline void set_number(void *numbers, ptrdiff_t index, double value, ptrdiff_t itemsize) noexcept nogil:
    if itemsize == sizeof(float):
        (<float *> numbers)[index] = <float> value
    else:
        (<double *> numbers)[index] = value


cdef inline int check_window(const window_shape *s) except -1:
    """ValueError for a stride, dilation or padding with which positions could overflow."""
    if not 1 <= s.stride <= MAX_OFFSET:
        raise ValueError(f"stride must be from 1 to {MAX_OFFSET}, got {s.stride}")
    if min(s.dilation, s.pad_top, s.pad_left) < 0 or max(s.dilation, s.pad_top, s.pad_left) > MAX_OFFSET:
        raise ValueError(
            f"dilation, pad_top and pad_left must be from 0 to {MAX_OFFSET}, "
            f"got {s.dilation}, {s.pad_top} and {s.pad_left}"
        )
    return 0
