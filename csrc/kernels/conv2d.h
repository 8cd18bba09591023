/* Convolution as implicit matrix products: the patches of a block of output pixels are gathered into scratch (never the
 * whole im2col matrix) and multiplied by the packed weights.  The idea is from Chellapilla et al. (2006), "High
 * Performance Convolutional Neural Networks for Document Processing"; the blocks keep it in cache.  With few input
 * channels the forward pass gathers nothing: the product reads the taps of neighbouring pixels from the image.
 *
 * Column q = (r * S + s) * C + c of the patch matrix is tap (r, s) of channel c. */
#ifndef CVAE_CONV2D_H
#define CVAE_CONV2D_H

#include "few_outputs.h"
#include "gemm.h"

enum { GRAD_INPUT_PANELS = 8 }; /* panels of patch columns computed before they are scattered */

INLINE ptrdiff_t patch_size(const window_shape *s) { return s->r * s->s * s->c; }

/* The position of an output pixel p = (image * OH + i) * OW + j in the input. */
typedef struct {
    ptrdiff_t image, i, j;
} pixel;

INLINE pixel pixel_at(const window_shape *s, ptrdiff_t p) {
    pixel at = {p / (s->oh * s->ow), p / s->ow % s->oh, p % s->ow};
    return at;
}

INLINE void next_pixel(const window_shape *s, pixel *at) {
    if (++at->j < s->ow) return;
    at->j = 0;
    if (++at->i < s->oh) return;
    at->i = 0;
    at->image++;
}

/* A run of patch columns that are contiguous in one input row: elements [begin, end) of the row, which may extend
 * beyond its ends, are the patch columns from `column` on.  inside is 0 if the whole run is padding. */
typedef struct {
    ptrdiff_t column, begin, end, row;
    int inside;
} patch_run;

/* The run that starts at patch column q, cut at `last`.  Without dilation the taps of a kernel row form one run. */
INLINE patch_run run_at(const window_shape *s, const pixel *at, ptrdiff_t q, ptrdiff_t last) {
    const ptrdiff_t spacing = s->dilation + 1;
    const ptrdiff_t length = spacing == 1 ? s->s * s->c : s->c;
    const ptrdiff_t offset = q % length, tap = q / length;
    const ptrdiff_t r = spacing == 1 ? tap : tap / s->s, column_tap = spacing == 1 ? 0 : tap % s->s;
    patch_run run;
    run.column = q;
    run.row = at->i * s->stride + r * spacing - s->pad_top;
    run.begin = (at->j * s->stride + column_tap * spacing - s->pad_left) * s->c + offset;
    run.end = run.begin + smaller(length - offset, last - q);
    run.inside = run.row >= 0 && run.row < s->h && run.end > 0 && run.begin < s->w * s->c;
    return run;
}

INLINE void copy_reals(real *out, const real *in, ptrdiff_t count) {
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES) store(out + i, load(in + i));
    if (i < count && count >= LANES) { /* the rest, overlapping what is already copied */
        store(out + count - LANES, load(in + count - LANES));
        return;
    }
    for (; i < count; i++) out[i] = in[i];
}

/* scratch (last_pixel - first_pixel, last - first) = patch columns first <= q < last of a block of output pixels. */
static void gather_patches(real *scratch, const real *x, const window_shape *s, ptrdiff_t first_pixel,
                           ptrdiff_t last_pixel, ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t row_length = s->w * s->c;
    pixel at = pixel_at(s, first_pixel);
    for (ptrdiff_t p = first_pixel; p < last_pixel; p++, next_pixel(s, &at), scratch += SCRATCH_STRIDE) {
        for (ptrdiff_t q = first; q < last;) {
            const patch_run run = run_at(s, &at, q, last);
            real *out = scratch + (q - first);
            const ptrdiff_t count = run.end - run.begin;
            q += count;
            if (!run.inside) {
                memset(out, 0, (size_t)count * sizeof(real));
                continue;
            }
            const ptrdiff_t begin = larger(run.begin, 0), end = smaller(run.end, row_length);
            for (ptrdiff_t i = run.begin; i < begin; i++) *out++ = 0;
            copy_reals(out, x + (at.image * s->h + run.row) * row_length + begin, end - begin);
            out += end - begin;
            for (ptrdiff_t i = end; i < run.end; i++) *out++ = 0;
        }
    }
}

/* The adjoint of gather_patches: adds patches (pixels, last - first)[stride] to dx, and drops what falls on padding. */
static void scatter_patches(real *dx, const real *patches, ptrdiff_t stride, const window_shape *s,
                            ptrdiff_t first_pixel, ptrdiff_t last_pixel, ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t row_length = s->w * s->c;
    pixel at = pixel_at(s, first_pixel);
    for (ptrdiff_t p = first_pixel; p < last_pixel; p++, next_pixel(s, &at), patches += stride) {
        for (ptrdiff_t q = first; q < last;) {
            const patch_run run = run_at(s, &at, q, last);
            q += run.end - run.begin;
            if (!run.inside) continue;
            const ptrdiff_t begin = larger(run.begin, 0), end = smaller(run.end, row_length);
            const real *RESTRICT in = patches + (run.column - first) + (begin - run.begin);
            real *RESTRICT out = dx + (at.image * s->h + run.row) * row_length + begin;
            for (ptrdiff_t i = 0; i < end - begin; i++) out[i] += in[i];
        }
    }
}

/* Few channels make short runs.  The forward pass then reads patches in place, and the weight gradient gathers the
 * patch matrix transposed, because a row of output pixels is the longer run. */
INLINE int has_few_channels(const window_shape *s) { return s->c <= FEW_CHANNELS && patch_size(s) <= BLOCK_ROWS; }

/* One row of the transposed patch matrix, that of tap (r, column_tap) of a channel, for the output pixels (image, i,
 * j) to (image, i, j + count - 1). */
INLINE void gather_pixels(real *out, const real *x, const window_shape *s, const pixel *at, ptrdiff_t count,
                          ptrdiff_t r, ptrdiff_t column_tap, ptrdiff_t channel) {
    const ptrdiff_t spacing = s->dilation + 1, skip = s->stride * s->c;
    const ptrdiff_t row = at->i * s->stride + r * spacing - s->pad_top;
    const ptrdiff_t column = at->j * s->stride + column_tap * spacing - s->pad_left;
    const ptrdiff_t start = ((at->image * s->h + row) * s->w + column) * s->c + channel;
    /* Pixels [begin, end) read a column inside the image. */
    ptrdiff_t begin = smaller(count, strides_over(-column, s->stride));
    ptrdiff_t end = larger(begin, smaller(count, strides_over(s->w - column, s->stride)));
    if (row < 0 || row >= s->h) begin = end = count;
    for (ptrdiff_t p = 0; p < begin; p++) out[p] = 0;
    if (skip == 1)
        copy_reals(out + begin, x + (start + begin), end - begin);
    else
        for (ptrdiff_t p = begin; p < end; p++) out[p] = x[start + p * skip];
    for (ptrdiff_t p = end; p < count; p++) out[p] = 0;
}

/* scratch (patch_size, last - first): the patch matrix of a block of output pixels, transposed. */
static void gather_patches_transposed(real *scratch, const real *x, const window_shape *s, ptrdiff_t first,
                                      ptrdiff_t last) {
    for (ptrdiff_t p = first; p < last;) {
        const pixel at = pixel_at(s, p);
        const ptrdiff_t count = smaller(s->ow - at.j, last - p);
        real *out = scratch + (p - first);
        for (ptrdiff_t r = 0; r < s->r; r++)
            for (ptrdiff_t column_tap = 0; column_tap < s->s; column_tap++)
                for (ptrdiff_t c = 0; c < s->c; c++, out += SCRATCH_STRIDE)
                    gather_pixels(out, x, s, &at, count, r, column_tap, c);
        p += count;
    }
}

/* Elements of a row of the zero-padded input that `count` neighbouring output pixels see. */
INLINE ptrdiff_t row_under(const window_shape *s, ptrdiff_t count) {
    return ((count - 1) * s->stride + (s->s - 1) * (s->dilation + 1) + 1) * s->c;
}

/* Patches of few channels are read in place; those that contain padding from a copy in scratch, if it fits. */
INLINE int reads_in_place(const window_shape *s) {
    return has_few_channels(s) && row_under(s, smaller(s->ow, BLOCK_ROWS)) <= SCRATCH_SIZE / s->r;
}

/* Offsets of the taps from the first one, when kernel rows are `row` elements apart. */
static void tap_offsets(ptrdiff_t *offset, const window_shape *s, ptrdiff_t row) {
    for (ptrdiff_t r = 0; r < s->r; r++)
        for (ptrdiff_t column = 0; column < s->s; column++)
            for (ptrdiff_t c = 0; c < s->c; c++) *offset++ = r * row + column * (s->dilation + 1) * s->c + c;
}

/* out (R, length) = the input rows of the taps, the first of which is `top`, from element `left` on; 0 outside. */
static void copy_padded_rows(real *out, const real *image, const window_shape *s, ptrdiff_t top, ptrdiff_t left,
                             ptrdiff_t length) {
    const ptrdiff_t row_length = s->w * s->c;
    const ptrdiff_t begin = smaller(length, larger(0, -left));
    const ptrdiff_t end = larger(begin, smaller(length, row_length - left));
    for (ptrdiff_t r = 0; r < s->r; r++, out += length) {
        const ptrdiff_t row = top + r * (s->dilation + 1);
        const int inside = row >= 0 && row < s->h;
        for (ptrdiff_t q = 0; q < (inside ? begin : length); q++) out[q] = 0;
        if (!inside) continue;
        copy_reals(out + begin, image + row * row_length + left + begin, end - begin);
        for (ptrdiff_t q = end; q < length; q++) out[q] = 0;
    }
}

/* conv2d_forward with patches read in place, row by row of the output. */
static void forward_in_place(real *y, const real *x, const real *packed_w, epilogue finish, const window_shape *s,
                             ptrdiff_t first, ptrdiff_t last, real *scratch) {
    const ptrdiff_t row_length = s->w * s->c, depth = patch_size(s), height = (s->r - 1) * (s->dilation + 1) + 1;
    ptrdiff_t offset[BLOCK_ROWS], offset_in_copy[BLOCK_ROWS], length_of_copy = 0;
    tap_offsets(offset, s, (s->dilation + 1) * row_length);
    for (ptrdiff_t p = first; p < last;) {
        const pixel at = pixel_at(s, p);
        const ptrdiff_t count = smaller(s->ow - at.j, last - p), length = row_under(s, count);
        const ptrdiff_t top = at.i * s->stride - s->pad_top, left = (at.j * s->stride - s->pad_left) * s->c;
        const real *in = x + at.image * s->h * row_length;
        const ptrdiff_t *offset_here = offset;
        if (top >= 0 && top + height <= s->h && left >= 0 && left + length <= row_length) {
            in += top * row_length + left;
        } else {
            copy_padded_rows(scratch, in, s, top, left, length);
            if (length != length_of_copy) tap_offsets(offset_in_copy, s, length);
            length_of_copy = length;
            in = scratch;
            offset_here = offset_in_copy;
        }
        gemm_ordered(y + p * s->k, s->k, in, IN_PLACE, s->stride * s->c, offset_here, packed_w,
                     depth * PANEL, count, s->k, depth, finish);
        p += count;
    }
}

static void conv2d_forward(void *y, const void *x, const void *packed_w, const void *w, const void *bias,
                           const window_shape *s, int relu, ptrdiff_t first, ptrdiff_t last, void *scratch) {
    const ptrdiff_t depth = patch_size(s), chunk = depth_chunk(depth);
    if (!packed_w && conv2d_has_few_outputs(s, 0)) {
        few_outputs_forward(y, x, w, bias, s, relu, first, last, scratch);
        return;
    }
    if (packed_w && reads_in_place(s)) {
        const epilogue finish = {bias, 0, relu, NULL};
        forward_in_place(y, x, packed_w, finish, s, first, last, scratch);
        return;
    }
    real *out = (real *)y + first * s->k, *packed_panel = (real *)scratch + SCRATCH_SIZE;
    for (ptrdiff_t q = 0; q < depth; q += chunk) {
        const ptrdiff_t end = smaller(q + chunk, depth);
        epilogue finish = {q == 0 ? bias : NULL, q > 0, relu && end == depth, NULL};
        gather_patches(scratch, x, s, first, last, q, end);
        if (packed_w) {
            gemm_block(out, s->k, scratch, ROWS_FIRST, (const real *)packed_w + q * PANEL, depth * PANEL, last - first,
                       s->k, end - q, finish);
            continue;
        }
        for (ptrdiff_t k = 0; k < s->k; k += PANEL) {
            gemm_unpacked(out + k, s->k, smaller(s->k - k, PANEL), scratch, SCRATCH_STRIDE,
                          (const real *)w + q * s->k + k, s->k, 1, last - first, end - q, &finish, packed_panel);
            if (finish.bias) finish.bias += PANEL;
        }
    }
}

static ptrdiff_t conv2d_grad_input_scratch(const window_shape *s) {
    (void)s;
    return SCRATCH_SIZE + BLOCK_ROWS * GRAD_INPUT_PANELS * PANEL + BLOCK_DEPTH * PANEL;
}

static void conv2d_grad_input(void *dx, const void *dy, const void *packed_wt, const void *w, const window_shape *s,
                              ptrdiff_t first, ptrdiff_t last, void *scratch) {
    if (!packed_wt && conv2d_has_few_outputs(s, 1)) {
        few_outputs_transposed(dx, dy, w, s, first, last);
        return;
    }
    const ptrdiff_t columns = patch_size(s), pixels = s->oh * s->ow, image_size = s->h * s->w * s->c;
    const ptrdiff_t width = GRAD_INPUT_PANELS * PANEL, chunk = depth_chunk(s->k);
    real *block = scratch, *patches = block + SCRATCH_SIZE, *packed_panel = patches + BLOCK_ROWS * width;
    memset((real *)dx + first * image_size, 0, (size_t)((last - first) * image_size) * sizeof(real));
    for (ptrdiff_t p = first * pixels; p < last * pixels; p += BLOCK_ROWS) {
        const ptrdiff_t end = smaller(p + BLOCK_ROWS, last * pixels);
        for (ptrdiff_t q = 0; q < columns; q += width) {
            const ptrdiff_t count = smaller(width, columns - q);
            for (ptrdiff_t k = 0; k < s->k; k += chunk) {
                const ptrdiff_t depth = smaller(chunk, s->k - k);
                const epilogue finish = {NULL, k > 0, 0, NULL};
                if (q == 0 || chunk < s->k) load_block(block, (const real *)dy + p * s->k + k, s->k, end - p, depth);
                if (packed_wt) {
                    gemm_block(patches, width, block, ROWS_FIRST, (const real *)packed_wt + q * s->k + k * PANEL,
                               s->k * PANEL, end - p, count, depth, finish);
                    continue;
                }
                for (ptrdiff_t j = 0; j < count; j += PANEL)
                    gemm_unpacked(patches + j, width, smaller(count - j, PANEL), block, SCRATCH_STRIDE,
                                  (const real *)w + (q + j) * s->k + k, 1, s->k, end - p, depth, &finish, packed_panel);
            }
            scatter_patches(dx, patches, width, s, p, end, q, q + count);
        }
    }
}

static ptrdiff_t conv2d_grad_weight_scratch(const window_shape *s) {
    return SCRATCH_SIZE + panels_size(BLOCK_ROWS, s->k);
}

static void conv2d_grad_weight(void *dw, void *db, const void *x, const void *dy, const window_shape *s,
                               ptrdiff_t first, ptrdiff_t last, ptrdiff_t first_row, ptrdiff_t last_row,
                               void *scratch) {
    const ptrdiff_t rows = last_row - first_row, chunk = depth_chunk(rows), depth = last - first;
    const real *dy_block = (const real *)dy + first * s->k;
    real *block = scratch, *packed_dy = block + SCRATCH_SIZE;
    const epilogue add = {NULL, 1, 0, NULL};
    pack_panels(packed_dy, dy_block, depth, s->k, s->k, 1, 0, (s->k + PANEL - 1) / PANEL);
    if (has_few_channels(s)) {
        gather_patches_transposed(block, x, s, first, last);
        gemm_block(dw, s->k, block, ROWS_FIRST, packed_dy, depth * PANEL, rows, s->k, depth, add);
    } else {
        for (ptrdiff_t q = first_row; q < last_row; q += chunk) {
            const ptrdiff_t end = smaller(q + chunk, last_row);
            gather_patches(block, x, s, first, last, q, end);
            gemm_block((real *)dw + q * s->k, s->k, block, DEPTH_FIRST, packed_dy, depth * PANEL, end - q, s->k, depth,
                       add);
        }
    }
    for (ptrdiff_t k = 0; first_row == 0 && k < s->k; k += LANES) {
        const real *column = packed_dy + k / PANEL * depth * PANEL + k % PANEL;
        vec sum = broadcast(0);
        for (ptrdiff_t p = 0; p < depth; p++) sum += load(column + p * PANEL);
        real *to = (real *)db + k;
        store_some(to, load_some(to, s->k - k) + sum, s->k - k);
    }
}

#endif
