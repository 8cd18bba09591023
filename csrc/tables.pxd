# The C kernels as the Cython modules see them (kernels/kernels.h has the comments), and how a module gets the table
# that dispatch.pyx chose.

from cpython.pycapsule cimport PyCapsule_Import
from libc.stdint cimport int32_t, uint8_t

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct window_shape:
        ptrdiff_t n, h, w, c, k, r, s, oh, ow, stride, dilation, pad_top, pad_left

    enum:
        BLOCK_ROWS
        FEW_CHANNELS
        INACTIVE
        BLOCK_DEPTH
        KERNEL_ROWS

    ctypedef enum update_rule:
        SGD
        ADAGRAD
        RMSPROP
        ADAM

    ctypedef struct parameter_update:
        update_rule rule
        void *param
        void *state
        void *second_state
        const double *scalars

    ctypedef struct dense_gradients:
        const void *x
        const void *dy
        const void *w
        void *dx
        void *dw
        const parameter_update *update
        ptrdiff_t m, n, k

    ctypedef struct kernel_table:
        const char *name
        int panel
        ptrdiff_t block_scratch, dense_scratch
        void (*pack_panels)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                            ptrdiff_t) noexcept nogil
        void (*conv2d_forward)(void *, const void *, const void *, const void *, const window_shape *, int, ptrdiff_t,
                               ptrdiff_t, void *) noexcept nogil
        void (*conv2d_grad_input)(void *, const void *, const void *, const window_shape *, ptrdiff_t,
                                  void *) noexcept nogil
        void (*conv2d_grad_weight)(void *, void *, const void *, const void *, const window_shape *, ptrdiff_t,
                                   ptrdiff_t, void *) noexcept nogil
        ptrdiff_t (*conv2d_grad_input_scratch)(const window_shape *) noexcept nogil
        ptrdiff_t (*conv2d_grad_weight_scratch)(const window_shape *) noexcept nogil
        void (*conv_pool_grad_weight)(void *, const void *, const void *, const uint8_t *, const window_shape *,
                                      const window_shape *, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        ptrdiff_t (*conv_pool_grad_weight_scratch)(const window_shape *, const window_shape *) noexcept nogil
        ptrdiff_t (*conv_pool_patch)(const window_shape *) noexcept nogil
        void (*conv_pool_collect)(void *, void *, const void *, const window_shape *, ptrdiff_t,
                                  ptrdiff_t) noexcept nogil
        void (*winograd_kernel)(void *, const void *, const window_shape *, int, ptrdiff_t,
                                ptrdiff_t) noexcept nogil
        ptrdiff_t (*winograd_kernel_size)(const window_shape *, int) noexcept nogil
        ptrdiff_t (*winograd_tiles)(const window_shape *) noexcept nogil
        ptrdiff_t (*winograd_block)(const window_shape *) noexcept nogil
        ptrdiff_t (*winograd_scratch)(const window_shape *) noexcept nogil
        void (*winograd_forward)(void *, const void *, const void *, const void *, const window_shape *, int, ptrdiff_t,
                                 ptrdiff_t, void *) noexcept nogil
        void (*winograd_backward)(void *, void *, int, const void *, const void *, const void *, const window_shape *,
                                  ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        void (*winograd_collect_kernel)(void *, const void *, const window_shape *, ptrdiff_t) noexcept nogil
        void (*winograd_rows_kernel)(void *, const void *, const window_shape *) noexcept nogil
        ptrdiff_t (*winograd_rows_kernel_size)(const window_shape *) noexcept nogil
        ptrdiff_t (*winograd_rows_bands)(const window_shape *) noexcept nogil
        ptrdiff_t (*winograd_rows_scratch)(const window_shape *) noexcept nogil
        void (*winograd_rows_forward)(void *, const void *, const void *, const void *, const window_shape *, int,
                                      ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        void (*dense_forward)(void *, const void *, const void *, const void *, ptrdiff_t, ptrdiff_t, int, ptrdiff_t,
                              ptrdiff_t, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        void (*dense_backward)(const dense_gradients *, const void *, ptrdiff_t, void *) noexcept nogil
        ptrdiff_t (*dense_backward_scratch)(ptrdiff_t) noexcept nogil
        ptrdiff_t (*live_size)(ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*live_find)(void *, const void *, int, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*live_copy)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*column_sums)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*add_column_sums)(void *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*pool2d_max_forward)(void *, int32_t *, const void *, const window_shape *, ptrdiff_t) noexcept nogil
        void (*pool2d_max_backward)(void *, const void *, const int32_t *, const window_shape *) noexcept nogil
        void (*pool2d_average_forward)(void *, const void *, const window_shape *, ptrdiff_t) noexcept nogil
        void (*pool2d_average_backward)(void *, const void *, const window_shape *, ptrdiff_t) noexcept nogil
        void (*relu_backward)(void *, const void *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*set_zero)(void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*sum_lanes)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*sigmoid)(void *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*scale_bytes)(void *, const unsigned char *, ptrdiff_t) noexcept nogil
        void (*narrow)(uint8_t *, const int32_t *, const void *, ptrdiff_t) noexcept nogil
        void (*widen)(int32_t *, const uint8_t *, ptrdiff_t) noexcept nogil
        int (*is_in_unit_range)(const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        double (*bce_with_logits)(void *, const void *, const void *, ptrdiff_t, double, ptrdiff_t) noexcept nogil
        double (*gaussian_kl)(void *, void *, const void *, const void *, ptrdiff_t, double, ptrdiff_t) noexcept nogil
        void (*latent_sample)(void *, void *, void *, void *, const void *, const void *, ptrdiff_t,
                              ptrdiff_t) noexcept nogil
        void (*latent_backward)(void *, const void *, const void *, const void *, const void *, const void *, ptrdiff_t,
                                ptrdiff_t) noexcept nogil
        void (*update)(const parameter_update *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        double (*sum_of_squares)(const void *, ptrdiff_t, ptrdiff_t) noexcept nogil


cdef enum:
    MAX_THREADS = 4096     # as in cvae/threads.py
    MAX_STEP = 1 << 30     # so that no position in an image overflows


# One for each number type.
ctypedef struct table_pair:
    const kernel_table *f32
    const kernel_table *f64


cdef inline const table_pair *import_tables() except NULL:
    return <const table_pair *> PyCapsule_Import("cvae._kernels.dispatch.tables", 0)


# The end of range `index` of a fixed split into ranges of `size`: (index + 1) * size, or the end of all.
cdef inline ptrdiff_t range_end(ptrdiff_t index, ptrdiff_t size, ptrdiff_t end) noexcept nogil:
    return min((index + 1) * size, end)


cdef inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int check_threads(int n_threads) except -1:
    """ValueError for what OpenMP would replace by another number, or end the process over."""
    if not 1 <= n_threads <= MAX_THREADS:
        raise ValueError(f"n_threads must be from 1 to {MAX_THREADS}, got {n_threads}")
    return 0


cdef inline int check_steps(const window_shape *s) except -1:
    """ValueError for a stride, dilation or padding with which no position can be computed."""
    if not 1 <= s.stride <= MAX_STEP:
        raise ValueError(f"stride must be from 1 to {MAX_STEP}, got {s.stride}")
    if min(s.dilation, s.pad_top, s.pad_left) < 0 or max(s.dilation, s.pad_top, s.pad_left) > MAX_STEP:
        raise ValueError(
            f"dilation, pad_top and pad_left must be from 0 to {MAX_STEP}, "
            f"got {s.dilation}, {s.pad_top} and {s.pad_left}"
        )
    return 0


cdef inline object reserve(object workspace, ptrdiff_t nbytes):
    """At least so many bytes out of the caller's workspace (cvae/workspace.py)."""
    nbytes = max(1, nbytes)
    buffer = workspace.reserve(nbytes)
    cdef unsigned char[::1] view = buffer
    if view is None or view.shape[0] < nbytes:
        raise ValueError(f"workspace must reserve at least {nbytes} bytes")
    return buffer
