/* The two terms of the negative evidence lower bound (Kingma & Welling 2014, "Auto-Encoding Variational Bayes"), row by
 * row, with their gradients.  The cross-entropy is computed from the logits as max(z, 0) - z y + log(1 + exp(-|z|)),
 * which is finite for every finite z. */
#ifndef CVAE_LOSSES_H
#define CVAE_LOSSES_H

#include "logistic.h"

/* Sums in double, one per lane, so that additions are independent; the first `count` lanes are added. */
INLINE void add_lanes(double sums[LANES], vec values, ptrdiff_t count) {
    real value[LANES];
    store(value, values);
    if (count == LANES)
        for (int l = 0; l < LANES; l++) sums[l] += (double)value[l];
    else
        for (ptrdiff_t l = 0; l < count; l++) sums[l] += (double)value[l];
}
INLINE double sum_of_lanes(const double sums[LANES]) {
    double sum = 0;
    for (int l = 0; l < LANES; l++) sum += sums[l];
    return sum;
}

static double bce_with_logits(void *dlogits, const void *logits, const void *y, ptrdiff_t m, double weight,
                              ptrdiff_t row, ptrdiff_t target_row) {
    const real *z = (const real *)logits + row * m, *y_row = (const real *)y + target_row * m;
    real *dz = dlogits ? (real *)dlogits + row * m : NULL;
    double sums[LANES] = {0};
    for (ptrdiff_t i = 0; i < m; i += LANES) {
        const ptrdiff_t count = smaller(LANES, m - i);
        const vec logit = load_some(z + i, count), target = load_some(y_row + i, count);
        const logistic_result p = logistic(logit);
        add_lanes(sums, positive_part(logit) - logit * target + log1p_fraction(p.decay), count);
        if (dz) store_some(dz + i, (p.value - target) * (real)weight, count);
    }
    return sum_of_lanes(sums);
}

static double gaussian_kl(void *dmean, void *dlog_var, const void *mean, const void *log_var, ptrdiff_t t,
                          double weight, ptrdiff_t row) {
    const real *mu = (const real *)mean + row * t, *lv = (const real *)log_var + row * t;
    double sum = 0;
    for (ptrdiff_t i = 0; i < t; i++) {
        /* exp(lv) - 1 - lv cancels for lv near 0, hence double and expm1. */
        const double excess = expm1((double)lv[i]);
        sum += 0.5 * ((double)mu[i] * (double)mu[i] + (excess - (double)lv[i]));
        if (dmean) ((real *)dmean)[row * t + i] = mu[i] * (real)weight;
        if (dlog_var) ((real *)dlog_var)[row * t + i] = (real)(0.5 * excess * weight);
    }
    return sum;
}

#endif
