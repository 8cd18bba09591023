/* Upsampling by whole factors, R rows and S columns of output for each of the input: repeating pixels, or bilinear
 * interpolation between the centres of pixels with the outermost ones extended, which is PyTorch's align_corners=False. */
#ifndef CVAE_UPSAMPLE2D_H
#define CVAE_UPSAMPLE2D_H

#include "kernels.h"
#include "vector.h"

/* What an output pixel is made from along one axis: (1 - share) of a pixel and `share` of the next. */
typedef struct {
    ptrdiff_t pixel, next;
    real share;
} mixture;

INLINE mixture mixture_at(ptrdiff_t position, ptrdiff_t factor, ptrdiff_t size, int bilinear) {
    if (!bilinear) {
        const mixture copy = {position / factor, position / factor, 0};
        return copy;
    }
    /* Its centre is at (position + 1/2) / factor - 1/2, here in units of 1 / (2 factor). */
    const ptrdiff_t unit = 2 * factor, centre = larger(0, 2 * position + 1 - factor), pixel = centre / unit;
    const mixture mixed = {pixel, smaller(pixel + 1, size - 1), (real)(centre % unit) / (real)unit};
    return mixed;
}

static void upsample2d_forward(void *y, const void *x, const window_shape *s, int bilinear, ptrdiff_t row) {
    const mixture down = mixture_at(row % s->oh, s->r, s->h, bilinear);
    const real *above = (const real *)x + (row / s->oh * s->h + down.pixel) * s->w * s->c;
    const real *below = (const real *)x + (row / s->oh * s->h + down.next) * s->w * s->c;
    for (ptrdiff_t j = 0; j < s->ow; j++) {
        const mixture across = mixture_at(j, s->s, s->w, bilinear);
        real *RESTRICT out = (real *)y + (row * s->ow + j) * s->c;
        const ptrdiff_t left = across.pixel * s->c, right = across.next * s->c;
        if (!bilinear) {
            memcpy(out, above + left, (size_t)s->c * sizeof(real));
            continue;
        }
        for (ptrdiff_t c = 0; c < s->c; c++) {
            const real upper = above[left + c] + across.share * (above[right + c] - above[left + c]);
            const real lower = below[left + c] + across.share * (below[right + c] - below[left + c]);
            out[c] = upper + down.share * (lower - upper);
        }
    }
}

INLINE void add_scaled(real *out, const real *in, real scale, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i++) out[i] += scale * in[i];
}

static void upsample2d_backward(void *dx, const void *dy, const window_shape *s, int bilinear, ptrdiff_t image) {
    const ptrdiff_t size = s->h * s->w * s->c;
    real *to = (real *)dx + image * size;
    memset(to, 0, (size_t)size * sizeof(real));
    for (ptrdiff_t i = 0; i < s->oh; i++) {
        const mixture down = mixture_at(i, s->r, s->h, bilinear);
        real *above = to + down.pixel * s->w * s->c, *below = to + down.next * s->w * s->c;
        for (ptrdiff_t j = 0; j < s->ow; j++) {
            const mixture across = mixture_at(j, s->s, s->w, bilinear);
            const real *in = (const real *)dy + ((image * s->oh + i) * s->ow + j) * s->c;
            const ptrdiff_t left = across.pixel * s->c, right = across.next * s->c;
            if (!bilinear) {
                add_scaled(above + left, in, 1, s->c);
                continue;
            }
            add_scaled(above + left, in, (1 - down.share) * (1 - across.share), s->c);
            add_scaled(above + right, in, (1 - down.share) * across.share, s->c);
            add_scaled(below + left, in, down.share * (1 - across.share), s->c);
            add_scaled(below + right, in, down.share * across.share, s->c);
        }
    }
}

#endif
