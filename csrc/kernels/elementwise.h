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

/* out = x, cut off at low and high; NaN stays NaN; out may be x. */
static void clip(void *out, const void *x, double low, double high, ptrdiff_t count) {
    const vec least = broadcast((real)low), most = broadcast((real)high);
    for (ptrdiff_t i = 0; i < count; i += LANES) {
        const vec v = load_some((const real *)x + i, count - i);
        store_some((real *)out + i, choose(less(v, least), least, choose(less(most, v), most, v)), count - i);
    }
}

/* Quotients rather than products with 1 / 255, as in NumPy. */
static void scale_bytes(void *out, const unsigned char *bytes, ptrdiff_t count) {
    real *RESTRICT to = out;
    for (ptrdiff_t i = 0; i < count; i++) to[i] = (real)bytes[i] / (real)255;
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
