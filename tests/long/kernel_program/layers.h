/* Dense layers, pooling, upsampling, normalization and labels. */
#ifndef LAYERS_H
#define LAYERS_H

#include "convolutions.h"

static void bias_and_sums(ptrdiff_t m, ptrdiff_t n) {
    real *x = numbers(m * n), *bias = numbers(n), *sums = space(n);
    TABLE.column_sums(sums, x, m, n, 0, n / 2);
    TABLE.column_sums(sums, x, m, n, n / 2, n);
    write_out("column_sums", m, sums, n);
    TABLE.add_column_sums(sums, x, m, n);
    write_out("add_column_sums", m + 1, sums, n);
    for (int relu = 0; relu < 2; relu++) {
        TABLE.add_bias(x, bias, n, relu, m / 3, m);
        write_out("add_bias", 1, x, m * n);
    }
    RELEASE(x, bias, sums);
}

static const double RATES[] = {0.01, 1, 0.9, 0.99, 1e-4, 0.1, 0.01, 0.02}; /* of any optimizer */

/* Both gradients and the update, by panels of rows of w or, in_parts, in parts of them. */
static void dense_panels(const dense_gradients *g, const void *live, int in_parts, void *scratch) {
    for (ptrdiff_t j = 0; j < panels(g->k); j++) {
        if (!in_parts) {
            TABLE.dense_backward(g, live, j, scratch);
            continue;
        }
        TABLE.dense_grad_input(g, live, j, 0, g->m / 2, scratch);
        TABLE.dense_grad_input(g, live, j, g->m / 2, g->m, scratch);
        for (ptrdiff_t first = 0; first < g->n; first += TABLE.panel) {
            const ptrdiff_t last = first + TABLE.panel < g->n ? first + TABLE.panel : g->n;
            TABLE.dense_grad_weight(g, live, j, first, last, scratch);
        }
    }
}

/* The same, of all columns and of those that are not all zero. */
static void dense_gradient(ptrdiff_t m, ptrdiff_t k, ptrdiff_t n, const real *x, const real *dy, const real *w) {
    for (int way = 0; way < 4; way++) {
        const int skip_dead = way % 2, in_parts = way / 2;
        const char *name = in_parts ? "dense_grad_input" : "dense_backward";
        real *moved = copy_of(w, k * n), *first = zeros(k * n), *second = zeros(k * n);
        real *dx = space(m * k), *dw = space(k * n), *scratch = space(TABLE.dense_backward_scratch(n));
        void *live = bytes(TABLE.live_size(m, n));
        const parameter_update update = {&TABLE.update_rules[3], moved, {first, second}, RATES};
        const dense_gradients gradients = {x, dy, moved, dx, dw, &update, m, n, k};
        TABLE.live_find(live, dy, skip_dead, m, n);
        TABLE.live_copy(live, dy, n, 0, m / 2);
        TABLE.live_copy(live, dy, n, m / 2, m);
        dense_panels(&gradients, live, in_parts, scratch);
        write_out(name, n, dx, m * k);
        if (in_parts) name = "dense_grad_weight";
        write_out(name, m, dw, k * n);
        write_out(name, m + 3, first, k * n);
        RELEASE(moved, first, second, dx, dw, scratch, live);
    }
}

static void dense(ptrdiff_t m, ptrdiff_t k, ptrdiff_t n) {
    real *x = numbers(m * k), *w = numbers(k * n), *bias = numbers(n), *y = space(m * n), *dy = numbers(m * n);
    real *scratch = space(TABLE.dense_scratch);
    for (int relu = 0; relu < 2; relu++) {
        for (ptrdiff_t j = 0; j < panels(n); j++)
            TABLE.dense_forward(y, x, w, bias, n, k, relu, 0, m, j, j + 1, scratch);
        write_out("dense_forward", k + 1, y, m * n);
    }
    for (ptrdiff_t i = 0; i < m * n; i++)
        if (i % n % 5 < 3) dy[i] = 0; /* dead columns */
    dense_gradient(m, k, n, x, dy, w);
    RELEASE(x, w, bias, y, dy, scratch);
}

static void pooling(window_shape s) {
    const ptrdiff_t input = s.h * s.w * s.c, output = s.oh * s.ow * s.c, row = s.ow * s.c, windows_of_all = s.n * output;
    real *x = numbers(s.n * input), *y = space(windows_of_all), *dx = space(s.n * input), *dy = numbers(windows_of_all);
    int32_t *argmax = bytes(windows_of_all * (ptrdiff_t)sizeof(int32_t));
    int32_t *again = bytes(windows_of_all * (ptrdiff_t)sizeof(int32_t));
    uint8_t *narrowed = bytes(windows_of_all);
    for (ptrdiff_t i = 0; i < s.n * s.oh; i++) TABLE.pool2d_max_forward(y + i * row, argmax + i * row, x, &s, i);
    write_out("pool2d_max_forward", 0, y, windows_of_all);
    TABLE.narrow(narrowed, argmax, y, windows_of_all);
    TABLE.widen(again, narrowed, windows_of_all);
    for (ptrdiff_t n = 0; n < s.n; n++) {
        TABLE.pool2d_max_backward(dx + n * input, dy + n * output, argmax + n * output, &s);
        write_out("pool2d_max_backward", s.r * s.s, dx + n * input, input);
        TABLE.pool2d_max_backward(dx + n * input, dy + n * output, again + n * output, &s);
        write_out("pool2d_max_backward", s.r * s.s, dx + n * input, input);
    }
    for (ptrdiff_t i = 0; i < s.n * s.oh; i++) TABLE.pool2d_average_forward(y, x, &s, i);
    for (ptrdiff_t n = 0; n < s.n; n++) TABLE.pool2d_average_backward(dx, dy, &s, n);
    write_out("pool2d_average_forward", s.r * s.s, y, windows_of_all);
    write_out("pool2d_average_backward", s.r * s.s, dx, s.n * input);
    RELEASE(x, y, dx, dy, argmax, again, narrowed);
}

static void upsampling(ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, ptrdiff_t r, ptrdiff_t across) {
    const window_shape s = {.n = n, .h = h, .w = w, .c = c, .r = r, .s = across, .oh = r * h, .ow = across * w};
    const ptrdiff_t input = n * h * w * c, output = input * r * across;
    real *x = numbers(input), *y = space(output), *dx = space(input), *dy = numbers(output);
    for (int bilinear = 0; bilinear < 2; bilinear++) {
        for (ptrdiff_t i = 0; i < n * s.oh; i++) TABLE.upsample2d_forward(y, x, &s, bilinear, i);
        for (ptrdiff_t i = 0; i < n; i++) TABLE.upsample2d_backward(dx, dy, &s, bilinear, i);
        write_out("upsample2d_forward", 6, y, output);
        write_out("upsample2d_backward", 4 * r * across, dx, input);
    }
    RELEASE(x, y, dx, dy);
}

/* An image of `rows` rows, in two parts. */
static void normalization(ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t groups, ptrdiff_t repeats) {
    const ptrdiff_t count = rows * channels, period = repeats * channels, half = (rows / 2 / repeats) * period;
    real *x = between(-1, 3, count), *dy = numbers(count), *scaler = between(0.5, 2, channels), *y = space(count);
    real *intercept = numbers(channels), *mean = space(channels), *variance = space(channels), *dx = space(count);
    real *factors = space(channels), *coefficients = space(3 * channels), *scratch = space(4 * period);
    double *sums = bytes(4 * period * (ptrdiff_t)sizeof(double));
    double *totals = bytes(2 * channels * (ptrdiff_t)sizeof(double));
    for (int part = 0; part < 2; part++)
        TABLE.normalization_sums(sums + part * 2 * period, NULL, x + part * half, x, channels, period,
                                 part ? count - half : half, scratch);
    TABLE.normalization_statistics(mean, variance, sums, x, 2, rows, channels, period, groups);
    TABLE.normalization_factors(factors, scaler, variance, 1e-5, channels);
    write_out("normalization_statistics", 4, mean, channels);
    write_out("normalization_statistics", 4, variance, channels);
    write_out("normalization_factors", 4, factors, channels);
    for (int relu = 0; relu < 2; relu++) {
        TABLE.normalize(y, x, mean, factors, intercept, relu, channels, period, count, scratch);
        write_out("normalize", 8, y, count);
    }
    for (int part = 0; part < 2; part++)
        TABLE.normalization_sums(sums + part * 2 * period, dy + part * half, x + part * half, mean, channels, period,
                                 part ? count - half : half, scratch);
    for (int measured = 0; measured < 2; measured++) {
        TABLE.normalization_gradients(coefficients, totals, sums, scaler, variance, 1e-5, measured, 2, rows, channels,
                                      period, groups);
        TABLE.normalize_backward(dx, dy, x, mean, coefficients, channels, period, count, scratch);
        write_out("normalization_gradients", 16, coefficients, 3 * channels);
        write_out("normalize_backward", 16, dx, count);
    }
    TABLE.normalization_collect(factors, totals, 1, channels);
    TABLE.running_average(mean, factors, 0.9, channels);
    write_out("normalization_collect", 8, factors, channels);
    write_out("running_average", 8, mean, channels);
    RELEASE(x, dy, scaler, y, intercept, mean, variance, dx, factors, coefficients, scratch, sums, totals);
}

static void labels(ptrdiff_t n, ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t n_labels) {
    real *x = numbers(n * pixels * channels), *label = numbers(n * n_labels);
    real *y = space(n * pixels * (channels + n_labels)), *dx = space(n * pixels * channels);
    for (ptrdiff_t i = 0; i < n; i++) TABLE.condition_forward(y, x, label, pixels, channels, n_labels, i);
    for (ptrdiff_t i = 0; i < n; i++) TABLE.condition_backward(dx, y, pixels, channels, n_labels, i);
    write_out("condition_forward", 0, y, n * pixels * (channels + n_labels));
    write_out("condition_backward", 0, dx, n * pixels * channels);
    RELEASE(x, label, y, dx);
}

static void layers(void) {
    bias_and_sums(7, 3);
    bias_and_sums(200, 37);
    dense(3, 17, 40);
    dense(1, 5, 7);
    dense(1, 300, 130);
    dense(9, 70, 33);
    dense(5, 16, 64);
    dense(4, 300, 3);
    pooling(windows(2, 6, 7, 5, 0, 2, 2, 2, 0, 0, 0, 0, 0));
    pooling(windows(1, 7, 9, 17, 0, 3, 3, 2, 0, 1, 1, 1, 1));
    pooling(windows(2, 5, 6, 1, 0, 4, 1, 1, 0, 2, 0, 1, 0));
    pooling(windows(1, 4, 5, 32, 0, 2, 2, 1, 0, 0, 0, 0, 0));
    upsampling(2, 3, 4, 5, 2, 3);
    upsampling(1, 5, 1, 17, 3, 1);
    normalization(35, 3, 3, 8);
    normalization(20, 24, 4, 1);
    labels(2, 6, 3, 4);
}

#endif
