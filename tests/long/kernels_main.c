/* Runs kernels of one number type on made-up numbers and writes what they compute to standard output. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels.h"

#if CVAE_DOUBLE
typedef double real;
#define TABLE kernels_f64_baseline
#else
typedef float real;
#define TABLE kernels_f32_baseline
#endif

enum { BLOCK = 16 }; /* pixels of a call, of which kernels take at most BLOCK_ROWS */

static unsigned state = 1;

static ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

static real *numbers(ptrdiff_t n) {
    real *p = aligned_alloc(64, (n * sizeof(real) + 127) / 64 * 64);
    for (ptrdiff_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        p[i] = (real)(state >> 8) / (1 << 24) - (real)0.5;
    }
    return p;
}

/* Memory whose size depends on the vectors, so that it must take none of the numbers. */
static real *space(ptrdiff_t n) { return calloc(n + 64, sizeof(real)); }

static void write_out(const real *p, ptrdiff_t n) { fwrite(p, sizeof(real), n, stdout); }

static void convolutions(ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, ptrdiff_t k, ptrdiff_t r, ptrdiff_t s) {
    window_shape shape = {.n = 1, .h = h, .w = w, .c = c, .k = k, .r = r, .s = s, .oh = h - r + 1, .ow = w - s + 1,
                          .stride = 1, .dilation = 0};
    ptrdiff_t taps = r * s * c, pixels = shape.oh * shape.ow;
    real *x = numbers(h * w * c), *weights = numbers(taps * k), *bias = numbers(k), *y = numbers(pixels * k);
    real *packed = space((k + TABLE.panel) * taps), *scratch = space(TABLE.block_scratch + TABLE.dense_scratch);
    ptrdiff_t panels = (k + TABLE.panel - 1) / TABLE.panel;
    TABLE.pack_panels(packed, weights, taps, k, k, 1, 0, panels);
    for (int relu = 0; relu < 2; relu++) {
        for (ptrdiff_t p = 0; p < pixels; p += BLOCK)
            TABLE.conv2d_forward(y, x, packed, weights, bias, &shape, relu, p, smaller(p + BLOCK, pixels), scratch);
        write_out(y, pixels * k);
    }
    real *dw = numbers(taps * k), *db = numbers(k), *more = space(TABLE.conv2d_grad_weight_scratch(&shape));
    memset(dw, 0, taps * k * sizeof(real));
    memset(db, 0, k * sizeof(real));
    for (ptrdiff_t p = 0; p < pixels; p += BLOCK)
        TABLE.conv2d_grad_weight(dw, db, x, y, &shape, p, smaller(p + BLOCK, pixels), 0, taps, more);
    write_out(dw, taps * k);
    write_out(db, k);
}

static void dense(ptrdiff_t m, ptrdiff_t k, ptrdiff_t n) {
    real *x = numbers(m * k), *weights = numbers(k * n), *bias = numbers(n), *y = numbers(m * n);
    real *scratch = space(TABLE.dense_scratch + TABLE.block_scratch);
    ptrdiff_t panels = (n + TABLE.panel - 1) / TABLE.panel;
    for (int relu = 0; relu < 2; relu++) {
        TABLE.dense_forward(y, x, weights, bias, n, k, relu, 0, m, 0, panels, scratch);
        write_out(y, m * n);
    }
    real *sums = numbers(n);
    TABLE.column_sums(sums, y, m, n, 0, n);
    write_out(sums, n);
}

int main(void) {
    convolutions(6, 7, 3, 5, 3, 2);
    convolutions(8, 8, 4, 33, 3, 3);
    convolutions(9, 5, 1, 16, 5, 5);
    dense(3, 17, 40);
    dense(1, 5, 7);
    return 0;
}
