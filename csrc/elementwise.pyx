# Single passes over whole arrays.

from cython cimport floating

from stages cimport add_stage, new_work
from tables cimport ceil_div, import_tables, kernel_table, range_end, table_pair

cdef const table_pair *tables = import_tables()

cdef enum:
    RANGE = 4096           # elements of a piece of work
    SMALL_WORK = 32_768    # elements below which waking other threads costs more than it saves,
    SMALL_SIGMOID = 8_192  # and the same where each takes an exponential


cdef struct elements:
    const kernel_table *table
    void *out
    const void *first
    const void *second
    ptrdiff_t size, itemsize


def relu_backward(program, floating[::1] dz not None, const floating[::1] dy not None, const floating[::1] y not None):
    """dz = dy where y (ReLU's output, or its input) is positive, else 0."""
    cdef ptrdiff_t size = dz.shape[0]
    if dy.shape[0] != size or y.shape[0] != size:
        raise ValueError(f"dz, dy and y must have the same size, got {size}, {dy.shape[0]} and {y.shape[0]}")
    cdef elements *work = <elements *> new_work(program, (dz, dy, y), sizeof(elements), 0, 0)
    work.table, work.size = tables.f32 if floating is float else tables.f64, size
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
    work.table, work.size = tables.f32 if floating is float else tables.f64, size
    work.out, work.first = &out[0], &z[0]
    add_stage(program, sigmoid_range, work, ceil_div(size, RANGE), size < SMALL_SIGMOID)


cdef void sigmoid_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const elements *e = <const elements *> work
    e.table.sigmoid(e.out, e.first, index * RANGE, range_end(index, RANGE, e.size))


def gather_bytes(
    program,
    floating[:, ::1] out not None,                   # OUT (n, m)
    const unsigned char[:, ::1] images not None,     # IN  (any number, m)
    const ptrdiff_t[::1] indices not None,           # IN  (n), which images
):
    """out = the images of these indices, which must stay as they are until the program has run, divided by 255."""
    cdef ptrdiff_t n = out.shape[0], m = out.shape[1], i
    if images.shape[1] != m or indices.shape[0] != n:
        raise ValueError(
            f"out, images and indices must be (n, m), (any, m) and (n), got {(<object> out).shape}, "
            f"{(<object> images).shape} and {(<object> indices).shape}"
        )
    for i in range(n):
        if not 0 <= indices[i] < images.shape[0]:
            raise IndexError(f"indices must lie in 0..{images.shape[0] - 1}, got {indices[i]}")
    cdef elements *work = <elements *> new_work(program, (out, images, indices), sizeof(elements), 0, 0)
    work.table, work.size, work.itemsize = tables.f32 if floating is float else tables.f64, m, sizeof(floating)
    work.out, work.first, work.second = &out[0, 0], &images[0, 0], &indices[0]
    add_stage(program, gather_image, work, n, n * m < SMALL_WORK)


cdef void gather_image(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const elements *e = <const elements *> work
    e.table.scale_bytes(<char *> e.out + index * e.size * e.itemsize,
                        <const unsigned char *> e.first + (<const ptrdiff_t *> e.second)[index] * e.size, e.size)
