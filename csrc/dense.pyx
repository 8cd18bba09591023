# Dense layers: argument checks, the fixed split of the work, the OpenMP loops.  m examples, n_in inputs, n_out outputs.

from cython cimport floating
from cython.parallel cimport prange, threadid

from tables cimport (
    BLOCK_ROWS, ceil_div, check_threads, import_tables, kernel_table, range_end, reserve, table_pair,
)

cdef const table_pair *tables = import_tables()

cdef enum:
    ROWS = 3 * BLOCK_ROWS    # examples and
    COLUMNS = 64             # columns of the result (rounded up to panels) that one piece of work covers
    SMALL_WORK = 100_000     # multiplications below which waking other threads costs more than it saves


cdef int product(
    const kernel_table *table, char *out, const char *left, const char *right, const char *bias, ptrdiff_t itemsize,
    ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, ptrdiff_t row_stride, ptrdiff_t column_stride, bint relu, object workspace,
    int n_threads,
) except -1:
    """out (m, n) = left (m, k) times right (k, n), whose strides are given, plus bias."""
    cdef ptrdiff_t panels = ceil_div(n, table.panel), width = ceil_div(COLUMNS, table.panel)
    cdef ptrdiff_t across = ceil_div(panels, width), pieces = ceil_div(m, ROWS) * across, i
    cdef ptrdiff_t scratch_size = table.dense_scratch(k, width) * itemsize
    cdef char *scratch = reserve(workspace, n_threads * scratch_size, 1)
    cdef bint small = m * n * k < SMALL_WORK
    with nogil:
        for i in prange(pieces, num_threads=n_threads, schedule="static", use_threads_if=not small):
            table.dense_block(
                out, left, right, bias, n, k, row_stride, column_stride, relu, i // across * ROWS,
                range_end(i // across, ROWS, m), i % across * width, range_end(i % across, width, panels),
                scratch + threadid() * scratch_size)
    return 0


cdef int check(tuple m, tuple n_in, tuple n_out) except -1:
    if len(set(m)) > 1 or len(set(n_in)) > 1 or len(set(n_out)) > 1 or 0 in (m[0], n_in[0], n_out[0]):
        raise ValueError(
            f"shapes do not fit together or are empty: numbers of examples {m}, of inputs {n_in}, of outputs {n_out}"
        )
    return 0


def dense_forward(
    floating[:, ::1] y not None,         # OUT (m, n_out)
    const floating[:, ::1] x not None,   # IN  (m, n_in)
    const floating[:, ::1] w not None,   # IN  (n_in, n_out)
    const floating[::1] b not None,      # IN  (n_out)
    *, bint relu, object workspace, int n_threads,
):
    """y = x w + b, and then max(y, 0) if relu."""
    check_threads(n_threads)
    check((y.shape[0], x.shape[0]), (x.shape[1], w.shape[0]), (y.shape[1], w.shape[1], b.shape[0]))
    product(
        tables.f32 if floating is float else tables.f64, <char *> &y[0, 0], <const char *> &x[0, 0],
        <const char *> &w[0, 0], <const char *> &b[0], sizeof(floating), x.shape[0], w.shape[1], w.shape[0],
        w.shape[1], 1, relu, workspace, n_threads)


def dense_grad_input(
    floating[:, ::1] dx not None,        # OUT (m, n_in)
    const floating[:, ::1] dy not None,  # IN  (m, n_out), gradient of the pre-activation
    const floating[:, ::1] w not None,   # IN  (n_in, n_out)
    *, object workspace, int n_threads,
):
    """dx = dy times w transposed."""
    check_threads(n_threads)
    check((dx.shape[0], dy.shape[0]), (dx.shape[1], w.shape[0]), (dy.shape[1], w.shape[1]))
    product(
        tables.f32 if floating is float else tables.f64, <char *> &dx[0, 0], <const char *> &dy[0, 0],
        <const char *> &w[0, 0], NULL, sizeof(floating), dy.shape[0], w.shape[0], w.shape[1],
        1, w.shape[1], False, workspace, n_threads)


def dense_grad_weight(
    floating[:, ::1] dw not None,        # OUT (n_in, n_out)
    floating[::1] db not None,           # OUT (n_out)
    const floating[:, ::1] x not None,   # IN  (m, n_in)
    const floating[:, ::1] dy not None,  # IN  (m, n_out), gradient of the pre-activation
    *, object workspace, int n_threads,
):
    """dw = x transposed times dy, db = the column sums of dy."""
    check_threads(n_threads)
    check((x.shape[0], dy.shape[0]), (dw.shape[0], x.shape[1]), (dw.shape[1], dy.shape[1], db.shape[0]))
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t m = x.shape[0], n_in = x.shape[1], n_out = dy.shape[1], i
    cdef ptrdiff_t blocks = ceil_div(n_in, BLOCK_ROWS), ranges = ceil_div(n_out, COLUMNS)
    cdef ptrdiff_t scratch_size = table.dense_grad_weight_scratch(n_out)
    cdef floating *scratch = <floating *> reserve(workspace, n_threads * scratch_size, sizeof(floating))
    cdef bint small = m * n_in * n_out < SMALL_WORK
    with nogil:
        for i in prange(blocks, num_threads=n_threads, schedule="static", use_threads_if=not small):
            table.dense_grad_weight(&dw[0, 0], &x[0, 0], &dy[0, 0], m, n_in, n_out, i * BLOCK_ROWS,
                                    range_end(i, BLOCK_ROWS, n_in), scratch + threadid() * scratch_size)
        for i in prange(ranges, num_threads=n_threads, schedule="static", use_threads_if=not small):
            table.column_sums(&db[0], &dy[0, 0], m, n_out, i * COLUMNS, range_end(i, COLUMNS, n_out))
