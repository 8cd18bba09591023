/* Winograd's minimal filtering for stride-1 convolutions, all three passes.
 *
 * Lavin & Gray (2016), "Fast Algorithms for Convolutional Neural Networks": a tile of m x m outputs is computed from
 * (m + r - 1)^2 inputs as Y = A' [ (G w G') * (B' x B) ] A, ' transposed, where * is elementwise and, summed over the
 * channels, becomes one matrix product for each frequency. The gradients are the same algorithm transposed: with dM = A
 * dY A', dX = B [ (G w G')' dM ] B', overlapping tiles added up, and dW = G' [ sum over tiles of (B' x B)' dM ] G.
 *
 * In scratch a matrix (rows, n) lies in panels, element (i, j) at [j / PANEL][i][j % PANEL], so that it can stand
 * on either side of a product without being packed again. */
#ifndef CVAE_WINOGRAD_H
#define CVAE_WINOGRAD_H

#include "cook_toom.h"

enum { FREQUENCIES = POINTS * POINTS, MAX_TAPS = MAX_WINOGRAD_KERNEL };

/* out (POINTS, POINTS)[stride] = half (POINTS, columns), whose column i is row i of a square, evaluated, times matrix
 * transposed.  Frequencies end up transposed, which lets both transforms read and write pixels row by row. */
INLINE void evaluate_columns(const real *matrix, const int columns, const vec *half, real *out, ptrdiff_t stride) {
    vec line[POINTS];
    for (int j = 0; j < POINTS; j++) {
        evaluate(matrix, columns, half + j * columns, line, 1);
        UNROLL for (int i = 0; i < POINTS; i++) store(out + (j * POINTS + i) * stride, line[i]);
    }
}

INLINE ptrdiff_t whole_panels(ptrdiff_t n) { return (n + PANEL - 1) / PANEL * PANEL; }

/* Distance between the matrices (rows, n) of neighbouring frequencies.  It is an odd number of cache lines: the
 * transforms visit all frequencies, which would otherwise compete for the same few cache sets. */
INLINE ptrdiff_t frequency_stride(ptrdiff_t rows, ptrdiff_t n) {
    return whole_panels(rows * whole_panels(n)) + 64 / (ptrdiff_t)sizeof(real);
}

/* Outputs along each axis of a tile. */
INLINE int tile_outputs(const window_shape *s) { return winograd_outputs(larger(s->r, s->s)); }

INLINE ptrdiff_t tiles_down(const window_shape *s) { return (s->oh + tile_outputs(s) - 1) / tile_outputs(s); }
INLINE ptrdiff_t tiles_across(const window_shape *s) { return (s->ow + tile_outputs(s) - 1) / tile_outputs(s); }

/* The image of a tile, and its first output row and column. */
INLINE pixel tile_at(const window_shape *s, ptrdiff_t tile) {
    const ptrdiff_t across = tiles_across(s), down = tiles_down(s), m = tile_outputs(s);
    pixel at = {tile / (across * down), tile / across % down * m, tile % across * m};
    return at;
}

/* A square of at most POINTS x POINTS pixels of images (.., rows, columns, channels). */
typedef struct {
    ptrdiff_t base;  /* offset of the image */
    ptrdiff_t row, column; /* of the first pixel, which may lie outside the image */
    ptrdiff_t rows, columns, channels;
    ptrdiff_t row_stride, column_stride; /* from pixel to pixel */
} square;

INLINE square input_square(const window_shape *s, pixel at) {
    square q = {at.image * s->h * s->w * s->c, at.i - s->pad_top, at.j - s->pad_left, s->h, s->w, s->c,
                s->w * s->c, s->c};
    return q;
}

INLINE square output_square(const window_shape *s, pixel at) {
    square q = {at.image * s->oh * s->ow * s->k, at.i, at.j, s->oh, s->ow, s->k, s->ow * s->k, s->k};
    return q;
}

/* Of a square's `size` rows or columns, which start at `at`, the range inside an image of `count`. */
INLINE ptrdiff_t first_inside(ptrdiff_t at) { return larger(0, -at); }
INLINE ptrdiff_t end_inside(ptrdiff_t at, const int size, ptrdiff_t count) { return smaller(size, count - at); }

INLINE int is_inside(const square *q, const int size, ptrdiff_t c) {
    return q->row >= 0 && q->row + size <= q->rows && q->column >= 0 && q->column + size <= q->columns &&
           c + LANES <= q->channels;
}

/* The offset of channel c of pixel (i, j) of the square; the pixel lies inside. */
INLINE ptrdiff_t place(const square *q, ptrdiff_t i, ptrdiff_t j, ptrdiff_t c) {
    return q->base + (q->row + i) * q->row_stride + (q->column + j) * q->column_stride + c;
}

/* line (size) = row i of the square, zero outside the image, channels c <= . < c + LANES. */
INLINE void load_line(vec *line, const int size, const real *images, const square *q, ptrdiff_t i, ptrdiff_t c,
                      const int inside) {
    if (inside) {
        const real *first = images + place(q, i, 0, c);
        UNROLL for (int j = 0; j < size; j++) line[j] = load(first + j * q->column_stride);
    } else if (q->row + i < 0 || q->row + i >= q->rows) {
        UNROLL for (int j = 0; j < size; j++) line[j] = broadcast(0);
    } else {
        UNROLL for (int j = 0; j < size; j++)
            line[j] = q->column + j >= 0 && q->column + j < q->columns
                          ? load_some(images + place(q, i, j, c), q->channels - c)
                          : broadcast(0);
    }
}

/* half (POINTS, size) = matrix times the square's rows as columns. */
INLINE void evaluate_rows(const real *matrix, const int size, const real *images, const square *q, ptrdiff_t c,
                          const int inside, vec *half) {
    vec line[POINTS];
    for (int i = 0; i < size; i++) {
        load_line(line, size, images, q, i, c, inside);
        evaluate(matrix, size, line, half + i, size);
    }
}

/* V (FREQUENCIES, rows, n) in panels = the tiles' squares of n channels, evaluated; row i is tile first + i. */
INLINE void evaluate_tiles(real *V, const real *images, const window_shape *s, const int size, const real *matrix,
                           const int is_input, ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t rows = last - first, n = is_input ? s->c : s->k, stride = frequency_stride(rows, n);
    for (ptrdiff_t t = first; t < last; t++) {
        const pixel at = tile_at(s, t);
        const square q = is_input ? input_square(s, at) : output_square(s, at);
        for (ptrdiff_t c = 0; c < whole_panels(n); c += LANES) {
            vec half[POINTS * POINTS];
            if (is_inside(&q, size, c))
                evaluate_rows(matrix, size, images, &q, c, 1, half);
            else
                evaluate_rows(matrix, size, images, &q, c, 0, half);
            evaluate_columns(matrix, size, half, V + (c / PANEL * rows + t - first) * PANEL + c % PANEL, stride);
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

/* block (taps, taps, LANES, LANES) = the kernels of LANES input and LANES output channels from (c, k) on, the output
 * channels side by side, or, if transposed, the input channels; zero beyond the weights. */
INLINE void load_kernels(real *block, const real *w, const window_shape *s, const int taps, const int transposed,
                         ptrdiff_t c, ptrdiff_t k) {
    if (s->r < taps || s->s < taps) memset(block, 0, (size_t)(taps * taps * LANES * LANES) * sizeof(real));
    for (ptrdiff_t t = 0; t < s->r * s->s; t++) {
        const real *from = w + (t * s->c + c) * s->k + k;
        real *to = block + (t / s->s * taps + t % s->s) * LANES * LANES;
        vec rows[LANES];
        UNROLL for (int i = 0; i < LANES; i++)
            rows[i] = c + i < s->c ? load_some(from + i * s->k, s->k - k) : broadcast(0);
        if (transposed) transpose(rows);
        UNROLL for (int i = 0; i < LANES; i++) store(to + i * LANES, rows[i]);
    }
}

/* U (FREQUENCIES, C, K) in panels or, if transposed, (FREQUENCIES, K, C) = the kernels, evaluated; rows
 * first <= i < last. */
INLINE void evaluate_kernels(real *U, const real *w, const window_shape *s, const int taps, const real *matrix,
                             const int transposed, ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t rows = transposed ? s->k : s->c, n = transposed ? s->c : s->k, stride = frequency_stride(rows, n);
    for (ptrdiff_t i = first; i < last; i += LANES)
        for (ptrdiff_t j = 0; j < whole_panels(n); j += LANES) {
            real block[MAX_TAPS * MAX_TAPS * LANES * LANES];
            load_kernels(block, w, s, taps, transposed, transposed ? j : i, transposed ? i : j);
            for (ptrdiff_t row = i; row < smaller(i + LANES, last); row++) {
                vec half[POINTS * MAX_TAPS], line[MAX_TAPS];
                for (int r = 0; r < taps; r++) {
                    UNROLL for (int t = 0; t < taps; t++)
                        line[t] = load(block + ((r * taps + t) * LANES + row - i) * LANES);
                    evaluate(matrix, taps, line, half + r, taps);
                }
                evaluate_columns(matrix, taps, half, U + (j / PANEL * rows + row) * PANEL + j % PANEL, stride);
            }
        }
}

static void winograd_kernel(void *U, const void *w, const window_shape *s, int transposed, ptrdiff_t first,
                            ptrdiff_t last) {
    if (tile_outputs(s) == 4)
        evaluate_kernels(U, w, s, 5, &KERNEL_5[0][0], transposed, first, last);
    else
        evaluate_kernels(U, w, s, 3, &KERNEL_3[0][0], transposed, first, last);
}

/* Channels c <= . < c + LANES of the square in images = matrix transposed times
 * in (POINTS, POINTS)[stride] times matrix; added to what is there, or with bias and ReLU. */
INLINE void collect_2d(real *images, const square *q, ptrdiff_t c, const real *matrix, const int columns,
                       const real *in, ptrdiff_t stride, const int add, vec bias, int relu) {
    const ptrdiff_t first = first_inside(q->column), end = end_inside(q->column, columns, q->columns);
    const int inside = is_inside(q, columns, c);
    vec half[POINTS * POINTS], line[POINTS];
    for (int j = 0; j < POINTS; j++) {
        UNROLL for (int i = 0; i < POINTS; i++) line[i] = load(in + (j * POINTS + i) * stride);
        collect(matrix, columns, line, 1, half + j * columns);
    }
    for (ptrdiff_t i = first_inside(q->row); i < end_inside(q->row, columns, q->rows); i++) {
        collect(matrix, columns, half + i, columns, line);
        if (inside) {
            real *to = images + place(q, i, 0, c);
            UNROLL for (int j = 0; j < columns; j++) {
                const vec v = line[j] + (add ? load(to + j * q->column_stride) : bias);
                store(to + j * q->column_stride, relu ? positive_part(v) : v);
            }
        } else {
            vec edge[POINTS]; /* a copy, because indexing `line` at run time would force it out of registers */
            UNROLL for (int j = 0; j < columns; j++) edge[j] = line[j];
            for (ptrdiff_t j = first; j < end; j++) {
                real *to = images + place(q, i, j, c);
                const vec v = edge[j] + (add ? load_some(to, q->channels - c) : bias);
                store_some(to, relu ? positive_part(v) : v, q->channels - c);
            }
        }
    }
}

/* y = the tiles' outputs from M (FREQUENCIES, rows, K) in panels, with bias and ReLU. */
INLINE void collect_output(real *y, const real *M, const real *bias, const window_shape *s, int relu, const int m,
                           const real *matrix, ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t rows = last - first, stride = frequency_stride(rows, s->k);
    for (ptrdiff_t t = first; t < last; t++) {
        const square q = output_square(s, tile_at(s, t));
        for (ptrdiff_t k = 0; k < s->k; k += LANES)
            collect_2d(y, &q, k, matrix, m, M + (k / PANEL * rows + t - first) * PANEL + k % PANEL, stride, 0,
                       load_some(bias + k, s->k - k), relu);
    }
}

/* Adds the tiles' input gradients from dV (FREQUENCIES, rows, C) in panels to dx. */
static void collect_grad_input(real *dx, const real *dV, const window_shape *s, ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t rows = last - first, stride = frequency_stride(rows, s->c);
    for (ptrdiff_t t = first; t < last; t++) {
        const square q = input_square(s, tile_at(s, t));
        for (ptrdiff_t c = 0; c < s->c; c += LANES)
            collect_2d(dx, &q, c, &INPUT[0][0], POINTS, dV + (c / PANEL * rows + t - first) * PANEL + c % PANEL,
                       stride, 1, broadcast(0), 0);
    }
}

/* Input channel c of dw (R, S, C, K) from dU (FREQUENCIES, C, K) in panels. */
INLINE void collect_kernel(real *dw, const real *dU, const window_shape *s, const int taps, const real *matrix,
                           ptrdiff_t c) {
    const square q = {c * s->k, 0, 0, s->r, s->s, s->k, s->s * s->c * s->k, s->c * s->k};
    for (ptrdiff_t k = 0; k < s->k; k += LANES)
        collect_2d(dw, &q, k, matrix, taps, dU + (k / PANEL * s->c + c) * PANEL + k % PANEL,
                   frequency_stride(s->c, s->k), 0, broadcast(0), 0);
}

static void winograd_collect_kernel(void *dw, const void *dU, const window_shape *s, ptrdiff_t c) {
    if (tile_outputs(s) == 4)
        collect_kernel(dw, dU, s, 5, &KERNEL_5[0][0], c);
    else
        collect_kernel(dw, dU, s, 3, &KERNEL_3[0][0], c);
}

static ptrdiff_t winograd_kernel_size(const window_shape *s, int transposed) {
    return FREQUENCIES * (transposed ? frequency_stride(s->k, s->c) : frequency_stride(s->c, s->k));
}

/* Tiles handled at once: as many as fit the L2 cache when evaluated. */
static ptrdiff_t winograd_block(const window_shape *s) {
    const ptrdiff_t tile_size = FREQUENCIES * (whole_panels(s->c) + whole_panels(s->k));
    const ptrdiff_t fit = (ptrdiff_t)(640 * 1024 / sizeof(real)) / tile_size;
    return larger(TILE_ROWS, smaller(48, fit / TILE_ROWS * TILE_ROWS));
}

static ptrdiff_t winograd_tiles(const window_shape *s) { return tiles_down(s) * tiles_across(s); }

static ptrdiff_t winograd_scratch(const window_shape *s) {
    const ptrdiff_t block = winograd_block(s);
    return FREQUENCIES * (frequency_stride(block, s->c) + frequency_stride(block, s->k));
}

static void winograd_forward(void *y, const void *x, const void *U, const void *bias, const window_shape *s, int relu,
                             ptrdiff_t first, ptrdiff_t last, void *scratch) {
    const ptrdiff_t rows = last - first, U_stride = frequency_stride(s->c, s->k);
    const ptrdiff_t V_stride = frequency_stride(rows, s->c), M_stride = frequency_stride(rows, s->k);
    real *V = scratch, *M = V + FREQUENCIES * V_stride;
    evaluate_input(V, x, s, first, last);
    for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
        gemm_panels(M + f * M_stride, V + f * V_stride, (const real *)U + f * U_stride, rows, s->k, s->c);
    if (tile_outputs(s) == 4)
        collect_output(y, M, bias, s, relu, 4, &OUTPUT_4[0][0], first, last);
    else
        collect_output(y, M, bias, s, relu, 6, &OUTPUT_6[0][0], first, last);
}

/* Goes through the tiles a block at a time. */
static void winograd_backward(void *dx, void *dU, int accumulate, const void *x, const void *dy, const void *Ut,
                              const window_shape *s, ptrdiff_t first, ptrdiff_t last, void *scratch) {
    const ptrdiff_t block = winograd_block(s);
    for (ptrdiff_t t = first; t < last; t += block) {
        const ptrdiff_t end = smaller(t + block, last), rows = end - t;
        const ptrdiff_t V_stride = frequency_stride(rows, s->c), M_stride = frequency_stride(rows, s->k);
        real *V = scratch, *dM = V + FREQUENCIES * V_stride;
        evaluate_grad(dM, dy, s, t, end);
        if (dx) {
            for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
                gemm_panels(V + f * V_stride, dM + f * M_stride, (const real *)Ut + f * frequency_stride(s->k, s->c),
                            rows, s->c, s->k);
            collect_grad_input(dx, V, s, t, end);
        }
        if (dU) {
            const ptrdiff_t size = s->c * whole_panels(s->k), stride = frequency_stride(s->c, s->k);
            evaluate_input(V, x, s, t, end);
            for (ptrdiff_t f = 0; f < FREQUENCIES; f++) {
                real *to = (real *)dU + f * stride;
                gemm_panels_transposed(to, V + f * V_stride, dM + f * M_stride, s->c, s->k, rows,
                                       accumulate || t > first);
                memset(to + size, 0, (size_t)(stride - size) * sizeof(real)); /* accumulators are added as a whole */
            }
        }
    }
}

#endif
