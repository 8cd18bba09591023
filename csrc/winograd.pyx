# Convolution by Winograd's algorithm: argument checks and the fixed split of the work.
#
# Letters as in kernels/kernel_list.h; images are (N, H, W, C), weights (R, S, C, K) with R and S at most MAX_KERNEL *
# stride.
# The forward pass is split into blocks of tiles or, with few channels, bands of rows; the backward pass and the
# transposed convolution into groups of whole images, because tiles overlap in dx.

from cython cimport floating

from convolution cimport (
    RANGE, accumulator_at, accumulator_count, add_bias_to_images, along_rows, check_bias,
    check_transposed_bias, check_winograd, collect_kernel, convolution, convolution_shape, evaluate_kernel,
    evaluate_kernel_along_rows, evaluate_transposed_kernel, is_small, kernel_pieces, kernel_table, sum_into_first,
)
from stages cimport add_stage, new_work
from tables cimport ceil_div, import_f32, import_f64, range_end, window_shape
from tables cimport FEW_CHANNELS as MOST_CHANNELS_ALONG_ROWS, MAX_WINOGRAD_KERNEL, winograd_outputs

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    BIAS_RANGE = 16          # output channels whose gradients are summed at once

# For Python.
FEW_CHANNELS = MOST_CHANNELS_ALONG_ROWS   # up to which the forward pass transforms along rows only
MAX_KERNEL = MAX_WINOGRAD_KERNEL          # largest number of rows and columns of a kernel, for each one of stride


def outputs(ptrdiff_t kernel):
    """The number of outputs of a tile along an axis, for a kernel of this size.

    A tile in two dimensions is square: its size follows from the larger side of the kernel.
    """
    if not 1 <= kernel <= MAX_WINOGRAD_KERNEL:
        raise ValueError(f"kernel must be from 1 to {MAX_WINOGRAD_KERNEL}, got {kernel}")
    return winograd_outputs(kernel)


cdef window_shape winograd_shape(
    tuple y, tuple x, tuple w, ptrdiff_t stride, ptrdiff_t pad_top, ptrdiff_t pad_left,
) except *:
    cdef window_shape s = convolution_shape(y, x, w, stride, 0, pad_top, pad_left)
    check_winograd(w, stride, 0)
    return s


def forward(
    program,
    floating[:, :, :, ::1] y not None,         # OUT (N, OH, OW, K)
    const floating[:, :, :, ::1] x not None,   # IN  (N, H, W, C)
    const floating[:, :, :, ::1] w not None,   # IN  (R, S, C, K)
    const floating[::1] b not None,            # IN  (K)
    *, ptrdiff_t stride, ptrdiff_t pad_top, ptrdiff_t pad_left, bint relu,
):
    """y = conv(x, w) + b, and then max(y, 0) if relu."""
    cdef const kernel_table *table = f32 if floating is float else f64
    cdef window_shape s = winograd_shape(
        (<object> y).shape, (<object> x).shape, (<object> w).shape, stride, pad_top, pad_left)
    check_bias((<object> b).shape, &s)
    cdef bint rows = along_rows(&s)
    cdef ptrdiff_t weights = table.winograd_rows_kernel_size(&s) if rows else table.winograd_kernel_size(&s, False)
    cdef ptrdiff_t scratch = table.winograd_rows_scratch(&s) if rows else table.winograd_scratch(&s)
    cdef convolution *work = <convolution *> new_work(
        program, (y, x, w, b), sizeof(convolution), weights * sizeof(floating), scratch * sizeof(floating))
    work.table, work.s, work.relu, work.group = table, s, relu, table.winograd_block(&s)
    work.y, work.x, work.w, work.b = &y[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0, 0, 0], &b[0]
    if rows:
        add_stage(program, evaluate_kernel_along_rows, work, 1, True)
        add_stage(program, forward_band, work, s.n * table.winograd_rows_bands(&s), is_small(&s))
        return
    add_stage(program, evaluate_kernel, work, kernel_pieces(table.winograd_channels(&s)), is_small(&s))
    add_stage(program, forward_block, work, ceil_div(s.n * table.winograd_tiles(&s), work.group), is_small(&s))


cdef void forward_block(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const convolution *c = <const convolution *> work
    c.table.winograd_forward(c.y, c.x, shared, c.b, &c.s, c.relu, index * c.group,
                             range_end(index, c.group, c.s.n * c.table.winograd_tiles(&c.s)), scratch)


cdef void forward_band(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const convolution *c = <const convolution *> work
    c.table.winograd_rows_forward(c.y, c.x, shared, c.b, &c.s, c.relu, index, index + 1, scratch)


def transpose(
    program,
    floating[:, :, :, ::1] y not None,         # OUT (N, H, W, C)
    const floating[:, :, :, ::1] x not None,   # IN  (N, OH, OW, K)
    const floating[:, :, :, ::1] w not None,   # IN  (R, S, C, K)
    const floating[::1] b not None,            # IN  (C)
    *, ptrdiff_t stride, ptrdiff_t pad_top, ptrdiff_t pad_left, bint relu,
):
    """y = the transpose of the convolution from y to x, applied to x, + b, and then max(y, 0) if relu."""
    cdef const kernel_table *table = f32 if floating is float else f64
    cdef window_shape s = winograd_shape(
        (<object> x).shape, (<object> y).shape, (<object> w).shape, stride, pad_top, pad_left)
    check_transposed_bias((<object> b).shape, (<object> w).shape)
    cdef convolution *work = <convolution *> new_work(
        program, (y, x, w, b), sizeof(convolution), table.winograd_kernel_size(&s, True) * sizeof(floating),
        table.winograd_scratch(&s) * sizeof(floating))
    work.table, work.s, work.relu, work.group = table, s, relu, images_at_once(table, &s)
    work.dx, work.dy, work.w, work.b = &y[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0, 0, 0], &b[0]
    add_stage(program, evaluate_transposed_kernel, work, kernel_pieces(s.k), is_small(&s))
    add_stage(program, transpose_group, work, ceil_div(s.n, work.group), is_small(&s))


cdef void transpose_group(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const convolution *c = <const convolution *> work
    cdef ptrdiff_t first = index * c.group, last = range_end(index, c.group, c.s.n)
    add_group(c, NULL, False, shared, first, last, scratch)
    add_bias_to_images(c, first, last)


cdef inline ptrdiff_t images_at_once(const kernel_table *table, const window_shape *s) noexcept nogil:
    return max(1, table.winograd_block(s) // table.winograd_tiles(s))


def backward(
    program,
    object dx,                                 # OUT (N, H, W, C) of the type of w, or None
    object dw,                                 # OUT (R, S, C, K) of the type of w, or None
    object db,                                 # OUT (K) of the type of w, or None with dw
    const floating[:, :, :, ::1] x not None,   # IN  (N, H, W, C)
    const floating[:, :, :, ::1] dy not None,  # IN  (N, OH, OW, K), gradient of the pre-activation
    const floating[:, :, :, ::1] w not None,   # IN  (R, S, C, K)
    *, ptrdiff_t stride, ptrdiff_t pad_top, ptrdiff_t pad_left,
):
    """The gradients of the loss with respect to the input, and to the weights and the bias, whichever are not None.

    Groups of images are divided among accumulators, which are then added up in order.  The number of accumulators
    depends on the shapes alone.
    """
    cdef const kernel_table *table = f32 if floating is float else f64
    cdef window_shape s = winograd_shape(
        (<object> dy).shape, (<object> x).shape, (<object> w).shape, stride, pad_top, pad_left)
    # Typed here: as arguments of a fused type they would select float whenever they are None.
    cdef floating[:, :, :, ::1] dx_out = dx, dw_out = dw
    cdef floating[::1] db_out = db
    if (dx is not None and dx.shape != (<object> x).shape) or (
        dw is not None and (dw.shape != (<object> w).shape or db_out is None or db_out.shape[0] != s.k)
    ):
        raise ValueError(f"dx, dw and db must have the shapes {(<object> x).shape}, {(<object> w).shape} and ({s.k},)")
    cdef ptrdiff_t group = images_at_once(table, &s), groups = ceil_div(s.n, group)
    cdef ptrdiff_t size = table.winograd_kernel_size(&s, False), itemsize = sizeof(floating)
    cdef ptrdiff_t accumulators = accumulator_count(s.n, groups, size * itemsize)
    cdef ptrdiff_t accumulators_at = table.winograd_kernel_size(&s, True) * itemsize
    cdef convolution *work = <convolution *> new_work(
        program, (dx_out, dw_out, db_out, x, dy, w), sizeof(convolution),
        accumulators_at + accumulators * size * itemsize, table.winograd_scratch(&s) * itemsize)
    work.table, work.s, work.itemsize, work.group, work.groups = table, s, itemsize, group, groups
    work.accumulators, work.accumulator_size, work.accumulators_at = accumulators, size, accumulators_at
    work.x, work.dy, work.w = &x[0, 0, 0, 0], &dy[0, 0, 0, 0], &w[0, 0, 0, 0]
    if dx is not None:
        work.dx = &dx_out[0, 0, 0, 0]
        add_stage(program, evaluate_transposed_kernel, work, kernel_pieces(s.k), is_small(&s))
    if dw is not None:
        work.dw, work.db = &dw_out[0, 0, 0, 0], &db_out[0]
    add_stage(program, accumulate_backward, work, accumulators, is_small(&s))
    if dw is not None:
        add_stage(program, sum_into_first, work, ceil_div(size, RANGE), is_small(&s))
        add_stage(program, collect_kernel, work, table.winograd_channels(&s), is_small(&s))
        add_stage(program, grad_bias, work, ceil_div(s.k, BIAS_RANGE), is_small(&s))


cdef void accumulate_backward(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    """The images of one accumulator, a group at a time."""
    cdef const convolution *c = <const convolution *> work
    cdef ptrdiff_t end
    cdef ptrdiff_t first = index * c.groups // c.accumulators * c.group
    cdef ptrdiff_t last = min((index + 1) * c.groups // c.accumulators * c.group, c.s.n)
    cdef char *dU = accumulator_at(c, shared, index) if c.dw != NULL else NULL
    cdef bint accumulate = False
    while first < last:
        end = min(first + c.group, last)
        add_group(c, dU, accumulate, shared, first, end, scratch)
        first, accumulate = end, True


cdef inline void add_group(
    const convolution *c, char *dU, bint accumulate, char *shared, ptrdiff_t first, ptrdiff_t last, char *scratch,
) noexcept nogil:
    """dx of images first <= n < last, and their part of dU, whichever are not NULL."""
    cdef ptrdiff_t tiles = c.table.winograd_tiles(&c.s), image = c.s.h * c.s.w * c.s.c
    if c.dx != NULL:
        c.table.set_zero(c.dx, first * image, last * image)
    c.table.winograd_backward(c.dx, dU, accumulate, c.x, c.dy, shared, &c.s, first * tiles, last * tiles, scratch)


cdef void grad_bias(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const convolution *c = <const convolution *> work
    c.table.column_sums(c.db, c.dy, c.s.n * c.s.oh * c.s.ow, c.s.k, index * BIAS_RANGE,
                        range_end(index, BIAS_RANGE, c.s.k))
