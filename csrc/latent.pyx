# The latent code: sampling from it and the gradient back to it.  n examples, codes of t means and t log variances, of
# each of which k rows of z are drawn: row r of z belongs to code r // k.

from cython cimport floating

from stages cimport add_stage, new_work
from tables cimport import_f32, import_f64

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct kernel_table:
        void (*latent_sample)(void *, void *, void *, void *, const void *, const void *, ptrdiff_t, ptrdiff_t,
                              ptrdiff_t) noexcept nogil
        void (*latent_backward)(void *, const void *, const void *, const void *, const void *, const void *,
                                const double *, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    SMALL_SAMPLE = 200       # exponentials below which waking other threads costs more than it saves
    SMALL_BACKWARD = 10_000  # the same for elements of the backward pass


cdef struct codes:
    const kernel_table *table
    void *z
    void *deviation
    void *mean
    void *log_var
    void *dcode
    const void *code
    const void *noise
    const void *dz
    const void *dmean
    const void *dlog_var
    const double *factors
    ptrdiff_t t, draws


cdef ptrdiff_t count_draws(tuple code, list drawn, list others) except -1:
    """The number k of rows of z that belong to each code."""
    cdef ptrdiff_t n = code[0], t = code[1] // 2, k = drawn[0][0] // n if n > 0 else 0
    if code[1] % 2 or 0 in (n, t, k) or any([shape != (n * k, t) for shape in drawn]) or (
        any([shape != (n, t) for shape in others])
    ):
        raise ValueError(
            f"for a code (n, 2t) the others must be (n, t), z and noise (n * k, t), none of them empty, got {code}, "
            f"{others} and {drawn}"
        )
    return k


def sample(
    program,
    floating[:, ::1] z not None,              # OUT (n * k, t)
    floating[:, ::1] deviation not None,      # OUT (n, t)
    floating[:, ::1] mean not None,           # OUT (n, t)
    floating[:, ::1] log_var not None,        # OUT (n, t)
    const floating[:, ::1] code not None,     # IN  (n, 2t), the means, then the log variances
    const floating[:, ::1] noise not None,    # IN  (n * k, t), standard normal
):
    """The two halves of the code, deviation = exp(log_var / 2), z = mean + noise * deviation."""
    cdef ptrdiff_t n = code.shape[0], t = z.shape[1], k = count_draws(
        (<object> code).shape, [(<object> z).shape, (<object> noise).shape],
        [(<object> deviation).shape, (<object> mean).shape, (<object> log_var).shape])
    cdef codes *work = <codes *> new_work(program, (z, deviation, mean, log_var, code, noise), sizeof(codes), 0, 0)
    work.table, work.t, work.draws = f32 if floating is float else f64, t, k
    work.z, work.deviation, work.mean, work.log_var = &z[0, 0], &deviation[0, 0], &mean[0, 0], &log_var[0, 0]
    work.code, work.noise = &code[0, 0], &noise[0, 0]
    add_stage(program, sample_row, work, n, n * t < SMALL_SAMPLE)


cdef void sample_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const codes *c = <const codes *> work
    c.table.latent_sample(c.z, c.deviation, c.mean, c.log_var, c.code, c.noise, c.t, c.draws, index)


def backward(
    program,
    floating[:, ::1] dcode not None,            # OUT (n, 2t)
    const floating[:, ::1] dz not None,         # IN  (n * k, t)
    const floating[:, ::1] noise not None,      # IN  (n * k, t)
    const floating[:, ::1] deviation not None,  # IN  (n, t), from sample
    const floating[:, ::1] dmean not None,      # IN  (n, t), gradients that do not come through z
    const floating[:, ::1] dlog_var not None,   # IN  (n, t)
    const double[::1] factors=None,             # IN  (n * k), of the rows of dz, read when the program runs
):
    """The gradient with respect to the code, through z and otherwise; the k rows of z of a code are added in order."""
    cdef ptrdiff_t n = dcode.shape[0], t = dz.shape[1], k = count_draws(
        (<object> dcode).shape, [(<object> dz).shape, (<object> noise).shape],
        [(<object> deviation).shape, (<object> dmean).shape, (<object> dlog_var).shape])
    if factors is not None and factors.shape[0] != n * k:
        raise ValueError(f"factors must fit {n * k} rows of dz, got {factors.shape[0]}")
    cdef codes *work = <codes *> new_work(
        program, (dcode, dz, noise, deviation, dmean, dlog_var, factors), sizeof(codes), 0, 0)
    work.table, work.t, work.draws = f32 if floating is float else f64, t, k
    work.dcode, work.dz, work.noise, work.deviation = &dcode[0, 0], &dz[0, 0], &noise[0, 0], <void *> &deviation[0, 0]
    work.dmean, work.dlog_var = &dmean[0, 0], &dlog_var[0, 0]
    if factors is not None:
        work.factors = &factors[0]
    add_stage(program, backward_row, work, n, n * k * t < SMALL_BACKWARD)


cdef void backward_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const codes *c = <const codes *> work
    c.table.latent_backward(c.dcode, c.dz, c.noise, c.deviation, c.dmean, c.dlog_var, c.factors, c.t, c.draws,
                            index)
