# Direct convolution, forward, both gradients, and transposed: argument checks and the fixed split of the work.
#
# Letters as in kernels/kernel_list.h; images are (N, H, W, C), weights (R, S, C, K); dilation counts the zeros between
# taps.  The forward pass and the weight gradient are split into blocks of output pixels, the input gradient into groups
# of images, so that results do not depend on the number of threads.  Small images make few blocks, which are then
# divided further, so that threads can share them.

from cython cimport floating

from convolution cimport (
    RANGE, accumulator_at, accumulator_count, add_bias_to_images, check_bias, check_transposed_bias, convolution,
    convolution_shape, is_small, kernel_table, pack_transposed_weights, pack_weights, sum_direct_gradients,
    weight_count,
)
from stages cimport add_stage, new_work
from tables cimport BLOCK_ROWS, ceil_div, import_f32, import_f64, range_end, window_shape

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    FEW_PIECES = 4           # pieces of work that there are if possible
    WHOLE_TILES = 12         # output pixels: whole tiles of the matrix product for all instruction sets
    # Output pixels up to which packing the weights first costs more than it saves: of all pieces of the forward pass,
    # and of the only piece of the input gradient.
    FEW_PIXELS = FEW_PIECES * WHOLE_TILES
    FEW_PIXELS_AT_ONCE = 2 * WHOLE_TILES


def has_few_outputs(tuple w, ptrdiff_t stride, *, bint transposed, ptrdiff_t itemsize):
    """Whether weights (R, S, C, K) lead to so few channels, or back if transposed, that this is the fastest algorithm.

    itemsize is that of the numbers in bytes.
    """
    cdef window_shape s
    s.r, s.s, s.c, s.k = w
    s.stride = stride
    cdef const kernel_table *table = f32 if itemsize == sizeof(float) else f64
    return bool(table.conv2d_has_few_outputs(&s, transposed))


def conv2d_forward(
    program,
    floating[:, :, :, ::1] y not None,         # OUT (N, OH, OW, K)
    const floating[:, :, :, ::1] x not None,   # IN  (N, H, W, C)
    const floating[:, :, :, ::1] w not None,   # IN  (R, S, C, K)
    const floating[::1] b not None,            # IN  (K)
    *, ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t pad_top, ptrdiff_t pad_left, bint relu,
):
    """y = conv(x, w) + b, and then max(y, 0) if relu."""
    cdef const kernel_table *table = f32 if floating is float else f64
    cdef window_shape s = convolution_shape(
        (<object> y).shape, (<object> x).shape, (<object> w).shape, stride, dilation, pad_top, pad_left)
    check_bias((<object> b).shape, &s)
    cdef ptrdiff_t panels = ceil_div(s.k, table.panel), pixels = s.n * s.oh * s.ow
    cdef bint packs_nothing = pixels <= FEW_PIXELS or table.conv2d_has_few_outputs(&s, False)
    cdef convolution *work = <convolution *> new_work(
        program, (y, x, w, b), sizeof(convolution),
        0 if packs_nothing else s.r * s.s * s.c * panels * table.panel * sizeof(floating),
        (table.block_scratch + table.dense_scratch) * sizeof(floating))
    work.table, work.s, work.relu = table, s, relu
    work.y, work.x, work.w, work.b = &y[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0, 0, 0], &b[0]
    work.group = min(BLOCK_ROWS, ceil_div(ceil_div(pixels, FEW_PIECES), WHOLE_TILES) * WHOLE_TILES)
    work.packs_nothing = packs_nothing
    if not packs_nothing:
        add_stage(program, pack_weights, work, panels, is_small(&s))
    add_stage(program, forward_block, work, ceil_div(pixels, work.group), is_small(&s))


cdef void forward_block(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const convolution *c = <const convolution *> work
    c.table.conv2d_forward(c.y, c.x, NULL if c.packs_nothing else shared, c.w, c.b, &c.s, c.relu, index * c.group,
                           range_end(index, c.group, c.s.n * c.s.oh * c.s.ow), scratch)


def conv2d_grad_input(
    program,
    floating[:, :, :, ::1] dx not None,        # OUT (N, H, W, C)
    const floating[:, :, :, ::1] dy not None,  # IN  (N, OH, OW, K), gradient of the pre-activation
    const floating[:, :, :, ::1] w not None,   # IN  (R, S, C, K)
    *, ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t pad_top, ptrdiff_t pad_left,
):
    """dx = the gradient of the loss with respect to the convolution's input."""
    cdef convolution *work = grad_input_work(program, (), dx, dy, w, stride, dilation, pad_top, pad_left)
    add_stage(program, grad_input_group, work, ceil_div(work.s.n, work.group), is_small(&work.s))


def conv2d_transpose(
    program,
    floating[:, :, :, ::1] y not None,         # OUT (N, H, W, C)
    const floating[:, :, :, ::1] x not None,   # IN  (N, OH, OW, K)
    const floating[:, :, :, ::1] w not None,   # IN  (R, S, C, K)
    const floating[::1] b not None,            # IN  (C)
    *, ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t pad_top, ptrdiff_t pad_left, bint relu,
):
    """y = the transpose of the convolution from y to x, applied to x, + b, and then max(y, 0) if relu."""
    check_transposed_bias((<object> b).shape, (<object> w).shape)
    cdef convolution *work = grad_input_work(program, (b,), y, x, w, stride, dilation, pad_top, pad_left)
    work.b, work.relu = &b[0], relu
    add_stage(program, transpose_group, work, ceil_div(work.s.n, work.group), is_small(&work.s))


cdef convolution *grad_input_work(
    program, tuple others, floating[:, :, :, ::1] dx, const floating[:, :, :, ::1] dy,
    const floating[:, :, :, ::1] w, ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t pad_top, ptrdiff_t pad_left,
) except NULL:
    """The work of an input gradient, whose next stage is the product with the weights; others: arrays to keep."""
    cdef const kernel_table *table = f32 if floating is float else f64
    cdef window_shape s = convolution_shape(
        (<object> dy).shape, (<object> dx).shape, (<object> w).shape, stride, dilation, pad_top, pad_left)
    cdef ptrdiff_t panels = ceil_div(s.r * s.s * s.c, table.panel)
    cdef bint few_outputs = table.conv2d_has_few_outputs(&s, True)
    # Which packs what it needs itself.
    cdef bint is_one_piece = not few_outputs and (s.n == 1 or s.n * s.oh * s.ow <= FEW_PIXELS_AT_ONCE)
    cdef bint packs_nothing = few_outputs or is_one_piece
    cdef convolution *work = <convolution *> new_work(
        program, (dx, dy, w, *others), sizeof(convolution),
        0 if packs_nothing else s.k * panels * table.panel * sizeof(floating),
        0 if few_outputs else table.conv2d_grad_input_scratch(&s) * sizeof(floating))
    work.table, work.s = table, s
    work.group = s.n if is_one_piece else max(1, min(BLOCK_ROWS // (s.oh * s.ow), ceil_div(s.n, FEW_PIECES)))
    work.dx, work.dy, work.w = &dx[0, 0, 0, 0], &dy[0, 0, 0, 0], &w[0, 0, 0, 0]
    work.packs_nothing = packs_nothing
    if not packs_nothing:
        add_stage(program, pack_transposed_weights, work, panels, is_small(&s))
    return work


cdef void grad_input_group(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const convolution *c = <const convolution *> work
    c.table.conv2d_grad_input(c.dx, c.dy, NULL if c.packs_nothing else shared, c.w, &c.s, index * c.group,
                              range_end(index, c.group, c.s.n), scratch)


cdef void transpose_group(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const convolution *c = <const convolution *> work
    grad_input_group(work, index, shared, scratch)
    add_bias_to_images(c, index * c.group, range_end(index, c.group, c.s.n))


def conv2d_grad_weight(
    program,
    floating[:, :, :, ::1] dw not None,        # OUT (R, S, C, K)
    floating[::1] db not None,                 # OUT (K)
    const floating[:, :, :, ::1] x not None,   # IN  (N, H, W, C)
    const floating[:, :, :, ::1] dy not None,  # IN  (N, OH, OW, K), gradient of the pre-activation
    *, ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t pad_top, ptrdiff_t pad_left,
):
    """dw, db = the gradients of the loss with respect to the weights and the bias.

    The blocks of pixels are divided among accumulators of dw and db, which are then added up in order.  If these are
    few, the rows of dw are divided too.  Both numbers depend on the shapes alone.
    """
    cdef const kernel_table *table = f32 if floating is float else f64
    cdef window_shape s = convolution_shape(
        (<object> dy).shape, (<object> x).shape, (<object> dw).shape, stride, dilation, pad_top, pad_left)
    check_bias((<object> db).shape, &s)
    cdef ptrdiff_t size = weight_count(&s) + s.k, itemsize = sizeof(floating)
    cdef ptrdiff_t blocks = ceil_div(s.n * s.oh * s.ow, BLOCK_ROWS)
    cdef ptrdiff_t accumulators = accumulator_count(s.n, blocks, size * itemsize)
    cdef convolution *work = <convolution *> new_work(
        program, (dw, db, x, dy), sizeof(convolution), accumulators * size * itemsize,
        table.conv2d_grad_weight_scratch(&s) * itemsize)
    work.table, work.s, work.itemsize = table, s, itemsize
    work.groups, work.accumulators, work.accumulator_size = blocks, accumulators, size
    work.dw, work.db, work.x, work.dy = &dw[0, 0, 0, 0], &db[0], &x[0, 0, 0, 0], &dy[0, 0, 0, 0]
    # Kernels of few channels are not divided: such a patch is gathered as a whole.
    work.parts = max(1, min(ceil_div(FEW_PIECES, accumulators), weight_count(&s) // (s.k * BLOCK_ROWS)))
    add_stage(program, accumulate_grad_weight, work, accumulators * work.parts, is_small(&s))
    add_stage(program, sum_direct_gradients, work, ceil_div(weight_count(&s), RANGE) + 1, is_small(&s))


cdef void accumulate_grad_weight(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const convolution *c = <const convolution *> work
    cdef ptrdiff_t accumulator = index // c.parts, part = index % c.parts, patch = c.s.r * c.s.s * c.s.c, i
    cdef ptrdiff_t first_row = part * patch // c.parts, last_row = (part + 1) * patch // c.parts
    cdef char *sums = accumulator_at(c, shared, accumulator)
    c.table.set_zero(sums, first_row * c.s.k, last_row * c.s.k)
    if part == 0:
        c.table.set_zero(sums, weight_count(&c.s), c.accumulator_size)
    for i in range(accumulator * c.groups // c.accumulators, (accumulator + 1) * c.groups // c.accumulators):
        c.table.conv2d_grad_weight(sums, sums + weight_count(&c.s) * c.itemsize, c.x, c.dy, &c.s, i * BLOCK_ROWS,
                                   range_end(i, BLOCK_ROWS, c.s.n * c.s.oh * c.s.ow), first_row, last_row, scratch)
