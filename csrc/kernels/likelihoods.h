/* The negative log densities of likelihoods other than Bernoulli's, row by row, with their gradients.
 *
 * Row `row` of the outputs (., m), or (., 2m) where each pixel has a location and after it a logarithm of its scale,
 * belongs to row `target` of y (., m).  Scales that a network puts out are kept in range by soft_clip: the density of a
 * pixel that is always predicted exactly would have no upper bound. */
#ifndef CVAE_LIKELIHOODS_H
#define CVAE_LIKELIHOODS_H

#include "losses.h"

INLINE vec magnitude(vec x) { return choose(less(x, broadcast(0)), -x, x); }

/* ---- The continuous Bernoulli distribution (Loaiza-Ganem & Cunningham 2019)
 *
 * Its density at 0 <= x <= 1 is exp(z x) z / (exp(z) - 1), z being the logit of lambda.  With a = |z| and the distance
 * d of x from the end where the density is largest, -log p = a d + log(1 - exp(-a)) - log(a), and the mean distance is
 * 1 / a - 1 / (exp(a) - 1).  Both cancel where a is small; there the series of log(sinh(z / 2) / (z / 2)) takes over,
 * whose coefficients are B(2k) / (2k (2k)!), with the Bernoulli numbers B. */

#define SERIES_END ((real)1) /* for |z| below it the series is used; its terms fall like (z / 2 pi)^2k */
#if CVAE_DOUBLE
enum { SINHC_TERMS = 11 };
#else
enum { SINHC_TERMS = 5 };
#endif

/* B(2k) / (2k)! for k = 1, 2, ... */
static const double BERNOULLI_RATIO[] = {
    1.0 / 12,
    -1.0 / 720,
    1.0 / 30240,
    -1.0 / 1209600,
    1.0 / 47900160,
    -691.0 / 1307674368000,
    1.0 / 74724249600,
    -3617.0 / 10670622842880000,
    43867.0 / 5109094217170944000,
    -174611.0 / 802857662698291200000.0,
    77683.0 / 14101100039391805440000.0,
};

typedef struct {
    vec value; /* log(sinh(z / 2) / (z / 2)) */
    vec slope; /* its derivative, coth(z / 2) / 2 - 1 / z */
} log_sinhc_result;

INLINE log_sinhc_result log_sinhc(vec z) {
    const vec square = z * z;
    vec value = broadcast((real)(BERNOULLI_RATIO[SINHC_TERMS - 1] / (2 * SINHC_TERMS)));
    vec slope = broadcast((real)BERNOULLI_RATIO[SINHC_TERMS - 1]);
    UNROLL for (int k = SINHC_TERMS - 1; k > 0; k--) {
        value = value * square + (real)(BERNOULLI_RATIO[k - 1] / (2 * k));
        slope = slope * square + (real)BERNOULLI_RATIO[k - 1];
    }
    const log_sinhc_result result = {value * square, slope * z};
    return result;
}

/* 1 / (exp(a) - 1) for a >= SERIES_END. */
INLINE vec inverse_expm1(vec a) {
    const vec decay = exp_bounded(-a);
    return decay / ((real)1 - decay);
}

static double continuous_bernoulli(void *dlogits, const void *logits, const void *y, ptrdiff_t m, double weight,
                                   ptrdiff_t row, ptrdiff_t target) {
    const real *z_row = (const real *)logits + row * m, *y_row = (const real *)y + target * m;
    real *dz = dlogits ? (real *)dlogits + row * m : NULL;
    double sums[LANES] = {0};
    for (ptrdiff_t i = 0; i < m; i += LANES) {
        const ptrdiff_t count = smaller(LANES, m - i);
        const vec z = load_some(z_row + i, count), x = load_some(y_row + i, count);
        const vec a = magnitude(z), rest = inverse_expm1(a);
        const vec_int negative = less(z, broadcast(0)), near = less(a, broadcast(SERIES_END));
        const vec distance = choose(negative, x, (real)1 - x);
        const log_sinhc_result series = log_sinhc(z);
        /* log(1 - exp(-a)) = -log(1 + rest) */
        const vec far_loss = a * distance - (log_normal_number(choose(near, broadcast(1), a)) + log1p_fraction(rest));
        add_lanes(sums, choose(near, z * ((real)0.5 - x) + series.value, far_loss), count);
        if (dz) {
            const vec far_slope = (real)1 / a - rest - distance;
            const vec slope = choose(near, (real)0.5 - x + series.slope, choose(negative, far_slope, -far_slope));
            store_some(dz + i, slope * (real)weight, count);
        }
    }
    return sum_of_lanes(sums);
}

static void continuous_bernoulli_mean(void *out, const void *z, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t i = first; i < last; i += LANES) {
        const vec logit = load_some((const real *)z + i, last - i), a = magnitude(logit);
        const vec far = (real)1 / a - inverse_expm1(a), near = log_sinhc(logit).slope + (real)0.5;
        const vec from_end = choose(less(logit, broadcast(0)), far, (real)1 - far);
        store_some((real *)out + i, choose(less(a, broadcast(SERIES_END)), near, from_end), last - i);
    }
}

/* ---- Normal and Laplace distributions of one scale */

#define HALF_LOG_2PI 0.91893853320467274178
#define LOG_2 0.69314718055994530942

static double gaussian(void *doutputs, const void *outputs, const void *y, ptrdiff_t m, double scale, double weight,
                       ptrdiff_t row, ptrdiff_t target) {
    const real *mean = (const real *)outputs + row * m, *y_row = (const real *)y + target * m;
    real *dmean = doutputs ? (real *)doutputs + row * m : NULL;
    double sums[LANES] = {0};
    for (ptrdiff_t i = 0; i < m; i += LANES) {
        const ptrdiff_t count = smaller(LANES, m - i);
        const vec distance = (load_some(mean + i, count) - load_some(y_row + i, count)) * (real)(1 / scale);
        add_lanes(sums, distance * distance, count);
        if (dmean) store_some(dmean + i, distance * (real)(weight / scale), count);
    }
    return 0.5 * sum_of_lanes(sums) + (double)m * (log(scale) + HALF_LOG_2PI);
}

/* -1, 0 or 1. */
INLINE vec sign_of(vec x) {
    const vec size = magnitude(x);
    return x / choose(at_most(size, broadcast(0)), broadcast(1), size); /* NaN stays NaN */
}

static double laplace(void *doutputs, const void *outputs, const void *y, ptrdiff_t m, double scale, double weight,
                      ptrdiff_t row, ptrdiff_t target) {
    const real *median = (const real *)outputs + row * m, *y_row = (const real *)y + target * m;
    real *dmedian = doutputs ? (real *)doutputs + row * m : NULL;
    double sums[LANES] = {0};
    for (ptrdiff_t i = 0; i < m; i += LANES) {
        const ptrdiff_t count = smaller(LANES, m - i);
        const vec distance = load_some(median + i, count) - load_some(y_row + i, count);
        add_lanes(sums, magnitude(distance) * (real)(1 / scale), count);
        if (dmedian) store_some(dmedian + i, sign_of(distance) * (real)(weight / scale), count);
    }
    return sum_of_lanes(sums) + (double)m * (log(scale) + LOG_2);
}

/* ---- Distributions with a scale for each pixel */

typedef struct {
    vec value; /* bound * tanh(x / bound) */
    vec slope; /* its derivative */
} soft_clip_result;

INLINE soft_clip_result soft_clip(vec x, double bound) {
    const vec decay = exp_bounded(magnitude(x) * (real)(-2 / bound)), sum = decay + (real)1;
    const vec size = ((real)1 - decay) / sum * (real)bound;
    const soft_clip_result result = {choose(less(x, broadcast(0)), -size, size), decay * (real)4 / (sum * sum)};
    return result;
}

static double gaussian_per_pixel(void *doutputs, const void *outputs, const void *y, ptrdiff_t m, double bound,
                                 double weight, ptrdiff_t row, ptrdiff_t target) {
    const real *pairs = (const real *)outputs + 2 * row * m, *y_row = (const real *)y + target * m;
    real *dpairs = doutputs ? (real *)doutputs + 2 * row * m : NULL;
    double sums[LANES] = {0};
    for (ptrdiff_t i = 0; i < m; i += LANES) {
        const ptrdiff_t count = smaller(LANES, m - i);
        const vec_pairs output = load_pairs(pairs + 2 * i, count);
        const soft_clip_result log_var = soft_clip(output.second, bound);
        const vec distance = output.first - load_some(y_row + i, count);
        const vec scaled = distance * exp_of(-log_var.value), square = distance * scaled;
        add_lanes(sums, square + log_var.value, count);
        if (dpairs) {
            const vec_pairs gradient = {scaled * (real)weight,
                                        ((real)1 - square) * log_var.slope * (real)(weight / 2)};
            store_pairs(dpairs + 2 * i, gradient, count);
        }
    }
    return 0.5 * sum_of_lanes(sums) + (double)m * HALF_LOG_2PI;
}

static double laplace_per_pixel(void *doutputs, const void *outputs, const void *y, ptrdiff_t m, double bound,
                                double weight, ptrdiff_t row, ptrdiff_t target) {
    const real *pairs = (const real *)outputs + 2 * row * m, *y_row = (const real *)y + target * m;
    real *dpairs = doutputs ? (real *)doutputs + 2 * row * m : NULL;
    double sums[LANES] = {0};
    for (ptrdiff_t i = 0; i < m; i += LANES) {
        const ptrdiff_t count = smaller(LANES, m - i);
        const vec_pairs output = load_pairs(pairs + 2 * i, count);
        const soft_clip_result log_scale = soft_clip(output.second, bound);
        const vec distance = output.first - load_some(y_row + i, count);
        const vec inverse = exp_of(-log_scale.value), size = magnitude(distance) * inverse;
        add_lanes(sums, size + log_scale.value, count);
        if (dpairs) {
            const vec_pairs gradient = {sign_of(distance) * inverse * (real)weight,
                                        ((real)1 - size) * log_scale.slope * (real)weight};
            store_pairs(dpairs + 2 * i, gradient, count);
        }
    }
    return sum_of_lanes(sums) + (double)m * LOG_2;
}

/* The probability that a logistic variable rounds to the pixel, a multiple of 1 / 255 whose bin is open at the ends 0
 * and 1 (Salimans et al. 2017, "PixelCNN++", section 2.1).  With the standardized edges u and l of a bin between the
 * ends, logistic(u) - logistic(l) = logistic(u) logistic(-l) (1 - exp(l - u)), a product that cannot cancel. */
#define LOG_255 ((real)5.5412635451584261463)

static double discretized_logistic(void *doutputs, const void *outputs, const void *y, ptrdiff_t m, double bound,
                                   double weight, ptrdiff_t row, ptrdiff_t target) {
    const real *pairs = (const real *)outputs + 2 * row * m, *y_row = (const real *)y + target * m;
    real *dpairs = doutputs ? (real *)doutputs + 2 * row * m : NULL;
    const real half_bin = (real)(1.0 / 510);
    const vec zero = broadcast(0), one = broadcast(1);
    double sums[LANES] = {0};
    for (ptrdiff_t i = 0; i < m; i += LANES) {
        const ptrdiff_t count = smaller(LANES, m - i);
        const vec_pairs output = load_pairs(pairs + 2 * i, count);
        const soft_clip_result log_scale = soft_clip(output.second, bound);
        const vec k = (load_some(y_row + i, count) * (real)255 + ROUNDING) - ROUNDING;
        const vec distance = k / (real)255 - output.first, inverse = exp_of(-log_scale.value);
        const vec u = (distance + half_bin) * inverse, l = (distance - half_bin) * inverse, width = inverse / (real)255;
        const vec inside_u = choose(less(k, broadcast(255)), one, zero), inside_l = choose(less(zero, k), one, zero);
        const vec inside = inside_u * inside_l;
        const logistic_result above = logistic(-u), below = logistic(l);
        const vec loss_u = positive_part(-u) + log1p_fraction(above.decay);
        const vec loss_l = positive_part(l) + log1p_fraction(below.decay);
        /* -log(1 - exp(-width)), and width times its derivative, with the sign changed. */
        const vec_int narrow_bin = less(width, broadcast(SERIES_END));
        const log_sinhc_result series = log_sinhc(width);
        const vec rest = inverse_expm1(width), near_loss = log_scale.value + LOG_255 + width / 2 - series.value;
        const vec loss_width = choose(narrow_bin, near_loss, log1p_fraction(rest));
        add_lanes(sums, inside_u * loss_u + inside_l * loss_l + inside * loss_width, count);
        if (dpairs) {
            const vec du = inside_u * above.value, dl = inside_l * below.value;
            const vec near_slope = one - width * ((real)0.5 - series.slope);
            const vec dwidth = inside * choose(narrow_bin, near_slope, width * rest);
            const vec_pairs gradient = {(du - dl) * inverse * (real)weight,
                                        (u * du - l * dl + dwidth) * log_scale.slope * (real)weight};
            store_pairs(dpairs + 2 * i, gradient, count);
        }
    }
    return sum_of_lanes(sums);
}

#endif
