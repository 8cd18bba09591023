# Pooling: argument checks, and the split of the work into output rows forward and images backward.

from cython cimport floating
from libc.stdint cimport int32_t

from stages cimport add_stage, new_work
from tables cimport MAX_OFFSET, check_window, import_f32, import_f64, window_shape

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct kernel_table:
        void (*pool2d_max_forward)(void *, int32_t *, const void *, const window_shape *, ptrdiff_t) noexcept nogil
        void (*pool2d_max_backward)(void *, const void *, const int32_t *, const window_shape *) noexcept nogil
        void (*pool2d_average_forward)(void *, const void *, const window_shape *, ptrdiff_t) noexcept nogil
        void (*pool2d_average_backward)(void *, const void *, const window_shape *, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    SMALL_WORK = 20_000     # window elements below which waking other threads costs more than it saves


cdef struct pooling:
    const kernel_table *table
    window_shape s
    const void *x
    const void *dy
    const int32_t *from_places
    void *y
    void *dx
    int32_t *places
    ptrdiff_t itemsize


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
    if s.r < 1 or s.s < 1 or s.r > MAX_OFFSET // s.s:
        raise ValueError(f"kernel_shape must be at least 1 and hold at most {MAX_OFFSET} elements, got {kernel_shape}")
    check_window(&s)
    return s


cdef int check_argmax(const int32_t[:, :, :, ::1] argmax, const window_shape *s) except -1:
    if (argmax.shape[0], argmax.shape[1], argmax.shape[2], argmax.shape[3]) != (s.n, s.oh, s.ow, s.c):
        raise ValueError(f"argmax must have the output's shape {(s.n, s.oh, s.ow, s.c)}, got {(<object> argmax).shape}")
    return 0


cdef inline bint is_small(const window_shape *s) noexcept nogil:
    return s.n * s.oh * s.ow * s.c * s.r * s.s < SMALL_WORK


def max_forward(
    program,
    floating[:, :, :, ::1] y not None,            # OUT (N, OH, OW, C)
    int32_t[:, :, :, ::1] argmax not None,        # OUT (N, OH, OW, C), index row * S + column within the window
    const floating[:, :, :, ::1] x not None,      # IN  (N, H, W, C)
    *, tuple kernel_shape, ptrdiff_t stride, ptrdiff_t pad_top, ptrdiff_t pad_left,
):
    """The maximum of each window, the first in row-major order where several are equal; NaN if the window holds one."""
    cdef window_shape s = window(y, x, kernel_shape, stride, pad_top, pad_left)
    check_argmax(argmax, &s)
    cdef pooling *work = <pooling *> new_work(program, (y, argmax, x), sizeof(pooling), 0, 0)
    work.table, work.s, work.itemsize = f32 if floating is float else f64, s, sizeof(floating)
    work.y, work.places, work.x = &y[0, 0, 0, 0], &argmax[0, 0, 0, 0], &x[0, 0, 0, 0]
    add_stage(program, max_forward_row, work, s.n * s.oh, is_small(&s))


cdef void max_forward_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const pooling *p = <const pooling *> work
    cdef ptrdiff_t at = index * p.s.ow * p.s.c
    p.table.pool2d_max_forward(<char *> p.y + at * p.itemsize, p.places + at, p.x, &p.s, index)


def max_backward(
    program,
    floating[:, :, :, ::1] dx not None,           # OUT (N, H, W, C)
    const floating[:, :, :, ::1] dy not None,     # IN  (N, OH, OW, C)
    const int32_t[:, :, :, ::1] argmax not None,  # IN  (N, OH, OW, C), from max_forward
    *, tuple kernel_shape, ptrdiff_t stride, ptrdiff_t pad_top, ptrdiff_t pad_left,
):
    """Each window's gradient goes to its maximum; if that was padding, the gradient is dropped."""
    cdef window_shape s = window(dy, dx, kernel_shape, stride, pad_top, pad_left)
    check_argmax(argmax, &s)
    cdef pooling *work = <pooling *> new_work(program, (dx, dy, argmax), sizeof(pooling), 0, 0)
    work.table, work.s, work.itemsize = f32 if floating is float else f64, s, sizeof(floating)
    work.dx, work.dy, work.from_places = &dx[0, 0, 0, 0], &dy[0, 0, 0, 0], &argmax[0, 0, 0, 0]
    add_stage(program, max_backward_image, work, s.n, is_small(&s))


cdef void max_backward_image(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const pooling *p = <const pooling *> work
    cdef ptrdiff_t at = index * p.s.oh * p.s.ow * p.s.c, to = index * p.s.h * p.s.w * p.s.c
    p.table.pool2d_max_backward(<char *> p.dx + to * p.itemsize, <const char *> p.dy + at * p.itemsize,
                                p.from_places + at, &p.s)


def average_forward(
    program,
    floating[:, :, :, ::1] y not None,            # OUT (N, OH, OW, C)
    const floating[:, :, :, ::1] x not None,      # IN  (N, H, W, C)
    *, tuple kernel_shape, ptrdiff_t stride, ptrdiff_t pad_top, ptrdiff_t pad_left,
):
    """The mean of each window, padding counted."""
    cdef window_shape s = window(y, x, kernel_shape, stride, pad_top, pad_left)
    cdef pooling *work = <pooling *> new_work(program, (y, x), sizeof(pooling), 0, 0)
    work.table, work.s = f32 if floating is float else f64, s
    work.y, work.x = &y[0, 0, 0, 0], &x[0, 0, 0, 0]
    add_stage(program, average_forward_row, work, s.n * s.oh, is_small(&s))


cdef void average_forward_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const pooling *p = <const pooling *> work
    p.table.pool2d_average_forward(p.y, p.x, &p.s, index)


def average_backward(
    program,
    floating[:, :, :, ::1] dx not None,           # OUT (N, H, W, C)
    const floating[:, :, :, ::1] dy not None,     # IN  (N, OH, OW, C)
    *, tuple kernel_shape, ptrdiff_t stride, ptrdiff_t pad_top, ptrdiff_t pad_left,
):
    """Each window's gradient is shared out equally."""
    cdef window_shape s = window(dy, dx, kernel_shape, stride, pad_top, pad_left)
    cdef pooling *work = <pooling *> new_work(program, (dx, dy), sizeof(pooling), 0, 0)
    work.table, work.s = f32 if floating is float else f64, s
    work.dx, work.dy = &dx[0, 0, 0, 0], &dy[0, 0, 0, 0]
    add_stage(program, average_backward_image, work, s.n, is_small(&s))


cdef void average_backward_image(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const pooling *p = <const pooling *> work
    p.table.pool2d_average_backward(p.dx, p.dy, &p.s, index)
