# Optimizer updates on flat arrays, in place, and the clipping of gradients.

from cython cimport floating
from libc.math cimport sqrt

from stages cimport add_stage, new_work
from tables cimport ceil_div, import_f32, import_f64, range_end
from updates cimport fill_update, parameter_update, update_rule

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct kernel_table:
        const update_rule *update_rules
        void (*update_parameter)(const parameter_update *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        double (*sum_of_squares)(const void *, ptrdiff_t, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    RANGE = 8192           # elements of a piece of work
    SMALL_WORK = 32_768    # elements below which waking other threads costs more than it saves
    MAX_SUMS = 256         # partial sums of a norm


def rules():
    """Numbers of states and of scalars, by the name of the rule."""
    found = {}
    cdef const update_rule *rule = f32.update_rules
    while rule.name != NULL:
        found[rule.name.decode()] = rule.n_states, rule.n_scalars
        rule += 1
    return found


# ---------------------------------------------------------------- updates

cdef struct range_update:
    const kernel_table *table
    parameter_update update
    const char *grad
    ptrdiff_t size, itemsize


def update(
    program,
    str rule,                            # one of rules()
    floating[::1] param not None,        # INOUT (size)
    tuple states not None,               # INOUT arrays (size), as many as the rule has
    const floating[::1] grad not None,   # IN  (size)
    const double[::1] scalars not None,  # IN  lr, factor of the gradient, the rule's constants; read by each run
):
    """Move the parameter along its gradient."""
    if grad.shape[0] != param.shape[0]:
        raise ValueError(
            "param and its gradient must have the same number of elements, got "
            f"{param.shape[0]} and {grad.shape[0]}"
        )
    cdef const kernel_table *table = f32 if floating is float else f64
    cdef range_update *work = <range_update *> new_work(program, (param, grad), sizeof(range_update), 0, 0)
    work.table, work.size, work.itemsize = table, param.shape[0], sizeof(floating)
    work.grad = <const char *> &grad[0]
    fill_update(program, &work.update, table.update_rules, rule, param, states, scalars)
    add_stage(program, update_piece, work, ceil_div(work.size, RANGE), work.size < SMALL_WORK)


cdef void update_piece(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const range_update *u = <const range_update *> work
    u.table.update_parameter(&u.update, u.grad + index * RANGE * u.itemsize, index * RANGE,
                             range_end(index, RANGE, u.size))


# ---------------------------------------------------------------- clipping

cdef struct clipping:
    const kernel_table *table
    const void *grad
    double *factor
    double limit
    ptrdiff_t size, part, parts    # elements of a partial sum, and how many sums there are


def clip(
    program,
    const floating[::1] grad not None,   # IN  (size)
    double[::1] scalars not None,        # OUT its second element: the factor of the gradient
    double limit,
):
    """Set the factor with which the next `update` limits the gradient's L2 norm.

    The squares are summed in float64, in an order that depends on the size alone.
    """
    if scalars.shape[0] < 2:
        raise ValueError(f"scalars must have at least 2 elements, got {scalars.shape[0]}")
    cdef ptrdiff_t size = grad.shape[0], part = max(RANGE, ceil_div(grad.shape[0], MAX_SUMS))
    cdef clipping *work = <clipping *> new_work(
        program, (grad, scalars), sizeof(clipping), MAX_SUMS * sizeof(double), 0)
    work.table, work.size = f32 if floating is float else f64, size
    work.part, work.parts = part, ceil_div(size, part)
    work.grad, work.factor, work.limit = &grad[0], &scalars[1], limit
    add_stage(program, sum_part, work, work.parts, size < SMALL_WORK)
    add_stage(program, set_factor, work, 1, True)


cdef void sum_part(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const clipping *c = <const clipping *> work
    (<double *> shared)[index] = c.table.sum_of_squares(c.grad, index * c.part, range_end(index, c.part, c.size))


cdef void set_factor(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const clipping *c = <const clipping *> work
    cdef double total = 0, norm
    cdef ptrdiff_t i
    for i in range(c.parts):
        total += (<const double *> shared)[i]
    norm = sqrt(total)
    c.factor[0] = c.limit / norm if norm > c.limit else 1.0
