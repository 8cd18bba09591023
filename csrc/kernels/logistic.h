/* Exponentials, logarithms and the logistic function in vectors. */
#ifndef CVAE_LOGISTIC_H
#define CVAE_LOGISTIC_H

#include <math.h>

#include "vector.h"

#if CVAE_DOUBLE
#define real_sqrt sqrt
#define LOWEST_EXPONENT (-750.0)    /* exp is 0 there, and infinite at its negative */
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

typedef struct {
    vec r;
    vec_int n;
} reduced;

/* x = n log(2) + r with |r| <= log(2) / 2, for |x| <= -LOWEST_EXPONENT. */
INLINE reduced reduce(vec x) {
    const vec rounded = x * (real)1.4426950408889634 + (real)ROUNDING, n = rounded - (real)ROUNDING;
    const reduced result = {(x - n * LOG2_HIGH) - n * LOG2_LOW, as_bits(rounded) - as_bits(broadcast(ROUNDING))};
    return result;
}

/* (exp(r) - 1) / r as a Taylor series.  For a reduced r the next term is below the rounding error. */
INLINE vec exp_slope(vec r) {
    vec sum = broadcast((real)INVERSE_FACTORIAL[EXP_TERMS - 1]);
    UNROLL for (int k = EXP_TERMS - 2; k > 0; k--) sum = sum * r + (real)INVERSE_FACTORIAL[k];
    return sum;
}

INLINE vec power_of_two(vec_int n) { return as_real(shift_left(n + EXPONENT_BIAS, MANTISSA_BITS)); }

/* exp(x) for x <= -LOWEST_EXPONENT, where it is infinite.  2^n is applied as two factors, because it may be too small
 * or too large for a normal number. */
INLINE vec exp_bounded(vec x) {
    x = choose(less(x, broadcast(LOWEST_EXPONENT)), broadcast(LOWEST_EXPONENT), x);
    const reduced p = reduce(x);
    const vec_int half = p.n >> 1;
    return (exp_slope(p.r) * p.r + (real)1) * power_of_two(half) * power_of_two(p.n - half);
}

INLINE vec exp_of(vec x) {
    const vec highest = broadcast(-LOWEST_EXPONENT);
    return exp_bounded(choose(less(highest, x), highest, x));
}

/* exp(x) - 1 for x <= 0, exact to rounding near 0 too.  It is -1 from -40 down. */
INLINE vec expm1_negative(vec x) {
    x = choose(less(x, broadcast(-40)), broadcast(-40), x);
    const reduced p = reduce(x);
    const vec scale = power_of_two(p.n);
    return scale * (exp_slope(p.r) * p.r) + (scale - (real)1);
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
    const vec f = as_real(bits - shift_left(n, MANTISSA_BITS));
    const vec exponent = as_real(n + as_bits(broadcast(ROUNDING))) - ROUNDING;
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
    const vec decay = exp_bounded(choose(negative, z, -z));
    const logistic_result result = {choose(negative, decay, broadcast(1)) / (decay + (real)1), decay};
    return result;
}

#endif
