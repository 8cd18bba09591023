# Convolution in its three directions: argument checks, the fixed split of the work, the OpenMP loops.
#
# Letters as in kernels/kernels.h; images are (N, H, W, C), weights (R, S, C, K); dilation counts zeros between taps.
# The forward pass and the weight gradient are split into blocks of BLOCK_ROWS output pixels, the input gradient into
# images, so that results do not depend on the number of threads.

from cython cimport floating
from cython.parallel cimport prange, threadid

from tables cimport (
    BLOCK_ROWS, ceil_div, check_steps, check_threads, import_tables, kernel_table, range_end, reserve, table_pair,
    window_shape,
)

cdef const table_pair *tables = import_tables()

cdef enum:
    MAX_LANES = 16           # accumulators of the weight gradient,
    LANES_BYTES = 1 << 26    # the memory that they may take,
    RANGE = 4096             # and how many of their elements are summed at once
    SMALL_WORK = 100_000     # multiplications below which waking other threads costs more than it saves


cdef window_shape window(
    const floating[:, :, :, ::1] y, const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] w,
    ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t pad_top, ptrdiff_t pad_left,
) except *:
    cdef window_shape s
    s.n, s.h, s.w, s.c = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.r, s.s, s.k = w.shape[0], w.shape[1], w.shape[3]
    s.oh, s.ow = y.shape[1], y.shape[2]
    s.stride, s.dilation, s.pad_top, s.pad_left = stride, dilation, pad_top, pad_left
    cdef bint empty = min(s.n, s.h, s.w, s.c, s.r, s.s, s.k, s.oh, s.ow) < 1
    if empty or w.shape[2] != s.c or y.shape[0] != s.n or y.shape[3] != s.k:
        raise ValueError(
            "output, input and weights must be (N, OH, OW, K), (N, H, W, C) and (R, S, C, K), none of them empty, got "
            f"{(<object> y).shape}, {(<object> x).shape} and {(<object> w).shape}"
        )
    check_steps(&s)
    return s


cdef inline ptrdiff_t multiplications(const window_shape *s) noexcept nogil:
    return s.n * s.oh * s.ow * s.k * s.r * s.s * s.c


def conv2d_forward(
    floating[:, :, :, ::1] y not None,         # OUT (N, OH, OW, K)
    const floating[:, :, :, ::1] x not None,   # IN  (N, H, W, C)
    const floating[:, :, :, ::1] w not None,   # IN  (R, S, C, K)
    const floating[::1] b not None,            # IN  (K)
    *, ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t pad_top, ptrdiff_t pad_left,
    bint relu, object workspace, int n_threads,
):
    """y = conv(x, w) + b, and then max(y, 0) if relu."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef window_shape s = window(y, x, w, stride, dilation, pad_top, pad_left)
    if b.shape[0] != s.k:
        raise ValueError(f"the bias must have {s.k} elements, got {b.shape[0]}")
    cdef ptrdiff_t depth = s.r * s.s * s.c, panels = ceil_div(s.k, table.panel)
    cdef ptrdiff_t pixels = s.n * s.oh * s.ow, blocks = ceil_div(pixels, BLOCK_ROWS), i
    cdef ptrdiff_t packed_size = depth * panels * table.panel
    cdef floating *packed = <floating *> reserve(
        workspace, packed_size + n_threads * table.block_scratch, sizeof(floating))
    cdef floating *scratch = packed + packed_size
    cdef bint small = multiplications(&s) < SMALL_WORK
    with nogil:
        table.pack_panels(packed, &w[0, 0, 0, 0], depth, s.k, s.k, 1, 0, panels)
        for i in prange(blocks, num_threads=n_threads, schedule="static", use_threads_if=not small):
            table.conv2d_forward(&y[0, 0, 0, 0], &x[0, 0, 0, 0], packed, &b[0], &s, relu, i * BLOCK_ROWS,
                                 range_end(i, BLOCK_ROWS, pixels), scratch + threadid() * table.block_scratch)


def conv2d_grad_input(
    floating[:, :, :, ::1] dx not None,        # OUT (N, H, W, C)
    const floating[:, :, :, ::1] dy not None,  # IN  (N, OH, OW, K), gradient of the pre-activation
    const floating[:, :, :, ::1] w not None,   # IN  (R, S, C, K)
    *, ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t pad_top, ptrdiff_t pad_left,
    object workspace, int n_threads,
):
    """dx = the gradient of the loss with respect to the convolution's input."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef window_shape s = window(dy, dx, w, stride, dilation, pad_top, pad_left)
    cdef ptrdiff_t columns = s.r * s.s * s.c, panels = ceil_div(columns, table.panel), i
    cdef ptrdiff_t packed_size = s.k * panels * table.panel, scratch_size = table.conv2d_grad_input_scratch(&s)
    cdef floating *packed = <floating *> reserve(workspace, packed_size + n_threads * scratch_size, sizeof(floating))
    cdef floating *scratch = packed + packed_size
    cdef bint small = multiplications(&s) < SMALL_WORK
    with nogil:
        for i in prange(panels, num_threads=n_threads, schedule="static", use_threads_if=not small):
            table.pack_panels(packed, &w[0, 0, 0, 0], s.k, columns, 1, s.k, i, i + 1)
        for i in prange(s.n, num_threads=n_threads, schedule="static", use_threads_if=not small):
            table.conv2d_grad_input(&dx[0, 0, 0, 0], &dy[0, 0, 0, 0], packed, &s, i,
                                    scratch + threadid() * scratch_size)


def conv2d_grad_weight(
    floating[:, :, :, ::1] dw not None,        # OUT (R, S, C, K)
    floating[::1] db not None,                 # OUT (K)
    const floating[:, :, :, ::1] x not None,   # IN  (N, H, W, C)
    const floating[:, :, :, ::1] dy not None,  # IN  (N, OH, OW, K), gradient of the pre-activation
    *, ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t pad_top, ptrdiff_t pad_left,
    object workspace, int n_threads,
):
    """dw, db = the gradients of the loss with respect to the weights and the bias.

    The blocks of pixels are dealt out to lanes, each with an accumulator for dw and db; the lanes are then added up in
    their order.  The number of lanes depends on the shapes alone.
    """
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef window_shape s = window(dy, x, dw, stride, dilation, pad_top, pad_left)
    if db.shape[0] != s.k:
        raise ValueError(f"the bias gradient must have {s.k} elements, got {db.shape[0]}")
    cdef ptrdiff_t weights = s.r * s.s * s.c * s.k, lane_size = weights + s.k
    cdef ptrdiff_t pixels = s.n * s.oh * s.ow, blocks = ceil_div(pixels, BLOCK_ROWS)
    cdef ptrdiff_t lanes = max(1, min(blocks, MAX_LANES, LANES_BYTES // (lane_size * <ptrdiff_t> sizeof(floating))))
    cdef ptrdiff_t scratch_size = table.conv2d_grad_weight_scratch(&s), ranges = ceil_div(weights, RANGE), i, j
    cdef floating *sums = <floating *> reserve(
        workspace, lanes * lane_size + n_threads * scratch_size, sizeof(floating))
    cdef floating *scratch = sums + lanes * lane_size
    cdef bint small = multiplications(&s) < SMALL_WORK
    with nogil:
        for i in prange(lanes, num_threads=n_threads, schedule="static", use_threads_if=not small):
            table.set_zero(sums, i * lane_size, (i + 1) * lane_size)
            for j in range(i * blocks // lanes, (i + 1) * blocks // lanes):
                table.conv2d_grad_weight(
                    sums + i * lane_size, sums + i * lane_size + weights, &x[0, 0, 0, 0], &dy[0, 0, 0, 0], &s,
                    j * BLOCK_ROWS, range_end(j, BLOCK_ROWS, pixels), scratch + threadid() * scratch_size)
        for i in prange(ranges, num_threads=n_threads, schedule="static", use_threads_if=not small):
            table.sum_lanes(&dw[0, 0, 0, 0], sums, lanes, lane_size, i * RANGE, range_end(i, RANGE, weights))
        table.sum_lanes(&db[0], sums + weights, lanes, lane_size, 0, s.k)
