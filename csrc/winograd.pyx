# Stride-1 convolution by Winograd's algorithm: argument checks, the fixed split of the work, the OpenMP loops.
#
# Letters as in kernels/kernels.h; images are (N, H, W, C), weights (R, S, C, K) with R and S at most 5.  The forward
# pass is split into blocks of tiles, the backward pass into groups of whole images, because tiles overlap in dx.

from cython cimport floating
from cython.parallel cimport prange, threadid

from tables cimport (
    ceil_div, check_steps, check_threads, import_tables, kernel_table, range_end, reserve, table_pair, window_shape,
)

cdef const table_pair *tables = import_tables()

cdef enum:
    MAX_LANES = 8            # accumulators of the weight gradient,
    LANES_BYTES = 1 << 26    # the memory that they may take,
    RANGE = 4096             # and how many of their elements are summed at once
    SMALL_WORK = 100_000     # multiplications below which waking other threads costs more than it saves
    MAX_KERNEL = 5


cdef window_shape window(
    const floating[:, :, :, ::1] y, const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] w,
    ptrdiff_t pad_top, ptrdiff_t pad_left,
) except *:
    cdef window_shape s
    s.n, s.h, s.w, s.c = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.r, s.s, s.k = w.shape[0], w.shape[1], w.shape[3]
    s.oh, s.ow = y.shape[1], y.shape[2]
    s.stride, s.dilation, s.pad_top, s.pad_left = 1, 0, pad_top, pad_left
    cdef bint empty = min(s.n, s.h, s.w, s.c, s.r, s.s, s.k, s.oh, s.ow) < 1
    if empty or max(s.r, s.s) > MAX_KERNEL or w.shape[2] != s.c or y.shape[0] != s.n or y.shape[3] != s.k:
        raise ValueError(
            "output, input and weights must be (N, OH, OW, K), (N, H, W, C) and (R, S, C, K), none of them empty, R "
            f"and S at most {MAX_KERNEL}, got {(<object> y).shape}, {(<object> x).shape} and {(<object> w).shape}"
        )
    check_steps(&s)
    return s


cdef inline bint is_small(const window_shape *s) noexcept nogil:
    return s.n * s.oh * s.ow * s.k * s.r * s.s * s.c < SMALL_WORK


def forward(
    floating[:, :, :, ::1] y not None,         # OUT (N, OH, OW, K)
    const floating[:, :, :, ::1] x not None,   # IN  (N, H, W, C)
    const floating[:, :, :, ::1] w not None,   # IN  (R, S, C, K)
    const floating[::1] b not None,            # IN  (K)
    *, ptrdiff_t pad_top, ptrdiff_t pad_left, bint relu, object workspace, int n_threads,
):
    """y = conv(x, w) + b, and then max(y, 0) if relu."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef window_shape s = window(y, x, w, pad_top, pad_left)
    if b.shape[0] != s.k:
        raise ValueError(f"the bias must have {s.k} elements, got {b.shape[0]}")
    cdef ptrdiff_t tiles = s.n * table.winograd_tiles(&s), block = table.winograd_block(&s), i
    cdef ptrdiff_t blocks = ceil_div(tiles, block), scratch_size = table.winograd_scratch(&s)
    cdef ptrdiff_t kernel_size = table.winograd_kernel_size(&s, False)
    cdef floating *U = <floating *> reserve(workspace, kernel_size + n_threads * scratch_size, sizeof(floating))
    cdef floating *scratch = U + kernel_size
    cdef bint small = is_small(&s)
    with nogil:
        for i in prange(s.c, num_threads=n_threads, schedule="static", use_threads_if=not small):
            table.winograd_kernel(U, &w[0, 0, 0, 0], &s, False, i)
        for i in prange(blocks, num_threads=n_threads, schedule="static", use_threads_if=not small):
            table.winograd_forward(&y[0, 0, 0, 0], &x[0, 0, 0, 0], U, &b[0], &s, relu, i * block,
                                   range_end(i, block, tiles), scratch + threadid() * scratch_size)


def backward(
    object dx,                                 # OUT (N, H, W, C) of the type of w, or None
    object dw,                                 # OUT (R, S, C, K) of the type of w, or None
    object db,                                 # OUT (K) of the type of w, or None with dw
    const floating[:, :, :, ::1] x not None,   # IN  (N, H, W, C)
    const floating[:, :, :, ::1] dy not None,  # IN  (N, OH, OW, K), gradient of the pre-activation
    const floating[:, :, :, ::1] w not None,   # IN  (R, S, C, K)
    *, ptrdiff_t pad_top, ptrdiff_t pad_left, object workspace, int n_threads,
):
    """The gradients of the loss with respect to the input, and to the weights and the bias, whichever are not None.

    Groups of images are dealt out to lanes, each with an accumulator; these are then added up in their order.  The
    number of lanes depends on the shapes alone.
    """
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef window_shape s = window(dy, x, w, pad_top, pad_left)
    # Were they arguments of this type, the first of them would decide what floating is, and None would mean float.
    cdef floating[:, :, :, ::1] dx_out = dx, dw_out = dw
    cdef floating[::1] db_out = db
    cdef void *to_input = NULL if dx is None else &dx_out[0, 0, 0, 0]
    if (dx is not None and dx.shape != (<object> x).shape) or (
        dw is not None and (dw.shape != (<object> w).shape or db_out is None or db_out.shape[0] != s.k)
    ):
        raise ValueError(f"dx, dw and db must have the shapes {(<object> x).shape}, {(<object> w).shape} and ({s.k},)")
    cdef ptrdiff_t tiles = table.winograd_tiles(&s), block = table.winograd_block(&s), scratch_size, i
    cdef ptrdiff_t group = max(1, block // tiles), groups = ceil_div(s.n, group)
    cdef ptrdiff_t size = table.winograd_kernel_size(&s, False), transposed_size = table.winograd_kernel_size(&s, True)
    cdef ptrdiff_t lanes = max(1, min(groups, MAX_LANES, LANES_BYTES // (size * <ptrdiff_t> sizeof(floating))))
    scratch_size = table.winograd_scratch(&s)
    cdef floating *Ut = <floating *> reserve(
        workspace, transposed_size + lanes * size + n_threads * scratch_size, sizeof(floating))
    cdef floating *dU = Ut + transposed_size
    cdef floating *scratch = dU + lanes * size
    cdef bint small = is_small(&s), weights = dw is not None
    with nogil:
        if to_input != NULL:
            for i in prange(s.k, num_threads=n_threads, schedule="static", use_threads_if=not small):
                table.winograd_kernel(Ut, &w[0, 0, 0, 0], &s, True, i)
        for i in prange(lanes, num_threads=n_threads, schedule="static", use_threads_if=not small):
            lane(table, to_input, dU + i * size if weights else NULL, size, &x[0, 0, 0, 0], &dy[0, 0, 0, 0], Ut, &s,
                 i * groups // lanes * group, min((i + 1) * groups // lanes * group, s.n), group,
                 scratch + threadid() * scratch_size)
        if weights:
            for i in prange(ceil_div(size, RANGE), num_threads=n_threads, schedule="static", use_threads_if=not small):
                table.sum_lanes(dU, dU, lanes, size, i * RANGE, range_end(i, RANGE, size))
            for i in prange(s.c, num_threads=n_threads, schedule="static", use_threads_if=not small):
                table.winograd_collect_kernel(&dw_out[0, 0, 0, 0], dU, &s, i)
            for i in prange(ceil_div(s.k, 16), num_threads=n_threads, schedule="static", use_threads_if=not small):
                table.column_sums(&db_out[0], &dy[0, 0, 0, 0], s.n * s.oh * s.ow, s.k, i * 16, range_end(i, 16, s.k))


cdef void lane(
    const kernel_table *table, void *dx, void *dU, ptrdiff_t size, const void *x, const void *dy, const void *Ut,
    const window_shape *s, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group, void *scratch,
) noexcept nogil:
    """The images first <= i < last, a group at a time."""
    cdef ptrdiff_t tiles = table.winograd_tiles(s), image = s.h * s.w * s.c, end
    if dU != NULL:
        table.set_zero(dU, 0, size)
    while first < last:
        end = min(first + group, last)
        if dx != NULL:
            table.set_zero(dx, first * image, end * image)
        table.winograd_backward(dx, dU, x, dy, Ut, s, first * tiles, end * tiles, scratch)
        first = end
