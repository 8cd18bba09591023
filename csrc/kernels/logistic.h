/* The logistic function in vectors, without overflow for any z, and what it is made of: exponential and logarithm. */
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
enum { EXP_TERMS = 14, LOG_TERMS = 18, NARROW_LOG_TERMS = 11 };
#else
#define real_sqrt sqrtf
#define LOWEST_EXPONENT (-110.0f)
#define ROUNDING 12582912.0f /* 1.5 * 2^23 */
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
enum { EXP_TERMS = 8, LOG_TERMS = 9, NARROW_LOG_TERMS = 5 };
#endif

/* log(2) in two parts, the first with so few bits that its product with an exponent is exact. */
#define LOG2_HIGH ((real)0.693145751953125)
#define LOG2_LOW ((real)1.428606820309417232e-06)

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
    x = choose(less(x, broadcast(LOWEST_EXPONENT)), broadcast(LOWEST_EXPONENT), x);
    const vec rounded = x * (real)1.4426950408889634 + (real)ROUNDING, n = rounded - (real)ROUNDING;
    const vec r = (x - n * LOG2_HIGH) - n * LOG2_LOW;
    vec sum = broadcast((real)INVERSE_FACTORIAL[EXP_TERMS - 1]);
    UNROLL for (int k = EXP_TERMS - 2; k >= 0; k--) sum = sum * r + (real)INVERSE_FACTORIAL[k];
    const vec_int exponent = as_bits(rounded) - as_bits(broadcast(ROUNDING)), half = exponent >> 1;
    return sum * as_real((half + EXPONENT_BIAS) << MANTISSA_BITS) *
           as_real((exponent - half + EXPONENT_BIAS) << MANTISSA_BITS);
}

/* exp(x) where neither it nor its inverse overflows. */
INLINE vec exp_moderate(vec x) {
    const vec_int negative = less(x, broadcast(0));
    const vec small = exp_negative(choose(negative, x, -x));
    return choose(negative, small, (real)1 / small);
}

/* log(1 + e) for 0 <= e <= 1: 2 artanh(e / (2 + e)), whose series converges like 9^-k. */
INLINE vec log1p_fraction(vec e) {
    const vec s = e / (e + (real)2), square = s * s;
    vec sum = broadcast((real)1 / (2 * LOG_TERMS - 1));
    UNROLL for (int k = LOG_TERMS - 1; k > 0; k--) sum = sum * square + (real)1 / (2 * k - 1);
    return s * sum * (real)2;
}

/* log(x) for normal x > 0: x = 2^n f with f between sqrt(1/2) and sqrt(2), and log(f) = 2 artanh((f - 1) / (f + 1)). */
INLINE vec log_normal_number(vec x) {
    const vec_int bits = as_bits(x), n = (bits - as_bits(broadcast((real)0.70710678118654752))) >> MANTISSA_BITS;
    const vec f = as_real(bits - (n << MANTISSA_BITS)), exponent = as_real(n + as_bits(broadcast(ROUNDING))) - ROUNDING;
    const vec s = (f - (real)1) / (f + (real)1), square = s * s;
    vec sum = broadcast((real)1 / (2 * NARROW_LOG_TERMS - 1));
    UNROLL for (int k = NARROW_LOG_TERMS - 1; k > 0; k--) sum = sum * square + (real)1 / (2 * k - 1);
    return exponent * LOG2_HIGH + (exponent * LOG2_LOW + s * sum * (real)2);
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
