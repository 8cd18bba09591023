/* Convolutions of many channels to few, and transposed ones, whose output is an image: the panels of a matrix product
 * would hold little but zeros.  Here the lanes of vectors are channels of the input; neighbouring output pixels share
 * the weights, and the lanes of their sums are added up at the end.  No patch is gathered, and nothing is scattered.
 *
 * The sum of an output does not depend on which pixels are computed together. */
#ifndef CVAE_FEW_OUTPUTS_H
#define CVAE_FEW_OUTPUTS_H

#include "gemm.h"

enum {
    FEW_OUTPUTS = 4,
    MOST_TAPS = 16,
    MOST_PHASES = 4,
    LEAST_INPUTS = 8,
    FEW_SUMS = TILE_ROWS == 12 ? 16 : 12, /* vectors of sums that fit the registers */
    FEW_PIXELS = 8 /* of a tile, at most */
};

/* Whether a convolution, or the transpose of one, is computed here. With a stride, the matrix product of a transposed
 * one has as many columns as all phases together, which is not few from 2 channels on. */
static ptrdiff_t conv2d_has_few_outputs(const window_shape *s, int transposed) {
    const ptrdiff_t outputs = transposed ? s->c : s->k, inputs = transposed ? s->k : s->c;
    const int fits = s->r <= MOST_TAPS && s->s <= MOST_TAPS && s->stride <= MOST_PHASES;
    if (!fits || outputs > FEW_OUTPUTS || inputs < LEAST_INPUTS || inputs % LANES != 0) return 0;
    return transposed ? s->stride == 1 || outputs == 1 : s->r * s->s * s->c * s->k <= SCRATCH_SIZE;
}

/* Along an axis, output t of a phase sees taps tap[i] of the inputs at[i] + t * step.  The outputs begin <= t < end see
 * all of them inside the image. */
typedef struct {
    ptrdiff_t count, tap[MOST_TAPS], at[MOST_TAPS], step, begin, end;
} tap_list;

/* The taps of a convolution are the same for all outputs; those of a transposed one for every stride-th. */
static void list_taps(tap_list *list, ptrdiff_t taps, ptrdiff_t pad, ptrdiff_t inputs, ptrdiff_t outputs,
                      const window_shape *s, int transposed, ptrdiff_t phase) {
    list->count = list->begin = 0;
    list->end = outputs;
    list->step = transposed ? 1 : s->stride;
    for (ptrdiff_t tap = 0; tap < taps; tap++) {
        const ptrdiff_t distance = tap * (s->dilation + 1) - pad;
        if (transposed && (phase - distance) % s->stride != 0) continue;
        const ptrdiff_t at = transposed ? (phase - distance) / s->stride : distance;
        list->tap[list->count] = tap;
        list->at[list->count++] = at;
        list->begin = larger(list->begin, strides_over(-at, list->step));
        list->end = smaller(list->end, strides_over(inputs - at, list->step));
    }
    list->end = larger(list->end, list->begin);
}

/* An image x (rows, cols, channels), weights w (R, taps_across, outputs, channels), and what is done to sums. */
typedef struct {
    const real *x, *w, *bias; /* no bias: NULL */
    ptrdiff_t rows, cols, channels, taps_across;
    int relu;
} few_inputs;

/* v[0 .. count), a power of two, become the sums of their lanes, count numbers in the first lanes of the first vectors:
 * neighbouring lanes are added until there is one. */
INLINE void sum_lanes(vec *v, const int count) {
#if CVAE_VECTORS
    UNROLL for (int lanes = LANES, n = count; lanes > 1; lanes /= 2) {
        if (n == 1) {
            v[0] = every_second(v[0], v[0], 0) + every_second(v[0], v[0], 1);
            continue;
        }
        n /= 2;
        UNROLL for (int i = 0; i < n; i++)
            v[i] = every_second(v[2 * i], v[2 * i + 1], 0) + every_second(v[2 * i], v[2 * i + 1], 1);
    }
#else
    (void)v, (void)count;
#endif
}

/* A tap of a row of outputs: the input of output 0, its column, and the weights. */
typedef struct {
    const real *x, *w;
    ptrdiff_t col;
} few_tap;

/* The outputs t to t + pixels - 1 of a row; inside: they see all taps inside of the image. */
INLINE void few_tile(const int pixels, const int outputs, const int inside, real *out, ptrdiff_t out_step,
                     const few_inputs *in, const few_tap *taps, ptrdiff_t n_taps, ptrdiff_t step, ptrdiff_t t) {
    const ptrdiff_t channels = in->channels, skip = step * channels;
    vec sum[FEW_SUMS];
    UNROLL for (int i = 0; i < pixels * outputs; i++) sum[i] = broadcast(0);
    for (ptrdiff_t i = 0; i < n_taps; i++) {
        const real *x = taps[i].x + t * skip, *w = taps[i].w;
        const ptrdiff_t col = taps[i].col + t * step;
        for (ptrdiff_t c = 0; c < channels; c += LANES)
            UNROLL for (int k = 0; k < outputs; k++) {
                const vec weights = load(w + k * channels + c);
                UNROLL for (int p = 0; p < pixels; p++)
                    if (inside || (col + p * step >= 0 && col + p * step < in->cols))
                        sum[k * pixels + p] += load(x + p * skip + c) * weights;
            }
    }
    UNROLL for (int k = 0; k < outputs; k++) {
        real sums[FEW_PIXELS + LANES];
        sum_lanes(sum + k * pixels, pixels);
        UNROLL for (int i = 0; i < pixels; i += LANES) {
            vec y = sum[k * pixels + i / LANES];
            if (in->bias) y += broadcast(in->bias[k]);
            store(sums + i, in->relu ? positive_part(y) : y);
        }
        UNROLL for (int p = 0; p < pixels; p++) out[(t + p) * out_step + k] = sums[p];
    }
}

/* The outputs first <= t < last of a row, out_step elements apart from `out` on. */
INLINE void few_run(const int outputs, real *out, ptrdiff_t out_step, const few_inputs *in, const tap_list *down,
                    ptrdiff_t t_down, const tap_list *across, ptrdiff_t first, ptrdiff_t last) {
    const int pixels = outputs * 8 <= FEW_SUMS ? 8 : outputs * 4 <= FEW_SUMS ? 4 : 2;
    few_tap taps[MOST_TAPS * MOST_TAPS];
    ptrdiff_t n_taps = 0, t = first;
    for (ptrdiff_t i = 0; i < down->count; i++) {
        const ptrdiff_t row = down->at[i] + t_down * down->step;
        if (row < 0 || row >= in->rows) continue;
        for (ptrdiff_t j = 0; j < across->count; j++) {
            const few_tap tap = {
                in->x + (row * in->cols + across->at[j]) * in->channels,
                in->w + (down->tap[i] * in->taps_across + across->tap[j]) * outputs * in->channels, across->at[j]};
            taps[n_taps++] = tap;
        }
    }
    if (last - first < pixels) {
        for (; t < last; t++) few_tile(1, outputs, 0, out, out_step, in, taps, n_taps, across->step, t);
        return;
    }
    while (t < last) {
        t = smaller(t, last - pixels); /* the last tile overlaps what is already computed */
        if (t >= across->begin && t + pixels <= across->end)
            few_tile(pixels, outputs, 1, out, out_step, in, taps, n_taps, across->step, t);
        else
            few_tile(pixels, outputs, 0, out, out_step, in, taps, n_taps, across->step, t);
        t += pixels;
    }
}

static void few_outputs(int outputs, real *out, ptrdiff_t out_step, const few_inputs *in, const tap_list *down,
                        ptrdiff_t t_down, const tap_list *across, ptrdiff_t first, ptrdiff_t last) {
    switch (outputs) {
    case 1: few_run(1, out, out_step, in, down, t_down, across, first, last); break;
    case 2: few_run(2, out, out_step, in, down, t_down, across, first, last); break;
    case 3: few_run(3, out, out_step, in, down, t_down, across, first, last); break;
    default: few_run(4, out, out_step, in, down, t_down, across, first, last);
    }
}

/* Output pixels first <= p < last of y (N, OH, OW, K). */
static void few_outputs_forward(real *y, const real *x, const real *w, const real *bias, const window_shape *s,
                                int relu, ptrdiff_t first, ptrdiff_t last, real *scratch) {
    few_inputs in = {x, scratch, bias, s->h, s->w, s->c, s->s, relu};
    tap_list down, across;
    list_taps(&down, s->r, s->pad_top, s->h, s->oh, s, 0, 0);
    list_taps(&across, s->s, s->pad_left, s->w, s->ow, s, 0, 0);
    for (ptrdiff_t tap = 0; tap < s->r * s->s; tap++) /* (R, S, K, C) from (R, S, C, K) */
        for (ptrdiff_t k = 0; k < s->k; k++)
            for (ptrdiff_t c = 0; c < s->c; c++) *scratch++ = w[(tap * s->c + c) * s->k + k];
    for (ptrdiff_t p = first; p < last;) {
        const ptrdiff_t row = p / s->ow, begin = p - row * s->ow, end = smaller(s->ow, last - row * s->ow);
        in.x = x + row / s->oh * s->h * s->w * s->c;
        few_outputs((int)s->k, y + row * s->ow * s->k, s->k, &in, &down, row % s->oh, &across, begin, end);
        p += end - begin;
    }
}

/* Images first <= n < last of dx (N, H, W, C), from dy (N, OH, OW, K). */
static void few_outputs_transposed(real *dx, const real *dy, const real *w, const window_shape *s, ptrdiff_t first,
                                   ptrdiff_t last) {
    few_inputs in = {dy, w, NULL, s->oh, s->ow, s->k, s->s, 0};
    tap_list down[MOST_PHASES], across[MOST_PHASES];
    for (ptrdiff_t phase = 0; phase < s->stride; phase++) {
        list_taps(&down[phase], s->r, s->pad_top, s->oh, strides_over(s->h - phase, s->stride), s, 1, phase);
        list_taps(&across[phase], s->s, s->pad_left, s->ow, strides_over(s->w - phase, s->stride), s, 1, phase);
    }
    for (ptrdiff_t row = first * s->h; row < last * s->h; row++) {
        const ptrdiff_t i = row % s->h;
        in.x = dy + row / s->h * s->oh * s->ow * s->k;
        for (ptrdiff_t phase = 0; phase < s->stride; phase++)
            few_outputs((int)s->c, dx + (row * s->w + phase) * s->c, s->stride * s->c, &in, &down[i % s->stride],
                        i / s->stride, &across[phase], 0, strides_over(s->w - phase, s->stride));
    }
}

#endif
