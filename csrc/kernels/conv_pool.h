/* The weight gradient of a convolution with few channels under ReLU and max pooling, straight from the pooled gradient.
 *
 * Each pooling window passes its gradient to one pixel, its maximum, so that a channel needs only one of the window's
 * patches: a fraction of the work of the dense product.  The patches of a block of windows are gathered into L1; the
 * sums of a few channels then stay in registers while the windows are visited.
 *
 * A patch holds the taps (r, s, c), a constant 1, whose sum is the gradient of the bias, and zeros up to a vector. */
#ifndef CVAE_CONV_POOL_H
#define CVAE_CONV_POOL_H

#include "conv2d.h"

enum {
    BLOCK_PATCHES = 16384 / (int)sizeof(real), /* elements of a block's patches, which share L1 with the sums */
    SUM_VECTORS = 6,                           /* vectors of a channel's sums in registers */
    GATHER_PIECES = 4                          /* pieces of a patch vector assembled at once */
};

/* The extent of `count` windows of `size`. */
INLINE ptrdiff_t reach(ptrdiff_t count, ptrdiff_t stride, ptrdiff_t size) { return (count - 1) * stride + size; }

static ptrdiff_t conv_pool_patch(const window_shape *conv) { return whole_vectors(patch_size(conv) + 1); }

typedef struct {
    ptrdiff_t windows, taps, patch; /* windows of a block, patches of a window, elements of a patch */
    ptrdiff_t rows, row;            /* of the padded image, and elements of a row */
    ptrdiff_t run, runs;            /* elements of a patch that are contiguous in the image, and how many such runs */
    /* Offsets in scratch, in elements: after the patches of a block the padded image, the gradients of the block's
     * windows and their patches, the pieces of a patch, and the origins of all patches. */
    ptrdiff_t image, g, chosen, masks, offsets, origins, end;
} conv_pool_plan;

static conv_pool_plan plan_conv_pool(const window_shape *conv, const window_shape *pool) {
    const ptrdiff_t spacing = conv->dilation + 1;
    conv_pool_plan plan = {.taps = pool->r * pool->s, .patch = conv_pool_patch(conv)};
    plan.windows = smaller(pool->oh * pool->ow, larger(1, BLOCK_PATCHES / (plan.taps * plan.patch)));
    plan.rows = reach(reach(pool->oh, pool->stride, pool->r), conv->stride, (conv->r - 1) * spacing + 1);
    plan.row = reach(reach(pool->ow, pool->stride, pool->s), conv->stride, (conv->s - 1) * spacing + 1) * conv->c;
    plan.run = spacing == 1 ? conv->s * conv->c : conv->c;
    plan.runs = patch_size(conv) / plan.run;
    const ptrdiff_t pieces = plan.runs + plan.patch / LANES; /* at most: a run ends or a vector does */
    plan.image = plan.windows * plan.taps * plan.patch;
    plan.g = plan.image + whole_vectors(plan.rows * plan.row + 2 * LANES);
    plan.chosen = plan.g + whole_vectors(plan.windows * pool->c);
    plan.masks = plan.chosen + whole_vectors(plan.windows * pool->c);
    plan.offsets = plan.masks + pieces * LANES;
    plan.origins = plan.offsets + pieces;
    plan.end = plan.origins + pool->oh * pool->ow * plan.taps;
    return plan;
}

static ptrdiff_t conv_pool_grad_weight_scratch(const window_shape *conv, const window_shape *pool) {
    return whole_vectors(plan_conv_pool(conv, pool).end);
}

/* image (rows, row) = an image with the zeros that the padding of the convolution and of the pooling add. */
static void pad_image(real *image, const real *x, const window_shape *conv, const window_shape *pool,
                      const conv_pool_plan *plan) {
    const ptrdiff_t top = pool->pad_top * conv->stride + conv->pad_top, row_length = conv->w * conv->c;
    const ptrdiff_t pad_left = smaller(pool->pad_left, plan->row) * conv->stride + conv->pad_left; /* no overflow */
    const ptrdiff_t left = smaller(pad_left * conv->c, plan->row);
    const ptrdiff_t count = smaller(row_length, plan->row - left);
    memset(image, 0, (size_t)(plan->rows * plan->row) * sizeof(real));
    for (ptrdiff_t i = top; i < smaller(plan->rows, top + conv->h); i++, x += row_length)
        copy_reals(image + i * plan->row + left, x, count);
}

/* A vector of a patch is assembled from pieces: the image from an offset on, under a mask of lanes. */
static void plan_pieces(real *masks, int32_t *offsets, const window_shape *conv, const conv_pool_plan *plan) {
    const ptrdiff_t spacing = conv->dilation + 1, runs_of_row = plan->runs / conv->r;
    ptrdiff_t piece = -1;
    for (ptrdiff_t q = 0; q < plan->run * plan->runs; q++) {
        const ptrdiff_t run = q / plan->run, lane = q % LANES;
        if (lane == 0 || q % plan->run == 0) {
            const ptrdiff_t row = run / runs_of_row * spacing, column = run % runs_of_row * spacing * conv->c;
            offsets[++piece] = (int32_t)(row * plan->row + column + q % plan->run - lane);
            memset(masks + piece * LANES, 0, LANES * sizeof(real));
        }
        memset(masks + piece * LANES + lane, -1, sizeof(real));
    }
}

/* Offsets in the padded image at which the patches of all windows start. */
static void find_origins(int32_t *origins, const window_shape *conv, const window_shape *pool,
                         const conv_pool_plan *plan) {
    const ptrdiff_t down = conv->stride * plan->row, right = conv->stride * conv->c;
    for (ptrdiff_t i = 0; i < pool->oh; i++)
        for (ptrdiff_t j = 0; j < pool->ow; j++)
            for (ptrdiff_t r = 0; r < pool->r; r++)
                for (ptrdiff_t s = 0; s < pool->s; s++)
                    *origins++ = (int32_t)((i * pool->stride + r) * down + (j * pool->stride + s) * right);
}

/* One vector of `count` patches: its present content and `pieces` pieces, a constant at each call. */
INLINE void gather_pieces(const int pieces, real *patches, ptrdiff_t patch, const real *image, const int32_t *origins,
                          ptrdiff_t count, const real *masks, const int32_t *offsets, vec start, int more) {
    vec_int mask[GATHER_PIECES];
    ptrdiff_t offset[GATHER_PIECES];
    UNROLL for (int i = 0; i < pieces; i++) {
        mask[i] = as_bits(load(masks + i * LANES));
        offset[i] = offsets[i];
    }
    for (ptrdiff_t p = 0; p < count; p++) {
        const real *in = image + origins[p];
        vec_int bits = as_bits(more ? load(patches + p * patch) : start);
        UNROLL for (int i = 0; i < pieces; i++) bits |= as_bits(load(in + offset[i])) & mask[i];
        store(patches + p * patch, as_real(bits));
    }
}

/* patches (count, patch) of the pixels at `origins`. */
static void gather_for_windows(real *patches, const real *image, const int32_t *origins, ptrdiff_t count,
                               const real *masks, const int32_t *offsets, const conv_pool_plan *plan) {
    const ptrdiff_t taps = plan->run * plan->runs;
    for (ptrdiff_t q = 0; q < plan->patch; q += LANES) {
        const ptrdiff_t last = smaller(q + LANES, taps) - 1;
        ptrdiff_t pieces = q < taps ? last / plan->run - q / plan->run + 1 : 0;
        real start[LANES] = {0};
        if (taps >= q && taps < q + LANES) start[taps - q] = 1;
        int more = 0;
        do {
            const ptrdiff_t now = smaller(pieces, GATHER_PIECES);
            switch (now) {
#define GATHER(pieces)                                                                                                 \
    case pieces:                                                                                                       \
        gather_pieces(pieces, patches + q, plan->patch, image, origins, count, masks, offsets, load(start), more);     \
        break;
                GATHER(0)
                GATHER(1)
                GATHER(2)
                GATHER(3)
                GATHER(4)
#undef GATHER
            }
            masks += now * LANES;
            offsets += now;
            pieces -= now;
            more = 1;
        } while (pieces > 0);
    }
}

/* The gradient of each window, and the offset of the patch of its maximum.  It is zero where the maximum is not
 * positive, which includes the pooling's padding: argmax is then not the index of a tap. */
static void find_gradients(real *RESTRICT g, int32_t *RESTRICT chosen, const real *RESTRICT dp,
                           const uint8_t *RESTRICT argmax, ptrdiff_t count, int32_t taps, int32_t patch) {
    for (ptrdiff_t i = 0; i < count; i++) {
        const int32_t tap = argmax[i];
        const real gradient = dp[i];
        g[i] = tap < taps ? gradient : 0;
        chosen[i] = tap < taps ? tap * patch : 0;
    }
}

/* Adds a block's windows to `vectors` vectors of the sums of `channels` channels; both are constants at each call, so
 * that the sums stay in registers.  A few channels at once hide the latency of the additions. */
INLINE void add_windows(const int channels, const int vectors, real *sums, const real *patches, const real *g,
                        const int32_t *chosen, ptrdiff_t all_channels, ptrdiff_t windows, const conv_pool_plan *plan) {
    const ptrdiff_t patch = plan->patch, window = plan->taps * patch;
    vec sum[4][SUM_VECTORS];
    UNROLL for (int k = 0; k < channels; k++)
        UNROLL for (int v = 0; v < vectors; v++) sum[k][v] = broadcast(0); /* the sums so far may be much larger */
    for (ptrdiff_t w = 0; w < windows; w++) {
        UNROLL for (int k = 0; k < channels; k++) {
            const real *from = patches + chosen[k];
            const vec gradient = broadcast(g[k]);
            UNROLL for (int v = 0; v < vectors; v++) sum[k][v] += gradient * load(from + v * LANES);
        }
        patches += window;
        chosen += all_channels;
        g += all_channels;
    }
    UNROLL for (int k = 0; k < channels; k++)
        UNROLL for (int v = 0; v < vectors; v++) {
            real *to = sums + k * patch + v * LANES;
            store(to, load(to) + sum[k][v]);
        }
}

INLINE void add_channels(const int vectors, real *sums, const real *patches, const real *g, const int32_t *chosen,
                         ptrdiff_t all, ptrdiff_t windows, const conv_pool_plan *plan) {
    const int channels = TILE_ROWS == 12 || vectors <= 3 ? 4 : 2;
    ptrdiff_t k = 0;
    for (; k + channels <= all; k += channels)
        add_windows(channels, vectors, sums + k * plan->patch, patches, g + k, chosen + k, all, windows, plan);
    for (; k < all; k++)
        add_windows(1, vectors, sums + k * plan->patch, patches, g + k, chosen + k, all, windows, plan);
}

static void add_block(real *sums, const real *scratch, ptrdiff_t channels, ptrdiff_t windows,
                      const conv_pool_plan *plan) {
    const ptrdiff_t vectors = plan->patch / LANES, parts = (vectors + SUM_VECTORS - 1) / SUM_VECTORS;
    const ptrdiff_t at_once = (vectors + parts - 1) / parts;
    const int32_t *chosen = (const int32_t *)(scratch + plan->chosen);
    for (ptrdiff_t v = 0; v < vectors; v += at_once)
        switch (smaller(at_once, vectors - v)) {
#define ADD(vectors)                                                                                                   \
    case vectors:                                                                                                      \
        add_channels(vectors, sums + v * LANES, scratch + v * LANES, scratch + plan->g, chosen, channels, windows,     \
                     plan);                                                                                            \
        break;
            ADD(1)
            ADD(2)
            ADD(3)
            ADD(4)
            ADD(5)
            ADD(6)
#undef ADD
        }
}

static void conv_pool_grad_weight(void *sums, const void *x, const void *dp, const uint8_t *argmax,
                                  const window_shape *conv, const window_shape *pool, ptrdiff_t first_image,
                                  ptrdiff_t last_image, void *scratch) {
    const conv_pool_plan plan = plan_conv_pool(conv, pool);
    const ptrdiff_t windows = pool->oh * pool->ow, channels = pool->c;
    real *patches = scratch, *g = patches + plan.g, *masks = patches + plan.masks;
    real *image = patches + plan.image + LANES; /* masked lanes may read before and after the image */
    int32_t *offsets = (int32_t *)(patches + plan.offsets), *origins = (int32_t *)(patches + plan.origins);
    int32_t *chosen = (int32_t *)(patches + plan.chosen);
    memset(image - LANES, 0, LANES * sizeof(real));
    memset(image + plan.rows * plan.row, 0, LANES * sizeof(real));
    plan_pieces(masks, offsets, conv, &plan);
    find_origins(origins, conv, pool, &plan);
    for (ptrdiff_t n = first_image; n < last_image; n++) {
        pad_image(image, (const real *)x + n * conv->h * conv->w * conv->c, conv, pool, &plan);
        for (ptrdiff_t w = 0; w < windows; w += plan.windows) {
            const ptrdiff_t count = smaller(plan.windows, windows - w), first = (n * windows + w) * channels;
            find_gradients(g, chosen, (const real *)dp + first, argmax + first, count * channels, (int32_t)plan.taps,
                           (int32_t)plan.patch);
            gather_for_windows(patches, image, origins + w * plan.taps, count * plan.taps, masks, offsets, &plan);
            add_block(sums, patches, channels, count, &plan);
        }
    }
}

/* Channels first_k <= k < last_k of dw (R, S, C, K) and db (K) from sums. */
static void conv_pool_collect(void *dw, void *db, const void *sums, const window_shape *conv, ptrdiff_t first_k,
                              ptrdiff_t last_k) {
    const ptrdiff_t taps = patch_size(conv), patch = conv_pool_patch(conv);
    for (ptrdiff_t k = first_k; k < last_k; k++) {
        const real *in = (const real *)sums + k * patch;
        for (ptrdiff_t q = 0; q < taps; q++) ((real *)dw)[q * conv->k + k] = in[q];
        ((real *)db)[k] = in[taps];
    }
}

#endif
