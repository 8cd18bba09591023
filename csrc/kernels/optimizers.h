/* Optimizer updates on flat arrays, in place.  The formulas are numpy-ml's, which are those of the papers: Duchi et al.
 * (2011) for AdaGrad, Tieleman & Hinton (2012) for RMSProp, Kingma & Ba (2015) for Adam; eps is added to the root.
 * s: lr, grad_scale and the constants that are named at each rule. */
#ifndef CVAE_OPTIMIZERS_H
#define CVAE_OPTIMIZERS_H

#include "logistic.h"

/* s[2]: momentum. */
INLINE void sgd(real *RESTRICT p, real *RESTRICT velocity, const real *RESTRICT grad, const double *s,
                ptrdiff_t count) {
    const real rate = (real)(s[0] * s[1]), keep = (real)s[2];
    for (ptrdiff_t i = 0; i < count; i++) {
        velocity[i] = keep * velocity[i] + rate * grad[i];
        p[i] -= velocity[i];
    }
}

/* s[2]: eps. */
INLINE void adagrad(real *RESTRICT p, real *RESTRICT sum_of_squares, const real *RESTRICT grad, const double *s,
                    ptrdiff_t count) {
    const real rate = (real)s[0], scale = (real)s[1], small = (real)s[2];
    for (ptrdiff_t i = 0; i < count; i++) {
        const real g = grad[i] * scale;
        sum_of_squares[i] += g * g;
        p[i] -= rate * g / (real_sqrt(sum_of_squares[i]) + small);
    }
}

/* s[2], s[3]: decay, eps. */
INLINE void rmsprop(real *RESTRICT p, real *RESTRICT mean_square, const real *RESTRICT grad, const double *s,
                    ptrdiff_t count) {
    const real rate = (real)s[0], scale = (real)s[1], keep = (real)s[2], add = (real)(1 - s[2]), small = (real)s[3];
    for (ptrdiff_t i = 0; i < count; i++) {
        const real g = grad[i] * scale;
        mean_square[i] = keep * mean_square[i] + add * (g * g);
        p[i] -= rate * g / (real_sqrt(mean_square[i]) + small);
    }
}

/* s[2] to s[6]: decay1, decay2, eps, 1 - decay1^t, 1 - decay2^t. */
INLINE void adam(real *RESTRICT p, real *RESTRICT mean, real *RESTRICT variance, const real *RESTRICT grad,
                 const double *s, ptrdiff_t count) {
    const real keep1 = (real)s[2], add1 = (real)(1 - s[2]), keep2 = (real)s[3], add2 = (real)(1 - s[3]);
    const real rate = (real)(s[0] / s[5]), unbias = (real)(1 / s[6]), small = (real)s[4], scale = (real)s[1];
    for (ptrdiff_t i = 0; i < count; i++) {
        const real g = grad[i] * scale;
        mean[i] = keep1 * mean[i] + add1 * g;
        variance[i] = keep2 * variance[i] + add2 * (g * g);
        p[i] -= rate * mean[i] / (real_sqrt(variance[i] * unbias) + small);
    }
}

static void update(const parameter_update *u, const void *grad, ptrdiff_t first, ptrdiff_t last) {
    real *param = (real *)u->param + first, *state = (real *)u->state + first;
    switch (u->rule) {
    case SGD:
        sgd(param, state, grad, u->scalars, last - first);
        break;
    case ADAGRAD:
        adagrad(param, state, grad, u->scalars, last - first);
        break;
    case RMSPROP:
        rmsprop(param, state, grad, u->scalars, last - first);
        break;
    case ADAM:
        adam(param, state, (real *)u->second_state + first, grad, u->scalars, last - first);
    }
}

static double sum_of_squares(const void *x, ptrdiff_t first, ptrdiff_t last) {
    double sum = 0;
    for (ptrdiff_t i = first; i < last; i++) sum += (double)((const real *)x)[i] * (double)((const real *)x)[i];
    return sum;
}

#endif
