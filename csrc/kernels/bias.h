/* The bias of a layer whose matrix product does not add it. */
#ifndef CVAE_BIAS_H
#define CVAE_BIAS_H

#include "kernels.h"
#include "vector.h"

/* Fewer columns than lanes are repeated until they fill whole vectors, so that a vector holds several rows. */
static void add_bias(void *y, const void *bias, ptrdiff_t n, int relu, ptrdiff_t first, ptrdiff_t last) {
    real repeated[LANES * LANES];
    const real *addend = bias;
    const ptrdiff_t period = n < LANES ? n * LANES : n, count = (last - first) * n;
    if (n < LANES) {
        for (ptrdiff_t i = 0; i < period; i++) repeated[i] = ((const real *)bias)[i % n];
        addend = repeated;
    }
    for (ptrdiff_t i = 0; i < count; i += period) {
        real *out = (real *)y + first * n + i;
        const ptrdiff_t length = smaller(period, count - i);
        for (ptrdiff_t j = 0; j < length; j += LANES) {
            const vec sum = load_some(out + j, length - j) + load_some(addend + j, length - j);
            store_some(out + j, relu ? positive_part(sum) : sum, length - j);
        }
    }
}

#endif
