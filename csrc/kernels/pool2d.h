/* Max and average pooling.  The zeros of the padding are part of the data, as in numpy-ml: they take part in the maximum
 * and in the mean, whose divisor is always R * S. */
#ifndef CVAE_POOL2D_H
#define CVAE_POOL2D_H

#include "vector.h"
#include "kernels.h"

/* The offset in x of tap t of the window of output pixel (image, i, j), or -1 where it lies on padding. */
INLINE ptrdiff_t tap_offset(const window_shape *s, ptrdiff_t image, ptrdiff_t i, ptrdiff_t j, ptrdiff_t t) {
    const ptrdiff_t row = i * s->stride + t / s->s - s->pad_top, column = j * s->stride + t % s->s - s->pad_left;
    if (row < 0 || row >= s->h || column < 0 || column >= s->w) return -1;
    return ((image * s->h + row) * s->w + column) * s->c;
}

/* Takes tap t where it is larger: the first maximum wins, and the first NaN stays. */
INLINE void max_tap(real *RESTRICT best, int32_t *RESTRICT arg, const real *RESTRICT in, ptrdiff_t channels,
                    int32_t t) {
    for (ptrdiff_t c = 0; c < channels; c++) {
        const real v = in ? in[c] : 0;
        const int take = (v > best[c]) | ((v != v) & (best[c] == best[c]));
        best[c] = take ? v : best[c];
        arg[c] = take ? t : arg[c];
    }
}

static void pool2d_max_forward(void *y, int32_t *argmax, const void *x, const window_shape *s, ptrdiff_t row) {
    const ptrdiff_t image = row / s->oh, i = row % s->oh, taps = s->r * s->s;
    for (ptrdiff_t j = 0; j < s->ow; j++) {
        real *best = (real *)y + (row * s->ow + j) * s->c;
        int32_t *arg = argmax + (row * s->ow + j) * s->c;
        for (ptrdiff_t t = 0; t < taps; t++) {
            const ptrdiff_t offset = tap_offset(s, image, i, j, t);
            const real *in = offset < 0 ? NULL : (const real *)x + offset;
            if (t > 0) {
                max_tap(best, arg, in, s->c, (int32_t)t);
                continue;
            }
            for (ptrdiff_t c = 0; c < s->c; c++) best[c] = in ? in[c] : 0;
            memset(arg, 0, (size_t)s->c * sizeof(int32_t));
        }
    }
}

static void pool2d_max_backward(void *dx, const void *dy, const int32_t *argmax, const window_shape *s,
                                ptrdiff_t image) {
    const ptrdiff_t image_size = s->h * s->w * s->c, taps = s->r * s->s;
    memset((real *)dx + image * image_size, 0, (size_t)image_size * sizeof(real));
    for (ptrdiff_t i = 0; i < s->oh; i++)
        for (ptrdiff_t j = 0; j < s->ow; j++) {
            const ptrdiff_t pixel = ((image * s->oh + i) * s->ow + j) * s->c;
            const real *RESTRICT in = (const real *)dy + pixel;
            const int32_t *RESTRICT arg = argmax + pixel;
            for (ptrdiff_t t = 0; t < taps; t++) {
                const ptrdiff_t offset = tap_offset(s, image, i, j, t);
                if (offset < 0) continue;
                real *RESTRICT out = (real *)dx + offset;
                for (ptrdiff_t c = 0; c < s->c; c++) out[c] += arg[c] == (int32_t)t ? in[c] : 0;
            }
        }
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
