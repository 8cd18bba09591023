/* Activation functions and their derivatives, element by element: Clevert et al. (2016) for ELU, Klambauer et al.
 * (2017) for SELU, Hendrycks & Gimpel (2016) for GELU.  At kinks, and for NaN, the derivatives are those of the classes
 * in cvae/nn/activations.py.
 *
 * To add an activation, write its ACTIVATION and add a line to ACTIVATION_FUNCTIONS.  ReLU and the identity are not
 * here: the layers' own kernels compute them. */
#ifndef CVAE_ACTIVATIONS_H
#define CVAE_ACTIVATIONS_H

#include <math.h>

#include "kernels.h"
#include "logistic.h"

INLINE vec_int sign_bit(void) { return as_bits(broadcast((real)-0.0)); }
INLINE vec minus_abs(vec z) { return as_real(as_bits(z) | sign_bit()); }
INLINE vec negative_part(vec z) { return choose(less(broadcast(0), z), broadcast(0), z); }      /* NaN stays NaN */
INLINE vec at_least(vec z, real low) { return choose(less(z, broadcast(low)), broadcast(low), z); } /* here too */
INLINE vec limited(vec z, real low, real high) {
    return at_least(choose(less(broadcast(high), z), broadcast(high), z), low);
}

/* The derivative of the logistic function at both x and -x. */
INLINE vec logistic_slope(vec x) {
    const vec decay = exp_bounded(minus_abs(x)), sum = decay + (real)1;
    return decay / (sum * sum);
}

/* With m = exp(-2 |z|) - 1, of magnitude -m / (2 + m). */
INLINE vec tanh_of(vec z) {
    const vec m = expm1_negative(minus_abs(z) * (real)2), magnitude = m / (m + (real)2);
    return as_real((as_bits(magnitude) & ~sign_bit()) | (as_bits(z) & sign_bit()));
}

INLINE vec log1p_exp(vec z) { return positive_part(z) + log1p_fraction(exp_bounded(minus_abs(z))); }

/* ---- GELU, z Phi(z), with Phi the standard normal distribution function */

enum { CENTRE = 40 }; /* beyond, Phi is 0 or 1 to the last bit, but powers could overflow */

typedef struct {
    vec phi, slope; /* Phi and its derivative at z, limited to the centre */
} gelu_parts;

/* Approximates Phi(z) by (1 + tanh(u / 2)) / 2, the logistic function of u = 2 sqrt(2 / pi) (z + 0.044715 z^3). */
INLINE gelu_parts gelu_approximation(vec z) {
    const double scale = 1.5957691216057308, cubic = 0.044715;
    real high[LANES], low[LANES], du[LANES];
    store(high, limited(z, -CENTRE, CENTRE));
    /* In double, and exp(-|u|) from two parts of the argument: its rounding error is the result's relative error. */
    for (int l = 0; l < LANES; l++) {
        const double x = (double)high[l], square = x * x, minus_u = -fabs(scale * x * (1 + cubic * square));
        du[l] = (real)(scale * (1 + 3 * cubic * square));
        high[l] = (real)minus_u;
        low[l] = (real)(minus_u - (double)high[l]);
    }
    const vec e = exp_bounded(load(high)), decay = e + e * load(low), sum = decay + (real)1;
    const gelu_parts parts = {
        choose(less(z, broadcast(0)), decay, broadcast(1)) / sum,
        decay / (sum * sum) * load(du),
    };
    return parts;
}

INLINE double normal_cdf(double x) { return erfc(x * -0.7071067811865476) / 2; } /* 1 + erf would cancel */
INLINE double normal_density(double x) { return exp(x * x * -0.5) * 0.3989422804014327; }

INLINE vec gelu_exact(vec z) {
    real y[LANES];
    store(y, at_least(z, -CENTRE)); /* -infinity * 0 would be NaN */
    for (int l = 0; l < LANES; l++) y[l] = (real)((double)y[l] * normal_cdf((double)y[l]));
    return load(y);
}

INLINE vec gelu_exact_slope(vec z) {
    real slope[LANES];
    store(slope, limited(z, -CENTRE, CENTRE));
    for (int l = 0; l < LANES; l++) {
        const double x = (double)slope[l];
        slope[l] = (real)(normal_cdf(x) + x * normal_density(x));
    }
    return load(slope);
}

INLINE vec gelu(vec z) { return at_least(z, -CENTRE) * gelu_approximation(z).phi; }

INLINE vec gelu_slope(vec z) {
    const gelu_parts parts = gelu_approximation(z);
    return parts.phi + limited(z, -CENTRE, CENTRE) * parts.slope;
}

/* ---- The functions */

/* Defines both functions of an activation_function from vectors of values and derivatives at z.  a and b are its
 * constants, zero and one vectors of 0 and 1. */
#define ACTIVATION(name, value, derivative)                                                                      \
    static void name##_forward(void *y, const void *in, const double *constants, ptrdiff_t count) {              \
        const vec a = broadcast((real)constants[0]), b = broadcast((real)constants[1]);                          \
        const vec zero = broadcast(0), one = broadcast(1);                                                       \
        for (ptrdiff_t i = 0; i < count; i += LANES) {                                                           \
            const vec z = load_some((const real *)in + i, count - i);                                            \
            store_some((real *)y + i, value, count - i);                                                         \
        }                                                                                                        \
        (void)a, (void)b, (void)zero, (void)one;                                                                 \
    }                                                                                                            \
    static void name##_backward(void *dz, const void *dy, const void *in, const double *constants,               \
                                ptrdiff_t count) {                                                               \
        const vec a = broadcast((real)constants[0]), b = broadcast((real)constants[1]);                          \
        const vec zero = broadcast(0), one = broadcast(1);                                                       \
        for (ptrdiff_t i = 0; i < count; i += LANES) {                                                           \
            const vec z = load_some((const real *)in + i, count - i);                                            \
            store_some((real *)dz + i, load_some((const real *)dy + i, count - i) * (derivative), count - i);    \
            (void)z;                                                                                             \
        }                                                                                                        \
        (void)a, (void)b, (void)zero, (void)one;                                                                 \
    }

ACTIVATION(sigmoid, logistic(z).value, logistic_slope(z))
ACTIVATION(tanh, tanh_of(z), logistic_slope(z * (real)2) * (real)4)
ACTIVATION(softplus, log1p_exp(z), logistic(z).value)
ACTIVATION(exponential, exp_of(z), exp_of(z))
ACTIVATION(gelu, gelu(z), gelu_slope(z))
ACTIVATION(gelu_exact, gelu_exact(z), gelu_exact_slope(z))
/* a: minus the limit for large negative z, b: the slope for positive z. */
ACTIVATION(elu, choose(less(zero, z), z, a * expm1_negative(negative_part(z))),
           choose(less(zero, z), one, a * exp_bounded(negative_part(z))))
ACTIVATION(selu, choose(less(zero, z), b * z, a * expm1_negative(negative_part(z))),
           choose(at_most(zero, z), b, a * exp_bounded(negative_part(z))))
/* a: the slope for negative z. */
ACTIVATION(leaky_relu, choose(less(z, zero), a * z, z), choose(less(z, zero), a, one))
/* a: slope, b: intercept. */
ACTIVATION(affine, a * z + b, a)
ACTIVATION(hard_sigmoid, limited(z * (real)0.2 + (real)0.5, 0, 1),
           choose(at_most(broadcast((real)-2.5), minus_abs(z)), broadcast((real)0.2), zero))
#undef ACTIVATION

/* name, number of constants, both functions */
static const activation_function ACTIVATION_FUNCTIONS[] = {
    {"sigmoid", 0, sigmoid_forward, sigmoid_backward},
    {"tanh", 0, tanh_forward, tanh_backward},
    {"softplus", 0, softplus_forward, softplus_backward},
    {"exponential", 0, exponential_forward, exponential_backward},
    {"gelu", 0, gelu_forward, gelu_backward},
    {"gelu_exact", 0, gelu_exact_forward, gelu_exact_backward},
    {"elu", 1, elu_forward, elu_backward},
    {"selu", 2, selu_forward, selu_backward},
    {"leaky_relu", 1, leaky_relu_forward, leaky_relu_backward},
    {"affine", 2, affine_forward, affine_backward},
    {"hard_sigmoid", 0, hard_sigmoid_forward, hard_sigmoid_backward},
    {NULL, 0, NULL, NULL},
};

static void activation_forward(void *y, const void *z, const activation_function *function, const double *constants,
                               ptrdiff_t first, ptrdiff_t last) {
    function->forward((real *)y + first, (const real *)z + first, constants, last - first);
}

static void activation_backward(void *dz, const void *dy, const void *z, const activation_function *function,
                                const double *constants, ptrdiff_t first, ptrdiff_t last) {
    function->backward((real *)dz + first, (const real *)dy + first, (const real *)z + first, constants, last - first);
}

#endif
