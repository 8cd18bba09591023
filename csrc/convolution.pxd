# What the convolution modules share: the checked geometry, the description of the work, and common stages.

from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memcmp, memcpy

from tables cimport FEW_CHANNELS, KERNEL_ROWS, MAX_WINOGRAD_KERNEL, ceil_div, check_window, range_end, window_shape

# The kernels that the convolution modules call.
cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct kernel_table:
        int panel
        ptrdiff_t block_scratch, dense_scratch
        void (*pack_panels)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                            ptrdiff_t) noexcept nogil
        void (*column_sums)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*add_column_sums)(void *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*add_bias)(void *, const void *, ptrdiff_t, int, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*set_zero)(void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*sum_accumulators)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        ptrdiff_t (*conv2d_has_few_outputs)(const window_shape *, int) noexcept nogil
        void (*conv2d_forward)(void *, const void *, const void *, const void *, const void *, const window_shape *,
                               int, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        void (*conv2d_grad_input)(void *, const void *, const void *, const void *, const window_shape *, ptrdiff_t,
                                  ptrdiff_t, void *) noexcept nogil
        ptrdiff_t (*conv2d_grad_input_scratch)(const window_shape *) noexcept nogil
        void (*conv2d_grad_weight)(void *, void *, const void *, const void *, const window_shape *, ptrdiff_t,
                                   ptrdiff_t, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        ptrdiff_t (*conv2d_grad_weight_scratch)(const window_shape *) noexcept nogil
        void (*conv_pool_grad_weight)(void *, const void *, const void *, const uint8_t *, const window_shape *,
                                      const window_shape *, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        ptrdiff_t (*conv_pool_grad_weight_scratch)(const window_shape *, const window_shape *) noexcept nogil
        ptrdiff_t (*conv_pool_patch)(const window_shape *) noexcept nogil
        void (*conv_pool_collect)(void *, void *, const void *, const window_shape *, ptrdiff_t,
                                  ptrdiff_t) noexcept nogil
        void (*winograd_kernel)(void *, const void *, const window_shape *, int, ptrdiff_t, ptrdiff_t) noexcept nogil
        ptrdiff_t (*winograd_channels)(const window_shape *) noexcept nogil
        ptrdiff_t (*winograd_kernel_size)(const window_shape *, int) noexcept nogil
        ptrdiff_t (*winograd_tiles)(const window_shape *) noexcept nogil
        ptrdiff_t (*winograd_block)(const window_shape *) noexcept nogil
        ptrdiff_t (*winograd_scratch)(const window_shape *) noexcept nogil
        void (*winograd_forward)(void *, const void *, const void *, const void *, const window_shape *, int, ptrdiff_t,
                                 ptrdiff_t, void *) noexcept nogil
        void (*winograd_backward)(void *, void *, int, const void *, const void *, const void *, const window_shape *,
                                  ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        void (*winograd_collect_kernel)(void *, const void *, const window_shape *, ptrdiff_t) noexcept nogil
        void (*winograd_rows_kernel)(void *, const void *, const window_shape *) noexcept nogil
        ptrdiff_t (*winograd_rows_kernel_size)(const window_shape *) noexcept nogil
        void (*winograd_rows_forward)(void *, const void *, const void *, const void *, const window_shape *, int,
                                      ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        ptrdiff_t (*winograd_rows_bands)(const window_shape *) noexcept nogil
        ptrdiff_t (*winograd_rows_scratch)(const window_shape *) noexcept nogil
        void (*pool2d_max_forward)(void *, int32_t *, const void *, const window_shape *, ptrdiff_t) noexcept nogil
        void (*pool2d_max_backward)(void *, const void *, const int32_t *, const window_shape *) noexcept nogil
        void (*narrow)(uint8_t *, const int32_t *, const void *, ptrdiff_t) noexcept nogil
        void (*widen)(int32_t *, const uint8_t *, ptrdiff_t) noexcept nogil

cdef enum:
    SMALL_WORK = 100_000     # multiplications below which waking other threads costs more than it saves
    RANGE = 4096             # elements of the accumulators summed by one piece of work
    LEAST_ACCUMULATORS = 8   # of the weight gradient, if there are as many groups
    LARGE_BATCH = 512        # images
    IMAGES_EACH = 32         # of large batches, whose sums then occupy more than 8 threads and cost 1 or 2 % of a step
    ACCUMULATOR_BYTES = 1 << 26    # memory that all accumulators together may take

cdef struct convolution:
    const kernel_table *table
    window_shape s
    ptrdiff_t itemsize
    const void *x
    const void *w
    const void *b
    const void *dy
    void *y
    void *dx
    void *dw
    void *db
    bint relu
    bint packs_nothing    # the direct algorithm multiplies by the weights as they are
    # The weight gradient: the groups (of images, or blocks of pixels) are divided among accumulators of
    # accumulator_size elements each, the first of them accumulators_at bytes into the shared memory; the rows of an
    # accumulator may be divided into parts.
    ptrdiff_t group, groups, accumulators, accumulator_size, accumulators_at, parts
    # Packed or evaluated weights that are kept from run to run, and a copy of the weights they were made from; NULL if
    # they are made again in each run, in the shared memory.
    char *kept_weights
    char *kept_from
    bint made, changed


cdef inline window_shape convolution_shape(
    tuple y, tuple x, tuple w, ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t pad_top, ptrdiff_t pad_left,
) except *:
    """The geometry from the shapes of output (N, OH, OW, K), input (N, H, W, C) and weights (R, S, C, K)."""
    cdef window_shape s
    s.n, s.h, s.w, s.c = x
    s.oh, s.ow = y[1], y[2]
    s.r, s.s, s.k = w[0], w[1], w[3]
    s.stride, s.dilation, s.pad_top, s.pad_left = stride, dilation, pad_top, pad_left
    if min(*y, *x, *w) < 1 or w[2] != s.c or y[0] != s.n or y[3] != s.k:
        raise ValueError(
            "output, input and weights must be (N, OH, OW, K), (N, H, W, C) and (R, S, C, K), none of them empty, got "
            f"{y}, {x} and {w}"
        )
    check_window(&s)
    return s


cdef inline int check_winograd(tuple w, ptrdiff_t stride, ptrdiff_t dilation) except -1:
    if max(w[0], w[1]) > MAX_WINOGRAD_KERNEL * stride or dilation != 0:
        raise ValueError(
            "winograd must have dilation 0 and weights (R, S, C, K) with R and S at most "
            f"{MAX_WINOGRAD_KERNEL} * stride, got stride {stride}, dilation {dilation} and {w}"
        )
    return 0


cdef inline int check_bias(tuple b, const window_shape *s) except -1:
    if b[0] != s.k:
        raise ValueError(f"the bias and its gradient must have {s.k} elements, got {b[0]}")
    return 0


cdef inline int check_transposed_bias(tuple b, tuple w) except -1:
    """The bias of the convolution transposed, which is added to that one's input."""
    if b[0] != w[2]:
        raise ValueError(f"the bias must have {w[2]} elements, got {b[0]}")
    return 0


cdef inline bint is_small(const window_shape *s) noexcept nogil:
    return s.n * s.oh * s.ow * s.k * s.r * s.s * s.c < SMALL_WORK


cdef inline bint along_rows(const window_shape *s) noexcept nogil:
    """Whether Winograd's forward pass transforms along rows only."""
    return s.c <= FEW_CHANNELS and s.stride == 1


cdef inline ptrdiff_t weight_count(const window_shape *s) noexcept nogil:
    return s.r * s.s * s.c * s.k


cdef inline ptrdiff_t accumulator_count(ptrdiff_t images, ptrdiff_t groups, ptrdiff_t nbytes) noexcept nogil:
    """The number of accumulators of nbytes each for so many images, in groups that stay together."""
    cdef ptrdiff_t wanted = LEAST_ACCUMULATORS if images < LARGE_BATCH else images // IMAGES_EACH
    return max(1, min(groups, wanted, ACCUMULATOR_BYTES // nbytes))


cdef inline char *weights_of(const convolution *c, char *shared) noexcept nogil:
    return shared if c.kept_weights == NULL else c.kept_weights


cdef inline const void *source_of(const convolution *c) noexcept nogil:
    """What the weights are made from.  If they are kept, it is the copy, because another Python thread may change the
    weights after the comparison."""
    return c.w if c.kept_weights == NULL else <const void *> c.kept_from


cdef inline bint has_weights(const convolution *c) noexcept nogil:
    return c.kept_weights != NULL and not c.changed


cdef inline char *accumulator_at(const convolution *c, char *shared, ptrdiff_t index) noexcept nogil:
    return shared + c.accumulators_at + index * c.accumulator_size * c.itemsize


# ---------------------------------------------------------------- pieces of work

cdef inline void add_bias_to_images(const convolution *c, ptrdiff_t first, ptrdiff_t last) noexcept nogil:
    """Adds the bias of the convolution transposed to images of its output, dx, while they are in the cache."""
    c.table.add_bias(c.dx, c.b, c.s.c, c.relu, first * c.s.h * c.s.w, last * c.s.h * c.s.w)


cdef inline void compare_weights(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    """Whether the weights have changed since the kept ones were made."""
    cdef convolution *c = <convolution *> work
    cdef ptrdiff_t nbytes = weight_count(&c.s) * c.itemsize
    c.changed = not c.made or memcmp(c.kept_from, c.w, nbytes) != 0
    c.made = True
    if c.changed:
        memcpy(c.kept_from, c.w, nbytes)


cdef inline void pack_weights(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    """One panel of w (R * S * C, K)."""
    cdef const convolution *c = <const convolution *> work
    if not has_weights(c):
        c.table.pack_panels(weights_of(c, shared), source_of(c), c.s.r * c.s.s * c.s.c, c.s.k, c.s.k, 1, index,
                            index + 1)


cdef inline void pack_transposed_weights(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    """One panel of w transposed (K, R * S * C)."""
    cdef const convolution *c = <const convolution *> work
    c.table.pack_panels(shared, c.w, c.s.k, c.s.r * c.s.s * c.s.c, 1, c.s.k, index, index + 1)


cdef inline ptrdiff_t kernel_pieces(ptrdiff_t rows) noexcept nogil:
    """Pieces of work in which the weights of so many channels are evaluated."""
    return ceil_div(rows, KERNEL_ROWS)


cdef inline void evaluate_kernel(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const convolution *c = <const convolution *> work
    if not has_weights(c):
        c.table.winograd_kernel(weights_of(c, shared), source_of(c), &c.s, False, index * KERNEL_ROWS,
                                range_end(index, KERNEL_ROWS, c.table.winograd_channels(&c.s)))


cdef inline void evaluate_kernel_along_rows(
    const void *work, ptrdiff_t index, char *shared, char *scratch
) noexcept nogil:
    cdef const convolution *c = <const convolution *> work
    if not has_weights(c):
        c.table.winograd_rows_kernel(weights_of(c, shared), source_of(c), &c.s)


cdef inline void evaluate_transposed_kernel(
    const void *work, ptrdiff_t index, char *shared, char *scratch
) noexcept nogil:
    cdef const convolution *c = <const convolution *> work
    c.table.winograd_kernel(shared, c.w, &c.s, True, index * KERNEL_ROWS, range_end(index, KERNEL_ROWS, c.s.k))


cdef inline void sum_into_first(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const convolution *c = <const convolution *> work
    cdef char *first = accumulator_at(c, shared, 0)
    c.table.sum_accumulators(first, first, c.accumulators, c.accumulator_size, index * RANGE,
                             range_end(index, RANGE, c.accumulator_size))


cdef inline void collect_kernel(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const convolution *c = <const convolution *> work
    c.table.winograd_collect_kernel(c.dw, accumulator_at(c, shared, 0), &c.s, index)


cdef inline void sum_direct_gradients(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    """A range of dw from accumulators that hold dw and then db; the last piece is db."""
    cdef const convolution *c = <const convolution *> work
    cdef ptrdiff_t weights = weight_count(&c.s)
    cdef char *first = accumulator_at(c, shared, 0)
    if index * RANGE < weights:
        c.table.sum_accumulators(c.dw, first, c.accumulators, c.accumulator_size, index * RANGE,
                                 range_end(index, RANGE, weights))
    else:
        c.table.sum_accumulators(c.db, first + weights * c.itemsize, c.accumulators, c.accumulator_size, 0, c.s.k)
