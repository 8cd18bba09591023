/* Activation functions and their derivatives, element by element: Clevert et al. (2016) for ELU, Klambauer et al.
 * (2017) for SELU, Hendrycks & Gimpel (2016) for GELU.  At kinks, and for NaN, the derivatives are those of the classes
 * in cvae/nn/activations.py.
 *
 * To add an activation, write its ACTIVATION and add a line to ACTIVATION_FUNCTIONS.  ReLU and the identity need no
 * entry: the layers' own kernels compute them. */
#ifndef CVAE_ACTIVATIONS_H
#define CVAE_ACTIVATIONS_H

#include <math.h>

#include "kernels.h"
#include "logistic.h"

INLINE vec_int sign_bit(void) { return as_bits(broadcast((real)-0.0)); }
INLINE vec minus_abs(vec z) { return as_real(as_bits(z) | sign_bit()); }

/* In these NaN stays NaN. */
INLINE vec negative_part(vec z) { return choose(less(broadcast(0), z), broadcast(0), z); }
INLINE vec at_least(vec z, real low) { return choose(less(z, broadcast(low)), broadcast(low), z); }
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

INLINE double normal_cdf(double x) { return erfc(x * -0.7071067811865476) / 2; } /* 1 + erf would cancel */
INLINE double normal_density(double x) { return exp(x * x * -0.5) * 0.3989422804014327; }

INLINE vec gelu_exact(vec z) {
    real y[LANES];
    store(y, at_least(z, -CENTRE)); /* -infinity times 0 would be NaN */
    for (int l = 0; l < LANES; l++) y[l] = (real)((double)y[l] * normal_cdf((double)y[l]));
    return load(y);
}

INLINE vec gelu_exact_derivative(vec z) {
    real y[LANES];
    store(y, limited(z, -CENTRE, CENTRE));
    for (int l = 0; l < LANES; l++) {
        const double x = (double)y[l];
        y[l] = (real)(normal_cdf(x) + x * normal_density(x));
    }
    return load(y);
}

/* The approximation Phi(z) = (1 + tanh(u / 2)) / 2, the logistic function of u = 2 sqrt(2 / pi) (z + 0.044715 z^3), for
 * GELU_BLOCK elements at once.  All but the exponential is computed in double, because exp turns the rounding error of
 * its argument into a relative error. */
enum { GELU_BLOCK = 64 };
static const double GELU_SCALE = 1.5957691216057308, GELU_CUBIC = 0.044715;

INLINE double central(double z) { return z < -CENTRE ? -CENTRE : z > CENTRE ? CENTRE : z; }

/* decay = exp(-|u|) */
INLINE void gelu_decay(double *RESTRICT decay, const real *RESTRICT z) {
    real e[GELU_BLOCK];
    for (int l = 0; l < GELU_BLOCK; l++) {
        const double x = central((double)z[l]), argument = -fabs(GELU_SCALE * x * (1 + GELU_CUBIC * (x * x)));
        e[l] = (real)argument;
        decay[l] = 1 + (argument - (double)e[l]); /* exp of the digits that e lacks */
    }
    for (int l = 0; l < GELU_BLOCK; l += LANES) store(e + l, exp_bounded(load(e + l)));
    for (int l = 0; l < GELU_BLOCK; l++) decay[l] *= (double)e[l];
}

static void gelu_forward(void *y, const void *in, const double *constants, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i += GELU_BLOCK) {
        const size_t size = (size_t)smaller(GELU_BLOCK, count - i) * sizeof(real);
        real z[GELU_BLOCK] = {0}, value[GELU_BLOCK];
        double decay[GELU_BLOCK];
        memcpy(z, (const real *)in + i, size);
        gelu_decay(decay, z);
        for (int l = 0; l < GELU_BLOCK; l++) {
            const double x = (double)z[l], finite = x < -CENTRE ? -CENTRE : x; /* -infinity times 0 would be NaN */
            value[l] = (real)(finite * ((x < 0 ? decay[l] : 1) / (1 + decay[l])));
        }
        memcpy((real *)y + i, value, size);
    }
    (void)constants;
}

static void gelu_backward(void *dz, const void *dy, const void *in, const double *constants, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i += GELU_BLOCK) {
        const size_t size = (size_t)smaller(GELU_BLOCK, count - i) * sizeof(real);
        real z[GELU_BLOCK] = {0}, gradient[GELU_BLOCK] = {0};
        double decay[GELU_BLOCK];
        memcpy(z, (const real *)in + i, size);
        memcpy(gradient, (const real *)dy + i, size);
        gelu_decay(decay, z);
        for (int l = 0; l < GELU_BLOCK; l++) {
            const double x = central((double)z[l]), inverse = 1 / (1 + decay[l]);
            const double du = GELU_SCALE * (1 + 3 * GELU_CUBIC * (x * x));
            const double phi = (x < 0 ? decay[l] : 1) * inverse;
            gradient[l] *= (real)(phi + x * du * (decay[l] * inverse * inverse));
        }
        memcpy((real *)dz + i, gradient, size);
    }
    (void)constants;
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
ACTIVATION(gelu_exact, gelu_exact(z), gelu_exact_derivative(z))
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
