/* What objectives other than the plain negative ELBO need: free bits, from Kingma et al. 2016, "Improving Variational
 * Inference with Inverse Autoregressive Flow", section C.8; the importance-weighted bound, from Burda et al. 2016,
 * "Importance Weighted Autoencoders"; and its doubly reparameterized gradient, from Tucker et al. 2019, "Doubly
 * Reparameterized Gradient Estimators for Monte Carlo Objectives". */
#ifndef CVAE_BOUNDS_H
#define CVAE_BOUNDS_H

#include <math.h>

#include "vector.h"

static double free_bits(void *dmean, void *dlog_var, const void *mean, const void *log_var, const double *weights,
                        double least, ptrdiff_t n, ptrdiff_t t, ptrdiff_t column) {
    double sum = 0, allowance = 0;
    for (ptrdiff_t i = column; i < n * t; i += t) {
        const double mu = (double)((const real *)mean)[i], lv = (double)((const real *)log_var)[i];
        sum += weights[i / t] * (0.5 * (mu * mu + (expm1(lv) - lv)));
        allowance += weights[i / t] * least;
    }
    if (!(sum <= allowance)) return sum; /* also if it is NaN */
    for (ptrdiff_t i = column; i < n * t; i += t) ((real *)dmean)[i] = ((real *)dlog_var)[i] = 0;
    return allowance;
}

/* log of p(x | z) p(z) / q(z | x), in which the constants of the two normal densities cancel. */
static double log_weight(double reconstruction, const real *z, const real *noise, const real *log_var, ptrdiff_t t) {
    double sum = 0;
    for (ptrdiff_t i = 0; i < t; i++) {
        const double code = (double)z[i], e = (double)noise[i];
        sum += e * e + (double)log_var[i] - code * code;
    }
    return 0.5 * sum - reconstruction;
}

static double importance_weights(double *weights, const double *reconstruction, const void *z, const void *noise,
                                 const void *log_var, ptrdiff_t t, ptrdiff_t draws, ptrdiff_t row) {
    double *own = weights + row * draws, largest = -INFINITY, sum = 0;
    for (ptrdiff_t d = 0; d < draws; d++) {
        const ptrdiff_t draw = row * draws + d;
        own[d] = log_weight(reconstruction[draw], (const real *)z + draw * t, (const real *)noise + draw * t,
                            (const real *)log_var + row * t, t);
        if (own[d] > largest) largest = own[d];
    }
    for (ptrdiff_t d = 0; d < draws; d++) {
        own[d] = exp(own[d] - largest); /* NaN makes all of them NaN, by their sum */
        sum += own[d];
    }
    for (ptrdiff_t d = 0; d < draws; d++) own[d] /= sum;
    return largest + log(sum / (double)draws);
}

static void importance_gradient(void *dmean, void *dlog_var, const double *weights, const void *z, const void *noise,
                                const void *deviation, double weight, int doubly, ptrdiff_t t, ptrdiff_t draws,
                                ptrdiff_t row) {
    for (ptrdiff_t i = 0; i < t; i++) {
        const double sigma = (double)((const real *)deviation)[row * t + i];
        double to_mean = 0, to_log_var = doubly ? 0 : -0.5; /* log q depends on the log variance by itself, too */
        for (ptrdiff_t draw = row * draws; draw < (row + 1) * draws; draw++) {
            const double code = (double)((const real *)z)[draw * t + i], w = weights[draw];
            const double e = (double)((const real *)noise)[draw * t + i];
            const double g = doubly ? w * w * (code - e / sigma) : w * code;
            to_mean += g;
            to_log_var += 0.5 * g * e * sigma;
        }
        ((real *)dmean)[row * t + i] = (real)(to_mean * weight);
        ((real *)dlog_var)[row * t + i] = (real)(to_log_var * weight);
    }
}

static void scale_row(void *x, double factor, ptrdiff_t m, ptrdiff_t row) {
    real *to = (real *)x + row * m;
    for (ptrdiff_t i = 0; i < m; i++) to[i] *= (real)factor;
}

#endif
