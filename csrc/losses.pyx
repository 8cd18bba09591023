# The variational autoencoder's loss from the logits, value and gradients in one pass over each image.

from cython cimport floating
from cython.parallel cimport prange

from tables cimport check_threads, import_tables, kernel_table, table_pair

cdef const table_pair *tables = import_tables()

cdef enum:
    SMALL_WORK = 4_000     # pixels below which waking other threads costs more than it saves


def bce_with_logits(
    double[::1] reconstruction not None,      # OUT (n), nats
    object probabilities,                     # OUT (n, m) of the type of logits, or None
    object dlogits,                           # OUT (n, m) of the type of logits, or None
    const floating[:, ::1] logits not None,   # IN  (n, m)
    const floating[:, ::1] y not None,        # IN  (n, m), in [0, 1]
    *, double scale, int n_threads,
):
    """Binary cross-entropy of each row; probabilities = sigmoid(logits); dlogits = (probabilities - y) * scale."""
    check_threads(n_threads)
    cdef const kernel_table *table = tables.f32 if floating is float else tables.f64
    # Were they arguments of this type, the first of them would decide what floating is, and None would mean float.
    cdef floating[:, ::1] p_out = probabilities, dz_out = dlogits
    cdef ptrdiff_t n = logits.shape[0], m = logits.shape[1], i
    cdef void *p = NULL if p_out is None else &p_out[0, 0]
    cdef void *dz = NULL if dz_out is None else &dz_out[0, 0]
    for name, rows, columns in (
        ("y", y.shape[0], y.shape[1]),
        ("probabilities", n if p == NULL else p_out.shape[0], m if p == NULL else p_out.shape[1]),
        ("dlogits", n if dz == NULL else dz_out.shape[0], m if dz == NULL else dz_out.shape[1]),
        ("reconstruction", reconstruction.shape[0], m),
    ):
        if (rows, columns) != (n, m):
            raise ValueError(f"{name} must fit logits of shape {(n, m)}, got {(rows, columns)}")
    for i in prange(n, num_threads=n_threads, schedule="static", use_threads_if=n * m >= SMALL_WORK, nogil=True):
        reconstruction[i] = table.bce_with_logits(p, dz, &logits[0, 0], &y[0, 0], m, scale, i)


def gaussian_kl(
    double[::1] kl not None,                  # OUT (n), nats
    floating[:, ::1] dmean not None,          # OUT (n, t)
    floating[:, ::1] dlog_var not None,       # OUT (n, t)
    const floating[:, ::1] mean not None,     # IN  (n, t)
    const floating[:, ::1] log_var not None,  # IN  (n, t)
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
