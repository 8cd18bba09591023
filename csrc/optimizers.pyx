# Optimizer updates on flat arrays, in place, and the clipping of gradients.

from cython cimport floating
from libc.math cimport sqrt

from stages cimport add_stage, new_lines, new_work
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

cdef struct squares:
    const kernel_table *table
    const void *grad
    double *sums
    ptrdiff_t size, part           # elements, and those of a partial sum

cdef struct clipping:
    double *sums
    double **factors
    double limit
    ptrdiff_t n_sums, n_factors


def clip(
    program,
    const floating[::1] grad not None,   # IN  (size)
    double[::1] scalars not None,        # OUT its second element: the factor of the gradient
    double limit,
):
    """Set the factor with which the next `update` limits the gradient's L2 norm."""
    clip_together(program, (grad,), (scalars,), limit)


def clip_together(
    program,
    tuple grads not None,                # IN  arrays (size)
    tuple scalars not None,              # OUT their second elements: the same factor for all gradients
    double limit,
):
    """Set the factor with which the next updates limit the L2 norm of all gradients as one vector.

    The squares are summed in float64, in an order that depends on the sizes alone.
    """
    if len(grads) != len(scalars):
        raise ValueError(f"there must be scalars for each of {len(grads)} gradients, got {len(scalars)}")
    cdef clipping *work = <clipping *> new_work(program, (grads, scalars), sizeof(clipping), 0, 0)
    cdef ptrdiff_t i
    cdef double[::1] of_one
    work.factors = <double **> new_lines(program, max(1, len(grads)) * sizeof(double *))
    work.sums = <double *> new_lines(program, max(1, len(grads)) * MAX_SUMS * sizeof(double))
    work.limit, work.n_factors = limit, len(grads)
    for i in range(work.n_factors):
        of_one = scalars[i]
        if of_one.shape[0] < 2:
            raise ValueError(f"scalars must have at least 2 elements, got {of_one.shape[0]}")
        work.factors[i] = &of_one[1]
        if grads[i].itemsize == sizeof(float):
            work.n_sums += add_squares[float](program, grads[i], work.sums + work.n_sums)
        else:
            work.n_sums += add_squares[double](program, grads[i], work.sums + work.n_sums)
    add_stage(program, set_factors, work, 1, True)


cdef ptrdiff_t add_squares(program, const floating[::1] grad, double *sums) except -1:
    """Record the sums of parts of the gradient's squares, and return their number."""
    cdef squares *work = <squares *> new_work(program, (), sizeof(squares), 0, 0)
    work.table, work.size = f32 if floating is float else f64, grad.shape[0]
    work.grad, work.sums = &grad[0], sums
    work.part = max(RANGE, ceil_div(work.size, MAX_SUMS))
    add_stage(program, sum_part, work, ceil_div(work.size, work.part), work.size < SMALL_WORK)
    return ceil_div(work.size, work.part)


cdef void sum_part(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const squares *s = <const squares *> work
    s.sums[index] = s.table.sum_of_squares(s.grad, index * s.part, range_end(index, s.part, s.size))


cdef void set_factors(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const clipping *c = <const clipping *> work
    cdef double total = 0, norm
    cdef ptrdiff_t i
    for i in range(c.n_sums):
        total += c.sums[i]
    norm = sqrt(total)
    for i in range(c.n_factors):
        c.factors[i][0] = c.limit / norm if norm > c.limit else 1.0
