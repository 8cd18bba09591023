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
    TILE_ROWS = 12           # rows that are computed together at best
    COPIED_ROWS = 32         # examples whose live columns are copied at once
    SUMS = 64                # columns that are summed up at once
    SMALL_WORK = 500_000     # multiplications below which waking other threads costs more than it saves


# y (m, n) = x (m, k) times w (k, n) plus b, and the gradients of x, w and b.
cdef struct dense:
    const kernel_table *table
    const void *x
    const void *w
    const void *b
    const void *dy
    void *y
    void *dx
    void *dw
    void *db
    bint relu, skip_dead
    ptrdiff_t m, n, k
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


cdef dense *new_dense(
    program, tuple arrays, const kernel_table *table, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, ptrdiff_t columns,
    ptrdiff_t rows, ptrdiff_t most_rows, ptrdiff_t shared, ptrdiff_t scratch,
) except NULL:
    """The work, with a result of so many rows and columns split into pieces."""
    cdef dense *work = <dense *> new_work(program, arrays, sizeof(dense), shared, scratch)
    work.table, work.m, work.n, work.k = table, m, n, k
    work.rows, work.panels, work.down = rows, ceil_div(columns, table.panel), ceil_div(rows, most_rows)
    work.across = min(work.panels, 2 * ceil_div(PIECES, 2 * work.down))
    return work


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
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t m = x.shape[0], k = x.shape[1], n = w.shape[1]
    cdef dense *work = new_dense(
        program, (y, x, w, b), table, m, n, k, n, m, ROWS, 0, table.dense_scratch * sizeof(floating))
    if m == 1:
        work.across = ceil_div(n, EXAMPLE_COLUMNS)
    work.y, work.x, work.w, work.b, work.relu = &y[0, 0], &x[0, 0], &w[0, 0], &b[0], relu
    add_stage(program, forward_piece, work, work.down * work.across, m * n * k < SMALL_WORK)


cdef void forward_piece(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const dense *d = <const dense *> work
    cdef ptrdiff_t i = index // d.across, j = index % d.across
    d.table.dense_forward(
        d.y, d.x, d.w, d.b, d.n, d.k, d.relu, part(i, d.down, d.rows), part(i + 1, d.down, d.rows),
        part(j, d.across, d.panels), part(j + 1, d.across, d.panels), scratch)


def dense_grad_input(
    program,
    floating[:, ::1] dx not None,        # OUT (m, n_in)
    const floating[:, ::1] dy not None,  # IN  (m, n_out), gradient of the pre-activation
    const floating[:, ::1] w not None,   # IN  (n_in, n_out)
    *, bint skip_dead,                   # look for columns of zeros in dy, and leave them out
):
    """dx = dy times w transposed."""
    check((dx.shape[0], dy.shape[0]), (dx.shape[1], w.shape[0]), (dy.shape[1], w.shape[1]))
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t m = dx.shape[0], k = dx.shape[1], n = dy.shape[1]
    cdef dense *work = new_dense(
        program, (dx, dy, w), table, m, n, k, k, m, ROWS, table.live_size(m, n),
        table.dense_scratch * sizeof(floating))
    work.dx, work.dy, work.w, work.skip_dead = &dx[0, 0], &dy[0, 0], &w[0, 0], skip_dead
    record_live(program, work)
    add_stage(program, grad_input_piece, work, work.down * work.across, m * n * k < SMALL_WORK)


cdef int record_live(program, dense *work) except -1:
    """The columns of dy that are not all zero, in the shared memory."""
    if not work.skip_dead:
        return 0
    add_stage(program, find_live, work, 1, True)
    add_stage(program, copy_live, work, ceil_div(work.m, COPIED_ROWS), work.m * work.n * work.k < SMALL_WORK)
    return 0


cdef void find_live(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const dense *d = <const dense *> work
    d.table.live_find(shared, d.dy, d.m, d.n)


cdef void copy_live(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const dense *d = <const dense *> work
    if d.table.live_is_less(shared, d.n):
        d.table.live_copy(shared, d.dy, d.n, index * COPIED_ROWS, range_end(index, COPIED_ROWS, d.m))


cdef void grad_input_piece(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const dense *d = <const dense *> work
    cdef ptrdiff_t i = index // d.across, j = index % d.across
    d.table.dense_grad_input(
        d.dx, d.dy, d.w, shared if d.skip_dead else NULL, d.n, d.k, part(i, d.down, d.rows),
        part(i + 1, d.down, d.rows), part(j, d.across, d.panels), part(j + 1, d.across, d.panels), scratch)


def dense_grad_weight(
    program,
    floating[:, ::1] dw not None,        # OUT (n_in, n_out)
    floating[::1] db not None,           # OUT (n_out)
    const floating[:, ::1] x not None,   # IN  (m, n_in)
    const floating[:, ::1] dy not None,  # IN  (m, n_out), gradient of the pre-activation
    *, bint skip_dead,                   # look for columns of zeros in dy, and leave them out
):
    """dw = x transposed times dy, db = the column sums of dy."""
    check((x.shape[0], dy.shape[0]), (dw.shape[0], x.shape[1]), (dw.shape[1], dy.shape[1], db.shape[0]))
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t m = x.shape[0], k = x.shape[1], n = dy.shape[1]
    cdef dense *work = new_dense(
        program, (dw, db, x, dy), table, m, n, k, n, k, WEIGHT_ROWS, table.live_size(m, n),
        max(table.dense_scratch, table.dense_live_scratch(n)) * sizeof(floating))
    work.dw, work.db, work.x, work.dy = &dw[0, 0], &db[0], &x[0, 0], &dy[0, 0]
    work.skip_dead = skip_dead
    record_live(program, work)
    add_stage(program, grad_weight_piece, work, work.down * work.across, m * n * k < SMALL_WORK)
    add_stage(program, grad_bias_columns, work, ceil_div(n, SUMS), m * n < SMALL_WORK)


cdef void grad_weight_piece(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const dense *d = <const dense *> work
    cdef ptrdiff_t i = index // d.across, j = index % d.across, tiles = ceil_div(d.k, TILE_ROWS)
    if d.skip_dead and d.table.live_is_less(shared, d.n):
        d.table.dense_grad_weight_live(
            d.dw, d.x, shared, d.m, d.k, d.n, part(index, d.down * d.across, tiles) * TILE_ROWS,
            min(part(index + 1, d.down * d.across, tiles) * TILE_ROWS, d.k), scratch)
    else:
        d.table.dense_grad_weight(
            d.dw, d.x, d.dy, d.m, d.k, d.n, part(i, d.down, d.rows), part(i + 1, d.down, d.rows),
            part(j, d.across, d.panels), part(j + 1, d.across, d.panels), scratch)


cdef void grad_bias_columns(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const dense *d = <const dense *> work
    d.table.column_sums(d.db, d.dy, d.m, d.n, index * SUMS, range_end(index, SUMS, d.n))
