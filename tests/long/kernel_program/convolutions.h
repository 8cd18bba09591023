/* Convolutions: direct, in one with pooling, and by Winograd's algorithm. */
#ifndef CONVOLUTIONS_H
#define CONVOLUTIONS_H

#include "numbers.h"

/* Winograd's transforms enlarge rounding errors up to 66 times in root mean square, along rows 8 times, those of F(7, 2)
 * most; of thousands of numbers, the worst error is some three times that. */
enum { GROWTH = 3 * 66, GROWTH_ALONG_ROWS = 3 * 8 };

static ptrdiff_t panels(ptrdiff_t n) { return (n + TABLE.panel - 1) / TABLE.panel; }

/* w (k, n) in panels, or transposed, (n, k). */
static real *packed(const real *w, ptrdiff_t k, ptrdiff_t n, int transposed) {
    real *p = space(panels(n) * TABLE.panel * k);
    for (ptrdiff_t j = 0; j < panels(n); j++)
        TABLE.pack_panels(p, w, k, n, transposed ? 1 : n, transposed ? k : 1, j, j + 1);
    return p;
}

static void direct_forward(const window_shape *s, const real *x, const real *w, const real *bias) {
    const ptrdiff_t pixels = s->n * s->oh * s->ow, taps = s->r * s->s * s->c;
    real *panels_of_w = packed(w, taps, s->k, 0);
    if (TABLE.conv2d_has_few_outputs(s, 0) && s->k > 4) abort(); /* in a network it decides what is packed */
    for (int way = 0; way < 4; way++) {
        const int unpacked = way % 2, relu = way / 2;
        real *y = space(pixels * s->k);
        real *scratch = space(TABLE.block_scratch + (unpacked ? TABLE.dense_scratch : 0));
        for (ptrdiff_t p = 0; p < pixels; p += BLOCK_ROWS)
            TABLE.conv2d_forward(y, x, unpacked ? NULL : panels_of_w, w, bias, s, relu, p,
                                 smaller(p + BLOCK_ROWS, pixels), scratch);
        write_out("conv2d_forward", taps + 1, y, pixels * s->k);
        RELEASE(y, scratch);
    }
    free(panels_of_w);
}

static void direct_backward(const window_shape *s, const real *x, const real *w, const real *dy) {
    const ptrdiff_t pixels = s->n * s->oh * s->ow, taps = s->r * s->s * s->c, input = s->n * s->h * s->w * s->c;
    real *panels_of_w = packed(w, s->k, taps, 1);
    for (int unpacked = 0; unpacked < 2; unpacked++) {
        real *dx = space(input), *scratch = space(TABLE.conv2d_grad_input_scratch(s));
        for (ptrdiff_t n = 0; n < s->n; n++)
            TABLE.conv2d_grad_input(dx, dy, unpacked ? NULL : panels_of_w, w, s, n, n + 1, scratch);
        write_out("conv2d_grad_input", s->r * s->s * s->k, dx, input);
        RELEASE(dx, scratch);
    }
    /* Of few channels all rows at once, otherwise in two parts. */
    const ptrdiff_t half = s->c <= FEW_CHANNELS ? taps : taps / 2;
    real *dw = zeros(taps * s->k), *db = zeros(s->k), *scratch = space(TABLE.conv2d_grad_weight_scratch(s));
    for (ptrdiff_t p = 0; p < pixels; p += BLOCK_ROWS) {
        const ptrdiff_t end = smaller(p + BLOCK_ROWS, pixels);
        TABLE.conv2d_grad_weight(dw, db, x, dy, s, p, end, 0, half, scratch);
        if (half < taps) TABLE.conv2d_grad_weight(dw, db, x, dy, s, p, end, half, taps, scratch);
    }
    write_out("conv2d_grad_weight", pixels, dw, taps * s->k);
    write_out("conv2d_grad_weight", pixels, db, s->k);
    RELEASE(panels_of_w, dw, db, scratch);
}

static real *winograd_weights(const window_shape *s, const real *w, int transposed) {
    real *U = space(TABLE.winograd_kernel_size(s, transposed));
    const ptrdiff_t rows = transposed ? s->k : TABLE.winograd_channels(s);
    for (ptrdiff_t i = 0; i < rows; i += KERNEL_ROWS)
        TABLE.winograd_kernel(U, w, s, transposed, i, smaller(i + KERNEL_ROWS, rows));
    return U;
}

static void winograd(const window_shape *s, const real *x, const real *w, const real *bias, const real *dy) {
    const ptrdiff_t taps = s->r * s->s * s->c, tiles = s->n * TABLE.winograd_tiles(s), block = TABLE.winograd_block(s);
    const ptrdiff_t outputs = s->n * s->oh * s->ow * s->k, input = s->n * s->h * s->w * s->c;
    real *U = winograd_weights(s, w, 0), *Ut = winograd_weights(s, w, 1), *dx = zeros(input), *dw = space(taps * s->k);
    real *dU = space(TABLE.winograd_kernel_size(s, 0));
    for (int relu = 0; relu < 2; relu++) {
        real *y = space(outputs), *scratch = space(TABLE.winograd_scratch(s));
        for (ptrdiff_t t = 0; t < tiles; t += block)
            TABLE.winograd_forward(y, x, U, bias, s, relu, t, smaller(t + block, tiles), scratch);
        write_out("winograd_forward", taps + GROWTH, y, outputs);
        RELEASE(y, scratch);
    }
    real *scratch = space(TABLE.winograd_scratch(s));
    for (ptrdiff_t t = 0; t < tiles; t += 2 * block)
        TABLE.winograd_backward(dx, dU, t > 0, x, dy, Ut, s, t, smaller(t + 2 * block, tiles), scratch);
    for (ptrdiff_t v = 0; v < TABLE.winograd_channels(s); v++) TABLE.winograd_collect_kernel(dw, dU, s, v);
    write_out("winograd_backward", s->r * s->s * s->k + GROWTH, dx, input);
    write_out("winograd_collect_kernel", s->n * s->oh * s->ow + GROWTH, dw, taps * s->k);
    RELEASE(U, Ut, dx, dw, dU, scratch);
}

static void winograd_rows(const window_shape *s, const real *x, const real *w, const real *bias) {
    const ptrdiff_t outputs = s->n * s->oh * s->ow * s->k, bands = s->n * TABLE.winograd_rows_bands(s);
    real *U = space(TABLE.winograd_rows_kernel_size(s));
    TABLE.winograd_rows_kernel(U, w, s);
    for (int relu = 0; relu < 2; relu++) {
        real *y = space(outputs), *scratch = space(TABLE.winograd_rows_scratch(s));
        for (ptrdiff_t b = 0; b < bands; b++) TABLE.winograd_rows_forward(y, x, U, bias, s, relu, b, b + 1, scratch);
        write_out("winograd_rows_forward", s->r * s->s * s->c + GROWTH_ALONG_ROWS, y, outputs);
        RELEASE(y, scratch);
    }
    free(U);
}

/* A convolution by all algorithms that it may have. */
static void convolution(window_shape s) {
    const ptrdiff_t taps = s.r * s.s * s.c;
    real *x = numbers(s.n * s.h * s.w * s.c), *w = numbers(taps * s.k), *bias = numbers(s.k);
    real *dy = numbers(s.n * s.oh * s.ow * s.k);
    direct_forward(&s, x, w, bias);
    direct_backward(&s, x, w, dy);
    const ptrdiff_t longest = s.r > s.s ? s.r : s.s;
    if (s.dilation == 0 && longest <= MAX_WINOGRAD_KERNEL * s.stride) winograd(&s, x, w, bias, dy);
    if (s.dilation == 0 && s.stride == 1 && s.c <= FEW_CHANNELS && longest <= MAX_WINOGRAD_KERNEL)
        winograd_rows(&s, x, w, bias);
    RELEASE(x, w, bias, dy);
}

/* Places of the maxima of max(conv(x, w) + bias, 0) as bytes. */
static uint8_t *places(const window_shape *conv, const window_shape *pool, const real *x, const real *w,
                       const real *bias) {
    const ptrdiff_t pixels = conv->n * conv->oh * conv->ow, count = pool->n * pool->oh * pool->ow * pool->c;
    const ptrdiff_t row = pool->ow * pool->c;
    real *panels_of_w = packed(w, conv->r * conv->s * conv->c, conv->k, 0), *y = space(pixels * conv->k);
    real *scratch = space(TABLE.block_scratch), *pooled = space(count);
    int32_t *argmax = bytes(count * (ptrdiff_t)sizeof(int32_t));
    uint8_t *out = bytes(count);
    for (ptrdiff_t p = 0; p < pixels; p += BLOCK_ROWS)
        TABLE.conv2d_forward(y, x, panels_of_w, w, bias, conv, 1, p, smaller(p + BLOCK_ROWS, pixels), scratch);
    for (ptrdiff_t i = 0; i < pool->n * pool->oh; i++)
        TABLE.pool2d_max_forward(pooled + i * row, argmax + i * row, y, pool, i);
    TABLE.narrow(out, argmax, pooled, count);
    RELEASE(panels_of_w, y, scratch, pooled, argmax);
    return out;
}

/* Of few channels under ReLU and max pooling: the weights' gradient from the maxima alone. */
static void block_with_pooling(window_shape conv, ptrdiff_t r, ptrdiff_t s, ptrdiff_t stride, ptrdiff_t pad) {
    const window_shape pool = windows(conv.n, conv.oh, conv.ow, conv.k, 0, r, s, stride, 0, pad, pad, pad, pad);
    const ptrdiff_t taps = conv.r * conv.s * conv.c, count = pool.n * pool.oh * pool.ow * pool.c;
    real *x = numbers(conv.n * conv.h * conv.w * conv.c), *w = numbers(taps * conv.k), *bias = numbers(conv.k);
    real *dp = numbers(count), *sums = zeros(conv.k * TABLE.conv_pool_patch(&conv));
    real *dw = space(taps * conv.k), *db = space(conv.k);
    real *scratch = space(TABLE.conv_pool_grad_weight_scratch(&conv, &pool));
    uint8_t *argmax = places(&conv, &pool, x, w, bias);
    for (ptrdiff_t n = 0; n < conv.n; n++)
        TABLE.conv_pool_grad_weight(sums, x, dp, argmax, &conv, &pool, n, n + 1, scratch);
    TABLE.conv_pool_collect(dw, db, sums, &conv, 0, conv.k);
    write_out("conv_pool_grad_weight", conv.n * pool.oh * pool.ow, dw, taps * conv.k);
    write_out("conv_pool_grad_weight", conv.n * pool.oh * pool.ow, db, conv.k);
    RELEASE(x, w, bias, dp, sums, dw, db, scratch, argmax);
}

static void convolutions(void) {
    convolution(windows(1, 6, 7, 3, 5, 3, 2, 1, 0, 0, 0, 0, 0));
    convolution(windows(2, 8, 8, 4, 33, 3, 3, 1, 0, 1, 1, 1, 1));
    convolution(windows(1, 9, 5, 1, 16, 5, 5, 1, 0, 0, 0, 0, 0));
    convolution(windows(2, 16, 15, 1, 7, 2, 1, 1, 0, 3, 0, 0, 2)); /* more output pixels than BLOCK_ROWS */
    convolution(windows(1, 9, 8, 6, 17, 3, 4, 2, 0, 1, 2, 2, 1));
    convolution(windows(2, 11, 7, 5, 9, 3, 2, 1, 2, 2, 3, 0, 1));
    convolution(windows(1, 7, 7, 40, 34, 3, 3, 1, 0, 1, 1, 1, 1)); /* patches longer than BLOCK_DEPTH */
    convolution(windows(1, 13, 12, 2, 3, 7, 5, 3, 0, 3, 2, 4, 2));
    for (ptrdiff_t few = 1; few < 5; few++) { /* whatever the vectors hold; unpacked weights take their own way then */
        convolution(windows(2, 7, 19, 16, few, 3, 3, 1, 0, 1, 1, 1, 1));
        convolution(windows(2, 7, 19, few, 16, 3, 3, 1, 0, 1, 1, 1, 1));
    }
    convolution(windows(1, 12, 21, 32, 2, 4, 3, 2, 1, 3, 2, 2, 4));
    convolution(windows(1, 12, 21, 1, 32, 4, 3, 3, 0, 2, 2, 1, 2));
    block_with_pooling(windows(3, 12, 11, 1, 6, 5, 5, 1, 0, 0, 0, 0, 0), 2, 2, 2, 0);
    block_with_pooling(windows(2, 10, 9, 3, 19, 3, 2, 1, 1, 1, 1, 1, 2), 3, 2, 2, 1);
    block_with_pooling(windows(1, 9, 12, 2, 3, 3, 3, 2, 0, 2, 1, 1, 2), 2, 3, 3, 0);
}

#endif
