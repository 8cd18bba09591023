# Losses of each row of a batch, with their gradients in the same pass, and their sum.

from cython cimport floating
from libc.math cimport M_PI, exp, log, sqrt, tanh

from stages cimport add_stage, new_work
from tables cimport import_f32, import_f64, number_at, set_number

# The loss of a row of outputs, the last two arguments being that row's number and the number of its row of pixels.
ctypedef double (*row_kernel)(
    void *, const void *, const void *, ptrdiff_t, double weight, ptrdiff_t, ptrdiff_t) noexcept nogil
ctypedef double (*scaled_row_kernel)(
    void *, const void *, const void *, ptrdiff_t, double scale, double weight, ptrdiff_t, ptrdiff_t) noexcept nogil

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct kernel_table:
        row_kernel bce_with_logits, continuous_bernoulli
        scaled_row_kernel gaussian, laplace, gaussian_per_pixel, laplace_per_pixel, discretized_logistic
        double (*gaussian_kl)(void *, void *, const void *, const void *, ptrdiff_t, double, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    SMALL_WORK = 4_000     # pixels below which waking other threads costs more than it saves
    SMALL_CODES = 200      # the same for elements of codes, each of which takes an exponential in double


# A loss of each row; `first` and `second` are the outputs and the pixels, or the means and log variances.
cdef struct row_losses:
    const kernel_table *table
    row_kernel kernel               # one of the two, unless the table says it
    scaled_row_kernel scaled_kernel
    double scale
    double *values
    void *dfirst
    void *dsecond
    const void *first
    const void *second
    const double *weights    # if there are gradients
    ptrdiff_t columns        # of `second`
    ptrdiff_t repeats        # rows of `first` for each row of `second`


cdef row_losses *new_row_losses(
    program, str name, double[::1] loss, object gradient, const floating[:, ::1] first, const floating[:, ::1] y,
    const double[::1] weights, ptrdiff_t per_pixel, ptrdiff_t appended=0,
) except NULL:
    """The loss of each row of `first`, called `name` in errors: so many columns for each of y, and some more."""
    # Typed here: as an argument of the fused type, None would select float.
    cdef floating[:, ::1] dfirst = gradient
    cdef ptrdiff_t rows = first.shape[0], columns = first.shape[1], m = y.shape[1], n = y.shape[0]
    cdef ptrdiff_t repeats = rows // n if n > 0 else 0
    if repeats * n != rows or (repeats == 0 and n > 0) or m * per_pixel + appended != columns:
        raise ValueError(f"y must fit {name} of shape {(rows, columns)}, got {(n, m)}")
    check_rows(rows, columns, (<object> loss).shape, {f"d{name}": dfirst}, weights)
    cdef row_losses *work = <row_losses *> new_work(
        program, (loss, dfirst, first, y, weights), sizeof(row_losses), 0, 0)
    work.table, work.columns, work.repeats = f32 if floating is float else f64, m, repeats
    work.values, work.first, work.second = &loss[0], &first[0, 0], &y[0, 0]
    if dfirst is not None:
        work.dfirst, work.weights = &dfirst[0, 0], &weights[0]
    return work


def bce_with_logits(
    program,
    double[::1] reconstruction not None,      # OUT (n * k), nats
    object dlogits,                           # OUT (n * k, m) of the type of logits, or None; may be logits
    const floating[:, ::1] logits not None,   # IN  (n * k, m)
    const floating[:, ::1] y not None,        # IN  (n, m), in [0, 1]
    const double[::1] weights,                # IN  (n * k), of the rows' gradients; None if dlogits is
):
    """The binary cross-entropy of each row of logits to its row of y, dlogits = (sigmoid(logits) - y) * weights[row].

    Row r of the logits belongs to row r // k of y.  The weights are read when the program runs.
    """
    cdef row_losses *work = new_row_losses[floating](program, "logits", reconstruction, dlogits, logits, y, weights, 1)
    work.kernel = work.table.bce_with_logits
    add_stage(program, loss_of_row, work, logits.shape[0], logits.shape[0] * logits.shape[1] < SMALL_WORK)


def continuous_bernoulli(
    program,
    double[::1] loss not None,                # as for bce_with_logits
    object dlogits,
    const floating[:, ::1] logits not None,
    const floating[:, ::1] y not None,
    const double[::1] weights,
):
    """The negative log density of each row of y under continuous Bernoulli distributions, and its gradient."""
    cdef row_losses *work = new_row_losses[floating](program, "logits", loss, dlogits, logits, y, weights, 1)
    work.kernel = work.table.continuous_bernoulli
    add_stage(program, loss_of_row, work, logits.shape[0], logits.shape[0] * logits.shape[1] < SMALL_WORK)


cdef void loss_of_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const row_losses *r = <const row_losses *> work
    r.values[index] = r.kernel(
        r.dfirst, r.first, r.second, r.columns, r.weights[index] if r.weights != NULL else 1, index, index // r.repeats)


cdef int record_scaled(
    program, double[::1] loss, object doutputs, const floating[:, ::1] outputs, const floating[:, ::1] y,
    const double[::1] weights, ptrdiff_t per_pixel, scaled_row_kernel kernel, double scale,
) except -1:
    cdef row_losses *work = new_row_losses[floating](program, "outputs", loss, doutputs, outputs, y, weights, per_pixel)
    work.scaled_kernel, work.scale = kernel, scale
    return add_stage(
        program, scaled_loss_of_row, work, outputs.shape[0], outputs.shape[0] * outputs.shape[1] < SMALL_WORK)


def gaussian(
    program,
    double[::1] loss not None,                # OUT (n * k), nats
    object doutputs,                          # OUT (n * k, m) of the type of outputs, or None; may be outputs
    const floating[:, ::1] outputs not None,  # IN  (n * k, m), the means
    const floating[:, ::1] y not None,        # IN  (n, m)
    const double[::1] weights,                # IN  (n * k), of the rows' gradients; None if doutputs is
    double scale,
):
    """The negative log density of each row of y under normal distributions of standard deviation `scale`, and its
    gradient times weights[row]; row r of the outputs belongs to row r // k of y."""
    cdef scaled_row_kernel kernel = (f32 if floating is float else f64).gaussian
    record_scaled[floating](program, loss, doutputs, outputs, y, weights, 1, kernel, scale)


def laplace(
    program,
    double[::1] loss not None,                # as for gaussian; the outputs are the medians
    object doutputs,
    const floating[:, ::1] outputs not None,
    const floating[:, ::1] y not None,
    const double[::1] weights,
    double scale,
):
    """The same under Laplace distributions; where an output equals the pixel, its gradient is 0."""
    cdef scaled_row_kernel kernel = (f32 if floating is float else f64).laplace
    record_scaled[floating](program, loss, doutputs, outputs, y, weights, 1, kernel, scale)


def gaussian_per_pixel(
    program,
    double[::1] loss not None,                # OUT (n * k), nats
    object doutputs,                          # OUT (n * k, 2m) of the type of outputs, or None; may be outputs
    const floating[:, ::1] outputs not None,  # IN  (n * k, 2m), a mean and s for each pixel
    const floating[:, ::1] y not None,        # IN  (n, m)
    const double[::1] weights,                # IN  (n * k), of the rows' gradients; None if doutputs is
    double bound,
):
    """As gaussian, with the log variances bound * tanh(s / bound)."""
    cdef scaled_row_kernel kernel = (f32 if floating is float else f64).gaussian_per_pixel
    record_scaled[floating](program, loss, doutputs, outputs, y, weights, 2, kernel, bound)


def laplace_per_pixel(
    program,
    double[::1] loss not None,                # as for gaussian_per_pixel
    object doutputs,
    const floating[:, ::1] outputs not None,
    const floating[:, ::1] y not None,
    const double[::1] weights,
    double bound,
):
    """As laplace, with the log scales bound * tanh(s / bound)."""
    cdef scaled_row_kernel kernel = (f32 if floating is float else f64).laplace_per_pixel
    record_scaled[floating](program, loss, doutputs, outputs, y, weights, 2, kernel, bound)


def discretized_logistic(
    program,
    double[::1] loss not None,                # as for gaussian_per_pixel
    object doutputs,
    const floating[:, ::1] outputs not None,
    const floating[:, ::1] y not None,        # multiples of 1 / 255 in [0, 1]; others count as the nearest one
    const double[::1] weights,
    double bound,
):
    """The negative log probability that logistic variables round to each row of y, with the log scales
    bound * tanh(s / bound), and its gradient times weights[row]."""
    cdef scaled_row_kernel kernel = (f32 if floating is float else f64).discretized_logistic
    record_scaled[floating](program, loss, doutputs, outputs, y, weights, 2, kernel, bound)


cdef void scaled_loss_of_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const row_losses *r = <const row_losses *> work
    cdef double weight = r.weights[index] if r.weights != NULL else 1
    r.values[index] = r.scaled_kernel(
        r.dfirst, r.first, r.second, r.columns, r.scale, weight, index, index // r.repeats)


# ------------------------------------------------ one scale for all pixels, which is in the outputs' last column
#
# Its loss follows from that of a fixed scale, L(scale) = spread / (power scale^power) + m (log(scale) + constant), the
# spread of a row being the sum of its squares or absolute differences.

cdef struct shared_scale:
    row_losses rows         # first comes what all losses of rows have; `scale` is the bound, or the least scale
    double power, constant
    ptrdiff_t count, itemsize
    bint optimal


cdef int record_shared(
    program, double[::1] loss, object doutputs, const floating[:, ::1] outputs, const floating[:, ::1] y,
    const double[::1] weights, bint gaussian, double limit, bint optimal,
) except -1:
    cdef row_losses *rows = new_row_losses[floating](program, "outputs", loss, doutputs, outputs, y, weights, 1, 1)
    cdef shared_scale *work = <shared_scale *> new_work(program, (), sizeof(shared_scale), sizeof(double), 0)
    work.rows, work.count, work.itemsize, work.optimal = rows[0], outputs.shape[0], sizeof(floating), optimal
    work.rows.scale = limit
    if gaussian:
        work.rows.scaled_kernel, work.power, work.constant = rows.table.gaussian, 2, log(2 * M_PI) / 2
    else:
        work.rows.scaled_kernel, work.power, work.constant = rows.table.laplace, 1, log(2.0)
    cdef bint alone = outputs.shape[0] * outputs.shape[1] < SMALL_WORK
    if optimal and doutputs is not None:
        add_stage(program, spread_of_row, work, outputs.shape[0], alone)
        add_stage(program, find_optimal_scale, work, 1, True)
    return add_stage(program, loss_of_shared_scale, work, outputs.shape[0], alone)


def gaussian_shared(
    program,
    double[::1] loss not None,                # OUT (n * k), nats
    object doutputs,                          # OUT (n * k, m + 1) of the type of outputs, or None; may be outputs
    const floating[:, ::1] outputs not None,  # IN  (n * k, m + 1), the means, then s
    const floating[:, ::1] y not None,        # IN  (n, m)
    const double[::1] weights,                # IN  (n * k), of the rows' gradients; None if doutputs is
    double bound,
):
    """As gaussian, with the log scale bound * tanh(s / bound)."""
    record_shared[floating](program, loss, doutputs, outputs, y, weights, True, bound, False)


def laplace_shared(
    program,
    double[::1] loss not None,                # as for gaussian_shared
    object doutputs,
    const floating[:, ::1] outputs not None,
    const floating[:, ::1] y not None,
    const double[::1] weights,
    double bound,
):
    """As laplace, with the log scale bound * tanh(s / bound)."""
    record_shared[floating](program, loss, doutputs, outputs, y, weights, False, bound, False)


def gaussian_optimal(
    program,
    double[::1] loss not None,                # OUT (n * k), nats
    object doutputs,                          # OUT (n * k, m + 1) of the type of outputs, or None; may be outputs
    const floating[:, ::1] outputs not None,  # IN  (n * k, m + 1), the means, then the variance to use without doutputs
    const floating[:, ::1] y not None,        # IN  (n, m)
    const double[::1] weights,                # IN  (n * k), of the rows' gradients; None if doutputs is
    double least,
):
    """As gaussian, with the scale, at least `least`, for which the sum of the losses is smallest.

    The gradient is that of this scale.  The last column of doutputs = the row's mean square times weights[row].
    """
    record_shared[floating](program, loss, doutputs, outputs, y, weights, True, least, True)


def laplace_optimal(
    program,
    double[::1] loss not None,                # as for gaussian_optimal
    object doutputs,
    const floating[:, ::1] outputs not None,  # IN  (n * k, m + 1), the medians, then the scale to use without doutputs
    const floating[:, ::1] y not None,
    const double[::1] weights,
    double least,
):
    """As laplace, with the best scale; the last column of doutputs = the mean difference times weights[row]."""
    record_shared[floating](program, loss, doutputs, outputs, y, weights, False, least, True)


cdef double row_with_scale(
    const shared_scale *s, void *doutputs, double scale, double weight, ptrdiff_t row,
) noexcept nogil:
    """The loss of a row, and its gradient but for the last column."""
    cdef const row_losses *r = &s.rows
    cdef ptrdiff_t at = row * (r.columns + 1) * s.itemsize
    return r.scaled_kernel(
        NULL if doutputs == NULL else <char *> doutputs + at, <const char *> r.first + at,
        <const char *> r.second + row // r.repeats * r.columns * s.itemsize, r.columns, scale, weight, 0, 0)


cdef double mean_spread(const shared_scale *s, double loss, double scale) noexcept nogil:
    """The spread of a pixel, on average, in a row with this loss."""
    return s.power * (loss / s.rows.columns - log(scale) - s.constant) * (scale * scale if s.power == 2 else scale)


cdef double scale_of_spread(const shared_scale *s, double spread) noexcept nogil:
    """The best scale, but at least the least one; NaN stays NaN."""
    cdef double scale = sqrt(spread) if s.power == 2 else spread
    return s.rows.scale if scale < s.rows.scale else scale


cdef void spread_of_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const shared_scale *s = <const shared_scale *> work
    s.rows.values[index] = mean_spread(s, row_with_scale(s, NULL, 1, 1, index), 1)


cdef void find_optimal_scale(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const shared_scale *s = <const shared_scale *> work
    cdef double sum = 0
    cdef ptrdiff_t i
    for i in range(s.count):
        sum += s.rows.values[i]
    if sum < 0:  # by rounding
        sum = 0
    (<double *> shared)[0] = scale_of_spread(s, sum / s.count)


cdef void loss_of_shared_scale(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const shared_scale *s = <const shared_scale *> work
    cdef const row_losses *r = &s.rows
    cdef ptrdiff_t last = (index + 1) * (r.columns + 1) - 1
    cdef double number = number_at(r.first, last, s.itemsize), slope = 1 - tanh(number / r.scale) ** 2
    cdef double weight = r.weights[index] if r.weights != NULL else 1, scale, loss
    if not s.optimal:
        scale = exp(r.scale * tanh(number / r.scale))
    elif r.dfirst == NULL:
        scale = scale_of_spread(s, number)
    else:
        scale = (<double *> shared)[0]
    loss = r.values[index] = row_with_scale(s, r.dfirst, scale, weight, index)
    if r.dfirst == NULL:
        return
    cdef double spread = mean_spread(s, loss, scale)
    if s.optimal:
        set_number(r.dfirst, last, spread * weight, s.itemsize)
    else:
        spread /= scale * scale if s.power == 2 else scale
        set_number(r.dfirst, last, r.columns * (1 - spread) * slope * weight, s.itemsize)


# -------------------------------------------------------------------- others

def add_constant(
    program,
    double[::1] values not None,        # IN, OUT (n)
    double constant,
):
    """values += constant."""
    cdef sum_of_values *work = <sum_of_values *> new_work(program, (values,), sizeof(sum_of_values), 0, 0)
    work.total, work.count, work.constant = &values[0], values.shape[0], constant
    add_stage(program, add_to_values, work, 1, True)


cdef void add_to_values(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const sum_of_values *s = <const sum_of_values *> work
    cdef ptrdiff_t i
    for i in range(s.count):
        s.total[i] += s.constant


def gaussian_kl(
    program,
    double[::1] kl not None,                  # OUT (n), nats
    object dmean,                             # OUT (n, t) of the type of mean, or None
    object dlog_var,                          # OUT (n, t) of the type of mean, or None with dmean
    const floating[:, ::1] mean not None,     # IN  (n, t)
    const floating[:, ::1] log_var not None,  # IN  (n, t)
    const double[::1] weights,                # IN  (n), of the rows' gradients; None if dmean is
):
    """The KL divergence of N(mean, exp(log_var)) to N(0, 1) of each row, and its gradients times weights[row].

    The weights are read when the program runs.
    """
    cdef floating[:, ::1] to_mean = dmean, to_log_var = dlog_var
    cdef ptrdiff_t n = mean.shape[0], t = mean.shape[1]
    if (dmean is None) != (dlog_var is None):
        raise TypeError("dmean and dlog_var must both be arrays or both None")
    if (log_var.shape[0], log_var.shape[1]) != (n, t):
        raise ValueError(f"log_var must fit a mean of shape {(n, t)}, got {(<object> log_var).shape}")
    check_rows(n, t, (<object> kl).shape, {"dmean": to_mean, "dlog_var": to_log_var}, weights)
    cdef row_losses *work = <row_losses *> new_work(
        program, (kl, to_mean, to_log_var, mean, log_var, weights), sizeof(row_losses), 0, 0)
    work.table, work.columns, work.repeats = f32 if floating is float else f64, t, 1
    work.values, work.first, work.second = &kl[0], &mean[0, 0], &log_var[0, 0]
    if dmean is not None:
        work.dfirst, work.dsecond, work.weights = &to_mean[0, 0], &to_log_var[0, 0], &weights[0]
    add_stage(program, kl_row, work, n, n * t < SMALL_CODES)


cdef void kl_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const row_losses *r = <const row_losses *> work
    r.values[index] = r.table.gaussian_kl(
        r.dfirst, r.dsecond, r.first, r.second, r.columns, r.weights[index] if r.weights != NULL else 1, index)


cdef int check_rows(
    ptrdiff_t rows, ptrdiff_t columns, tuple values, dict gradients, const double[::1] weights,
) except -1:
    """ValueError or TypeError for arrays that do not fit rows of so many columns."""
    if values != (rows,):
        raise ValueError(f"losses must fit {rows} rows, got {values}")
    for name, gradient in gradients.items():
        if gradient is None:
            continue
        if gradient.shape != (rows, columns):
            raise ValueError(f"{name} must fit a shape of {(rows, columns)}, got {gradient.shape}")
        if weights is None:
            raise TypeError(f"weights must be an array if {name} is one, got None")
    if weights is not None and weights.shape[0] != rows:
        raise ValueError(f"weights must fit {rows} rows, got {weights.shape[0]}")
    return 0


cdef struct sum_of_values:
    double *total
    const double *values
    ptrdiff_t count, divisor
    double constant


def total(
    program,
    double[::1] total not None,         # OUT (1)
    const double[::1] values not None,  # IN  (n)
    ptrdiff_t divisor=1,
):
    """The sum of the values, one after another, divided by divisor."""
    if total.shape[0] != 1:
        raise ValueError(f"total must have 1 element, got {total.shape[0]}")
    cdef sum_of_values *work = <sum_of_values *> new_work(program, (total, values), sizeof(sum_of_values), 0, 0)
    work.total, work.values, work.count, work.divisor = &total[0], &values[0], values.shape[0], divisor
    add_stage(program, sum_values, work, 1, True)


cdef void sum_values(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const sum_of_values *s = <const sum_of_values *> work
    cdef double sum = 0
    cdef ptrdiff_t i
    for i in range(s.count):
        sum += s.values[i]
    s.total[0] = sum / s.divisor
