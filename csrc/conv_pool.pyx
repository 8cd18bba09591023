# The fused block: convolution, bias, ReLU and max pooling in one pass over a few images, forward and backward.  The
# convolution's output and its gradient never exist as a whole: those of a group of images stay in cache.
#
# Letters as in kernels/kernel_list.h; the pooled output is (N, PH, PW, K).  The memory is laid out in block.pxd.

from cython cimport floating
from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memcpy

from block cimport (
    block, group_of_images, inner_scratch, input_copy, new_block, own_weights, select, state_of, thread_state,
    weight_size,
)
from convolution cimport (
    RANGE, accumulator_at, check_bias, collect_kernel, compare_weights, evaluate_kernel,
    evaluate_kernel_along_rows, evaluate_transposed_kernel, is_small, kernel_pieces, kernel_table,
    pack_transposed_weights, pack_weights, sum_direct_gradients, sum_into_first, weight_count,
)
from stages cimport ON_MANY, add_prepared_stage, add_stage, are_many, new_lines, run_last_stage
from tables cimport BLOCK_ROWS, INACTIVE, ceil_div, import_f32, import_f64, range_end, window_shape

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    CHANNELS = 16            # output channels of a piece of work

# For Python.
LARGEST_WINDOW = INACTIVE    # pixels of a window, whose places are below INACTIVE
INACTIVE_PLACE = INACTIVE


# ---------------------------------------------------------------- recording

def forward(
    program,
    floating[:, :, :, ::1] y not None,         # OUT (N, PH, PW, K)
    uint8_t[:, :, :, ::1] argmax not None,     # OUT (N, PH, PW, K), see below
    const floating[:, :, :, ::1] x not None,   # IN  (N, H, W, C)
    const floating[:, :, :, ::1] w not None,   # IN  (R, S, C, K)
    const floating[::1] b not None,            # IN  (K)
    *, dict conv,                              # out_shape (OH, OW), stride, dilation, pad_top, pad_left
    dict pool,                                 # kernel_shape, stride, pad_top, pad_left
    bint winograd,
    bint keep_weights,                         # transform the weights again only when they have changed
):
    """y = the maximum of each window of max(conv(x, w) + b, 0), argmax its place row * S + column within the window, or
    INACTIVE_PLACE if the maximum is not positive, so that the window passes no gradient on."""
    cdef block *work = new_block(
        program, (y, argmax, x, w, b), (<object> y).shape, (<object> argmax).shape, (<object> x).shape,
        (<object> w).shape, f32 if floating is float else f64, sizeof(floating), conv, pool, winograd,
        False, False, False, keep_weights)
    check_bias((<object> b).shape, &work.conv.s)
    work.y, work.argmax = &y[0, 0, 0, 0], &argmax[0, 0, 0, 0]
    work.conv.x, work.conv.w, work.conv.b = &x[0, 0, 0, 0], &w[0, 0, 0, 0], &b[0]
    cdef const window_shape *s = &work.conv.s
    cdef bint small = is_small(s)
    if keep_weights:  # a tenth of the time of encoding a single image
        work.conv.kept_weights = new_lines(program, weight_size(work, False) * sizeof(floating))
        work.conv.kept_from = new_lines(program, weight_count(s) * sizeof(floating))
        add_stage(program, compare_weights, work, 1, True)
        if work.rows:
            add_stage(program, evaluate_kernel_along_rows, work, 1, True)
        else:
            add_weights(program, work, small)
        add_stage(program, forward_group, work, work.conv.groups, small)
    else:
        if not work.rows:
            add_weights(program, work, small)
            run_last_stage(program, ON_MANY)
        add_prepared_stage(program, prepare_forward, forward_group, work, work.conv.groups, small)


cdef int add_weights(program, block *work, bint small) except -1:
    """Record the evaluation or packing of the weights."""
    cdef const window_shape *s = &work.conv.s
    if work.winograd:
        add_stage(program, evaluate_kernel, work, kernel_pieces(work.conv.table.winograd_channels(s)), small)
    else:
        add_stage(program, pack_weights, work, ceil_div(s.k, work.conv.table.panel), small)
    return 0


def backward(
    program,
    object dx,                                    # OUT (N, H, W, C) of the type of w, or None; may be x
    floating[:, :, :, ::1] dw not None,           # OUT (R, S, C, K)
    floating[::1] db not None,                    # OUT (K)
    const floating[:, :, :, ::1] x not None,      # IN  (N, H, W, C)
    const uint8_t[:, :, :, ::1] argmax not None,  # IN  (N, PH, PW, K), from forward
    const floating[:, :, :, ::1] dy not None,     # IN  (N, PH, PW, K)
    const floating[:, :, :, ::1] w not None,      # IN  (R, S, C, K)
    *, dict conv, dict pool, bint winograd,
):
    """The gradients of the loss with respect to weights and bias and, unless dx is None, to the input."""
    cdef floating[:, :, :, ::1] dx_out = dx
    if (<object> dw).shape != (<object> w).shape or (dx is not None and dx.shape != (<object> x).shape):
        raise ValueError(
            f"dw and dx must have the shapes {(<object> w).shape} and {(<object> x).shape}, "
            f"got {(<object> dw).shape} and {getattr(dx, 'shape', None)}"
        )
    cdef block *work = new_block(
        program, (dx_out, dw, db, x, argmax, dy, w), (<object> dy).shape, (<object> argmax).shape, (<object> x).shape,
        (<object> w).shape, f32 if floating is float else f64, sizeof(floating), conv, pool, winograd,
        True, dx is not None, dx is not None and &dx_out[0, 0, 0, 0] == &x[0, 0, 0, 0], False)
    cdef window_shape *s = &work.conv.s
    check_bias((<object> db).shape, s)
    work.dy, work.argmax = <void *> &dy[0, 0, 0, 0], <uint8_t *> &argmax[0, 0, 0, 0]
    work.conv.x, work.conv.w, work.conv.dw, work.conv.db = (
        &x[0, 0, 0, 0], &w[0, 0, 0, 0], &dw[0, 0, 0, 0], &db[0])
    if dx is not None:
        work.conv.dx = &dx_out[0, 0, 0, 0]
    if work.few:
        record_few_gradients(program, work)
    elif winograd:
        record_winograd_backward(program, work)
    else:
        record_direct_backward(program, work)


cdef int record_winograd_backward(program, block *work) except -1:
    cdef const window_shape *s = &work.conv.s
    cdef bint small = is_small(s)
    if work.conv.dx != NULL:
        add_stage(program, evaluate_transposed_kernel, work, kernel_pieces(s.k), small)
        run_last_stage(program, ON_MANY)
    add_prepared_stage(program, prepare_backward, accumulate_winograd, work, work.pieces, small)
    add_stage(program, sum_groups, work, ceil_div(work.conv.accumulator_size - s.k, RANGE) + 1, small)
    add_stage(program, collect_gradients, work, work.conv.table.winograd_channels(s) + 1, small)
    return 0


cdef int record_direct_backward(program, block *work) except -1:
    cdef const window_shape *s = &work.conv.s
    cdef bint small = is_small(s)
    if work.conv.dx != NULL:
        add_stage(program, pack_transposed_weights, work, ceil_div(s.r * s.s * s.c, work.conv.table.panel), small)
    add_stage(program, accumulate_direct, work, work.conv.accumulators, small)
    add_stage(program, sum_direct_gradients, work, ceil_div(weight_count(s), RANGE) + 1, small)
    return 0


cdef int record_few_gradients(program, block *work) except -1:
    cdef bint small = is_small(&work.conv.s)
    add_stage(program, accumulate_few, work, work.conv.accumulators, small)
    add_stage(program, sum_into_first, work, ceil_div(work.conv.accumulator_size, RANGE), small)
    add_stage(program, collect_few_gradients, work, ceil_div(work.conv.s.k, CHANNELS), small)
    return 0


# ---------------------------------------------------------------- pieces of work

cdef void prepare_forward(const void *work, char *shared, char *scratch) noexcept nogil:
    """Each of a few threads transforms the weights for itself, which is faster than reading them from another core's
    cache."""
    cdef const block *b = <const block *> work
    cdef const window_shape *s = &b.conv.s
    cdef char *weights = own_weights(b, scratch)
    if b.rows:
        b.conv.table.winograd_rows_kernel(weights, b.conv.w, s)
    elif are_many(shared):
        weights = shared
    elif b.winograd:
        b.conv.table.winograd_kernel(weights, b.conv.w, s, False, 0, b.conv.table.winograd_channels(s))
    else:
        b.conv.table.pack_panels(weights, b.conv.w, s.r * s.s * s.c, s.k, s.k, 1, 0,
                                 ceil_div(s.k, b.conv.table.panel))
    state_of(b, scratch).weights = weights


cdef void forward_group(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const block *b = <const block *> work
    cdef char *weights = b.conv.kept_weights if b.conv.kept_weights != NULL else state_of(b, scratch).weights
    cdef const kernel_table *table = b.conv.table
    cdef group_of_images g = select(b, index)
    cdef int32_t *places = <int32_t *> (scratch + b.output_bytes)
    cdef ptrdiff_t row = b.pool.ow * b.pool.c
    cdef ptrdiff_t tiles = g.conv.n * table.winograd_tiles(&g.conv), at_once = table.winograd_block(&g.conv)
    cdef ptrdiff_t done = 0, i
    if b.rows:
        table.winograd_rows_forward(scratch, g.x, weights, b.conv.b, &g.conv, True, 0,
                                    g.conv.n * table.winograd_rows_bands(&g.conv), inner_scratch(b, scratch))
    elif b.winograd:
        for i in range(ceil_div(tiles, at_once)):
            table.winograd_forward(scratch, g.x, weights, b.conv.b, &g.conv, True, i * at_once,
                                   range_end(i, at_once, tiles), inner_scratch(b, scratch))
    for i in range(g.pool.n * g.pool.oh):
        if not b.winograd:
            done = convolve_up_to(b, &g, pixels_before(&g, i), done, weights, scratch)
        table.pool2d_max_forward(g.y + i * row * b.conv.itemsize, places, scratch, &g.pool, i)
        table.narrow(g.argmax + i * row, places, g.y + i * row * b.conv.itemsize, row)


cdef inline ptrdiff_t pixels_before(const group_of_images *g, ptrdiff_t row) noexcept nogil:
    """How many of the convolution's output pixels a row of windows needs before it can be pooled."""
    cdef ptrdiff_t image = row // g.pool.oh, i = row % g.pool.oh
    cdef ptrdiff_t rows = i * g.pool.stride - g.pool.pad_top + g.pool.r
    return (image * g.pool.h + max(0, min(g.pool.h, rows))) * g.pool.w


cdef ptrdiff_t convolve_up_to(
    const block *b, const group_of_images *g, ptrdiff_t needed, ptrdiff_t done, char *weights, char *scratch,
) noexcept nogil:
    """Continue the convolution until the needed pixels exist.  Whole rows at a time, so that they are still in L1 when
    they are pooled, but enough of them to keep the matrix product efficient."""
    cdef ptrdiff_t end = g.conv.n * g.conv.oh * g.conv.ow, row = g.conv.ow
    cdef ptrdiff_t count = max(1, 96 // row) * row if row <= BLOCK_ROWS else BLOCK_ROWS
    cdef char *packed = NULL if b.conv.table.conv2d_has_few_outputs(&g.conv, False) else weights
    while done < needed:
        b.conv.table.conv2d_forward(scratch, g.x, packed, b.conv.w, b.conv.b, &g.conv, True, done,
                                    min(done + count, end), inner_scratch(b, scratch))
        done = min(done + count, end)
    return done


cdef void keep_input(const block *b, group_of_images *g, char *scratch) noexcept nogil:
    """Copy the input if its gradient is about to overwrite it."""
    if b.input_bytes > 0:
        memcpy(input_copy(b, scratch), g.x, g.conv.n * g.conv.h * g.conv.w * g.conv.c * b.conv.itemsize)
        g.x = input_copy(b, scratch)


cdef void unpool(const block *b, const group_of_images *g, char *scratch) noexcept nogil:
    """The gradient with respect to the convolution's output, before the ReLU, for a group of images."""
    cdef ptrdiff_t pooled = b.pool.oh * b.pool.ow * b.pool.c, image = b.pool.h * b.pool.w * b.pool.c
    cdef ptrdiff_t size = b.conv.itemsize, i
    cdef int32_t *places = <int32_t *> (scratch + b.output_bytes)
    for i in range(g.pool.n):
        b.conv.table.widen(places, g.argmax + i * pooled, pooled)
        b.conv.table.pool2d_max_backward(scratch + i * image * size, g.dy + i * pooled * size, places, &g.pool)


cdef char *clear_accumulator(const block *b, ptrdiff_t index, char *shared) noexcept nogil:
    cdef char *sums = accumulator_at(&b.conv, shared, index)
    b.conv.table.set_zero(sums, 0, b.conv.accumulator_size)
    return sums


cdef void prepare_backward(const void *work, char *shared, char *scratch) noexcept nogil:
    """The transposed weights, as in prepare_forward."""
    cdef const block *b = <const block *> work
    cdef char *weights = shared if are_many(shared) else own_weights(b, scratch)
    if b.conv.dx != NULL and not are_many(shared):
        b.conv.table.winograd_kernel(weights, b.conv.w, &b.conv.s, True, 0, b.conv.s.k)
    state_of(b, scratch)[0] = thread_state(weights, -1)


cdef void accumulate_winograd(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const block *b = <const block *> work
    cdef ptrdiff_t i
    for i in range(index * b.conv.groups // b.pieces, (index + 1) * b.conv.groups // b.pieces):
        accumulate_group(b, i, shared, scratch)


cdef void accumulate_group(const block *b, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    """The gradients of a group, added to its accumulator if it is the first there, or if the thread has just added the
    one before.  Else the gradient is kept apart: sum_groups adds it, in the same order."""
    cdef const kernel_table *table = b.conv.table
    cdef thread_state *own = state_of(b, scratch)
    cdef ptrdiff_t accumulator = accumulator_of(b, index)
    cdef bint is_first = index == first_group(b, accumulator), follows = own.last == index - 1
    cdef char *sums = accumulator_at(&b.conv, shared, accumulator)
    if is_first or follows:
        own.last = index
    else:
        sums = group_apart(b, index, shared)
    (shared + b.apart_at)[index] = not (is_first or follows)
    cdef group_of_images g = select(b, index)
    keep_input(b, &g, scratch)
    unpool(b, &g, scratch)
    if g.dx != NULL:
        table.set_zero(g.dx, 0, g.conv.n * g.conv.h * g.conv.w * g.conv.c)
    sum_bias_blocks(b, index, g.conv.n * g.conv.oh * g.conv.ow, shared, scratch)
    table.winograd_backward(g.dx, sums, follows and not is_first, g.x, scratch, own.weights, &g.conv, 0,
                            g.conv.n * table.winograd_tiles(&g.conv), inner_scratch(b, scratch))


cdef inline ptrdiff_t accumulator_of(const block *b, ptrdiff_t group) noexcept nogil:
    return ((group + 1) * b.conv.accumulators - 1) // b.conv.groups


cdef inline ptrdiff_t first_group(const block *b, ptrdiff_t accumulator) noexcept nogil:
    return accumulator * b.conv.groups // b.conv.accumulators


cdef inline char *group_apart(const block *b, ptrdiff_t group, char *shared) noexcept nogil:
    """Where the gradient of a group is kept that is not the first of an accumulator: behind the accumulators."""
    return accumulator_at(&b.conv, shared, b.conv.accumulators + group - accumulator_of(b, group) - 1)


cdef inline char *bias_block(const block *b, ptrdiff_t group, char *shared) noexcept nogil:
    return shared + b.bias_at + group * b.bias_blocks * b.conv.s.k * b.conv.itemsize


cdef void sum_bias_blocks(
    const block *b, ptrdiff_t group, ptrdiff_t pixels, char *shared, char *scratch
) noexcept nogil:
    """The sums of each BLOCK_ROWS pixels of a group."""
    cdef ptrdiff_t k = b.conv.s.k, row = k * b.conv.itemsize, i
    cdef char *sums = bias_block(b, group, shared)
    b.conv.table.set_zero(sums, 0, b.bias_blocks * k)
    for i in range(ceil_div(pixels, BLOCK_ROWS)):
        b.conv.table.add_column_sums(sums + i * row, scratch + i * BLOCK_ROWS * row,
                                     range_end(i, BLOCK_ROWS, pixels) - i * BLOCK_ROWS, k)


cdef void sum_groups(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    """A range of the first accumulator becomes the sum of all groups; the last piece is the bias."""
    cdef const block *b = <const block *> work
    cdef ptrdiff_t weights = b.conv.accumulator_size - b.conv.s.k, first = index * RANGE
    cdef ptrdiff_t last = range_end(index, RANGE, weights), i
    cdef char *sums
    if first >= weights:
        sum_biases(b, shared)
        return
    for i in range(b.conv.groups):
        if (shared + b.apart_at)[i]:
            sums = accumulator_at(&b.conv, shared, accumulator_of(b, i))
            b.conv.table.sum_accumulators(
                sums, sums, 2, (group_apart(b, i, shared) - sums) // b.conv.itemsize, first, last)
    sums = accumulator_at(&b.conv, shared, 0)
    b.conv.table.sum_accumulators(sums, sums, b.conv.accumulators, b.conv.accumulator_size, first, last)


cdef void sum_biases(const block *b, char *shared) noexcept nogil:
    cdef ptrdiff_t k = b.conv.s.k, i
    cdef char *sums = accumulator_at(&b.conv, shared, 0) + (b.conv.accumulator_size - k) * b.conv.itemsize
    for i in range(b.conv.accumulators):
        b.conv.table.sum_accumulators(
            sums + i * b.conv.accumulator_size * b.conv.itemsize, bias_block(b, first_group(b, i), shared),
            (first_group(b, i + 1) - first_group(b, i)) * b.bias_blocks, k, 0, k)
    b.conv.table.sum_accumulators(sums, sums, b.conv.accumulators, b.conv.accumulator_size, 0, k)


cdef void accumulate_direct(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const block *b = <const block *> work
    cdef const kernel_table *table = b.conv.table
    cdef char *sums = clear_accumulator(b, index, shared)
    cdef char *bias_sums = sums + (b.conv.accumulator_size - b.conv.s.k) * b.conv.itemsize
    cdef char *inner = inner_scratch(b, scratch)
    cdef group_of_images g
    cdef char *packed
    cdef ptrdiff_t patch = b.conv.s.r * b.conv.s.s * b.conv.s.c, i, j, pixels
    for i in range(index * b.conv.groups // b.conv.accumulators, (index + 1) * b.conv.groups // b.conv.accumulators):
        g = select(b, i)
        keep_input(b, &g, scratch)
        unpool(b, &g, scratch)
        pixels = g.conv.n * g.conv.oh * g.conv.ow
        for j in range(ceil_div(pixels, BLOCK_ROWS)):
            table.conv2d_grad_weight(sums, bias_sums, g.x, scratch, &g.conv, j * BLOCK_ROWS,
                                     range_end(j, BLOCK_ROWS, pixels), 0, patch, inner)
        if g.dx != NULL:
            packed = NULL if table.conv2d_has_few_outputs(&g.conv, True) else shared
            for j in range(g.conv.n):
                table.conv2d_grad_input(g.dx, scratch, packed, b.conv.w, &g.conv, j, j + 1, inner)


cdef void collect_gradients(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    """A channel of the phases of dw from the first accumulator; the last piece is db."""
    cdef const block *b = <const block *> work
    cdef ptrdiff_t weights = b.conv.accumulator_size - b.conv.s.k
    if index < b.conv.table.winograd_channels(&b.conv.s):
        collect_kernel(work, index, shared, scratch)
    else:
        memcpy(b.conv.db, accumulator_at(&b.conv, shared, 0) + weights * b.conv.itemsize, b.conv.s.k * b.conv.itemsize)


cdef void accumulate_few(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const block *b = <const block *> work
    cdef char *sums = clear_accumulator(b, index, shared)
    cdef ptrdiff_t n = b.conv.s.n, count = b.conv.accumulators
    b.conv.table.conv_pool_grad_weight(sums, b.conv.x, b.dy, b.argmax, &b.conv.s, &b.pool, index * n // count,
                                       (index + 1) * n // count, scratch)


cdef void collect_few_gradients(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const block *b = <const block *> work
    b.conv.table.conv_pool_collect(b.conv.dw, b.conv.db, accumulator_at(&b.conv, shared, 0), &b.conv.s,
                                   index * CHANNELS, range_end(index, CHANNELS, b.conv.s.k))
