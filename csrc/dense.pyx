# Dense layers: argument checks and the fixed split of the work.  m examples, n_in inputs, n_out outputs.

from cython cimport floating

from stages cimport ON_FEW, ON_MANY, add_range_stage, add_stage, new_work, run_last_stage
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
        void (*dense_grad_input)(const dense_gradients *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                                 void *) noexcept nogil
        void (*dense_grad_weight)(const dense_gradients *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                                  void *) noexcept nogil
        ptrdiff_t (*dense_backward_scratch)(ptrdiff_t) noexcept nogil
        ptrdiff_t (*live_size)(ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*live_find)(void *, const void *, int, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*live_copy)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*column_sums)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    ROWS = 256               # examples that the forward pass takes at a time, at most
    PIECE_ROWS = 24          # examples of a piece of work, at most: two of the tallest tiles
    COPIED_ROWS = 16         # examples whose live columns one piece copies
    SUMS = 16                # columns that one piece sums
    SMALL_WORK = 150_000     # multiplications below which waking other threads costs more than it saves
    SMALL_SUMS = 20_000      # the same for elements that are copied or summed
    NARROW = 1 << 20         # bytes of weights, at most, of layers whose panels are too few for many threads


cdef int check(tuple m, tuple n_in, tuple n_out) except -1:
    if len(set(m)) > 1 or len(set(n_in)) > 1 or len(set(n_out)) > 1 or 0 in (m[0], n_in[0], n_out[0]):
        raise ValueError(
            f"shapes do not fit together or are empty: numbers of examples {m}, of inputs {n_in}, of outputs {n_out}"
        )
    return 0


# The start of part `index` of `parts` nearly equal parts of a range.
cdef inline ptrdiff_t part(ptrdiff_t index, ptrdiff_t parts, ptrdiff_t size) noexcept nogil:
    return index * size // parts


# The same for the examples of pieces, none of which has just one example, which the forward pass treats differently.
cdef inline ptrdiff_t piece_start(ptrdiff_t index, ptrdiff_t pieces, ptrdiff_t rows) noexcept nogil:
    return rows if index == pieces else part(index, pieces, rows) // 4 * 4


# Where a share of the pieces `next` <= . < `last` has to be interrupted: rows of the same line of `pieces`, and then
# whole lines, belong together.
cdef inline ptrdiff_t end_of_line(ptrdiff_t next, ptrdiff_t last, ptrdiff_t pieces) noexcept nogil:
    return min(last, (next // pieces + 1) * pieces)


# ---------------------------------------------------------------- forward

cdef struct product:
    const kernel_table *table
    const void *x
    const void *w
    const void *b
    void *y
    bint relu
    ptrdiff_t m, n, k
    ptrdiff_t panels, down             # panels of columns, blocks of examples
    ptrdiff_t pieces                   # of work, of a panel for a block of examples


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
    p.pieces = ceil_div(ceil_div(p.m, p.down), PIECE_ROWS)
    add_range_stage(program, forward_pieces, p, p.down * p.panels * p.pieces, p.m * p.n * p.k < SMALL_WORK)


cdef void forward_pieces(
    const void *work, ptrdiff_t first, ptrdiff_t last, char *shared, char *scratch
) noexcept nogil:
    """A block of examples at a time: where whole panels belong to the share, all of them together, so that the block of
    x serves all of them while it is in cache; at the ends of the share some examples of a panel."""
    cdef const product *p = <const product *> work
    cdef ptrdiff_t next = first, end, panel, start, rows, last_panel
    while next < last:
        panel = next // p.pieces
        end = end_of_line(next, last, p.pieces)
        if end - next == p.pieces:
            end = min(last // p.pieces * p.pieces, end_of_line(next, last, p.panels * p.pieces))
        start = part(panel // p.panels, p.down, p.m)
        rows = part(panel // p.panels + 1, p.down, p.m) - start
        last_panel = ceil_div(end, p.pieces)
        p.table.dense_forward(
            p.y, p.x, p.w, p.b, p.n, p.k, p.relu, start + piece_start(next - panel * p.pieces, p.pieces, rows),
            start + piece_start(end - (last_panel - 1) * p.pieces, p.pieces, rows),
            panel % p.panels, (last_panel - 1) % p.panels + 1, scratch)
        next = end


# ---------------------------------------------------------------- backward

cdef struct backward:
    const kernel_table *table
    dense_gradients gradients
    parameter_update update
    void *db
    bint skip_dead
    ptrdiff_t copies                   # pieces that copy live columns
    ptrdiff_t down, panels             # pieces of a panel of rows of w: of dx, examples; of the weight gradient, panels


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
    cdef bint products = g.dx != NULL or g.dw != NULL or g.update != NULL
    if products:
        add_stage(program, find_live, work, 1, True)
        work.copies = ceil_div(m, COPIED_ROWS) if skip_dead or n % table.panel else 0
    if db is not None:
        work.db = &db_out[0]
    cdef ptrdiff_t panels = ceil_div(k, table.panel), sums = 0 if db is None else ceil_div(n, SUMS)
    if work.copies + sums > 0:
        add_stage(program, copy_or_sum, work, work.copies + sums, m * n < SMALL_SUMS)
    if products:
        add_stage(program, backward_panel, work, panels, small)
    if products and g.dx != g.x and n * k * <ptrdiff_t> sizeof(floating) <= NARROW:
        run_last_stage(program, ON_FEW)
        work.down, work.panels = ceil_div(m, PIECE_ROWS), ceil_div(n, table.panel)
        if g.dx != NULL:  # first, because the update moves w
            add_range_stage(program, input_pieces, work, panels * work.down, small)
            run_last_stage(program, ON_MANY)
        if g.dw != NULL or g.update != NULL:
            add_range_stage(program, weight_pieces, work, panels * work.panels, small)
            run_last_stage(program, ON_MANY)


cdef void find_live(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const backward *b = <const backward *> work
    b.table.live_find(shared, b.gradients.dy, b.skip_dead, b.gradients.m, b.gradients.n)


cdef void copy_or_sum(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    """Copy the live columns of some examples, or sum some columns."""
    cdef const backward *b = <const backward *> work
    cdef ptrdiff_t m = b.gradients.m, n = b.gradients.n, sums = index - b.copies
    if sums < 0:
        b.table.live_copy(shared, b.gradients.dy, n, index * COPIED_ROWS, range_end(index, COPIED_ROWS, m))
    else:
        b.table.column_sums(b.db, b.gradients.dy, m, n, sums * SUMS, range_end(sums, SUMS, n))


cdef void backward_panel(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    """A panel of rows of w."""
    cdef const backward *b = <const backward *> work
    b.table.dense_backward(&b.gradients, shared, index, scratch)


cdef void input_pieces(
    const void *work, ptrdiff_t first, ptrdiff_t last, char *shared, char *scratch
) noexcept nogil:
    """Examples of a panel of columns of dx together, so that the panel of w is packed once for all of them."""
    cdef const backward *b = <const backward *> work
    cdef ptrdiff_t m = b.gradients.m, next = first, end, start
    while next < last:
        end, start = end_of_line(next, last, b.down), next // b.down * b.down
        b.table.dense_grad_input(&b.gradients, shared, next // b.down, piece_start(next - start, b.down, m),
                                 piece_start(end - start, b.down, m), scratch)
        next = end


cdef void weight_pieces(
    const void *work, ptrdiff_t first, ptrdiff_t last, char *shared, char *scratch
) noexcept nogil:
    """Neighbouring panels of columns together."""
    cdef const backward *b = <const backward *> work
    cdef ptrdiff_t panel = b.table.panel, next = first, end, start
    while next < last:
        end, start = end_of_line(next, last, b.panels), next // b.panels * b.panels
        b.table.dense_grad_weight(&b.gradients, shared, next // b.panels, (next - start) * panel,
                                  min((end - start) * panel, b.gradients.n), scratch)
        next = end
