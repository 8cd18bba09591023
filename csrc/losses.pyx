# Losses of each row of a batch, with their gradients in the same pass, and their sum.

from cython cimport floating

from stages cimport add_stage, new_work
from tables cimport import_f32, import_f64

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct kernel_table:
        double (*bce_with_logits)(void *, const void *, const void *, ptrdiff_t, double, ptrdiff_t,
                                  ptrdiff_t) noexcept nogil
        double (*gaussian_kl)(void *, void *, const void *, const void *, ptrdiff_t, double, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    SMALL_WORK = 4_000     # pixels below which waking other threads costs more than it saves
    SMALL_CODES = 200      # the same for elements of codes, each of which takes an exponential in double


# A loss of each row; `first` and `second` are the logits and the pixels, or the means and log variances.
cdef struct row_losses:
    const kernel_table *table
    double *values
    void *dfirst
    void *dsecond
    const void *first
    const void *second
    const double *weights    # if there are gradients
    ptrdiff_t columns
    ptrdiff_t repeats        # rows of `first` for each row of `second`


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
    # Typed here: as an argument of the fused type, None would select float.
    cdef floating[:, ::1] dz = dlogits
    cdef ptrdiff_t rows = logits.shape[0], m = logits.shape[1], n = y.shape[0]
    cdef ptrdiff_t repeats = rows // n if n > 0 else 0
    if repeats * n != rows or (repeats == 0 and n > 0) or y.shape[1] != m:
        raise ValueError(f"y must fit logits of shape {(rows, m)}, got {(n, y.shape[1])}")
    check_rows(rows, m, (<object> reconstruction).shape, {"dlogits": dz}, weights)
    cdef row_losses *work = <row_losses *> new_work(
        program, (reconstruction, dz, logits, y, weights), sizeof(row_losses), 0, 0)
    work.table, work.columns, work.repeats = f32 if floating is float else f64, m, repeats
    work.values, work.first, work.second = &reconstruction[0], &logits[0, 0], &y[0, 0]
    if dz is not None:
        work.dfirst, work.weights = &dz[0, 0], &weights[0]
    add_stage(program, bce_row, work, rows, rows * m < SMALL_WORK)


cdef void bce_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const row_losses *r = <const row_losses *> work
    r.values[index] = r.table.bce_with_logits(
        r.dfirst, r.first, r.second, r.columns, r.weights[index] if r.weights != NULL else 1, index, index // r.repeats)


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
