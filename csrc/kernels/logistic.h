/* The logistic function, and the names of libm for the number type at hand. */
#ifndef CVAE_LOGISTIC_H
#define CVAE_LOGISTIC_H

#include <math.h>

#include "vector.h"

#if CVAE_DOUBLE
#define real_exp exp
#define real_log1p log1p
#define real_sqrt sqrt
#else
#define real_exp expf
#define real_log1p log1pf
#define real_sqrt sqrtf
#endif

typedef struct {
    real value; /* 1 / (1 + exp(-z)) */
    real decay; /* exp(-|z|), from which it was computed: no overflow for any z */
} logistic_result;

INLINE logistic_result logistic(real z) {
    const real decay = real_exp(z < 0 ? z : -z);
    const logistic_result result = {(z < 0 ? decay : 1) / (1 + decay), decay};
    return result;
}

#endif
