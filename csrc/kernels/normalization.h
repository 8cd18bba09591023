/* Normalization of batches (Ioffe & Szegedy 2015) and of groups of channels (Wu & He 2018): from each channel its mean
 * is subtracted, and the rest multiplied by a factor.
 *
 * The kernels see the rows (., C) of one image at a time; for the normalization of a batch, that is all of it.  A row of
 * few channels is repeated to `period` elements, a multiple of C, so that inner loops are long. */
#ifndef CVAE_NORMALIZATION_H
#define CVAE_NORMALIZATION_H

#include <math.h>

#include "kernels.h"
#include "vector.h"

static const real *repeated(real *to, const void *row, ptrdiff_t channels, ptrdiff_t period) {
    if (period == channels) return row;
    for (ptrdiff_t j = 0; j < period; j++) to[j] = ((const real *)row)[j % channels];
    return to;
}

/* In double, and of differences from a centre among the values: that neither rounds nor cancels much. */
static void normalization_sums(double *sums, const void *dy, const void *x, const void *centre, ptrdiff_t channels,
                               ptrdiff_t period, ptrdiff_t count, void *scratch) {
    const real *middle = repeated(scratch, centre, channels, period);
    double *RESTRICT first = sums, *RESTRICT second = sums + period;
    memset(sums, 0, (size_t)(2 * period) * sizeof(double));
    for (ptrdiff_t i = 0; i < count; i += period) {
        const ptrdiff_t length = smaller(period, count - i);
        const real *in = (const real *)x + i, *weights = dy ? (const real *)dy + i : NULL;
        for (ptrdiff_t j = 0; j < length && !weights; j++) {
            const double difference = (double)in[j] - (double)middle[j];
            first[j] += difference;
            second[j] += difference * difference;
        }
        for (ptrdiff_t j = 0; j < length && weights; j++) {
            const double weight = (double)weights[j];
            first[j] += weight;
            second[j] += weight * ((double)in[j] - (double)middle[j]);
        }
    }
}

/* The first or the second sum of a channel, over all parts. */
INLINE double channel_sum(const double *sums, ptrdiff_t parts, int second, ptrdiff_t c, ptrdiff_t channels,
                          ptrdiff_t period) {
    double total = 0;
    for (ptrdiff_t p = 0; p < parts; p++)
        for (ptrdiff_t j = c; j < period; j += channels) total += sums[(2 * p + second) * period + j];
    return total;
}

static void normalization_statistics(void *mean, void *variance, const double *sums, const void *centre,
                                     ptrdiff_t parts, ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t period,
                                     ptrdiff_t groups) {
    const ptrdiff_t width = channels / groups;
    for (ptrdiff_t start = 0; start < channels; start += width) {
        double middle = 0, squares = 0;
        for (ptrdiff_t c = start; c < start + width; c++)
            middle += (double)((const real *)centre)[c] +
                      channel_sum(sums, parts, 0, c, channels, period) / (double)rows;
        middle /= (double)width;
        for (ptrdiff_t c = start; c < start + width; c++) {
            const double sum = channel_sum(sums, parts, 0, c, channels, period), shift = sum / (double)rows;
            const double within = channel_sum(sums, parts, 1, c, channels, period) - sum * shift;
            const double between = (double)((const real *)centre)[c] + shift - middle;
            squares += (within < 0 ? 0 : within) + (double)rows * between * between;
        }
        for (ptrdiff_t c = start; c < start + width; c++) {
            ((real *)mean)[c] = (real)middle;
            ((real *)variance)[c] = (real)(squares / (double)(rows * width));
        }
    }
}

INLINE double inverse_deviation(const void *variance, double epsilon, ptrdiff_t c) {
    return 1 / sqrt((double)((const real *)variance)[c] + epsilon);
}

static void normalization_factors(void *factors, const void *scaler, const void *variance, double epsilon,
                                  ptrdiff_t channels) {
    for (ptrdiff_t c = 0; c < channels; c++)
        ((real *)factors)[c] = (real)((double)((const real *)scaler)[c] * inverse_deviation(variance, epsilon, c));
}

static void normalize(void *y, const void *x, const void *mean, const void *factors, const void *intercept, int relu,
                      ptrdiff_t channels, ptrdiff_t period, ptrdiff_t count, void *scratch) {
    const real *middle = repeated(scratch, mean, channels, period);
    const real *factor = repeated((real *)scratch + period, factors, channels, period);
    const real *addend = repeated((real *)scratch + 2 * period, intercept, channels, period);
    for (ptrdiff_t i = 0; i < count; i += period) {
        const ptrdiff_t length = smaller(period, count - i);
        const real *in = (const real *)x + i;
        real *out = (real *)y + i;
        for (ptrdiff_t j = 0; j < length; j += LANES) {
            const ptrdiff_t left = length - j;
            const vec difference = load_some(in + j, left) - load_some(middle + j, left);
            const vec value = difference * load_some(factor + j, left) + load_some(addend + j, left);
            store_some(out + j, relu ? positive_part(value) : value, left);
        }
    }
}

/* With s the inverse of a group's standard deviation, d = x - mean, and averages over the group,
 * dx = s (scaler dy - average(scaler dy) - d s^2 average(scaler dy d)). */
static void normalization_gradients(void *coefficients, double *totals, const double *sums, const void *scaler,
                                    const void *variance, double epsilon, int measured, ptrdiff_t parts,
                                    ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t period, ptrdiff_t groups) {
    const real *scale = scaler;
    const ptrdiff_t width = channels / groups;
    real *of_dy = coefficients, *constant = of_dy + channels, *of_x = constant + channels;
    for (ptrdiff_t start = 0; start < channels; start += width) {
        const double inverse = inverse_deviation(variance, epsilon, start);
        double dy = 0, dy_x = 0;
        for (ptrdiff_t c = start; measured && c < start + width; c++) {
            dy += (double)scale[c] * channel_sum(sums, parts, 0, c, channels, period);
            dy_x += (double)scale[c] * channel_sum(sums, parts, 1, c, channels, period);
        }
        const double share = inverse / (double)(rows * width);
        for (ptrdiff_t c = start; c < start + width; c++) {
            const double own = inverse_deviation(variance, epsilon, c);
            of_dy[c] = (real)((double)scale[c] * own);
            constant[c] = (real)(share * dy);
            of_x[c] = (real)(share * inverse * inverse * dy_x);
            totals[c] = own * channel_sum(sums, parts, 1, c, channels, period);
            totals[channels + c] = channel_sum(sums, parts, 0, c, channels, period);
        }
    }
}

static void normalization_collect(void *out, const double *totals, ptrdiff_t images, ptrdiff_t channels) {
    for (ptrdiff_t c = 0; c < channels; c++) {
        double total = 0;
        for (ptrdiff_t n = 0; n < images; n++) total += totals[2 * n * channels + c];
        ((real *)out)[c] = (real)total;
    }
}

static void normalize_backward(void *dx, const void *dy, const void *x, const void *mean, const void *coefficients,
                               ptrdiff_t channels, ptrdiff_t period, ptrdiff_t count, void *scratch) {
    const real *rows = coefficients;
    const real *middle = repeated(scratch, mean, channels, period);
    const real *of_dy = repeated((real *)scratch + period, rows, channels, period);
    const real *constant = repeated((real *)scratch + 2 * period, rows + channels, channels, period);
    const real *of_x = repeated((real *)scratch + 3 * period, rows + 2 * channels, channels, period);
    for (ptrdiff_t i = 0; i < count; i += period) {
        const ptrdiff_t length = smaller(period, count - i);
        const real *gradient = (const real *)dy + i, *in = (const real *)x + i;
        real *out = (real *)dx + i;
        for (ptrdiff_t j = 0; j < length; j += LANES) {
            const ptrdiff_t left = length - j;
            const vec difference = load_some(in + j, left) - load_some(middle + j, left);
            const vec rest = load_some(constant + j, left) + load_some(of_x + j, left) * difference;
            store_some(out + j, load_some(of_dy + j, left) * load_some(gradient + j, left) - rest, left);
        }
    }
}

static void running_average(void *running, const void *batch, double momentum, ptrdiff_t count) {
    for (ptrdiff_t c = 0; c < count; c++) {
        const double before = (double)((const real *)running)[c], now = (double)((const real *)batch)[c];
        ((real *)running)[c] = (real)(momentum * before + (1 - momentum) * now);
    }
}

#endif
