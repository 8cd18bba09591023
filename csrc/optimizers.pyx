# Optimizer updates in place on flat arrays, split into ranges of RANGE elements.

from cython cimport floating
from cython.parallel cimport prange

from stages cimport add_stage, new_work
from tables cimport ceil_div, check_threads, import_f32, import_f64, parameter_update, range_end
from updates cimport fill_update

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct kernel_table:
        void (*update)(const parameter_update *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        double (*sum_of_squares)(const void *, ptrdiff_t, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    RANGE = 8192           # elements of a piece of work
    SMALL_WORK = 32_768    # elements below which waking other threads costs more than it saves
    MAX_PARTS = 256        # partial sums of sum_of_squares


cdef struct step:
    const kernel_table *table
    parameter_update update
    const char *grad
    ptrdiff_t size, itemsize


def update(
    program,
    str rule,                            # "sgd", "adagrad", "rmsprop" or "adam" (kernels/optimizers.h)
    floating[::1] param not None,        # INOUT (size)
    tuple states not None,               # INOUT arrays (size): Adam's two, the others' one
    const floating[::1] grad not None,   # IN  (size)
    const double[::1] scalars not None,  # IN  lr, grad_scale and the rule's constants, read when the program runs
):
    """The parameter's step along its gradient, which counts grad_scale times."""
    if grad.shape[0] != param.shape[0]:
        raise ValueError(
            "param and its gradient must have the same number of elements, got "
            f"{(param.shape[0], grad.shape[0])}"
        )
    cdef step *work = <step *> new_work(program, (param, grad), sizeof(step), 0, 0)
    work.table, work.size = f32 if floating is float else f64, param.shape[0]
    work.grad, work.itemsize = <const char *> &grad[0], sizeof(floating)
    fill_update(program, &work.update, rule, param, states, scalars)
    add_stage(program, update_range, work, ceil_div(work.size, RANGE), work.size < SMALL_WORK)


cdef void update_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const step *s = <const step *> work
    s.table.update(&s.update, s.grad + index * RANGE * s.itemsize, index * RANGE, range_end(index, RANGE, s.size))


def sum_of_squares(const floating[::1] x not None, *, int n_threads):
    """The sum of the squares of all elements, accumulated in float64 in an order that the size alone decides."""
    check_threads(n_threads)
    cdef const kernel_table *table = f32 if floating is float else f64
    cdef ptrdiff_t size = x.shape[0], i
    cdef ptrdiff_t part = max(RANGE, ceil_div(size, MAX_PARTS)), parts = ceil_div(size, part)
    cdef double[MAX_PARTS] sums
    cdef double total = 0
    for i in prange(parts, num_threads=n_threads, schedule="static", use_threads_if=size >= SMALL_WORK, nogil=True):
        sums[i] = table.sum_of_squares(&x[0], i * part, range_end(i, part, size))
    for i in range(parts):
        total += sums[i]
    return total
