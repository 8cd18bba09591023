# The latent code: sampling from it and the gradient back to it.  n examples, codes of t means and t log variances.

from cython cimport floating

from stages cimport add_stage, new_work
from tables cimport import_f32, import_f64

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct kernel_table:
        void (*latent_sample)(void *, void *, void *, void *, const void *, const void *, ptrdiff_t,
                              ptrdiff_t) noexcept nogil
        void (*latent_backward)(void *, const void *, const void *, const void *, const void *, const void *, ptrdiff_t,
                                ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    SMALL_SAMPLE = 200       # elements below which waking other threads costs more than it saves: with exponentials,
    SMALL_BACKWARD = 10_000  # and without


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
    ptrdiff_t t


cdef int check(tuple code, list shapes) except -1:
    cdef tuple expected = (code[0], code[1] // 2)
    if code[1] % 2 or 0 in expected or any([shape != expected for shape in shapes]):
        raise ValueError(f"for a code (n, 2t) the others must be (n, t), none of them empty, got {code} and {shapes}")
    return 0


def sample(
    program,
    floating[:, ::1] z not None,              # OUT (n, t)
    floating[:, ::1] deviation not None,      # OUT (n, t)
    floating[:, ::1] mean not None,           # OUT (n, t)
    floating[:, ::1] log_var not None,        # OUT (n, t)
    const floating[:, ::1] code not None,     # IN  (n, 2t), the means, then the log variances
    const floating[:, ::1] noise not None,    # IN  (n, t), standard normal
):
    """The two halves of the code, deviation = exp(log_var / 2), z = mean + noise * deviation."""
    check((<object> code).shape, [(<object> z).shape, (<object> deviation).shape, (<object> mean).shape,
          (<object> log_var).shape, (<object> noise).shape])
    cdef codes *work = <codes *> new_work(program, (z, deviation, mean, log_var, code, noise), sizeof(codes), 0, 0)
    work.table, work.t = f32 if floating is float else f64, z.shape[1]
    work.z, work.deviation, work.mean, work.log_var = &z[0, 0], &deviation[0, 0], &mean[0, 0], &log_var[0, 0]
    work.code, work.noise = &code[0, 0], &noise[0, 0]
    add_stage(program, sample_row, work, z.shape[0], z.shape[0] * z.shape[1] < SMALL_SAMPLE)


cdef void sample_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const codes *c = <const codes *> work
    c.table.latent_sample(c.z, c.deviation, c.mean, c.log_var, c.code, c.noise, c.t, index)


def backward(
    program,
    floating[:, ::1] dcode not None,            # OUT (n, 2t)
    const floating[:, ::1] dz not None,         # IN  (n, t)
    const floating[:, ::1] noise not None,      # IN  (n, t)
    const floating[:, ::1] deviation not None,  # IN  (n, t), from sample
    const floating[:, ::1] dmean not None,      # IN  (n, t), gradients that do not come through z
    const floating[:, ::1] dlog_var not None,   # IN  (n, t)
):
    """The gradient with respect to the code, through z and otherwise."""
    check((<object> dcode).shape, [(<object> dz).shape, (<object> noise).shape, (<object> deviation).shape,
          (<object> dmean).shape, (<object> dlog_var).shape])
    cdef codes *work = <codes *> new_work(
        program, (dcode, dz, noise, deviation, dmean, dlog_var), sizeof(codes), 0, 0)
    work.table, work.t = f32 if floating is float else f64, dz.shape[1]
    work.dcode, work.dz, work.noise, work.deviation = &dcode[0, 0], &dz[0, 0], &noise[0, 0], <void *> &deviation[0, 0]
    work.dmean, work.dlog_var = &dmean[0, 0], &dlog_var[0, 0]
    add_stage(program, backward_row, work, dz.shape[0], dz.shape[0] * dz.shape[1] < SMALL_BACKWARD)


cdef void backward_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const codes *c = <const codes *> work
    c.table.latent_backward(c.dcode, c.dz, c.noise, c.deviation, c.dmean, c.dlog_var, c.t, index)
