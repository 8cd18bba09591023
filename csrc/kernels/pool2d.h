/* Max and average pooling.  The zeros of the padding count as data, as in numpy-ml: they take part in the maximum and
 * in the mean, whose divisor is always R * S. */
#ifndef CVAE_POOL2D_H
#define CVAE_POOL2D_H

#include <math.h>

#include "kernels.h"
#include "vector.h"

/* The offset in x of tap t of the window of output pixel (image, i, j), or -1 where it lies on padding. */
INLINE ptrdiff_t tap_offset(const window_shape *s, ptrdiff_t image, ptrdiff_t i, ptrdiff_t j, ptrdiff_t t) {
    const ptrdiff_t row = i * s->stride + t / s->s - s->pad_top, column = j * s->stride + t % s->s - s->pad_left;
    if (row < 0 || row >= s->h || column < 0 || column >= s->w) return -1;
    return ((image * s->h + row) * s->w + column) * s->c;
}

/* The largest of some taps, and its index, in each lane. */
typedef struct {
    vec value;
    vec_int tap;
} maximum;

/* Of equals the first, and the first NaN. */
INLINE maximum larger_of(maximum first, maximum second) {
    const vec_int take = ~at_most(second.value, first.value) & at_most(first.value, first.value);
    const maximum m = {choose(take, second.value, first.value), choose_ints(take, second.tap, first.tap)};
    return m;
}

/* The taps (rows, columns) of a window in an image (h, w, c), the first at (top, left); end: the end of all images. */
typedef struct {
    ptrdiff_t rows, columns, top, left;
    ptrdiff_t h, w, c;
    const real *end;
} window_taps;

/* The maximum of a vector of channels.  inside: no tap is padding, or less than a vector from the end. */
INLINE maximum window_maximum(const int inside, const real *image, const window_taps *w) {
    maximum best = {broadcast(0), broadcast_int(0)};
    for (ptrdiff_t r = 0; r < w->rows; r++) {
        maximum of_row = best;
        for (ptrdiff_t q = 0; q < w->columns; q++) {
            const ptrdiff_t row = w->top + r, column = w->left + q;
            maximum tap = {broadcast(0), broadcast_int((real_int)(r * w->columns + q))};
            if (inside || (row >= 0 && row < w->h && column >= 0 && column < w->w)) {
                const real *p = image + (row * w->w + column) * w->c;
                tap.value = inside ? load(p) : load_some(p, w->end - p);
            }
            of_row = q > 0 ? larger_of(of_row, tap) : tap;
        }
        best = r > 0 ? larger_of(best, of_row) : of_row;
    }
    return best;
}

/* One row of windows.  Those in [first, last), which lie inside, are written in whole vectors; these may overlap the
 * next windows, which are written later. */
INLINE void max_row(const ptrdiff_t rows, const ptrdiff_t columns, real *y, int32_t *argmax, const real *image,
                    const real *end, const window_shape *s, ptrdiff_t top) {
    const ptrdiff_t channels = s->c, count = s->ow, stride = s->stride, excess = (LANES - channels % LANES) % LANES;
    window_taps w = {rows, columns, top, -s->pad_left, s->h, s->w, channels, end};
    const ptrdiff_t first = (s->pad_left + stride - 1) / stride;
    ptrdiff_t last = smaller(count, (s->w + s->pad_left - columns) / stride + 1);
    if (excess > 0) last -= (excess + channels - 1) / channels;
    if (top < 0 || top + rows > s->h || s->w + s->pad_left < columns) last = 0;
    for (ptrdiff_t j = 0; j < count; j++, w.left += stride, y += channels, argmax += channels)
        if (j >= first && j < last)
            for (ptrdiff_t c = 0; c < channels; c += LANES) {
                const maximum m = window_maximum(1, image + c, &w);
                store(y + c, m.value);
                store_some_ints(argmax + c, m.tap, LANES);
            }
        else
            for (ptrdiff_t c = 0; c < channels; c += LANES) {
                const maximum m = window_maximum(0, image + c, &w);
                store_some(y + c, m.value, channels - c);
                store_some_ints(argmax + c, m.tap, channels - c);
            }
}

static void pool2d_max_forward(void *y_row, int32_t *argmax_row, const void *x, const window_shape *s, ptrdiff_t row) {
    const ptrdiff_t image = row / s->oh, top = row % s->oh * s->stride - s->pad_top, size = s->h * s->w * s->c;
    const real *in = (const real *)x + image * size, *end = (const real *)x + s->n * size;
    if (s->r == 2 && s->s == 2)
        max_row(2, 2, y_row, argmax_row, in, end, s, top);
    else if (s->r == 3 && s->s == 3)
        max_row(3, 3, y_row, argmax_row, in, end, s, top);
    else
        max_row(s->r, s->s, y_row, argmax_row, in, end, s, top);
}

/* Adds the gradients of one window's channels to the taps that were their maxima; the last channels one by one.
 * inside: no tap is padding. */
INLINE void spread_window(const int inside, real *image, const real *dy, const int32_t *argmax, const window_taps *w) {
    ptrdiff_t c = 0;
    for (; c + LANES <= w->c; c += LANES) {
        const vec_int gradient = as_bits(load(dy + c)), arg = load_ints(argmax + c);
        for (ptrdiff_t r = 0; r < w->rows; r++)
            for (ptrdiff_t q = 0; q < w->columns; q++) {
                const ptrdiff_t row = w->top + r, column = w->left + q;
                if (!inside && (row < 0 || row >= w->h || column < 0 || column >= w->w)) continue;
                real *out = image + (row * w->w + column) * w->c + c;
                const vec_int mask = equal_ints(arg, broadcast_int((real_int)(r * w->columns + q)));
                store(out, load(out) + as_real(gradient & mask));
            }
    }
    for (; c < w->c; c++) {
        if (argmax[c] < 0 || argmax[c] >= w->rows * w->columns) continue; /* not the index of a tap */
        const ptrdiff_t row = w->top + argmax[c] / w->columns, column = w->left + argmax[c] % w->columns;
        if (inside || (row >= 0 && row < w->h && column >= 0 && column < w->w))
            image[(row * w->w + column) * w->c + c] += dy[c];
    }
}

INLINE void spread_image(const ptrdiff_t rows, const ptrdiff_t columns, real *dx, const real *dy, const int32_t *argmax,
                         const window_shape *s) {
    window_taps w = {rows, columns, 0, 0, s->h, s->w, s->c, NULL};
    const ptrdiff_t oh = s->oh, ow = s->ow, stride = s->stride, pad_left = s->pad_left;
    w.top = -s->pad_top;
    for (ptrdiff_t i = 0; i < oh; i++, w.top += stride) {
        w.left = -pad_left;
        for (ptrdiff_t j = 0; j < ow; j++, w.left += stride, dy += w.c, argmax += w.c)
            if (w.top >= 0 && w.top + rows <= w.h && w.left >= 0 && w.left + columns <= w.w)
                spread_window(1, dx, dy, argmax, &w);
            else
                spread_window(0, dx, dy, argmax, &w);
    }
}

static void pool2d_max_backward(void *dx, const void *dy, const int32_t *argmax, const window_shape *s) {
    memset(dx, 0, (size_t)(s->h * s->w * s->c) * sizeof(real));
    if (s->r == 2 && s->s == 2)
        spread_image(2, 2, dx, dy, argmax, s);
    else if (s->r == 3 && s->s == 3)
        spread_image(3, 3, dx, dy, argmax, s);
    else
        spread_image(s->r, s->s, dx, dy, argmax, s);
}

static void pool2d_average_forward(void *y, const void *x, const window_shape *s, ptrdiff_t row) {
    const ptrdiff_t image = row / s->oh, i = row % s->oh, taps = s->r * s->s;
    const real scale = (real)1 / (real)taps;
    for (ptrdiff_t j = 0; j < s->ow; j++) {
        real *RESTRICT out = (real *)y + (row * s->ow + j) * s->c;
        memset(out, 0, (size_t)s->c * sizeof(real));
        for (ptrdiff_t t = 0; t < taps; t++) {
            const ptrdiff_t offset = tap_offset(s, image, i, j, t);
            if (offset < 0) continue;
            const real *RESTRICT in = (const real *)x + offset;
            for (ptrdiff_t c = 0; c < s->c; c++) out[c] += in[c];
        }
        for (ptrdiff_t c = 0; c < s->c; c++) out[c] *= scale;
    }
}

static void pool2d_average_backward(void *dx, const void *dy, const window_shape *s, ptrdiff_t image) {
    const ptrdiff_t image_size = s->h * s->w * s->c, taps = s->r * s->s;
    const real scale = (real)1 / (real)taps;
    memset((real *)dx + image * image_size, 0, (size_t)image_size * sizeof(real));
    for (ptrdiff_t i = 0; i < s->oh; i++)
        for (ptrdiff_t j = 0; j < s->ow; j++) {
            const real *RESTRICT in = (const real *)dy + ((image * s->oh + i) * s->ow + j) * s->c;
            for (ptrdiff_t t = 0; t < taps; t++) {
                const ptrdiff_t offset = tap_offset(s, image, i, j, t);
                if (offset < 0) continue;
                real *RESTRICT out = (real *)dx + offset;
                for (ptrdiff_t c = 0; c < s->c; c++) out[c] += scale * in[c];
            }
        }
}

#endif
