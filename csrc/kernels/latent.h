/* The latent code between encoder and decoder: the reparameterisation trick, z = mean + noise * exp(log_var / 2), and
 * its derivative (Kingma & Welling 2014, "Auto-Encoding Variational Bayes", section 2.4), row by row.  Several z may be
 * drawn for each code (Burda et al. 2016, "Importance Weighted Autoencoders"). */
#ifndef CVAE_LATENT_H
#define CVAE_LATENT_H

#include <math.h>

#include "vector.h"

static void latent_sample(void *z, void *deviation, void *mean, void *log_var, const void *code, const void *noise,
                          ptrdiff_t t, ptrdiff_t draws, ptrdiff_t row) {
    const real *means = (const real *)code + 2 * row * t, *log_vars = means + t;
    real *sigma = (real *)deviation + row * t;
    for (ptrdiff_t i = 0; i < t; i++) {
        ((real *)mean)[row * t + i] = means[i];
        ((real *)log_var)[row * t + i] = log_vars[i];
        sigma[i] = (real)exp(0.5 * (double)log_vars[i]);
    }
    for (ptrdiff_t draw = row * draws; draw < (row + 1) * draws; draw++)
        for (ptrdiff_t i = 0; i < t; i++)
            ((real *)z)[draw * t + i] = means[i] + ((const real *)noise)[draw * t + i] * sigma[i];
}

static void latent_backward(void *dcode, const void *dz, const void *noise, const void *deviation, const void *dmean,
                            const void *dlog_var, const double *factors, ptrdiff_t t, ptrdiff_t draws,
                            ptrdiff_t row) {
    const real *sigma = (const real *)deviation + row * t;
    real *to_mean = (real *)dcode + 2 * row * t, *to_log_var = to_mean + t;
    for (ptrdiff_t i = 0; i < t; i++) {
        to_mean[i] = ((const real *)dmean)[row * t + i];
        to_log_var[i] = ((const real *)dlog_var)[row * t + i];
    }
    for (ptrdiff_t draw = row * draws; draw < (row + 1) * draws; draw++) {
        const real factor = factors ? (real)factors[draw] : 1;
        for (ptrdiff_t i = 0; i < t; i++) {
            const real g = ((const real *)dz)[draw * t + i] * factor;
            const real slope = ((const real *)noise)[draw * t + i] * sigma[i] / 2;
            to_mean[i] += g;
            to_log_var[i] += g * slope;
        }
    }
}

#endif
