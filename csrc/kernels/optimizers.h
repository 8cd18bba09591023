/* Optimizer updates on flat arrays, in place.  The formulas are those of the papers, as in numpy-ml: Duchi et al.
 * (2011) for AdaGrad, Tieleman & Hinton (2012) for RMSProp, Kingma & Ba (2015) for Adam, Loshchilov & Hutter (2019) for
 * AdamW; eps is added to the root.
 *
 * States that decay would otherwise end as the smallest denormal numbers, which rounding keeps from decaying further:
 * below the smallest normal number a state is 0.
 *
 * To add an optimizer, write its function and add a line to UPDATE_RULES.  s[0] is the learning rate, s[1] the factor
 * of the gradient; the other scalars are described at each rule. */
#ifndef CVAE_OPTIMIZERS_H
#define CVAE_OPTIMIZERS_H

#include <float.h>

#include "kernels.h"
#include "logistic.h"

#if CVAE_DOUBLE
#define real_abs fabs
#define SMALLEST_NORMAL DBL_MIN
#else
#define real_abs fabsf
#define SMALLEST_NORMAL FLT_MIN
#endif

INLINE real zero_if_denormal(real x) { return real_abs(x) < SMALLEST_NORMAL ? 0 : x; } /* NaN stays NaN */

/* s[2]: momentum. */
static void sgd(void *param, void *const *states, const void *grad, const double *s, ptrdiff_t count) {
    real *RESTRICT p = param, *RESTRICT velocity = states[0];
    const real *RESTRICT g = grad;
    const real rate = (real)(s[0] * s[1]), keep = (real)s[2];
    for (ptrdiff_t i = 0; i < count; i++) {
        velocity[i] = zero_if_denormal(keep * velocity[i] + rate * g[i]);
        p[i] -= velocity[i];
    }
}

/* s[2]: eps. */
static void adagrad(void *param, void *const *states, const void *grad, const double *s, ptrdiff_t count) {
    real *RESTRICT p = param, *RESTRICT square_sum = states[0];
    const real *RESTRICT g = grad;
    const real rate = (real)s[0], factor = (real)s[1], eps = (real)s[2];
    for (ptrdiff_t i = 0; i < count; i++) {
        const real scaled = g[i] * factor;
        square_sum[i] = zero_if_denormal(square_sum[i] + scaled * scaled);
        p[i] -= rate * scaled / (real_sqrt(square_sum[i]) + eps);
    }
}

/* s[2], s[3]: decay, eps. */
static void rmsprop(void *param, void *const *states, const void *grad, const double *s, ptrdiff_t count) {
    real *RESTRICT p = param, *RESTRICT mean_square = states[0];
    const real *RESTRICT g = grad;
    const real rate = (real)s[0], factor = (real)s[1], keep = (real)s[2], add = (real)(1 - s[2]), eps = (real)s[3];
    for (ptrdiff_t i = 0; i < count; i++) {
        const real scaled = g[i] * factor;
        mean_square[i] = zero_if_denormal(keep * mean_square[i] + add * (scaled * scaled));
        p[i] -= rate * scaled / (real_sqrt(mean_square[i]) + eps);
    }
}

/* s[2] to s[6]: decay1, decay2, eps, 1 - decay1^t, 1 - decay2^t. */
static void adam(void *param, void *const *states, const void *grad, const double *s, ptrdiff_t count) {
    real *RESTRICT p = param, *RESTRICT mean = states[0], *RESTRICT variance = states[1];
    const real *RESTRICT g = grad;
    const real keep1 = (real)s[2], add1 = (real)(1 - s[2]), keep2 = (real)s[3], add2 = (real)(1 - s[3]);
    const real rate = (real)(s[0] / s[5]), unbias = (real)(1 / s[6]), eps = (real)s[4], factor = (real)s[1];
    for (ptrdiff_t i = 0; i < count; i++) {
        const real scaled = g[i] * factor;
        mean[i] = zero_if_denormal(keep1 * mean[i] + add1 * scaled);
        variance[i] = zero_if_denormal(keep2 * variance[i] + add2 * (scaled * scaled));
        p[i] -= rate * mean[i] / (real_sqrt(variance[i] * unbias) + eps);
    }
}

/* s[2] to s[6]: as for Adam; s[7]: weight decay. */
static void adamw(void *param, void *const *states, const void *grad, const double *s, ptrdiff_t count) {
    real *RESTRICT p = param, *RESTRICT mean = states[0], *RESTRICT variance = states[1];
    const real *RESTRICT g = grad;
    const real keep1 = (real)s[2], add1 = (real)(1 - s[2]), keep2 = (real)s[3], add2 = (real)(1 - s[3]);
    const real rate = (real)(s[0] / s[5]), unbias = (real)(1 / s[6]), eps = (real)s[4], factor = (real)s[1];
    const real shrink = (real)(s[0] * s[7]);
    for (ptrdiff_t i = 0; i < count; i++) {
        const real scaled = g[i] * factor;
        mean[i] = zero_if_denormal(keep1 * mean[i] + add1 * scaled);
        variance[i] = zero_if_denormal(keep2 * variance[i] + add2 * (scaled * scaled));
        p[i] -= shrink * p[i] + rate * mean[i] / (real_sqrt(variance[i] * unbias) + eps);
    }
}

/* name, number of states, number of scalars, function */
static const update_rule UPDATE_RULES[] = {
    {"sgd", 1, 3, sgd},
    {"adagrad", 1, 3, adagrad},
    {"rmsprop", 1, 4, rmsprop},
    {"adam", 2, 7, adam},
    {"adamw", 2, 8, adamw},
    {NULL, 0, 0, NULL},
};

static void update_parameter(const parameter_update *u, const void *grad, ptrdiff_t first, ptrdiff_t last) {
    void *states[MAX_STATES];
    for (int i = 0; i < u->rule->n_states; i++) states[i] = (real *)u->states[i] + first;
    u->rule->apply((real *)u->param + first, states, grad, u->scalars, last - first);
}

static double sum_of_squares(const void *x, ptrdiff_t first, ptrdiff_t last) {
    double sum = 0;
    for (ptrdiff_t i = first; i < last; i++) sum += (double)((const real *)x)[i] * (double)((const real *)x)[i];
    return sum;
}

#endif
