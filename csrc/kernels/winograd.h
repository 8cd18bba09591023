/* Winograd's minimal filtering, all three passes.
 *
 * Lavin & Gray (2016), "Fast Algorithms for Convolutional Neural Networks": a tile of m x m outputs is computed from
 * (m + r - 1)^2 inputs as Y = A' [ (G w G') * (B' x B) ] A, ' transposed, where * is elementwise and, summed over the
 * channels, becomes one matrix product for each frequency. The gradients are the same algorithm transposed: with dM = A
 * dY A', dX = B [ (G w G')' dM ] B', overlapping tiles added up, and dW = G' [ sum over tiles of (B' x B)' dM ] G.
 *
 * A convolution of any stride becomes one of stride 1 by polyphase decomposition: phase (p, q) of the padded image is
 * its pixels in rows p, p + stride, ... and columns q, q + stride, ..., and the taps (p + a * stride, q + b * stride)
 * see only that phase.  The phases count as input channels of a kernel of ceil(R / stride) x ceil(S / stride) taps,
 * some of them zero if the stride does not divide R and S.  No phase is ever copied: those of a row lie side by side in
 * an image whose channels come last, so that a pixel of all of them is `stride` neighbouring pixels of the image.
 *
 * In scratch a matrix (rows, n) lies in panels, element (i, j) at [j / PANEL][i][j % PANEL], so that it can stand
 * on either side of a product without being packed again. */
#ifndef CVAE_WINOGRAD_H
#define CVAE_WINOGRAD_H

#include "cook_toom.h"

enum { FREQUENCIES = POINTS * POINTS, MAX_TAPS = MAX_WINOGRAD_KERNEL };

/* Calls function(..., m, matrix) for the m outputs, or taps, of a shape's tile, which are constants at each call. */
#define CALL_FOR_OUTPUTS(outputs, function, ...)                                                                       \
    switch (outputs) {                                                                                                 \
    case 4: function(__VA_ARGS__, 4, &OUTPUT_4[0][0]); break;                                                          \
    case 6: function(__VA_ARGS__, 6, &OUTPUT_6[0][0]); break;                                                          \
    default: function(__VA_ARGS__, 7, &OUTPUT_7[0][0]);                                                                \
    }
#define CALL_FOR_TAPS(outputs, function, ...)                                                                          \
    switch (outputs) {                                                                                                 \
    case 4: function(__VA_ARGS__, 5, &KERNEL_5[0][0]); break;                                                          \
    case 6: function(__VA_ARGS__, 3, &KERNEL_3[0][0]); break;                                                          \
    default: function(__VA_ARGS__, 2, &KERNEL_2[0][0]);                                                                \
    }

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
INLINE int tile_outputs(const window_shape *s) {
    return winograd_outputs((larger(s->r, s->s) + s->stride - 1) / s->stride);
}

/* The channels of all phases, in order: for each row of phases that has taps, `phase_run` elements that are neighbours
 * in the image, and zeros up to whole vectors, but for the last row. */
INLINE ptrdiff_t phase_run(const window_shape *s) { return smaller(s->stride, s->s) * s->c; }
static ptrdiff_t winograd_channels(const window_shape *s) {
    return (smaller(s->stride, s->r) - 1) * whole_vectors(phase_run(s)) + phase_run(s);
}

/* The row of phases of a vector of channels from v on, and the first one's place in it. */
typedef struct {
    ptrdiff_t row, place;
} phase_place;

INLINE phase_place place_in_phases(const window_shape *s, ptrdiff_t v) {
    const ptrdiff_t width = whole_vectors(phase_run(s)), row = smaller(v / width, smaller(s->stride, s->r) - 1);
    const phase_place at = {row, v - row * width};
    return at;
}

INLINE ptrdiff_t tiles_down(const window_shape *s) { return (s->oh + tile_outputs(s) - 1) / tile_outputs(s); }
INLINE ptrdiff_t tiles_across(const window_shape *s) { return (s->ow + tile_outputs(s) - 1) / tile_outputs(s); }

/* The image of a tile, and its first output row and column. */
INLINE pixel tile_at(const window_shape *s, ptrdiff_t tile) {
    const ptrdiff_t across = tiles_across(s), down = tiles_down(s), m = tile_outputs(s);
    pixel at = {tile / (across * down), tile / across % down * m, tile % across * m};
    return at;
}

/* A square of at most POINTS x POINTS pixels, some of which may lie outside the image: every step-th row of it, and
 * `channels` of every column_stride elements of a row. */
typedef struct {
    ptrdiff_t base;          /* offset of the image */
    ptrdiff_t row, step;     /* the first row */
    ptrdiff_t begin, column_stride; /* the first pixel's offset in its row */
    ptrdiff_t rows, length, channels; /* of the image, elements of a row, and channels of a pixel */
} square;

/* The part of the input that a tile sees of a row of phases. */
INLINE square input_square(const window_shape *s, pixel at, ptrdiff_t phase_row) {
    square q = {at.image * s->h * s->w * s->c,
                at.i * s->stride + phase_row - s->pad_top, s->stride,
                (at.j * s->stride - s->pad_left) * s->c, s->stride * s->c,
                s->h, s->w * s->c, phase_run(s)};
    return q;
}

INLINE square output_square(const window_shape *s, pixel at) {
    square q = {at.image * s->oh * s->ow * s->k, at.i, 1, at.j * s->k, s->k, s->oh, s->ow * s->k, s->k};
    return q;
}

/* Whether a vector from channel c on lies inside the image for all pixels of the square. */
INLINE int is_inside(const square *q, const int size, ptrdiff_t c) {
    return q->row >= 0 && q->row + (size - 1) * q->step < q->rows && q->begin + c >= 0 &&
           q->begin + (size - 1) * q->column_stride + c + LANES <= q->length && c + LANES <= q->channels;
}

INLINE int has_row(const square *q, ptrdiff_t i) {
    const ptrdiff_t row = q->row + i * q->step;
    return row >= 0 && row < q->rows;
}

/* The lanes first <= . < last of a vector from channel c of pixel (i, j) on, `offset` in the images, that lie inside;
 * row i does. */
typedef struct {
    ptrdiff_t offset, first, last;
} lanes_inside;

INLINE lanes_inside lanes_of(const square *q, ptrdiff_t i, ptrdiff_t j, ptrdiff_t c) {
    const ptrdiff_t in_row = q->begin + j * q->column_stride + c;
    const lanes_inside lanes = {q->base + (q->row + i * q->step) * q->length + in_row, larger(0, -in_row),
                                smaller(smaller(LANES, q->channels - c), q->length - in_row)};
    return lanes;
}

INLINE vec load_lanes(const real *images, lanes_inside lanes) {
    if (lanes.first >= lanes.last) return broadcast(0);
    if (lanes.first == 0) return load_some(images + lanes.offset, lanes.last);
    real part[LANES] = {0};
    for (ptrdiff_t i = lanes.first; i < lanes.last; i++) part[i] = images[lanes.offset + i];
    return load(part);
}

INLINE void store_lanes(real *images, vec v, lanes_inside lanes) {
    if (lanes.first == 0) {
        store_some(images + lanes.offset, v, lanes.last);
        return;
    }
    real part[LANES];
    store(part, v);
    for (ptrdiff_t i = lanes.first; i < lanes.last; i++) images[lanes.offset + i] = part[i];
}

/* line (size) = row i of the square, zero outside the image, channels c <= . < c + LANES. */
INLINE void load_line(vec *line, const int size, const real *images, const square *q, ptrdiff_t i, ptrdiff_t c,
                      const int inside) {
    if (inside) {
        const real *first = images + lanes_of(q, i, 0, c).offset;
        UNROLL for (int j = 0; j < size; j++) line[j] = load(first + j * q->column_stride);
    } else if (!has_row(q, i)) {
        UNROLL for (int j = 0; j < size; j++) line[j] = broadcast(0);
    } else {
        UNROLL for (int j = 0; j < size; j++) line[j] = load_lanes(images, lanes_of(q, i, j, c));
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
INLINE void evaluate_tiles(real *V, const real *images, const window_shape *s, const int is_input, ptrdiff_t first,
                           ptrdiff_t last, const int size, const real *matrix) {
    const ptrdiff_t rows = last - first, n = is_input ? winograd_channels(s) : s->k, stride = frequency_stride(rows, n);
    for (ptrdiff_t t = first; t < last; t++) {
        const pixel at = tile_at(s, t);
        for (ptrdiff_t v = 0; v < whole_panels(n); v += LANES) {
            const phase_place in = place_in_phases(s, v);
            const square q = is_input ? input_square(s, at, in.row) : output_square(s, at);
            const ptrdiff_t c = is_input ? in.place : v;
            vec half[POINTS * POINTS];
            if (is_inside(&q, size, c))
                evaluate_rows(matrix, size, images, &q, c, 1, half);
            else
                evaluate_rows(matrix, size, images, &q, c, 0, half);
            evaluate_columns(matrix, size, half, V + (v / PANEL * rows + t - first) * PANEL + v % PANEL, stride);
        }
    }
}

static void evaluate_input(real *V, const real *x, const window_shape *s, ptrdiff_t first, ptrdiff_t last) {
    evaluate_tiles(V, x, s, 1, first, last, POINTS, &INPUT[0][0]);
}

static void evaluate_grad(real *dM, const real *dy, const window_shape *s, ptrdiff_t first, ptrdiff_t last) {
    CALL_FOR_OUTPUTS(tile_outputs(s), evaluate_tiles, dM, dy, s, 0, first, last)
}

/* block (taps, taps, LANES, LANES) = the kernels of LANES channels of the phases, from v on, and LANES output channels,
 * from k on; the output channels side by side or, if transposed, the others; zero where there is no weight. */
INLINE void load_kernels(real *block, const real *w, const window_shape *s, const int taps, const int transposed,
                         ptrdiff_t v, ptrdiff_t k) {
    const phase_place in = place_in_phases(s, v);
    const ptrdiff_t run = phase_run(s), row_length = s->s * s->c;
    for (ptrdiff_t t = 0; t < taps * taps; t++) {
        const ptrdiff_t r = in.row + t / taps * s->stride, begin = in.place + t % taps * s->stride * s->c;
        const ptrdiff_t count = r < s->r ? smaller(run - in.place, row_length - begin) : 0;
        vec rows[LANES];
        UNROLL for (int i = 0; i < LANES; i++)
            rows[i] = i < count ? load_some(w + (r * row_length + begin + i) * s->k + k, s->k - k) : broadcast(0);
        if (transposed) transpose(rows);
        UNROLL for (int i = 0; i < LANES; i++) store(block + (t * LANES + i) * LANES, rows[i]);
    }
}

/* U (FREQUENCIES, n, K) in panels, for the n channels of all phases, or, if transposed, (FREQUENCIES, K, n) = the
 * kernels, evaluated; rows first <= i < last. */
INLINE void evaluate_kernels(real *U, const real *w, const window_shape *s, const int transposed, ptrdiff_t first,
                             ptrdiff_t last, const int taps, const real *matrix) {
    const ptrdiff_t channels = winograd_channels(s);
    const ptrdiff_t rows = transposed ? s->k : channels, n = transposed ? channels : s->k;
    const ptrdiff_t stride = frequency_stride(rows, n);
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
    CALL_FOR_TAPS(tile_outputs(s), evaluate_kernels, U, w, s, transposed, first, last)
}

/* Channels c <= . < c + LANES of the square in images = matrix transposed times
 * in (POINTS, POINTS)[stride] times matrix; added to what is there, or with bias and ReLU. */
INLINE void collect_2d(real *images, const square *q, ptrdiff_t c, const real *in, ptrdiff_t stride, const int add,
                       vec bias, int relu, const int columns, const real *matrix) {
    const int inside = is_inside(q, columns, c);
    vec half[POINTS * POINTS], line[POINTS];
    for (int j = 0; j < POINTS; j++) {
        UNROLL for (int i = 0; i < POINTS; i++) line[i] = load(in + (j * POINTS + i) * stride);
        collect(matrix, columns, line, 1, half + j * columns);
    }
    for (ptrdiff_t i = 0; i < columns; i++) {
        if (!has_row(q, i)) continue;
        collect(matrix, columns, half + i, columns, line);
        if (inside) {
            real *to = images + lanes_of(q, i, 0, c).offset;
            UNROLL for (int j = 0; j < columns; j++) {
                const vec v = line[j] + (add ? load(to + j * q->column_stride) : bias);
                store(to + j * q->column_stride, relu ? positive_part(v) : v);
            }
        } else {
            vec edge[POINTS]; /* a copy, because indexing `line` at run time would force it out of registers */
            UNROLL for (int j = 0; j < columns; j++) edge[j] = line[j];
            for (ptrdiff_t j = 0; j < columns; j++) {
                const lanes_inside lanes = lanes_of(q, i, j, c);
                if (lanes.first >= lanes.last) continue;
                const vec v = edge[j] + (add ? load_lanes(images, lanes) : bias);
                store_lanes(images, relu ? positive_part(v) : v, lanes);
            }
        }
    }
}

/* y = the tiles' outputs from M (FREQUENCIES, rows, K) in panels, with bias and ReLU. */
INLINE void collect_output(real *y, const real *M, const real *bias, const window_shape *s, int relu, ptrdiff_t first,
                           ptrdiff_t last, const int m, const real *matrix) {
    const ptrdiff_t rows = last - first, stride = frequency_stride(rows, s->k);
    for (ptrdiff_t t = first; t < last; t++) {
        const square q = output_square(s, tile_at(s, t));
        for (ptrdiff_t k = 0; k < s->k; k += LANES)
            collect_2d(y, &q, k, M + (k / PANEL * rows + t - first) * PANEL + k % PANEL, stride, 0,
                       load_some(bias + k, s->k - k), relu, m, matrix);
    }
}

/* Adds the tiles' input gradients from dV (FREQUENCIES, rows, n), n channels of all phases, in panels to dx. */
static void collect_grad_input(real *dx, const real *dV, const window_shape *s, ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t rows = last - first, channels = winograd_channels(s), stride = frequency_stride(rows, channels);
    for (ptrdiff_t t = first; t < last; t++) {
        const pixel at = tile_at(s, t);
        for (ptrdiff_t v = 0; v < channels; v += LANES) {
            const phase_place in = place_in_phases(s, v);
            const square q = input_square(s, at, in.row);
            collect_2d(dx, &q, in.place, dV + (v / PANEL * rows + t - first) * PANEL + v % PANEL, stride, 1,
                       broadcast(0), 0, POINTS, &INPUT[0][0]);
        }
    }
}

/* Channel v of the phases of dw (R, S, C, K) from dU (FREQUENCIES, n, K) in panels. */
INLINE void collect_kernel(real *dw, const real *dU, const window_shape *s, ptrdiff_t v, const int taps,
                           const real *matrix) {
    const phase_place in = place_in_phases(s, v);
    const ptrdiff_t channels = winograd_channels(s);
    const square q = {0, in.row, s->stride, in.place * s->k, s->stride * s->c * s->k, s->r, s->s * s->c * s->k, s->k};
    if (in.place >= phase_run(s)) return;
    for (ptrdiff_t k = 0; k < s->k; k += LANES)
        collect_2d(dw, &q, k, dU + (k / PANEL * channels + v) * PANEL + k % PANEL, frequency_stride(channels, s->k), 0,
                   broadcast(0), 0, taps, matrix);
}

static void winograd_collect_kernel(void *dw, const void *dU, const window_shape *s, ptrdiff_t v) {
    CALL_FOR_TAPS(tile_outputs(s), collect_kernel, dw, dU, s, v)
}

static ptrdiff_t winograd_kernel_size(const window_shape *s, int transposed) {
    const ptrdiff_t channels = winograd_channels(s);
    return FREQUENCIES * (transposed ? frequency_stride(s->k, channels) : frequency_stride(channels, s->k));
}

/* Tiles handled at once: as many as fit the L2 cache when evaluated, but enough to pay for reading all weights. */
static ptrdiff_t winograd_block(const window_shape *s) {
    const ptrdiff_t tile_size = FREQUENCIES * (whole_panels(winograd_channels(s)) + whole_panels(s->k));
    const ptrdiff_t fit = (ptrdiff_t)(640 * 1024 / sizeof(real)) / tile_size;
    return larger(24, smaller(48, fit / TILE_ROWS * TILE_ROWS));
}

static ptrdiff_t winograd_tiles(const window_shape *s) { return tiles_down(s) * tiles_across(s); }

static ptrdiff_t winograd_scratch(const window_shape *s) {
    const ptrdiff_t block = winograd_block(s);
    return FREQUENCIES * (frequency_stride(block, winograd_channels(s)) + frequency_stride(block, s->k));
}

static void winograd_forward(void *y, const void *x, const void *U, const void *bias, const window_shape *s, int relu,
                             ptrdiff_t first, ptrdiff_t last, void *scratch) {
    const ptrdiff_t rows = last - first, channels = winograd_channels(s), U_stride = frequency_stride(channels, s->k);
    const ptrdiff_t V_stride = frequency_stride(rows, channels), M_stride = frequency_stride(rows, s->k);
    real *V = scratch, *M = V + FREQUENCIES * V_stride;
    evaluate_input(V, x, s, first, last);
    for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
        gemm_panels(M + f * M_stride, V + f * V_stride, (const real *)U + f * U_stride, rows, s->k, channels);
    CALL_FOR_OUTPUTS(tile_outputs(s), collect_output, y, M, bias, s, relu, first, last)
}

/* Goes through the tiles a block at a time. */
static void winograd_backward(void *dx, void *dU, int accumulate, const void *x, const void *dy, const void *Ut,
                              const window_shape *s, ptrdiff_t first, ptrdiff_t last, void *scratch) {
    const ptrdiff_t block = winograd_block(s), channels = winograd_channels(s);
    for (ptrdiff_t t = first; t < last; t += block) {
        const ptrdiff_t end = smaller(t + block, last), rows = end - t;
        const ptrdiff_t V_stride = frequency_stride(rows, channels), M_stride = frequency_stride(rows, s->k);
        real *V = scratch, *dM = V + FREQUENCIES * V_stride;
        evaluate_grad(dM, dy, s, t, end);
        if (dx) {
            for (ptrdiff_t f = 0; f < FREQUENCIES; f++)
                gemm_panels(V + f * V_stride, dM + f * M_stride,
                            (const real *)Ut + f * frequency_stride(s->k, channels), rows, channels, s->k);
            collect_grad_input(dx, V, s, t, end);
        }
        if (dU) {
            const ptrdiff_t size = channels * whole_panels(s->k), stride = frequency_stride(channels, s->k);
            evaluate_input(V, x, s, t, end);
            for (ptrdiff_t f = 0; f < FREQUENCIES; f++) {
                real *to = (real *)dU + f * stride;
                gemm_panels_transposed(to, V + f * V_stride, dM + f * M_stride, channels, s->k, rows,
                                       accumulate || t > first);
                memset(to + size, 0, (size_t)(stride - size) * sizeof(real)); /* accumulators are added as a whole */
            }
        }
    }
}

#endif
