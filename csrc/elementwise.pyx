# Single passes over whole arrays.

from cython cimport floating
from cython.parallel cimport prange

from tables cimport ceil_div, check_threads, import_tables, kernel_table, range_end, table_pair

cdef const table_pair *tables = import_tables()

cdef enum:
    RANGE = 4096           # elements of a piece of work
    SMALL_WORK = 32_768    # elements below which waking other threads costs more than it saves,
    SMALL_SIGMOID = 8_192  # and the same where each takes an exponential


def relu_backward(
    floating[::1] dz not None, const floating[::1] dy not None, const floating[::1] y not None, *, int n_threads,
):
    """dz = dy where y (ReLU's output, or its input) is positive, else 0."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t size = dz.shape[0], i
    if dy.shape[0] != size or y.shape[0] != size:
        raise ValueError(f"dz, dy and y must have the same size, got {size}, {dy.shape[0]} and {y.shape[0]}")
    for i in prange(ceil_div(size, RANGE), num_threads=n_threads, schedule="static",
                    use_threads_if=size >= SMALL_WORK, nogil=True):
        table.relu_backward(&dz[0], &dy[0], &y[0], i * RANGE, range_end(i, RANGE, size))


def sigmoid(floating[::1] out not None, const floating[::1] z not None, *, int n_threads):
    """out = 1 / (1 + exp(-z)); out may be z."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t size = z.shape[0], i
    if out.shape[0] != size:
        raise ValueError(f"out and z must have the same size, got {out.shape[0]} and {size}")
    for i in prange(ceil_div(size, RANGE), num_threads=n_threads, schedule="static",
                    use_threads_if=size >= SMALL_SIGMOID, nogil=True):
        table.sigmoid(&out[0], &z[0], i * RANGE, range_end(i, RANGE, size))
