/* The logistic function in vectors, without overflow for any z. */
#ifndef CVAE_LOGISTIC_H
#define CVAE_LOGISTIC_H

#include <math.h>

#include "vector.h"

#if CVAE_DOUBLE
#define real_sqrt sqrt
#define LOWEST_EXPONENT (-750.0)    /* exp of it is 0 */
#define ROUNDING 6755399441055744.0 /* 1.5 * 2^52: adding it leaves an integer in the lowest bits */
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
enum { EXP_TERMS = 14, LOG_TERMS = 18 };
#else
#define real_sqrt sqrtf
#define LOWEST_EXPONENT (-110.0f)
#define ROUNDING 12582912.0f /* 1.5 * 2^23 */
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
enum { EXP_TERMS = 8, LOG_TERMS = 9 };
#endif

static const double INVERSE_FACTORIAL[] = {
    1.0,
    1.0,
    1.0 / 2,
    1.0 / 6,
    1.0 / 24,
    1.0 / 120,
    1.0 / 720,
    1.0 / 5040,
    1.0 / 40320,
    1.0 / 362880,
    1.0 / 3628800,
    1.0 / 39916800,
    1.0 / 479001600,
    1.0 / 6227020800,
};

/* exp(x) for x <= 0: x = n log(2) + r with |r| <= log(2) / 2, and a Taylor series of exp(r) whose next term is below
 * the rounding error.  2^n is applied as two factors, because it may be too small for a normal number. */
INLINE vec exp_negative(vec x) {
    /* log(2) in two parts, the first with so few bits that its product with n is exact. */
    const real log2_high = (real)0.693145751953125, log2_low = (real)1.428606820309417232e-06;
    x = choose(less(x, broadcast(LOWEST_EXPONENT)), broadcast(LOWEST_EXPONENT), x);
    const vec rounded = x * (real)1.4426950408889634 + (real)ROUNDING, n = rounded - (real)ROUNDING;
    const vec r = (x - n * log2_high) - n * log2_low;
    vec sum = broadcast((real)INVERSE_FACTORIAL[EXP_TERMS - 1]);
    UNROLL for (int k = EXP_TERMS - 2; k >= 0; k--) sum = sum * r + (real)INVERSE_FACTORIAL[k];
    const vec_int exponent = as_bits(rounded) - as_bits(broadcast(ROUNDING)), half = exponent >> 1;
    return sum * as_real((half + EXPONENT_BIAS) << MANTISSA_BITS) *
           as_real((exponent - half + EXPONENT_BIAS) << MANTISSA_BITS);
}

/* log(1 + e) for 0 <= e <= 1: 2 artanh(e / (2 + e)), whose series converges like 9^-k. */
INLINE vec log1p_fraction(vec e) {
    const vec s = e / (e + (real)2), square = s * s;
    vec sum = broadcast((real)1 / (2 * LOG_TERMS - 1));
    UNROLL for (int k = LOG_TERMS - 1; k > 0; k--) sum = sum * square + (real)1 / (2 * k - 1);
    return s * sum * (real)2;
}

typedef struct {
    vec value; /* 1 / (1 + exp(-z)) */
    vec decay; /* exp(-|z|) */
} logistic_result;

INLINE logistic_result logistic(vec z) {
    const vec_int negative = less(z, broadcast(0));
    const vec decay = exp_negative(choose(negative, z, -z));
    const logistic_result result = {choose(negative, decay, broadcast(1)) / (decay + (real)1), decay};
    return result;
}

#endif
