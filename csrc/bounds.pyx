# Objectives other than the plain negative ELBO: free bits, and the importance-weighted bound.  n images, codes of t
# means and t log variances, of each of which k rows are drawn: row r belongs to image r // k.

from cython cimport floating

from stages cimport add_stage, new_work
from tables cimport import_f32, import_f64

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct kernel_table:
        double (*free_bits)(void *, void *, const void *, const void *, const double *, double, ptrdiff_t, ptrdiff_t,
                            ptrdiff_t) noexcept nogil
        double (*importance_weights)(double *, const double *, const void *, const void *, const void *, ptrdiff_t,
                                     ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*importance_gradient)(void *, void *, const double *, const void *, const void *, const void *, double,
                                    int, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*scale_row)(void *, double, ptrdiff_t, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    SMALL_CODES = 200      # exponentials below which waking other threads costs more than it saves
    SMALL_ROWS = 30_000    # the same for elements that are scaled


cdef struct gate:
    const kernel_table *table
    double *total
    void *dmean
    void *dlog_var
    const void *mean
    const void *log_var
    const double *weights
    double least
    ptrdiff_t n, t


def free_bits(
    program,
    double[::1] total not None,               # OUT (1)
    floating[:, ::1] dmean not None,          # IN, OUT (n, t), the gradients that losses.gaussian_kl computes
    floating[:, ::1] dlog_var not None,       # IN, OUT (n, t)
    const floating[:, ::1] mean not None,     # IN  (n, t)
    const floating[:, ::1] log_var not None,  # IN  (n, t)
    const double[::1] weights not None,       # IN  (n), of the rows, read when the program runs
    double least,                             # nats
):
    """Have a dimension whose mean KL divergence is at most `least` exert no pull: its gradients become 0.

    total = n times the sum over the dimensions of max(K, least * the sum of the weights), where K is the sum of a
    dimension's divergences in each row, times the row's weight.
    """
    cdef ptrdiff_t n = mean.shape[0], t = mean.shape[1]
    shapes = [(<object> dmean).shape, (<object> dlog_var).shape, (<object> log_var).shape]
    if total.shape[0] != 1 or 0 in (n, t) or weights.shape[0] != n or any([shape != (n, t) for shape in shapes]):
        raise ValueError(
            f"for a mean (n, t), not empty, total must be (1), weights (n) and the others (n, t), got {(n, t)}, "
            f"{(<object> total).shape}, {(<object> weights).shape} and {shapes}"
        )
    cdef gate *work = <gate *> new_work(
        program, (total, dmean, dlog_var, mean, log_var, weights), sizeof(gate), t * sizeof(double), 0)
    work.table, work.least, work.n, work.t = f32 if floating is float else f64, least, n, t
    work.total, work.dmean, work.dlog_var = &total[0], &dmean[0, 0], &dlog_var[0, 0]
    work.mean, work.log_var, work.weights = &mean[0, 0], &log_var[0, 0], &weights[0]
    add_stage(program, gate_column, work, t, n * t < SMALL_CODES)
    add_stage(program, sum_columns, work, 1, True)


cdef void gate_column(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const gate *g = <const gate *> work
    (<double *> shared)[index] = g.table.free_bits(
        g.dmean, g.dlog_var, g.mean, g.log_var, g.weights, g.least, g.n, g.t, index)


cdef void sum_columns(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const gate *g = <const gate *> work
    g.total[0] = g.n * sum_of(<const double *> shared, g.t)


cdef double sum_of(const double *values, ptrdiff_t count) noexcept nogil:
    cdef double sum = 0
    cdef ptrdiff_t i
    for i in range(count):
        sum += values[i]
    return sum


cdef struct importance:
    const kernel_table *table
    double *total
    double *weights
    void *doutputs
    void *dmean
    void *dlog_var
    const double *reconstruction
    const void *z
    const void *noise
    const void *deviation
    const void *log_var
    const double *image_weights
    bint doubly
    ptrdiff_t n, t, m, draws


def importance_weighted(
    program,
    double[::1] total not None,                 # OUT (1), nats
    double[::1] weights not None,               # OUT (n * k), those of an image add up to 1
    floating[:, ::1] doutputs not None,         # IN, OUT (n * k, m)
    floating[:, ::1] dmean not None,            # OUT (n, t)
    floating[:, ::1] dlog_var not None,         # OUT (n, t)
    const double[::1] reconstruction not None,  # IN  (n * k), -log p(x | z)
    const floating[:, ::1] z not None,          # IN  (n * k, t)
    const floating[:, ::1] noise not None,      # IN  (n * k, t)
    const floating[:, ::1] deviation not None,  # IN  (n, t)
    const floating[:, ::1] log_var not None,    # IN  (n, t)
    const double[::1] image_weights not None,   # IN  (n), of the images' gradients, read when the program runs
    bint doubly,
):
    """The bounds log mean over k codes of p(x | z) p(z) / q(z | x), summed, and gradients of their negative.

    The weights are the codes' shares in this mean.  doutputs holds the gradient of `reconstruction` and is multiplied
    by them; dmean and dlog_var become what does not come through the decoder of the gradient of the code.  If doubly,
    the latter is the doubly reparameterized one, for which latent.backward must be given the weights, too.
    """
    cdef ptrdiff_t n = log_var.shape[0], t = log_var.shape[1], rows = doutputs.shape[0], m = doutputs.shape[1]
    cdef ptrdiff_t draws = rows // n if n > 0 else 0
    drawn = [(<object> z).shape, (<object> noise).shape]
    others = [(<object> dmean).shape, (<object> dlog_var).shape, (<object> deviation).shape]
    lengths = total.shape[0], image_weights.shape[0], weights.shape[0], reconstruction.shape[0]
    if (
        0 in (n, t, m, draws) or draws * n != rows or lengths != (1, n, rows, rows)
        or any([shape != (rows, t) for shape in drawn]) or any([shape != (n, t) for shape in others])
    ):
        raise ValueError(
            "for a log_var (n, t) and doutputs (n * k, m), none of them empty, total must be (1), image_weights (n), "
            "weights and reconstruction (n * k), z and noise (n * k, t), and the others (n, t), got "
            f"{(n, t)}, {(rows, m)}, {lengths}, {drawn} and {others}"
        )
    cdef importance *work = <importance *> new_work(
        program, (total, weights, doutputs, dmean, dlog_var, reconstruction, z, noise, deviation, log_var,
                  image_weights), sizeof(importance), n * sizeof(double), 0)
    work.table, work.doubly = f32 if floating is float else f64, doubly
    work.n, work.t, work.m, work.draws = n, t, m, draws
    work.total, work.weights, work.doutputs = &total[0], &weights[0], &doutputs[0, 0]
    work.dmean, work.dlog_var, work.reconstruction = &dmean[0, 0], &dlog_var[0, 0], &reconstruction[0]
    work.z, work.noise, work.deviation = &z[0, 0], &noise[0, 0], &deviation[0, 0]
    work.log_var, work.image_weights = &log_var[0, 0], &image_weights[0]
    add_stage(program, weigh_image, work, n, rows * (m + t) < SMALL_ROWS)
    add_stage(program, sum_images, work, 1, True)


cdef void weigh_image(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const importance *w = <const importance *> work
    cdef ptrdiff_t row
    (<double *> shared)[index] = w.table.importance_weights(
        w.weights, w.reconstruction, w.z, w.noise, w.log_var, w.t, w.draws, index)
    w.table.importance_gradient(w.dmean, w.dlog_var, w.weights, w.z, w.noise, w.deviation, w.image_weights[index],
                                w.doubly, w.t, w.draws, index)
    for row in range(index * w.draws, (index + 1) * w.draws):
        w.table.scale_row(w.doutputs, w.weights[row], w.m, row)


cdef void sum_images(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const importance *w = <const importance *> work
    w.total[0] = sum_of(<const double *> shared, w.n)
