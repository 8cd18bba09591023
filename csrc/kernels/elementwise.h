/* Single passes over flat arrays. */
#ifndef CVAE_ELEMENTWISE_H
#define CVAE_ELEMENTWISE_H

#include "logistic.h"

/* dz = dy where the ReLU's output y is positive, else 0. */
static void relu_backward(void *dz, const void *dy, const void *y, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t i = first; i < last; i++) {
        const real g = ((const real *)dy)[i];
        ((real *)dz)[i] = ((const real *)y)[i] > 0 ? g : 0;
    }
}

static void add(void *out, const void *a, const void *b, int relu, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t i = first; i < last; i += LANES) {
        const vec sum = load_some((const real *)a + i, last - i) + load_some((const real *)b + i, last - i);
        store_some((real *)out + i, relu ? positive_part(sum) : sum, last - i);
    }
}

static void scale(void *out, const void *x, double factor, ptrdiff_t first, ptrdiff_t last) {
    const vec f = broadcast((real)factor);
    for (ptrdiff_t i = first; i < last; i += LANES)
        store_some((real *)out + i, f * load_some((const real *)x + i, last - i), last - i);
}

static void set_zero(void *out, ptrdiff_t first, ptrdiff_t last) {
    memset((real *)out + first, 0, (size_t)(last - first) * sizeof(real));
}

/* out = accumulators[0] + accumulators[1] + ...; accumulator l starts at l * stride.  out may be accumulators[0]. */
static void sum_accumulators(void *out, const void *accumulators, ptrdiff_t count, ptrdiff_t stride, ptrdiff_t first,
                      ptrdiff_t last) {
    memmove((real *)out + first, (const real *)accumulators + first, (size_t)(last - first) * sizeof(real));
    for (ptrdiff_t l = 1; l < count; l++) {
        const real *RESTRICT in = (const real *)accumulators + l * stride;
        real *RESTRICT sum = out;
        for (ptrdiff_t i = first; i < last; i++) sum[i] += in[i];
    }
}

/* out = the logistic function of z; out may be z. */
static void sigmoid(void *out, const void *z, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t i = first; i < last; i += LANES)
        store_some((real *)out + i, logistic(load_some((const real *)z + i, last - i)).value, last - i);
}

/* out = x, or the first element of each pair, cut off at low and high; NaN stays NaN; out may be x. */
static void clip(void *out, const void *x, double low, double high, int pairs, ptrdiff_t count) {
    const vec least = broadcast((real)low), most = broadcast((real)high);
    for (ptrdiff_t i = 0; i < count; i += LANES) {
        const ptrdiff_t left = count - i;
        const vec v = pairs ? load_pairs((const real *)x + 2 * i, left).first : load_some((const real *)x + i, left);
        store_some((real *)out + i, choose(less(v, least), least, choose(less(most, v), most, v)), count - i);
    }
}

/* Quotients rather than products with 1 / 255, as in NumPy. */
static void scale_bytes(void *out, const unsigned char *bytes, ptrdiff_t count) {
    real *RESTRICT to = out;
    for (ptrdiff_t i = 0; i < count; i++) to[i] = (real)bytes[i] / (real)255;
}

/* Differences, divided: the largest pixel of a range becomes exactly 1.  They are taken in double, as those of large
 * numbers that differ little need it. */
#define MAPPED(name, type)                                                                                          \
    static void map_##name(void *out, const void *pixels, const double *offset, const double *scale, ptrdiff_t period, \
                           ptrdiff_t count) {                                                                       \
        for (ptrdiff_t i = 0; i < count; i += period) {                                                             \
            real *RESTRICT to = (real *)out + i;                                                                    \
            const type *RESTRICT from = (const type *)pixels + i;                                                   \
            const ptrdiff_t here = smaller(period, count - i);                                                      \
            for (ptrdiff_t j = 0; j < here; j++) to[j] = (real)((VALUE(from[j]) - offset[j]) / scale[j]);           \
        }                                                                                                           \
    }
#define VALUE(pixel) (double)(pixel)
MAPPED(int8, int8_t)
MAPPED(uint8, uint8_t)
MAPPED(int16, int16_t)
MAPPED(uint16, uint16_t)
MAPPED(int32, int32_t)
MAPPED(uint32, uint32_t)
MAPPED(float32, float)
MAPPED(float64, double)
#undef VALUE
#define VALUE(byte) (double)((real)(byte) / (real)255)
MAPPED(fraction, uint8_t)
#undef VALUE
#undef MAPPED

static const pixel_type PIXEL_TYPES[] = {
    {"int8", 1, map_int8},       {"uint8", 1, map_uint8},     {"int16", 2, map_int16},
    {"uint16", 2, map_uint16},   {"int32", 4, map_int32},     {"uint32", 4, map_uint32},
    {"float32", 4, map_float32}, {"float64", 8, map_float64}, {"fraction", 1, map_fraction},
    {NULL, 0, NULL},
};

static void map_pixels(void *out, const void *pixels, const pixel_type *type, const double *offset,
                       const double *scale, ptrdiff_t period, ptrdiff_t count) {
    type->map(out, pixels, offset, scale, period, count);
}

static void unmap_pixels(void *pixels, const double *offset, const double *scale, ptrdiff_t period, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i += period) {
        real *x = (real *)pixels + i;
        const ptrdiff_t here = smaller(period, count - i);
        for (ptrdiff_t j = 0; j < here; j++) x[j] = (real)((double)x[j] * scale[j] + offset[j]);
    }
}

/* Whether all of x[first <= i < last] are in [0, 1]. */
static int is_in_unit_range(const void *x, ptrdiff_t first, ptrdiff_t last) {
    const real *in = x;
    real_int outside = 0;
    for (ptrdiff_t i = first; i < last; i++) outside |= !((in[i] >= 0) & (in[i] <= 1));
    return !outside;
}

static void narrow(uint8_t *RESTRICT out, const int32_t *RESTRICT places, const void *y, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint8_t place = (uint8_t)places[i];
        out[i] = ((const real *)y)[i] > 0 ? place : INACTIVE;
    }
}

static void widen(int32_t *RESTRICT places, const uint8_t *RESTRICT in, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i++) places[i] = in[i];
}

#endif
