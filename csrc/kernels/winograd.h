/* Winograd's minimal filtering for stride-1 convolutions, all three passes.
 *
 * Lavin & Gray (2016), "Fast Algorithms for Convolutional Neural Networks": a tile of m x m outputs is computed from
 * (m + r - 1)^2 inputs as  Y = A' [ (G w G') * (B' x B) ] A,  ' transposed, where * is elementwise and, summed over the
 * channels, becomes one matrix product for each frequency.  The gradients are the same algorithm transposed: with
 * dM = A dY A',  dX = B [ (G w G')' dM ] B', overlapping tiles added up, and  dW = G' [ sum over tiles of (B' x B)' dM ] G.
 *
 * In scratch a matrix (rows, n) lies in panels, element (i, j) at [j / PANEL][i][j % PANEL], so that it can stand on either
 * side of a product without being packed again. */
#ifndef CVAE_WINOGRAD_H
#define CVAE_WINOGRAD_H

#include "conv2d.h"

enum { POINTS = 8, FREQUENCIES = POINTS * POINTS, MAX_TAPS = 5, MAX_OUTPUTS = 6 };

/* The matrices of Cook and Toom for the points p = 0, 1, -1, 2, -2, 1/2, -1/2, infinity.  With N_j the product of p_j - p_l
 * over all other finite points: row j of INPUT (B') holds the coefficients of the product of x - p_l over all other finite
 * points; OUTPUT_m (A) the powers of p_j below m; KERNEL_r (G) those below r divided by N_j.  The rows of infinity hold the
 * leading coefficient.  A pair +p, -p differs only in the sign of the odd columns. */
static const real INPUT[POINTS][POINTS] = {
    {-1, 0, 5.25, 0, -5.25, 0, 1, 0},
    {0, 1, 1, -4.25, -4.25, 1, 1, 0},
    {0, -1, 1, 4.25, -4.25, -1, 1, 0},
    {0, 0.5, 0.25, -2.5, -1.25, 2, 1, 0},
    {0, -0.5, 0.25, 2.5, -1.25, -2, 1, 0},
    {0, 2, 4, -2.5, -5, 0.5, 1, 0},
    {0, -2, 4, 2.5, -5, -0.5, 1, 0},
    {0, -1, 0, 5.25, 0, -5.25, 0, 1},
};
static const real OUTPUT_4[POINTS][4] = {
    {1, 0, 0, 0},
    {1, 1, 1, 1},
    {1, -1, 1, -1},
    {1, 2, 4, 8},
    {1, -2, 4, -8},
    {1, 0.5, 0.25, 0.125},
    {1, -0.5, 0.25, -0.125},
    {0, 0, 0, 1},
};
static const real OUTPUT_6[POINTS][6] = {
    {1, 0, 0, 0, 0, 0},
    {1, 1, 1, 1, 1, 1},
    {1, -1, 1, -1, 1, -1},
    {1, 2, 4, 8, 16, 32},
    {1, -2, 4, -8, 16, -32},
    {1, 0.5, 0.25, 0.125, 0.0625, 0.03125},
    {1, -0.5, 0.25, -0.125, 0.0625, -0.03125},
    {0, 0, 0, 0, 0, 1},
};
static const real KERNEL_5[POINTS][5] = {
    {-1, 0, 0, 0, 0},
    {-2.0 / 9, -2.0 / 9, -2.0 / 9, -2.0 / 9, -2.0 / 9},
    {-2.0 / 9, 2.0 / 9, -2.0 / 9, 2.0 / 9, -2.0 / 9},
    {1.0 / 90, 1.0 / 45, 2.0 / 45, 4.0 / 45, 8.0 / 45},
    {1.0 / 90, -1.0 / 45, 2.0 / 45, -4.0 / 45, 8.0 / 45},
    {32.0 / 45, 16.0 / 45, 8.0 / 45, 4.0 / 45, 2.0 / 45},
    {32.0 / 45, -16.0 / 45, 8.0 / 45, -4.0 / 45, 2.0 / 45},
    {0, 0, 0, 0, 1},
};
static const real KERNEL_3[POINTS][3] = {
    {-1, 0, 0},
    {-2.0 / 9, -2.0 / 9, -2.0 / 9},
    {-2.0 / 9, 2.0 / 9, -2.0 / 9},
    {1.0 / 90, 1.0 / 45, 2.0 / 45},
    {1.0 / 90, -1.0 / 45, 2.0 / 45},
    {32.0 / 45, 16.0 / 45, 8.0 / 45},
    {32.0 / 45, -16.0 / 45, 8.0 / 45},
    {0, 0, 1},
};

/* The points 0 and infinity stand alone, the others in pairs: PAIRS groups, of which first_of gives the first row.  Loops
 * over them are unrolled, so that all of this, and the zeros and ones of the matrices, is settled by the compiler. */
enum { PAIRS = POINTS / 2 + 1 };
INLINE int first_of(const int pair) { return pair == 0 ? 0 : 2 * pair - 1; }
INLINE int is_single(const int pair) { return pair == 0 || pair == PAIRS - 1; }

/* out[j] = sum over i of matrix[j][i] in[i]: a polynomial at all points, the pairs from its even and its odd half. */
INLINE void evaluate(const real *matrix, const int columns, const vec *in, const int in_step, vec *out,
                     const int out_step) {
    UNROLL for (int pair = 0; pair < PAIRS; pair++) {
        const int j = first_of(pair);
        vec even = broadcast(0), odd = broadcast(0);
        UNROLL for (int i = 0; i < columns; i++) {
            const real factor = matrix[j * columns + i];
            if (factor == 0) continue;
            if (i % 2)
                odd += factor * in[i * in_step];
            else
                even += factor * in[i * in_step];
        }
        out[j * out_step] = even + odd;
        if (!is_single(pair)) out[(j + 1) * out_step] = even - odd;
    }
}

/* out[i] = sum over j of matrix[j][i] in[j]: the transpose of evaluate. */
INLINE void collect(const real *matrix, const int columns, const vec *in, const int in_step, vec *out,
                    const int out_step) {
    UNROLL for (int i = 0; i < columns; i++) {
        vec sum = broadcast(0);
        UNROLL for (int pair = 0; pair < PAIRS; pair++) {
            const int j = first_of(pair);
            const real factor = matrix[j * columns + i];
            if (factor == 0) continue;
            if (is_single(pair))
                sum += factor * in[j * in_step];
            else if (i % 2)
                sum += factor * (in[j * in_step] - in[(j + 1) * in_step]);
            else
                sum += factor * (in[j * in_step] + in[(j + 1) * in_step]);
        }
        out[i * out_step] = sum;
    }
}

/* out (POINTS, POINTS)[step] = matrix times in (columns, columns) times matrix transposed. */
INLINE void evaluate_2d(const real *matrix, const int columns, const vec *in, real *out, ptrdiff_t step) {
    vec half[POINTS * POINTS], row[POINTS];
    UNROLL for (int i = 0; i < columns; i++) evaluate(matrix, columns, in + i, columns, half + i, columns);
    for (int j = 0; j < POINTS; j++) {
        evaluate(matrix, columns, half + j * columns, 1, row, 1);
        UNROLL for (int i = 0; i < POINTS; i++) store(out + (j * POINTS + i) * step, row[i]);
    }
}

/* out (columns, columns) = matrix transposed times in (POINTS, POINTS)[step] times matrix. */
INLINE void collect_2d(const real *matrix, const int columns, const real *in, ptrdiff_t step, vec *out) {
    vec half[POINTS * POINTS], row[POINTS];
    for (int j = 0; j < POINTS; j++) {
        UNROLL for (int i = 0; i < POINTS; i++) row[i] = load(in + (j * POINTS + i) * step);
        collect(matrix, columns, row, 1, half + j * columns, 1);
    }
    UNROLL for (int i = 0; i < columns; i++) collect(matrix, columns, half + i, columns, out + i, columns);
}

INLINE ptrdiff_t padded(ptrdiff_t n) { return (n + PANEL - 1) / PANEL * PANEL; }

/* From one frequency's matrix (rows, n) to the next: an odd number of cache lines, or the transforms, which go through the
 * frequencies, would find all of them in the same few sets of the cache. */
INLINE ptrdiff_t frequency_step(ptrdiff_t rows, ptrdiff_t n) {
    return padded(rows * padded(n)) + 64 / (ptrdiff_t)sizeof(real);
}

/* Outputs along each axis of a tile: F(6x6, 3x3) for kernels up to 3x3, F(4x4, 5x5) up to 5x5. */
INLINE int tile_outputs(const window_shape *s) { return s->r <= 3 && s->s <= 3 ? 6 : 4; }

INLINE ptrdiff_t tiles_down(const window_shape *s) { return (s->oh + tile_outputs(s) - 1) / tile_outputs(s); }
INLINE ptrdiff_t tiles_across(const window_shape *s) { return (s->ow + tile_outputs(s) - 1) / tile_outputs(s); }

/* The image of a tile, its first output row and column. */
INLINE pixel tile_at(const window_shape *s, ptrdiff_t tile) {
    const ptrdiff_t across = tiles_across(s), down = tiles_down(s), m = tile_outputs(s);
    pixel at = {tile / (across * down), tile / across % down * m, tile % across * m};
    return at;
}

/* A (POINTS x POINTS) or smaller square of pixels, the channels that a vector holds, out of images (.., rows, cols, channels). */
typedef struct {
    ptrdiff_t base;  /* offset of the image */
    ptrdiff_t row, column; /* of the first pixel, which may lie outside */
    ptrdiff_t rows, columns, channels;
} square;

INLINE square input_square(const window_shape *s, pixel at) {
    square q = {at.image * s->h * s->w * s->c, at.i - s->pad_top, at.j - s->pad_left, s->h, s->w, s->c};
    return q;
}

INLINE square output_square(const window_shape *s, pixel at) {
    square q = {at.image * s->oh * s->ow * s->k, at.i, at.j, s->oh, s->ow, s->k};
    return q;
}

/* out (size, size) = the square's pixels, zero outside the image, channels c <= . < c + LANES. */
INLINE void load_square(vec *out, const int size, const real *images, const square *q, ptrdiff_t c) {
    const ptrdiff_t count = q->channels - c;
    const real *first = images + q->base + c;
    for (int i = 0; i < size; i++) {
        const ptrdiff_t row = q->row + i;
        for (int j = 0; j < size; j++) {
            const ptrdiff_t column = q->column + j;
            const int inside = row >= 0 && row < q->rows && column >= 0 && column < q->columns;
            out[i * size + j] =
                inside ? load_some(first + (row * q->columns + column) * q->channels, count) : broadcast(0);
        }
    }
}

/* V (FREQUENCIES, rows, n) in panels = the tiles' squares of n channels, evaluated; row i is tile first + i. */
INLINE void evaluate_tiles(real *V, const real *images, const window_shape *s, const int size, const real *matrix,
                           const int is_input, ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t rows = last - first, n = is_input ? s->c : s->k, step = frequency_step(rows, n);
    for (ptrdiff_t t = first; t < last; t++) {
        const pixel at = tile_at(s, t);
        const square q = is_input ? input_square(s, at) : output_square(s, at);
        for (ptrdiff_t c = 0; c < padded(n); c += LANES) {
            vec in[POINTS * POINTS];
            load_square(in, size, images, &q, c);
            evaluate_2d(matrix, size, in, V + (c / PANEL * rows + t - first) * PANEL + c % PANEL, step);
        }
    }
}

static void evaluate_input(real *V, const real *x, const window_shape *s, ptrdiff_t first, ptrdiff_t last) {
    evaluate_tiles(V, x, s, POINTS, &INPUT[0][0], 1, first, last);
}

static void evaluate_grad(real *dM, const real *dy, const window_shape *s, ptrdiff_t first, ptrdiff_t last) {
    if (tile_outputs(s) == 4)
        evaluate_tiles(dM, dy, s, 4, &OUTPUT_4[0][0], 0, first, last);
    else
        evaluate_tiles(dM, dy, s, 6, &OUTPUT_6[0][0], 0, first, last);
}

/* U (FREQUENCIES, rows, n) in panels = the kernels of one row (input or output channel), evaluated.  Element (i, j) of the
 * kernels' matrix (rows, n) is w[(tap) * C * K + i * row_stride + j * column_stride]. */
INLINE void evaluate_kernel(real *U, const real *w, const window_shape *s, const int taps, const real *matrix,
                            ptrdiff_t rows, ptrdiff_t n, ptrdiff_t row_stride, ptrdiff_t column_stride, ptrdiff_t row) {
    for (ptrdiff_t j = 0; j < padded(n); j += LANES) {
        vec in[MAX_TAPS * MAX_TAPS];
        for (int t = 0; t < taps * taps; t++) {
            const ptrdiff_t r = t / taps, c = t % taps;
            real part[LANES] = {0};
            if (r < s->r && c < s->s) {
                const real *from = w + (r * s->s + c) * s->c * s->k + row * row_stride + j * column_stride;
                for (ptrdiff_t l = 0; l < smaller(LANES, n - j); l++) part[l] = from[l * column_stride];
            }
            in[t] = load(part);
        }
        evaluate_2d(matrix, taps, in, U + (j / PANEL * rows + row) * PANEL + j % PANEL, frequency_step(rows, n));
    }
}

static void winograd_kernel(void *U, const void *w, const window_shape *s, int transposed, ptrdiff_t row) {
    const ptrdiff_t rows = transposed ? s->k : s->c, n = transposed ? s->c : s->k;
    const ptrdiff_t row_stride = transposed ? 1 : s->k, column_stride = transposed ? s->k : 1;
    if (tile_outputs(s) == 4)
        evaluate_kernel(U, w, s, 5, &KERNEL_5[0][0], rows, n, row_stride, column_stride, row);
    else
        evaluate_kernel(U, w, s, 3, &KERNEL_3[0][0], rows, n, row_stride, column_stride, row);
}

/* y = the tiles' outputs from M (FREQUENCIES, rows, K) in panels, with bias and ReLU. */
INLINE void collect_output(real *y, const real *M, const real *bias, const window_shape *s, int relu, const int m,
                           const real *matrix, ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t rows = last - first, step = frequency_step(rows, s->k);
    for (ptrdiff_t t = first; t < last; t++) {
        const pixel at = tile_at(s, t);
        const ptrdiff_t height = smaller(m, s->oh - at.i), width = smaller(m, s->ow - at.j);
        for (ptrdiff_t k = 0; k < s->k; k += LANES) {
            vec out[MAX_OUTPUTS * MAX_OUTPUTS];
            const vec shift = load_some(bias + k, s->k - k);
            real *corner = y + ((at.image * s->oh + at.i) * s->ow + at.j) * s->k + k;
            collect_2d(matrix, m, M + (k / PANEL * rows + t - first) * PANEL + k % PANEL, step, out);
            for (ptrdiff_t i = 0; i < height; i++)
                for (ptrdiff_t j = 0; j < width; j++) {
                    const vec v = out[i * m + j] + shift;
                    store_some(corner + (i * s->ow + j) * s->k, relu ? positive_part(v) : v, s->k - k);
                }
        }
    }
}

/* Adds the tiles' input gradients from dV (FREQUENCIES, rows, C) in panels to dx. */
static void collect_grad_input(real *dx, const real *dV, const window_shape *s, ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t rows = last - first, step = frequency_step(rows, s->c);
    for (ptrdiff_t t = first; t < last; t++) {
        const square q = input_square(s, tile_at(s, t));
        for (ptrdiff_t c = 0; c < s->c; c += LANES) {
            vec out[POINTS * POINTS];
            collect_2d(&INPUT[0][0], POINTS, dV + (c / PANEL * rows + t - first) * PANEL + c % PANEL, step, out);
            for (ptrdiff_t i = larger(0, -q.row); i < smaller(POINTS, q.rows - q.row); i++)
                for (ptrdiff_t j = larger(0, -q.column); j < smaller(POINTS, q.columns - q.column); j++) {
                    real *to = dx + q.base + ((q.row + i) * q.columns + q.column + j) * q.channels + c;
                    store_some(to, load_some(to, s->c - c) + out[i * POINTS + j], s->c - c);
                }
        }
    }
}

INLINE void collect_kernel(real *dw, const real *dU, const window_shape *s, const int taps, const real *matrix,
                           ptrdiff_t c) {
    for (ptrdiff_t k = 0; k < s->k; k += LANES) {
        vec out[MAX_TAPS * MAX_TAPS];
        collect_2d(matrix, taps, dU + (k / PANEL * s->c + c) * PANEL + k % PANEL, frequency_step(s->c, s->k), out);
        for (ptrdiff_t i = 0; i < s->r; i++)
            for (ptrdiff_t j = 0; j < s->s; j++)
                store_some(dw + ((i * s->s + j) * s->c + c) * s->k + k, out[i * taps + j], s->k - k);
    }
}

static void winograd_collect_kernel(void *dw, const void *dU, const window_shape *s, ptrdiff_t c) {
    if (tile_outputs(s) == 4)
        collect_kernel(dw, dU, s, 5, &KERNEL_5[0][0], c);
    else
        collect_kernel(dw, dU, s, 3, &KERNEL_3[0][0], c);
}

static ptrdiff_t winograd_kernel_size(const window_shape *s, int transposed) {
    return FREQUENCIES * (transposed ? frequency_step(s->k, s->c) : frequency_step(s->c, s->k));
}

/* Tiles handled at once: as many as leave the evaluated tiles in the L2 cache. */
static ptrdiff_t winograd_block(const window_shape *s) {
    const ptrdiff_t fit = (ptrdiff_t)(640 * 1024 / sizeof(real)) / (FREQUENCIES * (padded(s->c) + padded(s->k)));
    return larger(TILE_ROWS, smaller(48, fit / TILE_ROWS * TILE_ROWS));
}

static ptrdiff_t winograd_tiles(const window_shape *s) { return tiles_down(s) * tiles_across(s); }

static ptrdiff_t winograd_scratch(const window_shape *s) {
    const ptrdiff_t block = winograd_block(s);
    return FREQUENCIES * (frequency_step(block, s->c) + frequency_step(block, s->k));
}

static void winograd_forward(void *y, const void *x, const void *U, const void *bias, const window_shape *s, int relu,
                             ptrdiff_t first, ptrdiff_t last, void *scratch) {
    const ptrdiff_t rows = last - first, V_step = frequency_step(rows, s->c), M_step = frequency_step(rows, s->k);
    real *V = scratch, *M = V + FREQUENCIES * V_step;
    evaluate_input(V, x, s, first, last);
    for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
        gemm_panels(M + f * M_step, V + f * V_step, (const real *)U + f * frequency_step(s->c, s->k), rows, s->k, s->c);
    if (tile_outputs(s) == 4)
        collect_output(y, M, bias, s, relu, 4, &OUTPUT_4[0][0], first, last);
    else
        collect_output(y, M, bias, s, relu, 6, &OUTPUT_6[0][0], first, last);
}

/* Adds what the tiles first <= t < last (a block at a time) give to dx and, if accumulate, to dU, each of which may be NULL. */
static void winograd_backward(void *dx, void *dU, int accumulate, const void *x, const void *dy, const void *Ut,
                              const window_shape *s, ptrdiff_t first, ptrdiff_t last, void *scratch) {
    const ptrdiff_t block = winograd_block(s);
    for (ptrdiff_t t = first; t < last; t += block) {
        const ptrdiff_t end = smaller(t + block, last), rows = end - t;
        const ptrdiff_t V_step = frequency_step(rows, s->c), M_step = frequency_step(rows, s->k);
        real *V = scratch, *dM = V + FREQUENCIES * V_step;
        evaluate_grad(dM, dy, s, t, end);
        if (dx) {
            for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
                gemm_panels(V + f * V_step, dM + f * M_step, (const real *)Ut + f * frequency_step(s->k, s->c), rows, s->c,
                            s->k);
            collect_grad_input(dx, V, s, t, end);
        }
        if (dU) {
            evaluate_input(V, x, s, t, end);
            for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
                gemm_panels_transposed((real *)dU + f * frequency_step(s->c, s->k), V + f * V_step, dM + f * M_step, s->c,
                                       s->k, rows, accumulate || t > first);
        }
    }
}

#endif
