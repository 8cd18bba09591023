/* The interface between the Cython modules and the C kernels: one table of functions for each number type and
 * instruction set.  kernel_list.h describes the kernels and explains the letters. */
#ifndef CVAE_KERNELS_H
#define CVAE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* The geometry of a convolution or a pooling (K and dilation unused there); dilation counts the zeros between taps. */
typedef struct {
    ptrdiff_t n, h, w, c;
    ptrdiff_t k, r, s;
    ptrdiff_t oh, ow;
    ptrdiff_t stride, dilation, pad_top, pad_left;
} window_shape;

enum {
    BLOCK_ROWS = 168,  /* rows of the left matrix (output pixels, examples) handled at once: whole tiles */
    BLOCK_DEPTH = 256, /* largest part of the summed dimension handled at once */
    FEW_CHANNELS = 4,  /* input channels up to which the algorithms for few channels are used */
    INACTIVE = 255,    /* the place of a maximum that is not positive, as a byte */
    KERNEL_ROWS = 16,  /* rows of Winograd's weights evaluated at once; a multiple of the lanes of every vector */
    MAX_CONSTANTS = 2, /* largest number of constants of an activation function */
    MAX_STATES = 2,    /* largest number of states that an optimizer keeps for a parameter */
    MAX_WINOGRAD_KERNEL = 5 /* rows and columns of a kernel for Winograd's algorithm, at most, for each one of stride */
};

/* Outputs of a Winograd tile along an axis: F(7, 2) for up to 2 taps, F(6, 3) for 3, F(4, 5) for up to 5.  In two
 * dimensions a tile is square, and the larger side of the kernel counts; with a stride, of that of a phase
 * (winograd.h). */
static inline int winograd_outputs(ptrdiff_t taps) { return taps <= 2 ? 7 : taps == 3 ? 6 : 4; }

/* How an optimizer updates a parameter (optimizers.h).  apply updates `count` elements of a parameter and its states in
 * place; the scalars are the learning rate, the factor of the gradient, and the rule's constants. */
typedef struct {
    const char *name;
    int n_states, n_scalars;
    void (*apply)(void *param, void *const *states, const void *grad, const double *scalars, ptrdiff_t count);
} update_rule;

/* The update of a parameter.  The scalars are read each time it is applied. */
typedef struct {
    const update_rule *rule;
    void *param;
    void *states[MAX_STATES]; /* the rule's n_states, then NULL */
    const double *scalars;
} parameter_update;

/* An activation function f and its derivative (activations.h): y = f(z) and dz = dy f'(z), for `count` elements; y may
 * be z, dz may be dy or z.  constants are the function's own, then zeros up to MAX_CONSTANTS. */
typedef struct {
    const char *name;
    int n_constants;
    void (*forward)(void *y, const void *z, const double *constants, ptrdiff_t count);
    void (*backward)(void *dz, const void *dy, const void *z, const double *constants, ptrdiff_t count);
} activation_function;

/* A type of pixels in memory: out = (pixels - offset) / scale for `count` of them, in double, `offset` and `scale`
 * repeating after `period`. */
typedef struct {
    const char *name; /* NumPy's, or fraction: bytes, divided by 255 first */
    ptrdiff_t itemsize;
    void (*map)(void *out, const void *pixels, const double *offset, const double *scale, ptrdiff_t period,
                ptrdiff_t count);
} pixel_type;

/* The gradients of a dense layer, m examples, k inputs, n outputs: dx (m, k) = dy (m, n) times w (k, n) transposed, and
 * dw = x (m, k) transposed times dy.  Either may be NULL, and dx may be x; update, unless NULL, moves w along its
 * gradient. */
typedef struct {
    const void *x, *dy, *w;
    void *dx, *dw;
    const parameter_update *update;
    ptrdiff_t m, n, k;
} dense_gradients;

typedef struct {
    const char *name;       /* baseline, avx2 or avx512 */
    int panel;              /* columns of a packed panel of the right matrix */
    ptrdiff_t block_scratch; /* elements of one thread's left block */
    ptrdiff_t dense_scratch; /* elements that dense_forward needs as scratch */
    const update_rule *update_rules; /* terminated by a rule whose name is NULL */
    const activation_function *activations; /* in the same way */
    const pixel_type *pixel_types;
#define KERNEL(type, name, arguments) type(*name) arguments;
#include "kernel_list.h"
#undef KERNEL
} kernel_table;

extern const kernel_table kernels_f32_baseline, kernels_f64_baseline;
#if defined(CVAE_X86_VARIANTS)
extern const kernel_table kernels_f32_avx2, kernels_f64_avx2, kernels_f32_avx512, kernels_f64_avx512;
#endif

#endif
