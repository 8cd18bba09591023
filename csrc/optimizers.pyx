# Optimizer updates in place on flat arrays, split into ranges of RANGE elements.
#
# What may change from step to step comes in an array that is read when the program runs: lr, the learning rate;
# grad_scale, which the gradient is multiplied by; and the optimizer's constants.

from cython cimport floating
from cython.parallel cimport prange

from stages cimport add_stage, new_work, piece_function
from tables cimport ceil_div, check_threads, import_tables, kernel_table, range_end, table_pair

cdef const table_pair *tables = import_tables()

cdef enum:
    RANGE = 8192           # elements of a piece of work
    SMALL_WORK = 32_768    # elements below which waking other threads costs more than it saves
    MAX_PARTS = 256        # partial sums of sum_of_squares


cdef struct update:
    const kernel_table *table
    void *param
    void *state
    void *second_state
    const void *grad
    const double *scalars
    ptrdiff_t size


cdef update *record(
    program, piece_function piece, floating[::1] param, floating[::1] state, const floating[::1] grad,
    const double[::1] scalars, ptrdiff_t count, tuple more,
) except NULL:
    cdef ptrdiff_t size = param.shape[0]
    if state.shape[0] != size or grad.shape[0] != size or any([len(array) != size for array in more]):
        raise ValueError(
            "param, its state and its gradient must have the same number of elements, got "
            f"{(size, state.shape[0], grad.shape[0], *map(len, more))}"
        )
    if scalars.shape[0] != count:
        raise ValueError(f"scalars must be {count} numbers, got {scalars.shape[0]}")
    cdef update *work = <update *> new_work(program, (param, state, grad, scalars, more), sizeof(update), 0, 0)
    work.table, work.size = tables.f32 if floating is float else tables.f64, size
    work.param, work.state, work.grad, work.scalars = &param[0], &state[0], &grad[0], &scalars[0]
    add_stage(program, piece, work, ceil_div(size, RANGE), size < SMALL_WORK)
    return work


def sgd(
    program, floating[::1] param not None, floating[::1] velocity not None, const floating[::1] grad not None,
    const double[::1] scalars not None,    # lr, grad_scale, momentum
):
    """velocity = momentum * velocity + lr * grad; param -= velocity."""
    record(program, sgd_range, param, velocity, grad, scalars, 3, ())


cdef void sgd_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const update *u = <const update *> work
    u.table.sgd(u.param, u.state, u.grad, u.scalars[0], u.scalars[2], u.scalars[1], index * RANGE,
                range_end(index, RANGE, u.size))


def adagrad(
    program, floating[::1] param not None, floating[::1] sum_of_squares not None, const floating[::1] grad not None,
    const double[::1] scalars not None,    # lr, grad_scale, eps
):
    """sum_of_squares += grad^2; param -= lr * grad / (sqrt(sum_of_squares) + eps)."""
    record(program, adagrad_range, param, sum_of_squares, grad, scalars, 3, ())


cdef void adagrad_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const update *u = <const update *> work
    u.table.adagrad(u.param, u.state, u.grad, u.scalars[0], u.scalars[2], u.scalars[1], index * RANGE,
                    range_end(index, RANGE, u.size))


def rmsprop(
    program, floating[::1] param not None, floating[::1] mean_square not None, const floating[::1] grad not None,
    const double[::1] scalars not None,    # lr, grad_scale, decay, eps
):
    """mean_square = decay * mean_square + (1 - decay) * grad^2; param -= lr * grad / (sqrt(mean_square) + eps)."""
    record(program, rmsprop_range, param, mean_square, grad, scalars, 4, ())


cdef void rmsprop_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const update *u = <const update *> work
    u.table.rmsprop(u.param, u.state, u.grad, u.scalars[0], u.scalars[2], u.scalars[3], u.scalars[1], index * RANGE,
                    range_end(index, RANGE, u.size))


def adam(
    program, floating[::1] param not None, floating[::1] mean not None, floating[::1] variance not None,
    const floating[::1] grad not None,
    const double[::1] scalars not None,    # lr, grad_scale, decay1, decay2, eps, 1 - decay1^t, 1 - decay2^t
):
    """Moving averages of grad and grad^2, corrected for their start at zero; t counts the updates from 1."""
    cdef update *work = record(program, adam_range, param, mean, grad, scalars, 7, (variance,))
    work.second_state = &variance[0]


cdef void adam_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const update *u = <const update *> work
    u.table.adam(u.param, u.state, u.second_state, u.grad, u.scalars[0], u.scalars[2], u.scalars[3], u.scalars[4],
                 u.scalars[5], u.scalars[6], u.scalars[1], index * RANGE, range_end(index, RANGE, u.size))


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
