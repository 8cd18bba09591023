# The variational autoencoder's loss from the logits, value and gradients in one pass over each image.

from cython cimport floating
from cython.parallel cimport prange

from tables cimport import_tables, kernel_table, table_pair

cdef const table_pair *tables = import_tables()

cdef enum:
    SMALL_WORK = 4_000     # pixels below which waking other threads costs more than it saves


def bce_with_logits(
    double[::1] reconstruction,          # OUT (n), nats
    floating[:, ::1] probabilities,      # OUT (n, m), or None
    floating[:, ::1] dlogits,            # OUT (n, m), or None
    const floating[:, ::1] logits,       # IN  (n, m)
    const floating[:, ::1] y,            # IN  (n, m), in [0, 1]
    *, double scale, int n_threads,
):
    """Binary cross-entropy of each row; probabilities = sigmoid(logits); dlogits = (probabilities - y) * scale."""
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t n = logits.shape[0], m = logits.shape[1], i
    cdef void *p = NULL if probabilities is None else &probabilities[0, 0]
    cdef void *dz = NULL if dlogits is None else &dlogits[0, 0]
    for name, rows, columns in (
        ("y", y.shape[0], y.shape[1]),
        ("probabilities", n if p == NULL else probabilities.shape[0], m if p == NULL else probabilities.shape[1]),
        ("dlogits", n if dz == NULL else dlogits.shape[0], m if dz == NULL else dlogits.shape[1]),
        ("reconstruction", reconstruction.shape[0], m),
    ):
        if (rows, columns) != (n, m):
            raise ValueError(f"{name} must fit logits of shape {(n, m)}, got {(rows, columns)}")
    for i in prange(n, num_threads=n_threads, schedule="static", use_threads_if=n * m >= SMALL_WORK, nogil=True):
        reconstruction[i] = table.bce_with_logits(p, dz, &logits[0, 0], &y[0, 0], m, scale, i)


def gaussian_kl(
    double[::1] kl,                      # OUT (n), nats
    floating[:, ::1] dmean,              # OUT (n, t)
    floating[:, ::1] dlog_var,           # OUT (n, t)
    const floating[:, ::1] mean,         # IN  (n, t)
    const floating[:, ::1] log_var,      # IN  (n, t)
    *, double scale,
):
    """KL divergence of N(mean, exp(log_var)) to N(0, 1) of each row, and its gradients times scale."""
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    cdef ptrdiff_t n = mean.shape[0], t = mean.shape[1], i
    if kl.shape[0] != n or (log_var.shape[0], log_var.shape[1]) != (n, t) or (
        (dmean.shape[0], dmean.shape[1]) != (n, t) or (dlog_var.shape[0], dlog_var.shape[1]) != (n, t)
    ):
        raise ValueError(f"kl, dmean, dlog_var and log_var must fit a mean of shape {(n, t)}")
    with nogil:
        for i in range(n):
            kl[i] = table.gaussian_kl(&dmean[0, 0], &dlog_var[0, 0], &mean[0, 0], &log_var[0, 0], t, scale, i)
