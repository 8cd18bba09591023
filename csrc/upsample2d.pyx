# Upsampling: argument checks, and the split of the work into output rows forward and images backward.

from cython cimport floating

from stages cimport add_stage, new_work
from tables cimport MAX_OFFSET, import_f32, import_f64, window_shape

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct kernel_table:
        void (*upsample2d_forward)(void *, const void *, const window_shape *, int, ptrdiff_t) noexcept nogil
        void (*upsample2d_backward)(void *, const void *, const window_shape *, int, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    SMALL_WORK = 20_000     # output elements below which waking other threads costs more than it saves


cdef struct upsampling:
    const kernel_table *table
    window_shape s
    const void *x
    const void *dy
    void *y
    void *dx
    bint bilinear


cdef window_shape upsampled(tuple y, tuple x, tuple factor) except *:
    cdef window_shape s
    s.n, s.h, s.w, s.c = x
    s.oh, s.ow = y[1], y[2]
    s.r, s.s = factor
    s.k, s.stride, s.dilation, s.pad_top, s.pad_left = 0, 1, 0, 0, 0
    if not 1 <= min(s.r, s.s) <= max(s.r, s.s) <= MAX_OFFSET:
        raise ValueError(f"factor must be from 1 to {MAX_OFFSET}, got {factor}")
    if min(x) < 1 or y != (s.n, s.h * s.r, s.w * s.s, s.c):
        raise ValueError(
            f"output and input must be (N, {s.r} * H, {s.s} * W, C) and (N, H, W, C), none of them empty, "
            f"got {y} and {x}"
        )
    return s


cdef inline bint is_small(const window_shape *s) noexcept nogil:
    return s.n * s.oh * s.ow * s.c < SMALL_WORK


def forward(
    program,
    floating[:, :, :, ::1] y not None,         # OUT (N, R * H, S * W, C)
    const floating[:, :, :, ::1] x not None,   # IN  (N, H, W, C)
    *, tuple factor, bint bilinear,
):
    """y = x enlarged by the factors (R, S), bilinear or by repeating each pixel."""
    cdef window_shape s = upsampled((<object> y).shape, (<object> x).shape, factor)
    cdef upsampling *work = <upsampling *> new_work(program, (y, x), sizeof(upsampling), 0, 0)
    work.table, work.s, work.bilinear = f32 if floating is float else f64, s, bilinear
    work.y, work.x = &y[0, 0, 0, 0], &x[0, 0, 0, 0]
    add_stage(program, forward_row, work, s.n * s.oh, is_small(&s))


cdef void forward_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const upsampling *u = <const upsampling *> work
    u.table.upsample2d_forward(u.y, u.x, &u.s, u.bilinear, index)


def backward(
    program,
    floating[:, :, :, ::1] dx not None,        # OUT (N, H, W, C)
    const floating[:, :, :, ::1] dy not None,  # IN  (N, R * H, S * W, C)
    *, tuple factor, bint bilinear,
):
    """dx = the gradient of the loss with respect to the input of `forward`."""
    cdef window_shape s = upsampled((<object> dy).shape, (<object> dx).shape, factor)
    cdef upsampling *work = <upsampling *> new_work(program, (dx, dy), sizeof(upsampling), 0, 0)
    work.table, work.s, work.bilinear = f32 if floating is float else f64, s, bilinear
    work.dx, work.dy = &dx[0, 0, 0, 0], &dy[0, 0, 0, 0]
    add_stage(program, backward_image, work, s.n, is_small(&s))


cdef void backward_image(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const upsampling *u = <const upsampling *> work
    u.table.upsample2d_backward(u.dx, u.dy, &u.s, u.bilinear, index)
