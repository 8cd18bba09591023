# Normalization of channels, by the statistics of a batch, of groups of an image's channels, or by given ones: argument
# checks, and the split of the work.  x is (B, M, C): B images of M pixels, or one of all pixels of a batch.

from cython cimport floating
from libc.string cimport memcpy

from stages cimport add_stage, new_work
from tables cimport ceil_div, import_f32, import_f64

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct kernel_table:
        void (*normalization_sums)(double *, const void *, const void *, const void *, ptrdiff_t, ptrdiff_t,
                                   ptrdiff_t, void *) noexcept nogil
        void (*normalization_statistics)(void *, void *, const double *, const void *, ptrdiff_t, ptrdiff_t,
                                         ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*normalization_factors)(void *, const void *, const void *, double, ptrdiff_t) noexcept nogil
        void (*normalize)(void *, const void *, const void *, const void *, const void *, int, ptrdiff_t, ptrdiff_t,
                          ptrdiff_t, void *) noexcept nogil
        void (*normalization_gradients)(void *, double *, const double *, const void *, const void *, double, int,
                                        ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*normalization_collect)(void *, const double *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*normalize_backward)(void *, const void *, const void *, const void *, const void *, ptrdiff_t,
                                   ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        void (*running_average)(void *, const void *, double, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    PERIOD = 64               # elements, at least, to which a row of channels is repeated
    PIECE = 16_384            # elements, about, of a piece of work
    MAX_PARTS = 32            # partial sums of an image
    SMALL_WORK = 32_768       # elements below which waking other threads costs more than it saves


cdef struct normalization:
    const kernel_table *table
    const char *x
    const char *dy
    char *y
    char *dx
    char *mean
    char *variance
    const void *scaler
    const void *intercept
    void *dscaler
    void *dintercept
    ptrdiff_t images, rows, channels, groups
    ptrdiff_t period, periods          # elements of a period, and how many an image has, the last one cut off
    ptrdiff_t pieces, parts            # of an image: pieces of elementwise work, and partial sums
    ptrdiff_t itemsize
    ptrdiff_t totals, coefficients     # where these begin in the shared memory, after the sums
    double epsilon
    bint relu, measured, shared_statistics


cdef normalization *new_normalization(
    object program, tuple arrays, const kernel_table *table, tuple shape, ptrdiff_t groups, double epsilon,
    ptrdiff_t itemsize,
) except NULL:
    """The work on arrays of this shape, still without pointers, and its memory."""
    cdef ptrdiff_t images, rows, channels
    images, rows, channels = shape
    if min(shape) < 1 or not 1 <= groups <= channels or channels % groups:
        raise ValueError(f"x must be (B, M, C), not empty, and C a multiple of groups, got {shape} and {groups}")
    cdef ptrdiff_t period = channels * ceil_div(PERIOD, channels), periods = ceil_div(rows * channels, period)
    cdef ptrdiff_t pieces = ceil_div(periods, max(1, PIECE // period)), parts = min(pieces, MAX_PARTS)
    cdef ptrdiff_t sums = images * parts * 2 * period * sizeof(double), totals = images * 2 * channels * sizeof(double)
    cdef normalization *n = <normalization *> new_work(
        program, arrays, sizeof(normalization), sums + totals + images * 3 * channels * itemsize, 4 * period * itemsize)
    n.table, n.images, n.rows, n.channels, n.groups = table, images, rows, channels, groups
    n.period, n.periods, n.pieces, n.parts = period, periods, pieces, parts
    n.itemsize, n.epsilon, n.totals, n.coefficients = itemsize, epsilon, sums, sums + totals
    return n


cdef int check(tuple shape, list same, tuple statistics, list channels) except -1:
    """ValueError unless arrays are like x (B, M, C), the statistics (B, C) or (1, C), and the parameters (C)."""
    if any([other != shape for other in same]) or statistics not in ((shape[0], shape[2]), (1, shape[2])) or (
        any([other != shape[2:] for other in channels])
    ):
        raise ValueError(
            f"for x (B, M, C) the others must be (B, M, C), (B, C) and (C), got {shape}, {same}, {statistics} and "
            f"{channels}"
        )
    return 0


cdef inline bint is_small(const normalization *n) noexcept nogil:
    return n.images * n.rows * n.channels < SMALL_WORK


# Of image b: where its rows, its partial sums, its totals and its coefficients begin, and where its statistics do.
cdef inline ptrdiff_t image_at(const normalization *n, ptrdiff_t b) noexcept nogil:
    return b * n.rows * n.channels * n.itemsize


cdef inline double *sums_of(const normalization *n, char *shared, ptrdiff_t b) noexcept nogil:
    return <double *> shared + b * n.parts * 2 * n.period


cdef inline double *totals_of(const normalization *n, char *shared, ptrdiff_t b) noexcept nogil:
    return <double *> (shared + n.totals) + b * 2 * n.channels


cdef inline char *coefficients_of(const normalization *n, char *shared, ptrdiff_t b) noexcept nogil:
    return shared + n.coefficients + b * 3 * n.channels * n.itemsize


cdef inline ptrdiff_t statistics_at(const normalization *n, ptrdiff_t b) noexcept nogil:
    return 0 if n.shared_statistics else b * n.channels * n.itemsize


# The first element, in an image, of part `index` of `parts`.
cdef inline ptrdiff_t start_of(const normalization *n, ptrdiff_t index, ptrdiff_t parts) noexcept nogil:
    return min(index * n.periods // parts * n.period, n.rows * n.channels)


# ---------------------------------------------------------------- forward

def forward(
    program,
    floating[:, :, ::1] y not None,          # OUT (B, M, C)
    floating[:, ::1] mean not None,          # OUT (B, C), those of a group's channels are the same
    floating[:, ::1] variance not None,      # OUT (B, C)
    const floating[:, :, ::1] x not None,    # IN  (B, M, C)
    const floating[::1] scaler not None,     # IN  (C)
    const floating[::1] intercept not None,  # IN  (C)
    *, ptrdiff_t groups, double epsilon, bint relu,
):
    """y = (x - mean) / sqrt(variance + epsilon) * scaler + intercept, of each image and group of channels, and then
    max(y, 0) if relu."""
    check((<object> x).shape, [(<object> y).shape], (<object> mean).shape,
          [(<object> scaler).shape, (<object> intercept).shape])
    check((<object> x).shape, [], (<object> variance).shape, [])
    if not mean.shape[0] == variance.shape[0] == x.shape[0]:
        raise ValueError(f"mean and variance must have {x.shape[0]} rows, got {mean.shape[0]} and {variance.shape[0]}")
    cdef normalization *n = new_normalization(
        program, (y, mean, variance, x, scaler, intercept), f32 if floating is float else f64, (<object> x).shape,
        groups, epsilon, sizeof(floating))
    n.y, n.mean, n.variance = <char *> &y[0, 0, 0], <char *> &mean[0, 0], <char *> &variance[0, 0]
    n.x, n.scaler, n.intercept, n.relu = <const char *> &x[0, 0, 0], &scaler[0], &intercept[0], relu
    add_stage(program, sum_part, n, n.images * n.parts, is_small(n))
    add_stage(program, measure_image, n, n.images, is_small(n))
    add_stage(program, normalize_piece, n, n.images * n.pieces, is_small(n))


def apply(
    program,
    floating[:, :, ::1] y not None,          # OUT (B, M, C)
    const floating[:, :, ::1] x not None,    # IN  (B, M, C)
    const floating[:, ::1] mean not None,    # IN  (B, C), or (1, C) for all images
    const floating[:, ::1] variance not None,
    const floating[::1] scaler not None,     # IN  (C)
    const floating[::1] intercept not None,  # IN  (C)
    *, double epsilon, bint relu,
):
    """The same with given statistics."""
    check((<object> x).shape, [(<object> y).shape], (<object> mean).shape,
          [(<object> scaler).shape, (<object> intercept).shape])
    check((<object> x).shape, [], (<object> variance).shape, [])
    cdef normalization *n = new_normalization(
        program, (y, mean, variance, x, scaler, intercept), f32 if floating is float else f64, (<object> x).shape,
        1, epsilon, sizeof(floating))
    n.y, n.mean, n.variance = <char *> &y[0, 0, 0], <char *> &mean[0, 0], <char *> &variance[0, 0]
    n.x, n.scaler, n.intercept, n.relu = <const char *> &x[0, 0, 0], &scaler[0], &intercept[0], relu
    n.shared_statistics = mean.shape[0] == 1
    add_stage(program, take_statistics, n, n.images, is_small(n))
    add_stage(program, normalize_piece, n, n.images * n.pieces, is_small(n))


cdef void sum_part(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const normalization *n = <const normalization *> work
    cdef ptrdiff_t b = index // n.parts, part = index % n.parts, at = image_at(n, b)
    cdef ptrdiff_t first = start_of(n, part, n.parts), last = start_of(n, part + 1, n.parts)
    # Forward, the first pixel is the centre of the sums.
    cdef const char *centre = n.x + at
    cdef const char *dy = NULL
    if n.dy != NULL:
        centre, dy = n.mean + statistics_at(n, b), n.dy + at + first * n.itemsize
    n.table.normalization_sums(sums_of(n, shared, b) + part * 2 * n.period, dy, n.x + at + first * n.itemsize, centre,
                               n.channels, n.period, last - first, scratch)


cdef void measure_image(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const normalization *n = <const normalization *> work
    cdef ptrdiff_t at = statistics_at(n, index)
    n.table.normalization_statistics(n.mean + at, n.variance + at, sums_of(n, shared, index), n.x + image_at(n, index),
                                     n.parts, n.rows, n.channels, n.period, n.groups)
    take_statistics(work, index, shared, scratch)


cdef void take_statistics(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const normalization *n = <const normalization *> work
    n.table.normalization_factors(coefficients_of(n, shared, index), n.scaler, n.variance + statistics_at(n, index),
                                  n.epsilon, n.channels)


cdef void normalize_piece(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const normalization *n = <const normalization *> work
    cdef ptrdiff_t b = index // n.pieces, piece = index % n.pieces
    cdef ptrdiff_t first = start_of(n, piece, n.pieces), last = start_of(n, piece + 1, n.pieces)
    cdef ptrdiff_t at = image_at(n, b) + first * n.itemsize
    n.table.normalize(n.y + at, n.x + at, n.mean + statistics_at(n, b), coefficients_of(n, shared, b), n.intercept,
                      n.relu, n.channels, n.period, last - first, scratch)


# --------------------------------------------------------------- backward

def backward(
    program,
    object dx,                               # OUT (B, M, C) of the type of x, or None; may be x or dy
    object dscaler,                          # OUT (C) of the type of x, or None
    object dintercept,                       # OUT (C) of the type of x, or None
    const floating[:, :, ::1] dy not None,   # IN  (B, M, C), without the ReLU
    const floating[:, :, ::1] x not None,    # IN  (B, M, C)
    const floating[:, ::1] mean not None,    # IN  (B, C), or (1, C) for all images unless measured
    const floating[:, ::1] variance not None,
    const floating[::1] scaler not None,     # IN  (C)
    *, ptrdiff_t groups, double epsilon,
    bint measured,                           # whether the statistics are those of x, by `forward`
):
    """The gradients of input and parameters, whichever are not None."""
    cdef floating[:, :, ::1] dx_out = dx
    cdef floating[::1] dscaler_out = dscaler, dintercept_out = dintercept
    check(
        (<object> x).shape, [(<object> dy).shape, *((dx.shape,) if dx is not None else ())], (<object> mean).shape,
        [(<object> scaler).shape, *[each.shape for each in (dscaler, dintercept) if each is not None]])
    check((<object> x).shape, [], (<object> variance).shape, [])
    if measured and not mean.shape[0] == variance.shape[0] == x.shape[0]:
        raise ValueError(f"mean and variance must have {x.shape[0]} rows, got {mean.shape[0]} and {variance.shape[0]}")
    cdef normalization *n = new_normalization(
        program, (dx_out, dscaler_out, dintercept_out, dy, x, mean, variance, scaler),
        f32 if floating is float else f64, (<object> x).shape, groups, epsilon, sizeof(floating))
    n.dy, n.x, n.scaler = <const char *> &dy[0, 0, 0], <const char *> &x[0, 0, 0], &scaler[0]
    n.mean, n.variance, n.measured = <char *> &mean[0, 0], <char *> &variance[0, 0], measured
    n.shared_statistics = mean.shape[0] == 1
    add_stage(program, sum_part, n, n.images * n.parts, is_small(n))
    add_stage(program, derive_image, n, n.images, is_small(n))
    if dscaler is not None:
        n.dscaler = &dscaler_out[0]
    if dintercept is not None:
        n.dintercept = &dintercept_out[0]
    if n.dscaler != NULL or n.dintercept != NULL:
        add_stage(program, collect, n, 1, True)
    if dx is not None:
        n.dx = <char *> &dx_out[0, 0, 0]
        add_stage(program, backward_piece, n, n.images * n.pieces, is_small(n))


cdef void derive_image(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const normalization *n = <const normalization *> work
    n.table.normalization_gradients(
        coefficients_of(n, shared, index), totals_of(n, shared, index), sums_of(n, shared, index), n.scaler,
        n.variance + statistics_at(n, index), n.epsilon, n.measured, n.parts, n.rows, n.channels, n.period, n.groups)


cdef void collect(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const normalization *n = <const normalization *> work
    if n.dscaler != NULL:
        n.table.normalization_collect(n.dscaler, totals_of(n, shared, 0), n.images, n.channels)
    if n.dintercept != NULL:
        n.table.normalization_collect(n.dintercept, totals_of(n, shared, 0) + n.channels, n.images, n.channels)


cdef void backward_piece(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const normalization *n = <const normalization *> work
    cdef ptrdiff_t b = index // n.pieces, piece = index % n.pieces
    cdef ptrdiff_t first = start_of(n, piece, n.pieces), last = start_of(n, piece + 1, n.pieces)
    cdef ptrdiff_t at = image_at(n, b) + first * n.itemsize
    n.table.normalize_backward(n.dx + at, n.dy + at, n.x + at, n.mean + statistics_at(n, b),
                               coefficients_of(n, shared, b), n.channels, n.period, last - first, scratch)


# ---------------------------------------------------- running statistics

cdef struct running:
    const kernel_table *table
    char *kept
    double *is_kept
    const void *mean
    const void *variance
    void *running_mean
    void *running_variance
    ptrdiff_t channels, itemsize
    double momentum


cdef running *new_running(
    object program, tuple arrays, const kernel_table *table, ptrdiff_t channels, tuple kept, tuple is_kept,
    list rows, ptrdiff_t itemsize,
) except NULL:
    if channels < 1 or kept != (2, channels) or is_kept != (1,) or any([row != (channels,) for row in rows]):
        raise ValueError(f"kept must be (2, C), is_kept (1,) and the others (C), got {kept}, {is_kept} and {rows}")
    cdef running *work = <running *> new_work(program, arrays, sizeof(running), 0, 0)
    work.table, work.channels, work.itemsize = table, channels, itemsize
    return work


def keep_statistics(
    program,
    floating[:, ::1] kept not None,           # OUT (2, C), mean and variance of a batch
    double[::1] is_kept not None,             # OUT (1), set to 1
    const floating[::1] mean not None,        # IN  (C)
    const floating[::1] variance not None,    # IN  (C)
):
    """Keep the statistics of a batch for `move_running`."""
    cdef running *work = new_running(
        program, (kept, is_kept, mean, variance), f32 if floating is float else f64, mean.shape[0],
        (<object> kept).shape, (<object> is_kept).shape, [(<object> variance).shape], sizeof(floating))
    work.kept, work.is_kept, work.mean, work.variance = <char *> &kept[0, 0], &is_kept[0], &mean[0], &variance[0]
    add_stage(program, copy_statistics, work, 1, True)


cdef void copy_statistics(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const running *r = <const running *> work
    cdef ptrdiff_t size = r.channels * r.itemsize
    memcpy(r.kept, r.mean, size)
    memcpy(r.kept + size, r.variance, size)
    r.is_kept[0] = 1


def move_running(
    program,
    floating[::1] running_mean not None,      # INOUT (C)
    floating[::1] running_variance not None,  # INOUT (C)
    const floating[:, ::1] kept not None,     # IN  (2, C)
    double[::1] is_kept not None,             # INOUT (1), set to 0
    double momentum,
):
    """Running statistics = momentum times themselves + (1 - momentum) times what was kept, if is_kept."""
    cdef running *work = new_running(
        program, (running_mean, running_variance, kept, is_kept), f32 if floating is float else f64,
        running_mean.shape[0], (<object> kept).shape, (<object> is_kept).shape, [(<object> running_variance).shape],
        sizeof(floating))
    work.kept, work.is_kept, work.momentum = <char *> &kept[0, 0], &is_kept[0], momentum
    work.running_mean, work.running_variance = &running_mean[0], &running_variance[0]
    add_stage(program, average, work, 1, True)


cdef void average(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const running *r = <const running *> work
    if r.is_kept[0] == 0:
        return
    r.table.running_average(r.running_mean, r.kept, r.momentum, r.channels)
    r.table.running_average(r.running_variance, r.kept + r.channels * r.itemsize, r.momentum, r.channels)
    r.is_kept[0] = 0
