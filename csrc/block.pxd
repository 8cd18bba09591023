# The fused block's work (conv_pool.pyx): its geometry, its split, and the layout of its memory.
#
# The work is split into groups of images by the shapes alone, so that results do not depend on the number of threads.

from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memset

from convolution cimport (
    ACCUMULATOR_BYTES, accumulator_count, along_rows, check_winograd, convolution, convolution_shape,
    kernel_table, weight_count,
)
from stages cimport CACHE_LINE, new_work, whole_lines
from tables cimport BLOCK_ROWS, INACTIVE, ceil_div, check_window, window_shape

# What a thread keeps during a stage, for all its groups.
cdef struct thread_state:
    char *weights            # evaluated or packed: its own, or those in the shared memory
    ptrdiff_t last           # the group whose gradient it last added to an accumulator, -1 if none

cdef enum:
    LARGEST_IMAGE = 1 << 18  # elements, with padding, of an image of which few_gradients makes a copy
    GROUPS = 4               # the number of groups is a multiple of it if possible, so few threads get equal shares

# The convolution comes first, so that its pieces of work (convolution.pxd) can be run on a block too.
cdef struct block:
    convolution conv
    window_shape pool        # from (N, OH, OW, K) to (N, PH, PW, K)
    bint winograd
    bint rows                # Winograd's algorithm along rows only (kernels/winograd_rows.h)
    bint few                 # the weight gradient visits only the maxima (kernels/conv_pool.h)
    void *y                  # pooled, (N, PH, PW, K)
    void *dy
    uint8_t *argmax
    # Scratch, in this order.
    ptrdiff_t output_bytes   # the convolution's output for a group
    ptrdiff_t place_bytes    # places of the maxima of a row of windows or, backward, of an image
    ptrdiff_t input_bytes    # copy of a group's input, if the gradient overwrites it
    ptrdiff_t weight_bytes   # packed or evaluated weights, if each thread makes its own; before them a thread_state
    # The weight gradient by Winograd's algorithm.  Groups are pieces of work if each adds to an accumulator once, and
    # there is memory to keep that apart; else all groups of an accumulator are one piece.  At these offsets in the
    # shared memory: for each group whether its gradient stands apart, and the bias gradients of each BLOCK_ROWS pixels.
    ptrdiff_t pieces, apart_at, bias_at, bias_blocks


# ---------------------------------------------------------------- recording

cdef inline block block_shape(
    tuple y, tuple argmax, tuple x, tuple w, dict conv, dict pool, const kernel_table *table, ptrdiff_t itemsize,
    bint winograd,
) except *:
    """The geometry, checked."""
    cdef block b
    memset(&b, 0, sizeof(b))
    b.conv.s = convolution_shape((y[0], *conv["out_shape"], y[3]), x, w, conv["stride"], conv["dilation"],
                                 conv["pad_top"], conv["pad_left"])
    b.conv.table, b.conv.itemsize, b.conv.relu, b.winograd = table, itemsize, True, winograd
    cdef window_shape *s = &b.conv.s
    b.pool = s[0]
    b.pool.h, b.pool.w, b.pool.c, b.pool.oh, b.pool.ow = s.oh, s.ow, s.k, y[1], y[2]
    b.pool.r, b.pool.s = pool["kernel_shape"]
    b.pool.k, b.pool.dilation = 0, 0
    b.pool.stride, b.pool.pad_top, b.pool.pad_left = pool["stride"], pool["pad_top"], pool["pad_left"]
    check_window(&b.pool)
    if argmax != y or min(y) < 1 or not 1 <= min(b.pool.r, b.pool.s) <= INACTIVE // max(b.pool.r, b.pool.s):
        raise ValueError(
            "output and argmax must be (N, PH, PW, K), not empty, and kernel_shape a window of 1 to "
            f"{INACTIVE} pixels, got {y}, {argmax} and {(b.pool.r, b.pool.s)}"
        )
    if winograd:
        check_winograd(w, s.stride, s.dilation)
    return b


cdef inline block *new_block(
    program, tuple arrays, tuple y, tuple argmax, tuple x, tuple w, const kernel_table *table, ptrdiff_t itemsize,
    dict conv, dict pool, bint winograd, bint backward, bint with_dx, bint over_x, bint keep_weights,
) except NULL:
    """Divide the images among groups, with scratch for the largest group."""
    cdef block b = block_shape(y, argmax, x, w, conv, pool, table, itemsize, winograd)
    cdef const window_shape *s = &b.conv.s
    b.rows = winograd and not backward and along_rows(s)
    cdef ptrdiff_t together = (  # as many images as keep the matrix products busy
        table.winograd_block(s) // table.winograd_tiles(s) if winograd and not b.rows else
        BLOCK_ROWS // (s.oh * s.ow))
    cdef ptrdiff_t groups = ceil_div(s.n, max(1, together))
    b.conv.groups = min(s.n, ceil_div(groups, GROUPS) * GROUPS)
    b.conv.group = ceil_div(s.n, b.conv.groups)
    b.few = backward and not with_dx and few_gradients(&b)
    cdef ptrdiff_t weights = 0 if b.few or keep_weights or (backward and not with_dx) else weight_size(&b, backward)
    cdef ptrdiff_t inner, accumulators
    if b.few:
        inner = table.conv_pool_grad_weight_scratch(s, &b.pool)
    else:
        b.output_bytes = whole_lines(b.conv.group * s.oh * s.ow * s.k * itemsize)
        b.place_bytes = whole_lines((b.pool.oh if backward else 1) * b.pool.ow * s.k * <ptrdiff_t> sizeof(int32_t))
        b.input_bytes = whole_lines(b.conv.group * s.h * s.w * s.c * itemsize) if over_x else 0
        inner = inner_size(&b, backward)
    if winograd or not backward:
        b.weight_bytes = whole_lines(weights * itemsize)
    b.conv.accumulators_at = whole_lines(weights * itemsize)  # if the threads share the weights
    accumulators = count_accumulators(&b) if backward else 0
    cdef ptrdiff_t shared = b.conv.accumulators_at + accumulators * itemsize
    if backward and winograd and not b.few:
        shared = plan_groups(&b)
    cdef block *work = <block *> new_work(
        program, arrays, sizeof(block), shared,
        b.output_bytes + b.place_bytes + b.input_bytes + CACHE_LINE + b.weight_bytes + inner * itemsize)
    work[0] = b
    return work


cdef inline ptrdiff_t weight_size(const block *b, bint backward) noexcept nogil:
    """Elements of the packed or evaluated weights."""
    cdef const window_shape *s = &b.conv.s
    cdef ptrdiff_t depth = s.r * s.s * s.c, panel = b.conv.table.panel
    if b.rows:
        return b.conv.table.winograd_rows_kernel_size(s)
    if b.winograd:
        return b.conv.table.winograd_kernel_size(s, backward)
    return panel * (s.k * ceil_div(depth, panel) if backward else depth * ceil_div(s.k, panel))


cdef inline ptrdiff_t inner_size(const block *b, bint backward) noexcept nogil:
    """Elements of scratch for the convolution itself."""
    cdef const kernel_table *table = b.conv.table
    if b.rows:
        return table.winograd_rows_scratch(&b.conv.s)
    if b.winograd:
        return table.winograd_scratch(&b.conv.s)
    if backward:
        return max(table.conv2d_grad_weight_scratch(&b.conv.s), table.conv2d_grad_input_scratch(&b.conv.s))
    return table.block_scratch


cdef inline ptrdiff_t count_accumulators(block *b) noexcept nogil:
    """Set the number and the size of the accumulators; returns the elements of all of them."""
    cdef const kernel_table *table = b.conv.table
    cdef const window_shape *s = &b.conv.s
    if b.few:  # a row of sums for each channel: its taps, then its bias
        b.conv.accumulator_size = s.k * table.conv_pool_patch(s)
    else:
        b.conv.accumulator_size = s.k + (table.winograd_kernel_size(s, False) if b.winograd else weight_count(s))
    b.conv.accumulators = accumulator_count(s.n, b.conv.groups, b.conv.accumulator_size * b.conv.itemsize)
    return b.conv.accumulators * b.conv.accumulator_size


cdef inline ptrdiff_t plan_groups(block *b) noexcept nogil:
    """Set the pieces of work of Winograd's backward pass, and what the groups need; returns the shared memory."""
    cdef const window_shape *s = &b.conv.s
    cdef ptrdiff_t size = b.conv.accumulator_size * b.conv.itemsize
    cdef bint at_once = b.conv.group * b.conv.table.winograd_tiles(s) <= b.conv.table.winograd_block(s)
    b.pieces = b.conv.groups if at_once and b.conv.groups <= ACCUMULATOR_BYTES // size else b.conv.accumulators
    b.bias_blocks = ceil_div(b.conv.group * s.oh * s.ow, BLOCK_ROWS)
    b.apart_at = whole_lines(b.conv.accumulators_at + b.pieces * size)
    b.bias_at = whole_lines(b.apart_at + b.conv.groups)
    return b.bias_at + b.conv.groups * b.bias_blocks * s.k * b.conv.itemsize


cdef inline bint few_gradients(const block *b) noexcept nogil:
    """Whether the gradient of the convolution's output is so sparse that it pays to visit only the maxima."""
    cdef const window_shape *s = &b.conv.s
    # The kernel copies each image with its padding.
    cdef double rows = padded_extent(s.h, s.r, s.stride, s.dilation, b.pool.oh, b.pool.stride, b.pool.r)
    cdef double columns = padded_extent(s.w, s.s, s.stride, s.dilation, b.pool.ow, b.pool.stride, b.pool.s)
    cdef double size = s.c * rows * columns
    cdef ptrdiff_t windows = b.pool.oh * b.pool.ow, pixels = b.pool.h * b.pool.w
    # It gathers all patches of every window.
    return (2 * windows <= pixels and windows * b.pool.r * b.pool.s <= 2 * pixels and s.r * s.s * s.c < BLOCK_ROWS
            and size < LARGEST_IMAGE)


cdef inline double padded_extent(
    double size, double taps, double stride, double dilation, double windows, double pool_stride, double pool_taps,
) noexcept nogil:
    """Pixels along an axis that the pooling windows see through the convolution, inside the image or not."""
    return max(size, ((windows - 1) * pool_stride + pool_taps - 1) * stride + (taps - 1) * (dilation + 1) + 1)


# ---------------------------------------------------------------- pieces of work

# A group of images as a batch of its own.
cdef struct group_of_images:
    window_shape conv, pool
    char *x
    char *dx
    char *y
    char *dy
    uint8_t *argmax


cdef inline group_of_images select(const block *b, ptrdiff_t index) noexcept nogil:
    cdef const window_shape *s = &b.conv.s
    cdef ptrdiff_t first = index * s.n // b.conv.groups, last = (index + 1) * s.n // b.conv.groups
    cdef ptrdiff_t image = s.h * s.w * s.c * b.conv.itemsize, pooled = b.pool.oh * b.pool.ow * s.k
    cdef group_of_images g
    g.conv, g.pool = b.conv.s, b.pool
    g.conv.n = g.pool.n = last - first
    g.x = <char *> b.conv.x + first * image
    g.dx = NULL if b.conv.dx == NULL else <char *> b.conv.dx + first * image
    g.y = NULL if b.y == NULL else <char *> b.y + first * pooled * b.conv.itemsize
    g.dy = NULL if b.dy == NULL else <char *> b.dy + first * pooled * b.conv.itemsize
    g.argmax = b.argmax + first * pooled
    return g


cdef inline char *inner_scratch(const block *b, char *scratch) noexcept nogil:
    """Scratch of the convolution itself."""
    return own_weights(b, scratch) + b.weight_bytes


cdef inline char *own_weights(const block *b, char *scratch) noexcept nogil:
    return <char *> state_of(b, scratch) + CACHE_LINE


cdef inline thread_state *state_of(const block *b, char *scratch) noexcept nogil:
    return <thread_state *> (input_copy(b, scratch) + b.input_bytes)


cdef inline char *input_copy(const block *b, char *scratch) noexcept nogil:
    return scratch + b.output_bytes + b.place_bytes
