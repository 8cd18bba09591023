/* The latent code between encoder and decoder: the reparameterisation trick, z = mean + noise * exp(log_var / 2),
 * and its derivative (Kingma & Welling 2014, "Auto-Encoding Variational Bayes", section 2.4), row by row. */
#ifndef CVAE_LATENT_H
#define CVAE_LATENT_H

#include <math.h>

#include "vector.h"

static void latent_sample(void *z, void *deviation, void *mean, void *log_var, const void *code, const void *noise,
                          ptrdiff_t t, ptrdiff_t row) {
    for (ptrdiff_t i = row * t; i < (row + 1) * t; i++) {
        const real mu = ((const real *)code)[i + row * t], lv = ((const real *)code)[i + (row + 1) * t];
        const real sigma = (real)exp(0.5 * (double)lv);
        ((real *)mean)[i] = mu;
        ((real *)log_var)[i] = lv;
        ((real *)deviation)[i] = sigma;
        ((real *)z)[i] = mu + ((const real *)noise)[i] * sigma;
    }
}

static void latent_backward(void *dcode, const void *dz, const void *noise, const void *deviation, const void *dmean,
                            const void *dlog_var, ptrdiff_t t, ptrdiff_t row) {
    for (ptrdiff_t i = row * t; i < (row + 1) * t; i++) {
        const real g = ((const real *)dz)[i], slope = ((const real *)noise)[i] * ((const real *)deviation)[i] / 2;
        ((real *)dcode)[i + row * t] = g + ((const real *)dmean)[i];
        ((real *)dcode)[i + (row + 1) * t] = g * slope + ((const real *)dlog_var)[i];
    }
}

#endif
