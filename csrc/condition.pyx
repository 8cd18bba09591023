# Labels as further channels of the examples of a batch: argument checks, and the split of the work into examples.

from cython cimport floating

from stages cimport add_stage, new_work
from tables cimport import_f32, import_f64

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct kernel_table:
        void (*condition_forward)(void *, const void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                                  ptrdiff_t) noexcept nogil
        void (*condition_backward)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    SMALL_WORK = 32_768     # output elements below which waking other threads costs more than it saves


cdef struct examples:
    const kernel_table *table
    const void *x
    const void *labels
    const void *dy
    void *y
    void *dx
    ptrdiff_t pixels, channels, n_labels


cdef int check_shapes(tuple wide, tuple narrow, ptrdiff_t n_labels) except -1:
    if min(narrow) < 1 or n_labels < 1 or wide != (narrow[0], narrow[1], narrow[2] + n_labels):
        raise ValueError(
            f"the arrays with and without {n_labels} labels must be (N, pixels, C + {n_labels}) and (N, pixels, C), "
            f"none of them empty, got {wide} and {narrow}"
        )
    return 0


def forward(
    program,
    floating[:, :, ::1] y not None,           # OUT (N, pixels, C + L)
    const floating[:, :, ::1] x not None,     # IN  (N, pixels, C)
    const floating[:, ::1] labels not None,   # IN  (N, L)
):
    """y = x and, after the channels of each pixel, the labels of its example."""
    check_shapes((<object> y).shape, (<object> x).shape, labels.shape[1])
    if labels.shape[0] != x.shape[0]:
        raise ValueError(f"there must be labels for each of {x.shape[0]} examples, got {labels.shape[0]}")
    cdef examples *work = <examples *> new_work(program, (y, x, labels), sizeof(examples), 0, 0)
    work.table = f32 if floating is float else f64
    work.y, work.x, work.labels = &y[0, 0, 0], &x[0, 0, 0], &labels[0, 0]
    work.pixels, work.channels, work.n_labels = x.shape[1], x.shape[2], labels.shape[1]
    add_stage(program, forward_example, work, x.shape[0], y.shape[0] * y.shape[1] * y.shape[2] < SMALL_WORK)


cdef void forward_example(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const examples *e = <const examples *> work
    e.table.condition_forward(e.y, e.x, e.labels, e.pixels, e.channels, e.n_labels, index)


def backward(
    program,
    floating[:, :, ::1] dx not None,          # OUT (N, pixels, C)
    const floating[:, :, ::1] dy not None,    # IN  (N, pixels, C + L)
    *, ptrdiff_t n_labels,
):
    """dx = the gradient of the loss with respect to the input of `forward`: dy without the labels' channels."""
    check_shapes((<object> dy).shape, (<object> dx).shape, n_labels)
    cdef examples *work = <examples *> new_work(program, (dx, dy), sizeof(examples), 0, 0)
    work.table = f32 if floating is float else f64
    work.dx, work.dy = &dx[0, 0, 0], &dy[0, 0, 0]
    work.pixels, work.channels, work.n_labels = dx.shape[1], dx.shape[2], n_labels
    add_stage(program, backward_example, work, dx.shape[0], dy.shape[0] * dy.shape[1] * dy.shape[2] < SMALL_WORK)


cdef void backward_example(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const examples *e = <const examples *> work
    e.table.condition_backward(e.dx, e.dy, e.pixels, e.channels, e.n_labels, index)
