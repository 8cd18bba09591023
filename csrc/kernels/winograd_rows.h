/* Winograd's minimal filtering along rows only: the forward pass of stride-1 convolutions with few channels.
 *
 * A tile of m neighbouring outputs is computed from eight inputs of each kernel row, as in winograd.h but along one
 * axis (cook_toom.h).  At each point this leaves a convolution along the columns, whose weights and sums for a few rows
 * stay in registers.  With many channels, transforming both axes saves more; with few, the second transform costs more
 * than it saves.
 *
 * The image is evaluated in bands of BAND rows, which lie side by side in the lanes of the vectors.  A band is as wide
 * as the image; scratch fits the L2 cache for images up to about a thousand pixels wide. */
#ifndef CVAE_WINOGRAD_ROWS_H
#define CVAE_WINOGRAD_ROWS_H

#include "winograd.h"

enum {
    BAND = 16,                              /* input rows evaluated at once: whole vectors */
    BAND_OUTPUTS = BAND - (MAX_TAPS - 1),   /* output rows of a band: whole strips */
    STRIP = 4,                              /* output rows computed at once */
    STRIP_SIZE = 24576 / (int)sizeof(real), /* elements of a strip's sums, at most, so that they stay in L1 */
    MAX_OUTPUTS = 7,                        /* of a tile */
    MAX_VECTORS = TILE_ROWS == 12 ? 2 : 1   /* vectors of output channels whose sums and weights fit the registers */
};

typedef struct {
    ptrdiff_t outputs, tiles;        /* outputs of a tile, tiles of a row */
    ptrdiff_t columns, width, block; /* input columns, output channels in whole vectors, tiles of a strip */
    ptrdiff_t values, sums, end;     /* offsets in scratch, after the columns: the evaluated band, the strip's sums */
} rows_plan;

static rows_plan plan_rows(const window_shape *s) {
    rows_plan plan = {.outputs = winograd_outputs(s->s), .width = whole_vectors(s->k)};
    plan.tiles = (s->ow + plan.outputs - 1) / plan.outputs;
    plan.columns = (plan.tiles - 1) * plan.outputs + POINTS;
    plan.block = smaller(plan.tiles, larger(1, STRIP_SIZE / (STRIP * POINTS * plan.width)));
    plan.values = plan.columns * s->c * BAND;
    plan.sums = plan.values + POINTS * plan.tiles * s->c * BAND;
    plan.end = plan.sums + plan.block * STRIP * POINTS * plan.width;
    return plan;
}

static ptrdiff_t winograd_rows_scratch(const window_shape *s) { return plan_rows(s).end; }

static ptrdiff_t winograd_rows_kernel_size(const window_shape *s) { return POINTS * s->c * s->r * whole_vectors(s->k); }

static ptrdiff_t winograd_rows_bands(const window_shape *s) { return (s->oh + BAND_OUTPUTS - 1) / BAND_OUTPUTS; }

/* U (POINTS, C, R, width) = the rows of the kernels, evaluated. */
INLINE void evaluate_kernel_rows(real *U, const real *w, const window_shape *s, const int taps, const real *matrix) {
    const ptrdiff_t width = whole_vectors(s->k), stride = s->c * s->r * width;
    for (ptrdiff_t r = 0; r < s->r; r++)
        for (ptrdiff_t c = 0; c < s->c; c++)
            for (ptrdiff_t k = 0; k < s->k; k += LANES) {
                vec line[MAX_TAPS], values[POINTS];
                UNROLL for (int t = 0; t < taps; t++)
                    line[t] = t < s->s ? load_some(w + ((r * s->s + t) * s->c + c) * s->k + k, s->k - k) : broadcast(0);
                evaluate(matrix, taps, line, values, 1);
                UNROLL for (int f = 0; f < POINTS; f++) store(U + f * stride + (c * s->r + r) * width + k, values[f]);
            }
}

static void winograd_rows_kernel(void *U, const void *w, const window_shape *s) {
    CALL_FOR_TAPS(winograd_outputs(s->s), evaluate_kernel_rows, U, w, s)
}

/* columns (columns, C, BAND) = rows `top` to top + BAND - 1 of an image with its padding, transposed; 0 outside. */
static void load_band(real *columns, const real *image, const window_shape *s, ptrdiff_t top, const rows_plan *plan) {
    const ptrdiff_t row_length = s->w * s->c, count = plan->columns * s->c;
    const ptrdiff_t begin = smaller(count, s->pad_left * s->c), end = smaller(count, begin + row_length);
    memset(columns, 0, (size_t)(begin * BAND) * sizeof(real));
    memset(columns + end * BAND, 0, (size_t)((count - end) * BAND) * sizeof(real));
    for (ptrdiff_t next = begin; next < end; next += LANES)
        for (ptrdiff_t i = 0; i < BAND; i += LANES) {
            const ptrdiff_t q = smaller(next, larger(begin, end - LANES)); /* the last vector overlaps the one before */
            vec block[LANES];
            UNROLL for (int j = 0; j < LANES; j++) {
                const ptrdiff_t row = top + i + j;
                block[j] = row >= 0 && row < s->h ? load_some(image + row * row_length + q - begin, end - q)
                                                  : broadcast(0);
            }
            transpose(block);
            UNROLL for (int j = 0; j < LANES; j++)
                if (q + j < end) store(columns + (q + j) * BAND + i, block[j]);
        }
}

/* values (POINTS, tiles, C, BAND) = the tiles' rows, evaluated. */
static void evaluate_band(real *values, const real *columns, const window_shape *s, const rows_plan *plan) {
    const ptrdiff_t stride = plan->tiles * s->c * BAND;
    for (ptrdiff_t t = 0; t < plan->tiles; t++)
        for (ptrdiff_t q = 0; q < s->c * BAND; q += LANES) {
            vec line[POINTS], value[POINTS];
            UNROLL for (int j = 0; j < POINTS; j++) line[j] = load(columns + (t * plan->outputs + j) * s->c * BAND + q);
            evaluate(&INPUT[0][0], POINTS, line, value, 1);
            UNROLL for (int f = 0; f < POINTS; f++) store(values + f * stride + t * s->c * BAND + q, value[f]);
        }
}

/* The sums of a strip are (tiles, width / LANES, STRIP, POINTS, LANES).  This computes those of one point and some
 * vectors of output channels: the convolution along the columns of one input channel, whose values
 * (tiles)[value_stride] begin at the strip's first row.  They are added to the sums so far, unless the channel is the
 * first. */
INLINE void add_strip(const int taps, const int vectors, const int is_first, real *sums, const real *values,
                      ptrdiff_t value_stride, ptrdiff_t tiles, const real *U, const rows_plan *plan) {
    const ptrdiff_t tile_stride = plan->width * STRIP * POINTS;
    vec weight[MAX_TAPS][2];
    UNROLL for (int r = 0; r < taps; r++)
        UNROLL for (int v = 0; v < vectors; v++) weight[r][v] = load(U + r * plan->width + v * LANES);
    for (ptrdiff_t t = 0; t < tiles; t++, values += value_stride, sums += tile_stride) {
        vec sum[STRIP][2];
        UNROLL for (int i = 0; i < STRIP; i++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[i][v] = is_first ? broadcast(0) : load(sums + (v * STRIP + i) * POINTS * LANES);
        UNROLL for (int row = 0; row < STRIP + taps - 1; row++) {
            const vec value = broadcast(values[row]);
            UNROLL for (int r = 0; r < taps; r++)
                if (row >= r && row - r < STRIP)
                    UNROLL for (int v = 0; v < vectors; v++) sum[row - r][v] += value * weight[r][v];
        }
        UNROLL for (int i = 0; i < STRIP; i++)
            UNROLL for (int v = 0; v < vectors; v++) store(sums + (v * STRIP + i) * POINTS * LANES, sum[i][v]);
    }
}

/* The sums of a strip; values begin at its first row and tile. */
INLINE void sum_taps(const int taps, real *sums, const real *values, const real *U, const window_shape *s,
                     ptrdiff_t tiles, const rows_plan *plan) {
    const ptrdiff_t value_stride = s->c * BAND;
    for (ptrdiff_t f = 0; f < POINTS; f++)
        for (ptrdiff_t c = 0; c < s->c; c++)
            for (ptrdiff_t k = 0; k < plan->width; k += MAX_VECTORS * LANES) {
                real *to = sums + k * STRIP * POINTS + f * LANES;
                const real *from = values + (f * plan->tiles * s->c + c) * BAND;
                const real *weights = U + (f * s->c + c) * taps * plan->width + k;
                const int two = MAX_VECTORS == 2 && plan->width - k > LANES;
                if (two && c == 0)
                    add_strip(taps, 2, 1, to, from, value_stride, tiles, weights, plan);
                else if (two)
                    add_strip(taps, 2, 0, to, from, value_stride, tiles, weights, plan);
                else if (c == 0)
                    add_strip(taps, 1, 1, to, from, value_stride, tiles, weights, plan);
                else
                    add_strip(taps, 1, 0, to, from, value_stride, tiles, weights, plan);
            }
}

static void sum_strip(real *sums, const real *values, const real *U, const window_shape *s, ptrdiff_t tiles,
                      const rows_plan *plan) {
    switch (s->r) {
#define SUM(taps)                                                                                                      \
    case taps:                                                                                                         \
        sum_taps(taps, sums, values, U, s, tiles, plan);                                                               \
        break;
        SUM(1)
        SUM(2)
        SUM(3)
        SUM(4)
        SUM(5)
#undef SUM
    }
}

/* The output of a strip: its rows and tiles, and the columns from its first one to the end of the row. */
typedef struct {
    ptrdiff_t rows, tiles, columns;
    ptrdiff_t pixel, row;  /* strides of y */
    ptrdiff_t tile;        /* stride of the sums */
    int relu;
} strip_output;

/* One vector of channels.  whole: all m columns of the tiles and all lanes are written. */
INLINE void collect_tiles(const int m, const real *matrix, const int whole, real *y, const real *sums, vec bias,
                          ptrdiff_t channels, strip_output strip) {
    for (ptrdiff_t t = 0; t < strip.tiles; t++, y += m * strip.pixel, sums += strip.tile, strip.columns -= m)
        for (ptrdiff_t i = 0; i < strip.rows; i++) {
            const real *in = sums + i * POINTS * LANES;
            real *to = y + i * strip.row;
            vec line[POINTS], out[MAX_OUTPUTS];
            UNROLL for (int f = 0; f < POINTS; f++) line[f] = load(in + f * LANES);
            collect(matrix, m, line, 1, out);
            UNROLL for (int j = 0; j < m; j++) out[j] = strip.relu ? positive_part(out[j] + bias) : out[j] + bias;
            if (whole)
                UNROLL for (int j = 0; j < m; j++) store(to + j * strip.pixel, out[j]);
            else
                for (ptrdiff_t j = 0; j < smaller(m, strip.columns); j++)
                    store_some(to + j * strip.pixel, out[j], channels);
        }
}

INLINE void collect_vectors(real *y, const real *sums, const real *bias, strip_output strip, const int m,
                            const real *matrix) {
    for (ptrdiff_t k = 0; k < strip.pixel; k += LANES) {
        const ptrdiff_t channels = strip.pixel - k;
        const real *in = sums + k * STRIP * POINTS;
        const vec add = load_some(bias + k, channels);
        strip_output whole = strip, rest = strip;
        whole.tiles = channels >= LANES ? smaller(strip.tiles, strip.columns / m) : 0;
        rest.tiles -= whole.tiles;
        rest.columns -= whole.tiles * m;
        collect_tiles(m, matrix, 1, y + k, in, add, channels, whole);
        collect_tiles(m, matrix, 0, y + k + whole.tiles * m * strip.pixel, in + whole.tiles * strip.tile, add, channels,
                      rest);
    }
}

static void collect_strip(real *y, const real *sums, const real *bias, strip_output strip, const rows_plan *plan) {
    CALL_FOR_OUTPUTS(plan->outputs, collect_vectors, y, sums, bias, strip)
}

/* Bands are counted through all images. */
static void winograd_rows_forward(void *y, const void *x, const void *U, const void *bias, const window_shape *s,
                                  int relu, ptrdiff_t first, ptrdiff_t last, void *scratch) {
    const rows_plan plan = plan_rows(s);
    const ptrdiff_t bands = winograd_rows_bands(s);
    real *columns = scratch, *values = columns + plan.values, *sums = columns + plan.sums;
    for (ptrdiff_t band = first; band < last; band++) {
        const ptrdiff_t image = band / bands, begin = band % bands * BAND_OUTPUTS;
        const ptrdiff_t end = smaller(s->oh, begin + BAND_OUTPUTS);
        load_band(columns, (const real *)x + image * s->h * s->w * s->c, s, begin - s->pad_top, &plan);
        evaluate_band(values, columns, s, &plan);
        for (ptrdiff_t i = begin; i < end; i += STRIP)
            for (ptrdiff_t t = 0; t < plan.tiles; t += plan.block) {
                const ptrdiff_t j = t * plan.outputs;
                const strip_output strip = {
                    smaller(STRIP, end - i), smaller(plan.block, plan.tiles - t), s->ow - j,
                    s->k, s->ow * s->k, plan.width * STRIP * POINTS, relu,
                };
                sum_strip(sums, values + t * s->c * BAND + i - begin, U, s, strip.tiles, &plan);
                collect_strip((real *)y + ((image * s->oh + i) * s->ow + j) * s->k, sums, bias, strip, &plan);
            }
    }
}

#endif
