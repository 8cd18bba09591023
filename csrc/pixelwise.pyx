# The pixels of a batch: gathered, mapped to the units of a model, made black or white, checked; means of images.

from cython cimport floating
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcpy

from stages cimport add_stage, new_work
from tables cimport ceil_div, import_f32, import_f64, range_end

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct pixel_type:
        const char *name
        ptrdiff_t itemsize

    ctypedef struct kernel_table:
        const pixel_type *pixel_types
        void (*continuous_bernoulli_mean)(void *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*clip)(void *, const void *, double, double, int, ptrdiff_t) noexcept nogil
        void (*map_pixels)(
            void *, const void *, const pixel_type *, const double *, const double *, ptrdiff_t, ptrdiff_t
        ) noexcept nogil
        void (*unmap_pixels)(void *, const double *, const double *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*scale_bytes)(void *, const unsigned char *, ptrdiff_t) noexcept nogil
        void (*binarize)(void *, const void *, ptrdiff_t, uint64_t, int, ptrdiff_t) noexcept nogil
        void (*threshold)(void *, const void *, double, ptrdiff_t, ptrdiff_t) noexcept nogil
        int (*is_in_unit_range)(const void *, ptrdiff_t, ptrdiff_t) noexcept nogil

cdef const kernel_table *f32 = <const kernel_table *> import_f32()
cdef const kernel_table *f64 = <const kernel_table *> import_f64()

cdef enum:
    RANGE = 4096               # elements of a piece of work
    SMALL_WORK = 32_768        # elements below which waking other threads costs more than it saves
    SMALL_EXPONENTIAL = 8_192  # the same, where each takes an exponential


cdef struct elements:
    const kernel_table *table
    void *out
    const void *first
    const void *second
    ptrdiff_t size, itemsize


# ----------------------------------------------------------------- to the model

def gather(
    program,
    floating[:, ::1] out not None,              # OUT (n, m)
    const floating[:, ::1] images not None,     # IN  (any number, m)
    const ptrdiff_t[::1] indices not None,      # IN  (n), checked now and read by each run
):
    """out = the images of these indices."""
    check_gather((<object> out).shape, (<object> images).shape, indices)
    cdef elements *work = <elements *> new_work(program, (out, images, indices), sizeof(elements), 0, 0)
    work.size, work.itemsize = out.shape[1], sizeof(floating)
    work.out, work.first, work.second = &out[0, 0], &images[0, 0], &indices[0]
    add_stage(program, gather_image, work, out.shape[0], out.shape[0] * out.shape[1] < SMALL_WORK)


cdef void gather_image(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const elements *e = <const elements *> work
    cdef ptrdiff_t image = e.size * e.itemsize
    cdef ptrdiff_t chosen = (<const ptrdiff_t *> e.second)[index]
    memcpy(<char *> e.out + index * image, <const char *> e.first + chosen * image, image)


def gather_bytes(
    program,
    floating[:, ::1] out not None,                   # OUT (n, m)
    const unsigned char[:, ::1] images not None,     # IN  (any number, m)
    const ptrdiff_t[::1] indices not None,           # IN  (n), as in gather
):
    """out = the images of these indices, divided by 255."""
    check_gather((<object> out).shape, (<object> images).shape, indices)
    cdef elements *work = <elements *> new_work(program, (out, images, indices), sizeof(elements), 0, 0)
    work.table = f32 if floating is float else f64
    work.size, work.itemsize = out.shape[1], sizeof(floating)
    work.out, work.first, work.second = &out[0, 0], &images[0, 0], &indices[0]
    add_stage(program, gather_byte_image, work, out.shape[0], out.shape[0] * out.shape[1] < SMALL_WORK)


cdef void gather_byte_image(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const elements *e = <const elements *> work
    e.table.scale_bytes(<char *> e.out + index * e.size * e.itemsize,
                        <const unsigned char *> e.first + (<const ptrdiff_t *> e.second)[index] * e.size, e.size)


# --------------------------------------------- images in the units of a model

cdef struct mapped_images:
    const kernel_table *table
    const pixel_type *type
    void *out
    const void *images
    const ptrdiff_t *indices
    const double *offset
    const double *scale
    ptrdiff_t period, size, itemsize


def pixel_types():
    """Bytes of a pixel, by the type's name."""
    found = {}
    cdef const pixel_type *type = f32.pixel_types
    while type.name != NULL:
        found[type.name.decode()] = type.itemsize
        type += 1
    return found


def gather_mapped(
    program,
    floating[:, ::1] out not None,                   # OUT (n, m)
    const unsigned char[:, ::1] images not None,     # IN  (any number, m pixels), as bytes
    const ptrdiff_t[::1] indices not None,           # IN  (n), as in gather
    str name,                                        # one of pixel_types()
    const double[::1] offset not None,               # IN  (period), for the first elements of a row
    const double[::1] scale not None,                # IN  (period)
):
    """out = (images of these indices - offset) / scale, in double, offset and scale repeating along the rows."""
    types = pixel_types()
    if name not in types:
        raise ValueError(f"name must be one of {', '.join(types)}, got {name!r}")
    check_gather(((<object> out).shape[0], out.shape[1] * types[name]), (<object> images).shape, indices)
    if <size_t> &images[0, 0] % <size_t> types[name]:
        raise ValueError(f"images must be aligned for {name}, got them at {<size_t> &images[0, 0]:#x}")
    check_mapping(offset, scale)
    cdef mapped_images *work = <mapped_images *> new_work(
        program, (out, images, indices, offset, scale), sizeof(mapped_images), 0, 0)
    work.table = f32 if floating is float else f64
    work.type = work.table.pixel_types + [*types].index(name)
    work.size, work.itemsize, work.period = out.shape[1], sizeof(floating), offset.shape[0]
    work.out, work.images, work.indices = &out[0, 0], &images[0, 0], &indices[0]
    work.offset, work.scale = &offset[0], &scale[0]
    add_stage(program, map_image, work, out.shape[0], out.shape[0] * out.shape[1] < SMALL_WORK)


cdef void map_image(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const mapped_images *m = <const mapped_images *> work
    m.table.map_pixels(
        <char *> m.out + index * m.size * m.itemsize,
        <const char *> m.images + m.indices[index] * m.size * m.type.itemsize,
        m.type, m.offset, m.scale, m.period, m.size)


def unmap(
    program,
    floating[:, ::1] images not None,     # IN, OUT (n, m)
    const double[::1] offset not None,    # IN  (period), as for gather_mapped
    const double[::1] scale not None,     # IN  (period)
):
    """images = images * scale + offset, in double, offset and scale repeating along the rows."""
    check_mapping(offset, scale)
    cdef mapped_images *work = <mapped_images *> new_work(
        program, (images, offset, scale), sizeof(mapped_images), 0, 0)
    work.table = f32 if floating is float else f64
    work.size, work.itemsize, work.period = images.shape[1], sizeof(floating), offset.shape[0]
    work.out, work.offset, work.scale = &images[0, 0], &offset[0], &scale[0]
    add_stage(program, unmap_image, work, images.shape[0], images.shape[0] * images.shape[1] < SMALL_WORK)


cdef void unmap_image(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const mapped_images *m = <const mapped_images *> work
    m.table.unmap_pixels(
        <char *> m.out + index * m.size * m.itemsize, m.offset, m.scale, m.period, m.size)


cdef int check_mapping(const double[::1] offset, const double[::1] scale) except -1:
    if offset.shape[0] < 1 or scale.shape[0] != offset.shape[0]:
        raise ValueError(
            f"offset and scale must have the same size, at least 1, got {offset.shape[0]} and {scale.shape[0]}"
        )
    return 0


cdef int check_gather(tuple out, tuple images, const ptrdiff_t[::1] indices) except -1:
    cdef ptrdiff_t i
    if images[1] != out[1] or indices.shape[0] != out[0]:
        raise ValueError(
            f"out, images and indices must be (n, m), (any, m) and (n), got {out}, {images} and ({indices.shape[0]},)"
        )
    for i in range(indices.shape[0]):
        if not 0 <= indices[i] < images[0]:
            raise IndexError(f"indices must lie in 0..{images[0] - 1}, got {indices[i]}")
    return 0


cdef struct drawn_images:
    const kernel_table *table
    void *out
    const void *x
    const uint64_t *key
    double limit
    ptrdiff_t m, size
    bint by_content


def binarize(
    program,
    floating[:, ::1] out not None,        # OUT (n, m), may be x
    const floating[:, ::1] x not None,    # IN  (n, m), in [0, 1]
    const uint64_t[::1] key not None,     # IN  (1), read by each run
    bint by_content,
):
    """Draw each element black or white: out = 1 with the probability that x is, else 0.

    The draws depend on the key and either on the content of the row or on its number.
    """
    cdef ptrdiff_t n = x.shape[0], m = x.shape[1]
    if out.shape[0] != n or out.shape[1] != m or key.shape[0] != 1:
        raise ValueError(
            f"out and x must have the same shape and key 1 element, got {(<object> out).shape}, {(n, m)} and "
            f"{key.shape[0]}"
        )
    cdef drawn_images *work = <drawn_images *> new_work(program, (out, x, key), sizeof(drawn_images), 0, 0)
    work.table, work.out, work.x, work.key = f32 if floating is float else f64, &out[0, 0], &x[0, 0], &key[0]
    work.m, work.by_content = m, by_content
    add_stage(program, binarize_image, work, n, n * m < SMALL_EXPONENTIAL)


cdef void binarize_image(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const drawn_images *d = <const drawn_images *> work
    d.table.binarize(d.out, d.x, d.m, d.key[0], d.by_content, index)


def threshold(program, floating[::1] out not None, const floating[::1] x not None, double limit):
    """out = 1 where x is greater than the limit, else 0; out may be x."""
    cdef ptrdiff_t size = x.shape[0]
    if out.shape[0] != size:
        raise ValueError(f"out and x must have the same size, got {out.shape[0]} and {size}")
    cdef drawn_images *work = <drawn_images *> new_work(program, (out, x), sizeof(drawn_images), 0, 0)
    work.table, work.out, work.x = f32 if floating is float else f64, &out[0], &x[0]
    work.size, work.limit = size, limit
    add_stage(program, threshold_range, work, ceil_div(size, RANGE), size < SMALL_WORK)


cdef void threshold_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const drawn_images *d = <const drawn_images *> work
    d.table.threshold(d.out, d.x, d.limit, index * RANGE, range_end(index, RANGE, d.size))


cdef struct range_check:
    const kernel_table *table
    const void *x
    unsigned char *outside
    ptrdiff_t size


def is_in_unit_range(program, unsigned char[::1] outside not None, const floating[::1] x not None):
    """outside (1) = 0 if all elements of x are in [0, 1], else 1; NaN is outside."""
    cdef ptrdiff_t size = x.shape[0], pieces = ceil_div(size, RANGE)
    if outside.shape[0] != 1:
        raise ValueError(f"outside must have 1 element, got {outside.shape[0]}")
    cdef range_check *work = <range_check *> new_work(program, (outside, x), sizeof(range_check), pieces, 0)
    work.table, work.size = f32 if floating is float else f64, size
    work.outside, work.x = &outside[0], &x[0]
    add_stage(program, check_range, work, pieces, size < SMALL_WORK)
    add_stage(program, any_outside, work, 1, True)


cdef void check_range(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const range_check *c = <const range_check *> work
    shared[index] = not c.table.is_in_unit_range(c.x, index * RANGE, range_end(index, RANGE, c.size))


cdef void any_outside(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const range_check *c = <const range_check *> work
    c.outside[0] = memchr(shared, 1, ceil_div(c.size, RANGE)) != NULL


# ----------------------------------------------------------------- from the model

def continuous_bernoulli_mean(program, floating[::1] out not None, const floating[::1] z not None):
    """out = the means of continuous Bernoulli distributions whose lambda has the logit z; out may be z."""
    cdef ptrdiff_t size = z.shape[0]
    if out.shape[0] != size:
        raise ValueError(f"out and z must have the same size, got {out.shape[0]} and {size}")
    cdef elements *work = <elements *> new_work(program, (out, z), sizeof(elements), 0, 0)
    work.table, work.size = f32 if floating is float else f64, size
    work.out, work.first = &out[0], &z[0]
    add_stage(program, continuous_bernoulli_mean_range, work, ceil_div(size, RANGE), size < SMALL_EXPONENTIAL)


cdef void continuous_bernoulli_mean_range(
    const void *work, ptrdiff_t index, char *shared, char *scratch,
) noexcept nogil:
    cdef const elements *e = <const elements *> work
    e.table.continuous_bernoulli_mean(e.out, e.first, index * RANGE, range_end(index, RANGE, e.size))


cdef struct columns:
    const kernel_table *table
    void *out
    const void *x
    ptrdiff_t width, stride, itemsize
    double low, high
    bint pairs


def first_columns(
    program,
    floating[:, ::1] out not None,        # OUT (n, m)
    const floating[:, ::1] x not None,    # IN  (n, m or more), may be out if it has as many columns
    double low,
    double high,
    bint pairs=False,
):
    """out = the first m columns of x, or the first of each of m pairs of columns, values below `low` replaced by it,
    and those above `high` by that."""
    if x.shape[0] != out.shape[0] or x.shape[1] < out.shape[1] * (2 if pairs else 1):
        raise ValueError(
            f"x must have as many rows as out and no fewer columns, got {(<object> x).shape} for {(<object> out).shape}"
        )
    cdef columns *work = <columns *> new_work(program, (out, x), sizeof(columns), 0, 0)
    work.table, work.pairs = f32 if floating is float else f64, pairs
    work.width, work.stride, work.itemsize = out.shape[1], x.shape[1], sizeof(floating)
    work.out, work.x, work.low, work.high = &out[0, 0], &x[0, 0], low, high
    add_stage(program, clip_row, work, out.shape[0], out.shape[0] * out.shape[1] < SMALL_WORK)


cdef void clip_row(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil:
    cdef const columns *c = <const columns *> work
    c.table.clip(<char *> c.out + index * c.width * c.itemsize, <const char *> c.x + index * c.stride * c.itemsize,
                 c.low, c.high, c.pairs, c.width)
