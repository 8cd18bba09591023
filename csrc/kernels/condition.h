/* Labels beside the channels of every pixel of an example, and the gradient without them. */
#ifndef CVAE_CONDITION_H
#define CVAE_CONDITION_H

#include <string.h>

#include "vector.h"

static void condition_forward(void *y, const void *x, const void *labels, ptrdiff_t pixels, ptrdiff_t channels,
                              ptrdiff_t n_labels, ptrdiff_t example) {
    const real *in = (const real *)x + example * pixels * channels, *label = (const real *)labels + example * n_labels;
    real *out = (real *)y + example * pixels * (channels + n_labels);
    for (ptrdiff_t p = 0; p < pixels; p++, in += channels, out += channels + n_labels) {
        memcpy(out, in, (size_t)channels * sizeof(real));
        memcpy(out + channels, label, (size_t)n_labels * sizeof(real));
    }
}

static void condition_backward(void *dx, const void *dy, ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t n_labels,
                               ptrdiff_t example) {
    const real *in = (const real *)dy + example * pixels * (channels + n_labels);
    real *out = (real *)dx + example * pixels * channels;
    for (ptrdiff_t p = 0; p < pixels; p++, in += channels + n_labels, out += channels)
        memcpy(out, in, (size_t)channels * sizeof(real));
}

#endif
