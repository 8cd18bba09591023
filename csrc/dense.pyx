# Dense layers: argument checks and the fixed split of the work.  m examples, n_in inputs, n_out outputs.

from cython cimport floating

from stages cimport add_stage, new_work
from tables cimport ceil_div, import_tables, kernel_table, range_end, table_pair

cdef const table_pair *tables = import_tables()

cdef enum:
    PIECES = 16              # of work, at least, if there are enough panels of columns: equal ones, an even number
    ROWS = 256               # most examples that one piece of a product covers,
    EXAMPLE_COLUMNS = 512    # columns of the result if there is a single example: the rows read are then long,
    WEIGHT_ROWS = 400        # and most rows of the weight gradient
    SUMS = 64                # columns that are summed up at once
    SMALL_WORK = 500_000     # multiplications below which waking other threads costs more than it saves


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
    ptrdiff_t rows, panels             # of the result
    ptrdiff_t down, across             # pieces one below another and side by side


cdef int check(tuple m, tuple n_in, tuple n_out) except -1:
    if len(set(m)) > 1 or len(set(n_in)) > 1 or len(set(n_out)) > 1 or 0 in (m[0], n_in[0], n_out[0]):
        raise ValueError(
            f"shapes do not fit together or are empty: numbers of examples {m}, of inputs {n_in}, of outputs {n_out}"
        )
    return 0


# Where part `index` of so many nearly equal parts of a range starts, and the part before it ends.
cdef inline ptrdiff_t part(ptrdiff_t index, ptrdiff_t parts, ptrdiff_t size) noexcept nogil:
    return index * size // parts


# How many pieces lie side by side if `down` lie one below another.
cdef inline ptrdiff_t pieces_across(ptrdiff_t down, ptrdiff_t panels) noexcept nogil:
    return min(panels, 2 * ceil_div(PIECES, 2 * down))


cdef int record_product(program, tuple arrays, product p, ptrdiff_t itemsize) except -1:
    p.rows, p.panels, p.down = p.m, ceil_div(p.n, p.table.panel), ceil_div(p.m, ROWS)
    p.across = ceil_div(p.n, EXAMPLE_COLUMNS) if p.m == 1 else pieces_across(p.down, p.panels)
    cdef product *work = <product *> new_work(program, arrays, sizeof(product), 0, p.table.dense_scratch * itemsize)
    work[0] = p
    add_stage(program, product_piece, work, p.down * p.across, p.m * p.n * p.k < SMALL_WORK)
    return 0


cdef void product_piece(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const product *p = <const product *> work
    cdef ptrdiff_t i = index // p.across, j = index % p.across
    p.table.dense_block(
        p.out, p.left, p.right, p.bias, p.n, p.k, p.row_stride, p.column_stride, p.relu, part(i, p.down, p.rows),
        part(i + 1, p.down, p.rows), part(j, p.across, p.panels), part(j + 1, p.across, p.panels), scratch)


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
        program, (dw, db, x, dy), sizeof(product), 0, table.dense_scratch * sizeof(floating))
    work.table, work.m, work.n, work.k, work.rows = table, m, n, k, k
    work.panels, work.down = ceil_div(n, table.panel), ceil_div(k, WEIGHT_ROWS)
    work.across = pieces_across(work.down, work.panels)
    work.out, work.sums, work.left, work.right = &dw[0, 0], &db[0], &x[0, 0], &dy[0, 0]
    add_stage(program, grad_weight_piece, work, work.down * work.across, m * n * k < SMALL_WORK)
    add_stage(program, grad_bias_columns, work, ceil_div(n, SUMS), m * n < SMALL_WORK)


cdef void grad_weight_piece(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const product *p = <const product *> work
    cdef ptrdiff_t i = index // p.across, j = index % p.across
    p.table.dense_grad_weight(
        p.out, p.left, p.right, p.m, p.k, p.n, part(i, p.down, p.rows), part(i + 1, p.down, p.rows),
        part(j, p.across, p.panels), part(j + 1, p.across, p.panels), scratch)


cdef void grad_bias_columns(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const product *p = <const product *> work
    p.table.column_sums(p.sums, p.right, p.m, p.n, index * SUMS, range_end(index, SUMS, p.n))
