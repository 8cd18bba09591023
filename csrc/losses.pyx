# The variational autoencoder's loss from the logits, value and gradients in one pass over each image.

from cython cimport floating

from stages cimport add_stage, new_work
from tables cimport import_f32, import_f64

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct kernel_table:
        double (*bce_with_logits)(void *, const void *, const void *, ptrdiff_t, double, ptrdiff_t) noexcept nogil
        double (*gaussian_kl)(void *, void *, const void *, const void *, ptrdiff_t, double, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    SMALL_WORK = 4_000     # pixels below which waking other threads costs more than it saves,
    SMALL_CODES = 200      # and the same for elements of codes, each of which takes an exponential in double


# Both losses: `first` and `second` are the logits and the pixels, or the means and log variances.
cdef struct loss:
    const kernel_table *table
    double *total
    void *dfirst
    void *dsecond
    const void *first
    const void *second
    double scale
    ptrdiff_t columns


def bce_with_logits(
    program,
    double[::1] reconstruction not None,      # OUT (n), nats
    object dlogits,                           # OUT (n, m) of the type of logits, or None; may be logits
    const floating[:, ::1] logits not None,   # IN  (n, m)
    const floating[:, ::1] y not None,        # IN  (n, m), in [0, 1]
    *, double scale,
):
    """Binary cross-entropy of each row; dlogits = (sigmoid(logits) - y) * scale."""
    # Were it an argument of this type, it would decide what floating is, and None would mean float.
    cdef floating[:, ::1] dz = dlogits
    cdef ptrdiff_t n = logits.shape[0], m = logits.shape[1]
    for name, rows, columns in (
        ("y", y.shape[0], y.shape[1]),
        ("dlogits", n if dz is None else dz.shape[0], m if dz is None else dz.shape[1]),
        ("reconstruction", reconstruction.shape[0], m),
    ):
        if (rows, columns) != (n, m):
            raise ValueError(f"{name} must fit logits of shape {(n, m)}, got {(rows, columns)}")
    cdef loss *work = <loss *> new_work(program, (reconstruction, dz, logits, y), sizeof(loss), 0, 0)
    work.table, work.scale, work.columns = f32 if floating is float else f64, scale, m
    work.total, work.first, work.second = &reconstruction[0], &logits[0, 0], &y[0, 0]
    if dz is not None:
        work.dfirst = &dz[0, 0]
    add_stage(program, bce_row, work, n, n * m < SMALL_WORK)


cdef void bce_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const loss *t = <const loss *> work
    t.total[index] = t.table.bce_with_logits(t.dfirst, t.first, t.second, t.columns, t.scale, index)


def gaussian_kl(
    program,
    double[::1] kl not None,                  # OUT (n), nats
    floating[:, ::1] dmean not None,          # OUT (n, t)
    floating[:, ::1] dlog_var not None,       # OUT (n, t)
    const floating[:, ::1] mean not None,     # IN  (n, t)
    const floating[:, ::1] log_var not None,  # IN  (n, t)
    *, double scale,
):
    """KL divergence of N(mean, exp(log_var)) to N(0, 1) of each row, and its gradients times scale."""
    cdef ptrdiff_t n = mean.shape[0], t = mean.shape[1]
    if kl.shape[0] != n or (log_var.shape[0], log_var.shape[1]) != (n, t) or (
        (dmean.shape[0], dmean.shape[1]) != (n, t) or (dlog_var.shape[0], dlog_var.shape[1]) != (n, t)
    ):
        raise ValueError(f"kl, dmean, dlog_var and log_var must fit a mean of shape {(n, t)}")
    cdef loss *work = <loss *> new_work(program, (kl, dmean, dlog_var, mean, log_var), sizeof(loss), 0, 0)
    work.table, work.scale, work.columns = f32 if floating is float else f64, scale, t
    work.total, work.first, work.second = &kl[0], &mean[0, 0], &log_var[0, 0]
    work.dfirst, work.dsecond = &dmean[0, 0], &dlog_var[0, 0]
    add_stage(program, kl_row, work, n, n * t < SMALL_CODES)


cdef void kl_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const loss *t = <const loss *> work
    t.total[index] = t.table.gaussian_kl(t.dfirst, t.dsecond, t.first, t.second, t.columns, t.scale, index)


cdef struct sums:
    double *totals
    const double *first
    const double *second
    ptrdiff_t count


def total(
    program,
    double[::1] totals not None,                # OUT (2)
    const double[::1] reconstruction not None,  # IN  (n)
    const double[::1] kl not None,              # IN  (n)
):
    """The sums of both terms over a batch, one example after another."""
    cdef ptrdiff_t n = reconstruction.shape[0]
    if totals.shape[0] != 2 or kl.shape[0] != n:
        raise ValueError(f"totals must have 2 elements and kl {n}, got {totals.shape[0]} and {kl.shape[0]}")
    cdef sums *work = <sums *> new_work(program, (totals, reconstruction, kl), sizeof(sums), 0, 0)
    work.totals, work.first, work.second, work.count = &totals[0], &reconstruction[0], &kl[0], n
    add_stage(program, sum_terms, work, 1, True)


cdef void sum_terms(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const sums *s = <const sums *> work
    cdef double first = 0, second = 0
    cdef ptrdiff_t i
    for i in range(s.count):
        first += s.first[i]
        second += s.second[i]
    s.totals[0], s.totals[1] = first, second
