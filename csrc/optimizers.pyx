# Optimizer updates in place on flat arrays, split into ranges of RANGE elements.

from cython cimport floating
from cython.parallel cimport prange

from libc.math cimport pow

from tables cimport ceil_div, check_threads, import_tables, kernel_table, range_end, table_pair

cdef const table_pair *tables = import_tables()

cdef enum:
    RANGE = 8192           # elements of a piece of work
    SMALL_WORK = 32_768    # elements below which waking other threads costs more than it saves
    MAX_PARTS = 256        # partial sums of sum_of_squares


cdef ptrdiff_t common_size(tuple sizes) except -1:
    if len(set(sizes)) > 1:
        raise ValueError(f"param, its state and its gradient must have the same number of elements, got {sizes}")
    return sizes[0]


def sgd(
    floating[::1] param not None, floating[::1] velocity not None, const floating[::1] grad not None,
    *, double lr, double momentum, double grad_scale, int n_threads,
):
    """velocity = momentum * velocity + lr * grad; param -= velocity."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t size = common_size((param.shape[0], velocity.shape[0], grad.shape[0])), i
    for i in prange(ceil_div(size, RANGE), num_threads=n_threads, schedule="static",
                    use_threads_if=size >= SMALL_WORK, nogil=True):
        table.sgd(&param[0], &velocity[0], &grad[0], lr, momentum, grad_scale, i * RANGE, range_end(i, RANGE, size))


def adagrad(
    floating[::1] param not None, floating[::1] sum_of_squares not None, const floating[::1] grad not None,
    *, double lr, double eps, double grad_scale, int n_threads,
):
    """sum_of_squares += grad^2; param -= lr * grad / (sqrt(sum_of_squares) + eps)."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t size = common_size((param.shape[0], sum_of_squares.shape[0], grad.shape[0])), i
    for i in prange(ceil_div(size, RANGE), num_threads=n_threads, schedule="static",
                    use_threads_if=size >= SMALL_WORK, nogil=True):
        table.adagrad(&param[0], &sum_of_squares[0], &grad[0], lr, eps, grad_scale, i * RANGE,
                      range_end(i, RANGE, size))


def rmsprop(
    floating[::1] param not None, floating[::1] mean_square not None, const floating[::1] grad not None,
    *, double lr, double decay, double eps, double grad_scale, int n_threads,
):
    """mean_square = decay * mean_square + (1 - decay) * grad^2; param -= lr * grad / (sqrt(mean_square) + eps)."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t size = common_size((param.shape[0], mean_square.shape[0], grad.shape[0])), i
    for i in prange(ceil_div(size, RANGE), num_threads=n_threads, schedule="static",
                    use_threads_if=size >= SMALL_WORK, nogil=True):
        table.rmsprop(&param[0], &mean_square[0], &grad[0], lr, decay, eps, grad_scale, i * RANGE,
                      range_end(i, RANGE, size))


def adam(
    floating[::1] param not None, floating[::1] mean not None, floating[::1] variance not None,
    const floating[::1] grad not None,
    *, double lr, double decay1, double decay2, double eps, long long step, double grad_scale, int n_threads,
):
    """Moving averages of grad and grad^2, corrected for their start at zero; step counts from 1."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t size = common_size((param.shape[0], mean.shape[0], variance.shape[0], grad.shape[0])), i
    cdef double correction1 = 1 - pow(decay1, <double> step), correction2 = 1 - pow(decay2, <double> step)
    for i in prange(ceil_div(size, RANGE), num_threads=n_threads, schedule="static",
                    use_threads_if=size >= SMALL_WORK, nogil=True):
        table.adam(&param[0], &mean[0], &variance[0], &grad[0], lr, decay1, decay2, eps, correction1, correction2,
                   grad_scale, i * RANGE, range_end(i, RANGE, size))


def sum_of_squares(const floating[::1] x not None, *, int n_threads):
    """The sum of the squares of all elements, accumulated in float64 in an order that the size alone decides."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t size = x.shape[0], i
    cdef ptrdiff_t part = max(RANGE, ceil_div(size, MAX_PARTS)), parts = ceil_div(size, part)
    cdef double[MAX_PARTS] sums
    cdef double total = 0
    for i in prange(parts, num_threads=n_threads, schedule="static", use_threads_if=size >= SMALL_WORK, nogil=True):
        sums[i] = table.sum_of_squares(&x[0], i * part, range_end(i, part, size))
    for i in range(parts):
        total += sums[i]
    return total
