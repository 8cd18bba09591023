# Single passes over whole arrays.  What they are divided into depends on the shapes alone.

from cython cimport floating
from libc.math cimport NAN, isnan
from libc.string cimport memcpy

from stages cimport add_stage, new_work
from tables cimport ceil_div, import_f32, import_f64, number_at, range_end, set_number

cdef extern from "kernels/kernels.h" nogil:
    enum:
        MAX_CONSTANTS

    ctypedef struct activation_function:
        const char *name
        int n_constants

    ctypedef struct kernel_table:
        const activation_function *activations
        void (*add_column_sums)(void *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*add)(void *, const void *, const void *, int, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*scale)(void *, const void *, double, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*set_zero)(void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*sum_accumulators)(void *, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*relu_backward)(void *, const void *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*sigmoid)(void *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*activation_forward)(
            void *, const void *, const activation_function *, const double *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*activation_backward)(
            void *, const void *, const void *, const activation_function *, const double *, ptrdiff_t, ptrdiff_t
        ) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    RANGE = 4096               # elements of a piece of work
    SMALL_WORK = 32_768        # elements below which waking other threads costs more than it saves
    SMALL_EXPONENTIAL = 8_192  # the same, where each takes an exponential
    SUMMED_ROWS = 1024         # rows, at least, whose column sums are a piece of work
    MAX_ACCUMULATORS = 16      # of column sums


cdef struct elements:
    const kernel_table *table
    void *out
    const void *first
    const void *second
    ptrdiff_t size, itemsize


cdef struct multiples:
    const kernel_table *table
    void *out
    const void *x
    double factor
    ptrdiff_t size


cdef struct addition:
    const kernel_table *table
    void *out
    const void *a
    const void *b
    bint relu
    ptrdiff_t size


def add(
    program,
    floating[::1] out not None,         # OUT (size), may be a or b
    const floating[::1] a not None,     # IN  (size)
    const floating[::1] b not None,     # IN  (size)
    *, bint relu,
):
    """out = a + b, and then max(out, 0) if relu."""
    cdef ptrdiff_t size = out.shape[0]
    if a.shape[0] != size or b.shape[0] != size:
        raise ValueError(f"out, a and b must have the same size, got {size}, {a.shape[0]} and {b.shape[0]}")
    cdef addition *work = <addition *> new_work(program, (out, a, b), sizeof(addition), 0, 0)
    work.table, work.size, work.relu = f32 if floating is float else f64, size, relu
    work.out, work.a, work.b = &out[0], &a[0], &b[0]
    add_stage(program, add_range, work, ceil_div(size, RANGE), size < SMALL_WORK)


cdef void add_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const addition *w = <const addition *> work
    w.table.add(w.out, w.a, w.b, w.relu, index * RANGE, range_end(index, RANGE, w.size))


def scale(
    program,
    floating[::1] out not None,         # OUT (size), may be x
    const floating[::1] x not None,     # IN  (size)
    double factor,
):
    """out = factor * x."""
    cdef ptrdiff_t size = out.shape[0]
    if x.shape[0] != size:
        raise ValueError(f"out and x must have the same size, got {size} and {x.shape[0]}")
    cdef multiples *work = <multiples *> new_work(program, (out, x), sizeof(multiples), 0, 0)
    work.table, work.size, work.factor = f32 if floating is float else f64, size, factor
    work.out, work.x = &out[0], &x[0]
    add_stage(program, scale_range, work, ceil_div(size, RANGE), size < SMALL_WORK)


cdef void scale_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const multiples *w = <const multiples *> work
    w.table.scale(w.out, w.x, w.factor, index * RANGE, range_end(index, RANGE, w.size))


def copy(program, floating[::1] out not None, const floating[::1] x not None):
    """out = x."""
    cdef ptrdiff_t size = out.shape[0]
    if x.shape[0] != size:
        raise ValueError(f"out and x must have the same size, got {size} and {x.shape[0]}")
    cdef elements *work = <elements *> new_work(program, (out, x), sizeof(elements), 0, 0)
    work.size, work.itemsize = size, sizeof(floating)
    work.out, work.first = &out[0], &x[0]
    add_stage(program, copy_range, work, ceil_div(size, RANGE), size < SMALL_WORK)


cdef void copy_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const elements *e = <const elements *> work
    cdef ptrdiff_t first = index * RANGE, last = range_end(index, RANGE, e.size)
    memcpy(<char *> e.out + first * e.itemsize, <const char *> e.first + first * e.itemsize,
           (last - first) * e.itemsize)


def relu_backward(program, floating[::1] dz not None, const floating[::1] dy not None, const floating[::1] y not None):
    """dz = dy where y (ReLU's output, or its input) is positive, else 0."""
    cdef ptrdiff_t size = dz.shape[0]
    if dy.shape[0] != size or y.shape[0] != size:
        raise ValueError(f"dz, dy and y must have the same size, got {size}, {dy.shape[0]} and {y.shape[0]}")
    cdef elements *work = <elements *> new_work(program, (dz, dy, y), sizeof(elements), 0, 0)
    work.table, work.size = f32 if floating is float else f64, size
    work.out, work.first, work.second = &dz[0], &dy[0], &y[0]
    add_stage(program, relu_backward_range, work, ceil_div(size, RANGE), size < SMALL_WORK)


cdef void relu_backward_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const elements *e = <const elements *> work
    e.table.relu_backward(e.out, e.first, e.second, index * RANGE, range_end(index, RANGE, e.size))


def sigmoid(program, floating[::1] out not None, const floating[::1] z not None):
    """out = 1 / (1 + exp(-z)); out may be z."""
    cdef ptrdiff_t size = z.shape[0]
    if out.shape[0] != size:
        raise ValueError(f"out and z must have the same size, got {out.shape[0]} and {size}")
    cdef elements *work = <elements *> new_work(program, (out, z), sizeof(elements), 0, 0)
    work.table, work.size = f32 if floating is float else f64, size
    work.out, work.first = &out[0], &z[0]
    add_stage(program, sigmoid_range, work, ceil_div(size, RANGE), size < SMALL_EXPONENTIAL)


cdef void sigmoid_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const elements *e = <const elements *> work
    e.table.sigmoid(e.out, e.first, index * RANGE, range_end(index, RANGE, e.size))


# ------------------------------------------------------------ activations

cdef struct activation:
    const kernel_table *table
    const activation_function *function
    double[MAX_CONSTANTS] constants
    void *out
    const void *dy
    const void *z
    ptrdiff_t size


def activations():
    """Numbers of constants, by the name of the activation function."""
    found = {}
    cdef const activation_function *function = f32.activations
    while function.name != NULL:
        found[function.name.decode()] = function.n_constants
        function += 1
    return found


def activation_forward(
    program,
    floating[::1] y not None,           # OUT (size), may be z
    const floating[::1] z not None,     # IN  (size)
    str name,                           # one of activations()
    tuple constants not None,           # numbers, as many as the function has
):
    """y = f(z)."""
    cdef ptrdiff_t size = y.shape[0]
    if z.shape[0] != size:
        raise ValueError(f"y and z must have the same size, got {size} and {z.shape[0]}")
    cdef activation *work = new_activation(program, (y, z), f32 if floating is float else f64, name, constants)
    work.out, work.z, work.size = &y[0], &z[0], size
    add_stage(program, activation_range, work, ceil_div(size, RANGE), size < SMALL_EXPONENTIAL)


def activation_backward(
    program,
    floating[::1] dz not None,          # OUT (size), may be dy or z
    const floating[::1] dy not None,    # IN  (size)
    const floating[::1] z not None,     # IN  (size)
    str name,                           # one of activations()
    tuple constants not None,           # numbers, as many as the function has
):
    """dz = dy f'(z)."""
    cdef ptrdiff_t size = dz.shape[0]
    if dy.shape[0] != size or z.shape[0] != size:
        raise ValueError(f"dz, dy and z must have the same size, got {size}, {dy.shape[0]} and {z.shape[0]}")
    cdef activation *work = new_activation(program, (dz, dy, z), f32 if floating is float else f64, name, constants)
    work.out, work.dy, work.z, work.size = &dz[0], &dy[0], &z[0], size
    add_stage(program, activation_backward_range, work, ceil_div(size, RANGE), size < SMALL_EXPONENTIAL)


cdef activation *new_activation(
    object program, tuple arrays, const kernel_table *table, str name, tuple constants
) except NULL:
    """The work of a function with these constants, still without arrays; ValueError if there is none."""
    counts = activations()
    if name not in counts:
        raise ValueError(f"name must be one of {', '.join(counts)}, got {name!r}")
    if len(constants) != counts[name]:
        raise ValueError(f"{name} must have {counts[name]} constants, got {len(constants)}")
    cdef activation *work = <activation *> new_work(program, arrays, sizeof(activation), 0, 0)
    work.table, work.function = table, table.activations + [*counts].index(name)
    cdef ptrdiff_t i
    for i in range(len(constants)):
        work.constants[i] = constants[i]
    return work


cdef void activation_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const activation *a = <const activation *> work
    a.table.activation_forward(a.out, a.z, a.function, a.constants, index * RANGE, range_end(index, RANGE, a.size))


cdef void activation_backward_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const activation *a = <const activation *> work
    a.table.activation_backward(a.out, a.dy, a.z, a.function, a.constants, index * RANGE,
                                range_end(index, RANGE, a.size))


# -------------------------------------------------- a number for all rows

cdef struct appended_column:
    char *wide              # (n, m + 1)
    char *narrow            # (n, m)
    char *number            # (1)
    ptrdiff_t n, m, itemsize


def append_column(
    program,
    floating[:, ::1] y not None,          # OUT (n, m + 1)
    const floating[:, ::1] x not None,    # IN  (n, m)
    const floating[::1] number not None,  # IN  (1), read by each run
):
    """y = x with the number at the end of each row."""
    cdef appended_column *work = new_column[floating](program, y, x, number)
    add_stage(program, append_to_row, work, x.shape[0], x.shape[0] * x.shape[1] < SMALL_WORK)


cdef void append_to_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const appended_column *c = <const appended_column *> work
    cdef ptrdiff_t row = c.m * c.itemsize
    cdef char *to = c.wide + index * (row + c.itemsize)
    memcpy(to, c.narrow + index * row, row)
    memcpy(to + row, c.number, c.itemsize)


def split_column(
    program,
    floating[:, ::1] x not None,          # OUT (n, m)
    floating[::1] total not None,         # OUT (1)
    const floating[:, ::1] y not None,    # IN  (n, m + 1)
):
    """x = all columns of y but the last, total = the sum of the last."""
    cdef appended_column *work = new_column[floating](program, y, x, total)
    add_stage(program, split_row, work, x.shape[0], x.shape[0] * x.shape[1] < SMALL_WORK)
    add_stage(program, sum_last_column, work, 1, True)


cdef void split_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const appended_column *c = <const appended_column *> work
    cdef ptrdiff_t row = c.m * c.itemsize
    memcpy(c.narrow + index * row, c.wide + index * (row + c.itemsize), row)


cdef void sum_last_column(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const appended_column *c = <const appended_column *> work
    cdef ptrdiff_t i, stride = c.m + 1
    cdef double sum = 0
    for i in range(c.n):
        sum += number_at(c.wide, i * stride + c.m, c.itemsize)
    set_number(c.number, 0, sum, c.itemsize)


def move_average(
    program,
    floating[::1] average not None,       # IN, OUT (1)
    floating[::1] count not None,         # IN, OUT (1), how many values there were before
    floating[::1] value not None,         # IN, OUT (1), set to NaN, which is no value
    double least,
):
    """average = the running mean of the values, of which a new one counts 2 / (count + 1) or `least`; count += 1.

    Without a value nothing changes.
    """
    if average.shape[0] != 1 or count.shape[0] != 1 or value.shape[0] != 1:
        raise ValueError(
            "average, count and value must have 1 element, "
            f"got {average.shape[0]}, {count.shape[0]} and {value.shape[0]}"
        )
    cdef moved_average *work = <moved_average *> new_work(program, (average, count, value), sizeof(moved_average), 0, 0)
    work.average, work.count, work.value = <char *> &average[0], <char *> &count[0], <char *> &value[0]
    work.least, work.itemsize = least, sizeof(floating)
    add_stage(program, move_towards_value, work, 1, True)


cdef struct moved_average:
    char *average
    char *count
    char *value
    double least
    ptrdiff_t itemsize


cdef void move_towards_value(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const moved_average *a = <const moved_average *> work
    cdef double count = number_at(a.count, 0, a.itemsize) + 1, before = number_at(a.average, 0, a.itemsize)
    cdef double value = number_at(a.value, 0, a.itemsize), share = max(a.least, 2 / (count + 1))
    if isnan(value):
        return
    set_number(a.average, 0, before + share * (value - before), a.itemsize)
    set_number(a.count, 0, count, a.itemsize)
    set_number(a.value, 0, NAN, a.itemsize)


cdef appended_column *new_column(
    program, const floating[:, ::1] wide, const floating[:, ::1] narrow, const floating[::1] number,
) except NULL:
    if number.shape[0] != 1 or wide.shape[0] != narrow.shape[0] or wide.shape[1] != narrow.shape[1] + 1:
        raise ValueError(
            "arrays must have the shapes (n, m + 1), (n, m) and (1,), "
            f"got {(<object> wide).shape}, {(<object> narrow).shape} and {(<object> number).shape}"
        )
    cdef appended_column *work = <appended_column *> new_work(
        program, (wide, narrow, number), sizeof(appended_column), 0, 0)
    work.n, work.m, work.itemsize = narrow.shape[0], narrow.shape[1], sizeof(floating)
    work.wide, work.narrow, work.number = <char *> &wide[0, 0], <char *> &narrow[0, 0], <char *> &number[0]
    return work


cdef struct summed_columns:
    const kernel_table *table
    const void *x
    void *out
    ptrdiff_t m, n, accumulators, itemsize


def column_sums(
    program,
    floating[::1] out not None,                 # OUT (n)
    const floating[:, ::1] x not None,          # IN  (m, n)
):
    """out = the sums of the columns of x."""
    cdef ptrdiff_t m = x.shape[0], n = x.shape[1]
    if m < 1 or n < 1 or out.shape[0] != n:
        raise ValueError(f"out and x must be (n) and (m, n), not empty, got ({out.shape[0]},) and ({m}, {n})")
    cdef ptrdiff_t accumulators = max(1, min(MAX_ACCUMULATORS, m // SUMMED_ROWS))
    cdef summed_columns *work = <summed_columns *> new_work(
        program, (out, x), sizeof(summed_columns), accumulators * n * sizeof(floating), 0)
    work.table, work.m, work.n = f32 if floating is float else f64, m, n
    work.accumulators, work.itemsize = accumulators, sizeof(floating)
    work.out, work.x = &out[0], &x[0, 0]
    add_stage(program, sum_some_rows, work, accumulators, m * n < SMALL_WORK)
    add_stage(program, sum_all_rows, work, 1, True)


cdef void sum_some_rows(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const summed_columns *c = <const summed_columns *> work
    cdef ptrdiff_t first = index * c.m // c.accumulators, last = (index + 1) * c.m // c.accumulators
    cdef char *sums = shared + index * c.n * c.itemsize
    c.table.set_zero(sums, 0, c.n)
    c.table.add_column_sums(sums, <const char *> c.x + first * c.n * c.itemsize, last - first, c.n)


cdef void sum_all_rows(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const summed_columns *c = <const summed_columns *> work
    c.table.sum_accumulators(c.out, shared, c.accumulators, c.n, 0, c.n)
