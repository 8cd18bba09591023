# Pooling: argument checks and the OpenMP loops, over output rows forward and over images backward.

from cython cimport floating
from cython.parallel cimport prange

from libc.stdint cimport int32_t

from tables cimport MAX_STEP, check_steps, check_threads, import_tables, kernel_table, table_pair, window_shape

cdef const table_pair *tables = import_tables()

cdef enum:
    SMALL_WORK = 20_000     # window elements below which waking other threads costs more than it saves


cdef window_shape window(
    const floating[:, :, :, ::1] y, const floating[:, :, :, ::1] x, tuple kernel_shape, ptrdiff_t stride,
    ptrdiff_t pad_top, ptrdiff_t pad_left,
) except *:
    cdef window_shape s
    s.n, s.h, s.w, s.c = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.r, s.s = kernel_shape
    s.k, s.dilation = 0, 0
    s.oh, s.ow = y.shape[1], y.shape[2]
    s.stride, s.pad_top, s.pad_left = stride, pad_top, pad_left
    if y.shape[0] != s.n or y.shape[3] != s.c:
        raise ValueError(
            "output and input must be (N, OH, OW, C) and (N, H, W, C), got "
            f"{(<object> y).shape} and {(<object> x).shape}"
        )
    if s.r < 1 or s.s < 1 or s.r > MAX_STEP // s.s:
        raise ValueError(f"kernel_shape must be at least 1 and hold at most {MAX_STEP} elements, got {kernel_shape}")
    check_steps(&s)
    return s


cdef int check_argmax(const int32_t[:, :, :, ::1] argmax, const window_shape *s) except -1:
    if (argmax.shape[0], argmax.shape[1], argmax.shape[2], argmax.shape[3]) != (s.n, s.oh, s.ow, s.c):
        raise ValueError(f"argmax must have the output's shape {(s.n, s.oh, s.ow, s.c)}, got {(<object> argmax).shape}")
    return 0


cdef inline bint is_small(const window_shape *s) noexcept nogil:
    return s.n * s.oh * s.ow * s.c * s.r * s.s < SMALL_WORK


def max_forward(
    floating[:, :, :, ::1] y not None,            # OUT (N, OH, OW, C)
    int32_t[:, :, :, ::1] argmax not None,        # OUT (N, OH, OW, C), index row * S + column within the window
    const floating[:, :, :, ::1] x not None,      # IN  (N, H, W, C)
    *, tuple kernel_shape, ptrdiff_t stride, ptrdiff_t pad_top, ptrdiff_t pad_left, int n_threads,
):
    """The maximum of each window, the first in row-major order where several are equal; NaN if the window holds one."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef window_shape s = window(y, x, kernel_shape, stride, pad_top, pad_left)
    cdef ptrdiff_t i
    check_argmax(argmax, &s)
    for i in prange(s.n * s.oh, num_threads=n_threads, schedule="static", use_threads_if=not is_small(&s), nogil=True):
        table.pool2d_max_forward(&y[0, 0, 0, 0], &argmax[0, 0, 0, 0], &x[0, 0, 0, 0], &s, i)


def max_backward(
    floating[:, :, :, ::1] dx not None,           # OUT (N, H, W, C)
    const floating[:, :, :, ::1] dy not None,     # IN  (N, OH, OW, C)
    const int32_t[:, :, :, ::1] argmax not None,  # IN  (N, OH, OW, C), from max_forward
    *, tuple kernel_shape, ptrdiff_t stride, ptrdiff_t pad_top, ptrdiff_t pad_left, int n_threads,
):
    """Each window's gradient goes to its maximum; where that was padding it is dropped."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef window_shape s = window(dy, dx, kernel_shape, stride, pad_top, pad_left)
    cdef ptrdiff_t i
    check_argmax(argmax, &s)
    for i in prange(s.n, num_threads=n_threads, schedule="static", use_threads_if=not is_small(&s), nogil=True):
        table.pool2d_max_backward(&dx[0, 0, 0, 0], &dy[0, 0, 0, 0], &argmax[0, 0, 0, 0], &s, i)


def average_forward(
    floating[:, :, :, ::1] y not None,            # OUT (N, OH, OW, C)
    const floating[:, :, :, ::1] x not None,      # IN  (N, H, W, C)
    *, tuple kernel_shape, ptrdiff_t stride, ptrdiff_t pad_top, ptrdiff_t pad_left, int n_threads,
):
    """The mean of each window, padding counted."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef window_shape s = window(y, x, kernel_shape, stride, pad_top, pad_left)
    cdef ptrdiff_t i
    for i in prange(s.n * s.oh, num_threads=n_threads, schedule="static", use_threads_if=not is_small(&s), nogil=True):
        table.pool2d_average_forward(&y[0, 0, 0, 0], &x[0, 0, 0, 0], &s, i)


def average_backward(
    floating[:, :, :, ::1] dx not None,           # OUT (N, H, W, C)
    const floating[:, :, :, ::1] dy not None,     # IN  (N, OH, OW, C)
    *, tuple kernel_shape, ptrdiff_t stride, ptrdiff_t pad_top, ptrdiff_t pad_left, int n_threads,
):
    """Each window's gradient is shared out equally."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef window_shape s = window(dy, dx, kernel_shape, stride, pad_top, pad_left)
    cdef ptrdiff_t i
    for i in prange(s.n, num_threads=n_threads, schedule="static", use_threads_if=not is_small(&s), nogil=True):
        table.pool2d_average_backward(&dx[0, 0, 0, 0], &dy[0, 0, 0, 0], &s, i)
