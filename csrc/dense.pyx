# Dense layers: argument checks and the fixed split of the work.  m examples, n_in inputs, n_out outputs.

from cython cimport floating

from stages cimport add_stage, new_work
from tables cimport BLOCK_ROWS, ceil_div, import_tables, kernel_table, range_end, table_pair

cdef const table_pair *tables = import_tables()

cdef enum:
    ROWS = 3 * BLOCK_ROWS    # examples and
    COLUMNS = 64             # columns of the result (rounded up to panels) that one piece of work covers
    SMALL_WORK = 100_000     # multiplications below which waking other threads costs more than it saves


# out (m, n) = left (m, k) times right (k, n), whose strides are given, plus bias, or the weight gradient
# out (k, n) = left (m, k) transposed times right (m, n).
cdef struct product:
    const kernel_table *table
    const void *left
    const void *right
    const void *bias
    void *out
    void *sums
    bint relu
    ptrdiff_t m, n, k, row_stride, column_stride
    ptrdiff_t panels, width, across    # panels of the result, of a piece; pieces side by side


cdef int check(tuple m, tuple n_in, tuple n_out) except -1:
    if len(set(m)) > 1 or len(set(n_in)) > 1 or len(set(n_out)) > 1 or 0 in (m[0], n_in[0], n_out[0]):
        raise ValueError(
            f"shapes do not fit together or are empty: numbers of examples {m}, of inputs {n_in}, of outputs {n_out}"
        )
    return 0


cdef int record_product(program, tuple arrays, product p, ptrdiff_t itemsize) except -1:
    p.panels, p.width = ceil_div(p.n, p.table.panel), ceil_div(COLUMNS, p.table.panel)
    p.across = ceil_div(p.panels, p.width)
    cdef product *work = <product *> new_work(
        program, arrays, sizeof(product), 0, p.table.dense_scratch(p.k, p.width) * itemsize)
    work[0] = p
    add_stage(program, product_piece, work, ceil_div(p.m, ROWS) * p.across, p.m * p.n * p.k < SMALL_WORK)
    return 0


cdef void product_piece(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const product *p = <const product *> work
    cdef ptrdiff_t down = index // p.across, along = index % p.across
    p.table.dense_block(p.out, p.left, p.right, p.bias, p.n, p.k, p.row_stride, p.column_stride, p.relu, down * ROWS,
                        range_end(down, ROWS, p.m), along * p.width, range_end(along, p.width, p.panels), scratch)


def dense_forward(
    program,
    floating[:, ::1] y not None,         # OUT (m, n_out)
    const floating[:, ::1] x not None,   # IN  (m, n_in)
    const floating[:, ::1] w not None,   # IN  (n_in, n_out)
    const floating[::1] b not None,      # IN  (n_out)
    *, bint relu,
):
    """y = x w + b, and then max(y, 0) if relu."""
    check((y.shape[0], x.shape[0]), (x.shape[1], w.shape[0]), (y.shape[1], w.shape[1], b.shape[0]))
    cdef product p
    p.table = tables.f32 if floating is float else tables.f64
    p.out, p.sums, p.left, p.right, p.bias, p.relu = &y[0, 0], NULL, &x[0, 0], &w[0, 0], &b[0], relu
    p.m, p.n, p.k, p.row_stride, p.column_stride = x.shape[0], w.shape[1], w.shape[0], w.shape[1], 1
    record_product(program, (y, x, w, b), p, sizeof(floating))


def dense_grad_input(
    program,
    floating[:, ::1] dx not None,        # OUT (m, n_in)
    const floating[:, ::1] dy not None,  # IN  (m, n_out), gradient of the pre-activation
    const floating[:, ::1] w not None,   # IN  (n_in, n_out)
):
    """dx = dy times w transposed."""
    check((dx.shape[0], dy.shape[0]), (dx.shape[1], w.shape[0]), (dy.shape[1], w.shape[1]))
    cdef product p
    p.table = tables.f32 if floating is float else tables.f64
    p.out, p.sums, p.left, p.right, p.bias, p.relu = &dx[0, 0], NULL, &dy[0, 0], &w[0, 0], NULL, False
    p.m, p.n, p.k, p.row_stride, p.column_stride = dy.shape[0], w.shape[0], w.shape[1], 1, w.shape[1]
    record_product(program, (dx, dy, w), p, sizeof(floating))


def dense_grad_weight(
    program,
    floating[:, ::1] dw not None,        # OUT (n_in, n_out)
    floating[::1] db not None,           # OUT (n_out)
    const floating[:, ::1] x not None,   # IN  (m, n_in)
    const floating[:, ::1] dy not None,  # IN  (m, n_out), gradient of the pre-activation
):
    """dw = x transposed times dy, db = the column sums of dy."""
    check((x.shape[0], dy.shape[0]), (dw.shape[0], x.shape[1]), (dw.shape[1], dy.shape[1], db.shape[0]))
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t m = x.shape[0], k = x.shape[1], n = dy.shape[1]
    cdef product *work = <product *> new_work(
        program, (dw, db, x, dy), sizeof(product), 0, table.dense_grad_weight_scratch(n) * sizeof(floating))
    work.table, work.m, work.n, work.k = table, m, n, k
    work.out, work.sums, work.left, work.right = &dw[0, 0], &db[0], &x[0, 0], &dy[0, 0]
    add_stage(program, grad_weight_rows, work, ceil_div(k, BLOCK_ROWS), m * n * k < SMALL_WORK)
    add_stage(program, grad_bias_columns, work, ceil_div(n, COLUMNS), m * n < SMALL_WORK)


cdef void grad_weight_rows(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const product *p = <const product *> work
    p.table.dense_grad_weight(p.out, p.left, p.right, p.m, p.k, p.n, index * BLOCK_ROWS,
                              range_end(index, BLOCK_ROWS, p.k), scratch)


cdef void grad_bias_columns(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const product *p = <const product *> work
    p.table.column_sums(p.sums, p.right, p.m, p.n, index * COLUMNS, range_end(index, COLUMNS, p.n))
