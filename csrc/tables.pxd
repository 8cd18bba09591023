# The C kernels as the Cython modules see them (kernels/kernels.h has the comments), and how a module gets the table that
# dispatch.pyx chose.

from cpython.pycapsule cimport PyCapsule_Import
from libc.stdint cimport int32_t

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct window_shape:
        ptrdiff_t n, h, w, c, k, r, s, oh, ow, stride, dilation, pad_top, pad_left

    enum:
        BLOCK_ROWS
        BLOCK_DEPTH

    ctypedef struct kernel_table:
        const char *name
        int panel
        ptrdiff_t block_scratch
        void (*pack_panels)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                            ptrdiff_t) noexcept nogil
        void (*conv2d_forward)(void *, const void *, const void *, const void *, const window_shape *, int, ptrdiff_t,
                               ptrdiff_t, void *) noexcept nogil
        void (*conv2d_grad_input)(void *, const void *, const void *, const window_shape *, ptrdiff_t, void *) noexcept nogil
        void (*conv2d_grad_weight)(void *, void *, const void *, const void *, const window_shape *, ptrdiff_t,
                                   ptrdiff_t, void *) noexcept nogil
        ptrdiff_t (*conv2d_grad_input_scratch)(const window_shape *) noexcept nogil
        ptrdiff_t (*conv2d_grad_weight_scratch)(const window_shape *) noexcept nogil
        void (*dense_block)(void *, const void *, const void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                            ptrdiff_t, int, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        ptrdiff_t (*dense_scratch)(ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*dense_grad_weight)(void *, const void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                                  ptrdiff_t, void *) noexcept nogil
        ptrdiff_t (*dense_grad_weight_scratch)(ptrdiff_t) noexcept nogil
        void (*column_sums)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*pool2d_max_forward)(void *, int32_t *, const void *, const window_shape *, ptrdiff_t) noexcept nogil
        void (*pool2d_max_backward)(void *, const void *, const int32_t *, const window_shape *, ptrdiff_t) noexcept nogil
        void (*pool2d_average_forward)(void *, const void *, const window_shape *, ptrdiff_t) noexcept nogil
        void (*pool2d_average_backward)(void *, const void *, const window_shape *, ptrdiff_t) noexcept nogil
        void (*relu_backward)(void *, const void *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*set_zero)(void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*sum_lanes)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*sigmoid)(void *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        double (*bce_with_logits)(void *, void *, const void *, const void *, ptrdiff_t, double, ptrdiff_t) noexcept nogil
        double (*gaussian_kl)(void *, void *, const void *, const void *, ptrdiff_t, double, ptrdiff_t) noexcept nogil
        void (*sgd)(void *, void *, const void *, double, double, double, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*adagrad)(void *, void *, const void *, double, double, double, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*rmsprop)(void *, void *, const void *, double, double, double, double, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*adam)(void *, void *, void *, const void *, double, double, double, double, double, double, double,
                     ptrdiff_t, ptrdiff_t) noexcept nogil
        double (*sum_of_squares)(const void *, ptrdiff_t, ptrdiff_t) noexcept nogil


# One for each number type.
ctypedef struct table_pair:
    const kernel_table *f32
    const kernel_table *f64


cdef inline const table_pair *import_tables() except NULL:
    return <const table_pair *> PyCapsule_Import("cvae._kernels.dispatch.tables", 0)


# The end of the given range of a fixed split: range `index` of `size` elements ends at (index + 1) * size, or at the end.
cdef inline ptrdiff_t range_end(ptrdiff_t index, ptrdiff_t size, ptrdiff_t end) noexcept nogil:
    return min((index + 1) * size, end)


cdef inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline char *reserve(object workspace, ptrdiff_t elements, ptrdiff_t itemsize) except NULL:
    """Memory for so many elements out of the caller's workspace (cvae/workspace.py)."""
    cdef unsigned char[::1] buffer = workspace.reserve(max(1, elements) * itemsize)
    return <char *> &buffer[0]
