/* Optimizer updates on flat arrays, in place.  The formulas are numpy-ml's, which are those of the papers: Duchi et al.
 * (2011) for AdaGrad, Tieleman & Hinton (2012) for RMSProp, Kingma & Ba (2015) for Adam; eps is added to the root. */
#ifndef CVAE_OPTIMIZERS_H
#define CVAE_OPTIMIZERS_H

#include "logistic.h"

static void sgd(void *param, void *velocity, const void *grad, double lr, double momentum, double grad_scale,
                ptrdiff_t first, ptrdiff_t last) {
    real *RESTRICT p = param, *RESTRICT v = velocity;
    const real *RESTRICT g = grad;
    const real rate = (real)(lr * grad_scale), keep = (real)momentum;
    for (ptrdiff_t i = first; i < last; i++) {
        v[i] = keep * v[i] + rate * g[i];
        p[i] -= v[i];
    }
}

static void adagrad(void *param, void *sum_of_squares, const void *grad, double lr, double eps, double grad_scale,
                    ptrdiff_t first, ptrdiff_t last) {
    real *RESTRICT p = param, *RESTRICT c = sum_of_squares;
    const real *RESTRICT g = grad;
    const real rate = (real)lr, small = (real)eps, scale = (real)grad_scale;
    for (ptrdiff_t i = first; i < last; i++) {
        const real gi = g[i] * scale;
        c[i] += gi * gi;
        p[i] -= rate * gi / (real_sqrt(c[i]) + small);
    }
}

static void rmsprop(void *param, void *mean_square, const void *grad, double lr, double decay, double eps,
                    double grad_scale, ptrdiff_t first, ptrdiff_t last) {
    real *RESTRICT p = param, *RESTRICT c = mean_square;
    const real *RESTRICT g = grad;
    const real rate = (real)lr, small = (real)eps, keep = (real)decay, add = (real)(1 - decay);
    const real scale = (real)grad_scale;
    for (ptrdiff_t i = first; i < last; i++) {
        const real gi = g[i] * scale;
        c[i] = keep * c[i] + add * (gi * gi);
        p[i] -= rate * gi / (real_sqrt(c[i]) + small);
    }
}

static void adam(void *param, void *mean, void *variance, const void *grad, double lr, double decay1, double decay2,
                 double eps, double correction1, double correction2, double grad_scale, ptrdiff_t first,
                 ptrdiff_t last) {
    real *RESTRICT p = param, *RESTRICT m = mean, *RESTRICT v = variance;
    const real *RESTRICT g = grad;
    const real keep1 = (real)decay1, add1 = (real)(1 - decay1), keep2 = (real)decay2, add2 = (real)(1 - decay2);
    const real rate = (real)(lr / correction1), unbias = (real)(1 / correction2), small = (real)eps;
    const real scale = (real)grad_scale;
    for (ptrdiff_t i = first; i < last; i++) {
        const real gi = g[i] * scale;
        m[i] = keep1 * m[i] + add1 * gi;
        v[i] = keep2 * v[i] + add2 * (gi * gi);
        p[i] -= rate * m[i] / (real_sqrt(v[i] * unbias) + small);
    }
}

static double sum_of_squares(const void *x, ptrdiff_t first, ptrdiff_t last) {
    double sum = 0;
    for (ptrdiff_t i = first; i < last; i++) sum += (double)((const real *)x)[i] * (double)((const real *)x)[i];
    return sum;
}

#endif
