# Dense layers: argument checks and the fixed split of the work.  m examples, n_in inputs, n_out outputs.

from cython cimport floating

from stages cimport add_range_stage, add_stage, new_work
from tables cimport ceil_div, import_f32, import_f64, range_end
from updates cimport fill_update, parameter_update, update_rule

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct dense_gradients:
        const void *x
        const void *dy
        const void *w
        void *dx
        void *dw
        const parameter_update *update
        ptrdiff_t m, n, k

    ctypedef struct kernel_table:
        int panel
        ptrdiff_t dense_scratch
        const update_rule *update_rules
        void (*dense_forward)(void *, const void *, const void *, const void *, ptrdiff_t, ptrdiff_t, int, ptrdiff_t,
                              ptrdiff_t, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        void (*dense_backward)(const dense_gradients *, const void *, ptrdiff_t, void *) noexcept nogil
        ptrdiff_t (*dense_backward_scratch)(ptrdiff_t) noexcept nogil
        ptrdiff_t (*live_size)(ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*live_find)(void *, const void *, int, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*live_copy)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*column_sums)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    ROWS = 256               # examples of a piece of the forward pass, at most
    COPIED_ROWS = 32         # examples whose live columns one piece copies
    SUMS = 64                # columns that one piece sums
    SMALL_WORK = 150_000     # multiplications below which waking other threads costs more than it saves


cdef int check(tuple m, tuple n_in, tuple n_out) except -1:
    if len(set(m)) > 1 or len(set(n_in)) > 1 or len(set(n_out)) > 1 or 0 in (m[0], n_in[0], n_out[0]):
        raise ValueError(
            f"shapes do not fit together or are empty: numbers of examples {m}, of inputs {n_in}, of outputs {n_out}"
        )
    return 0


# The start of part `index` of `parts` nearly equal parts of a range.
cdef inline ptrdiff_t part(ptrdiff_t index, ptrdiff_t parts, ptrdiff_t size) noexcept nogil:
    return index * size // parts


# ---------------------------------------------------------------- forward

cdef struct product:
    const kernel_table *table
    const void *x
    const void *w
    const void *b
    void *y
    bint relu
    ptrdiff_t m, n, k
    ptrdiff_t panels, down             # pieces of work: panels of columns times blocks of examples


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
    cdef const kernel_table *table = f32 if floating is float else f64
    cdef product *p = <product *> new_work(
        program, (y, x, w, b), sizeof(product), 0, table.dense_scratch * sizeof(floating))
    p.table, p.m, p.n, p.k, p.relu = table, x.shape[0], w.shape[1], w.shape[0], relu
    p.y, p.x, p.w, p.b = &y[0, 0], &x[0, 0], &w[0, 0], &b[0]
    p.panels, p.down = ceil_div(p.n, table.panel), ceil_div(p.m, ROWS)
    add_range_stage(program, forward_panels, p, p.down * p.panels, p.m * p.n * p.k < SMALL_WORK)


cdef void forward_panels(
    const void *work, ptrdiff_t first, ptrdiff_t last, char *shared, char *scratch
) noexcept nogil:
    """Neighbouring panels together, so that a block of x serves all of them while it is in cache."""
    cdef const product *p = <const product *> work
    cdef ptrdiff_t i, start
    for i in range(first // p.panels, ceil_div(last, p.panels)):
        start = i * p.panels
        p.table.dense_forward(
            p.y, p.x, p.w, p.b, p.n, p.k, p.relu, part(i, p.down, p.m), part(i + 1, p.down, p.m),
            max(first - start, 0), min(last - start, p.panels), scratch)


# ---------------------------------------------------------------- backward

cdef struct backward:
    const kernel_table *table
    dense_gradients gradients
    parameter_update update
    void *db
    bint skip_dead


def dense_backward(
    program,
    object dx,                           # OUT (m, n_in) of the type of x, or None; may be x
    object dw,                           # OUT (n_in, n_out) of the type of x, or None
    object db,                           # OUT (n_out) of the type of x, or None
    const floating[:, ::1] x not None,   # IN  (m, n_in)
    const floating[:, ::1] dy not None,  # IN  (m, n_out), gradient of the pre-activation
    object w,                            # IN  (n_in, n_out) of the type of x; INOUT with an update
    *, bint skip_dead,                   # skip columns of dy that are all zero
    tuple update=None,                   # an update of w: rule, states and scalars (updates.pxd)
):
    """dx = dy times w transposed, dw = x transposed times dy, db = the column sums of dy, whichever are not None."""
    cdef floating[:, ::1] dx_out = dx, dw_out = dw, moved
    cdef const floating[:, ::1] w_in = w
    cdef floating[::1] db_out = db
    if w is None:
        raise TypeError("w must be an array, got None")
    cdef const kernel_table *table = f32 if floating is float else f64
    cdef ptrdiff_t m = x.shape[0], k = x.shape[1], n = dy.shape[1]
    check(
        (m, dy.shape[0], *(dx.shape[:1] if dx is not None else ())),
        (k, w.shape[0], *(dx.shape[1:] if dx is not None else ()), *(dw.shape[:1] if dw is not None else ())),
        (n, w.shape[1], *(dw.shape[1:] if dw is not None else ()), *(db.shape if db is not None else ())),
    )
    cdef backward *work = <backward *> new_work(
        program, (dx_out, dw_out, db_out, x, dy, w_in), sizeof(backward), table.live_size(m, n),
        table.dense_backward_scratch(n) * sizeof(floating))
    cdef dense_gradients *g = &work.gradients
    cdef bint small = m * n * k < SMALL_WORK
    work.table, work.skip_dead = table, skip_dead
    g.x, g.dy, g.w, g.m, g.n, g.k = &x[0, 0], &dy[0, 0], &w_in[0, 0], m, n, k
    if dx is not None:
        g.dx = &dx_out[0, 0]
    if dw is not None:
        g.dw = &dw_out[0, 0]
    if update is not None:
        rule, states, scalars = update
        moved = w
        fill_update[floating](
            program, &work.update, table.update_rules, rule, <floating[:n * k]> &moved[0, 0], states, scalars)
        g.update = &work.update
    if g.dx != NULL or g.dw != NULL or g.update != NULL:
        add_stage(program, find_live, work, 1, True)
        add_stage(program, copy_live, work, ceil_div(m, COPIED_ROWS), small)
        add_stage(program, backward_panel, work, ceil_div(k, table.panel), small)
    if db is not None:
        work.db = &db_out[0]
        add_stage(program, bias_columns, work, ceil_div(n, SUMS), m * n < SMALL_WORK)


cdef void find_live(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const backward *b = <const backward *> work
    b.table.live_find(shared, b.gradients.dy, b.skip_dead, b.gradients.m, b.gradients.n)


cdef void copy_live(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const backward *b = <const backward *> work
    b.table.live_copy(shared, b.gradients.dy, b.gradients.n, index * COPIED_ROWS,
                      range_end(index, COPIED_ROWS, b.gradients.m))


cdef void backward_panel(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    """A panel of rows of w."""
    cdef const backward *b = <const backward *> work
    b.table.dense_backward(&b.gradients, shared, index, scratch)


cdef void bias_columns(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const backward *b = <const backward *> work
    b.table.column_sums(b.db, b.gradients.dy, b.gradients.m, b.gradients.n, index * SUMS,
                        range_end(index, SUMS, b.gradients.n))
