/* Made-up numbers, memory of exactly the size that kernels need, and what is written out. */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels.h"

#if CVAE_DOUBLE
typedef double real;
#define TABLE kernels_f64_baseline
#else
typedef float real;
#define TABLE kernels_f32_baseline
#endif

static unsigned state = 1;

static ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* Bytes whose end is the end of the memory, at the start of a cache line, as scratch memory is. */
static void *bytes(ptrdiff_t size) {
    void *p = NULL;
    if (posix_memalign(&p, 64, (size_t)(size > 0 ? size : 1)) != 0) abort();
    return p;
}

/* Uninitialised: what kernels write to without reading it first. */
static real *space(ptrdiff_t n) { return bytes(n * (ptrdiff_t)sizeof(real)); }

static real *zeros(ptrdiff_t n) {
    real *p = space(n);
    memset(p, 0, (size_t)n * sizeof(real));
    return p;
}

/* A number of 24 bits, at least 0 and less than 1. */
static double next_number(void) {
    state = state * 1664525u + 1013904223u;
    return (double)(state >> 8) / (1 << 24);
}

/* Numbers from low to high. */
static real *between(double low, double high, ptrdiff_t n) {
    real *p = space(n);
    for (ptrdiff_t i = 0; i < n; i++) p[i] = (real)(low + (high - low) * next_number());
    return p;
}

static real *numbers(ptrdiff_t n) { return between(-0.5, 0.5, n); }

static double *doubles(double low, double high, ptrdiff_t n) {
    double *p = bytes(n * (ptrdiff_t)sizeof(double));
    for (ptrdiff_t i = 0; i < n; i++) p[i] = low + (high - low) * next_number();
    return p;
}

static real *copy_of(const real *p, ptrdiff_t n) { return memcpy(space(n), p, (size_t)n * sizeof(real)); }

/* One line: a name, how many roundings lie behind a number at most, and the numbers. */
static void write_out(const char *name, ptrdiff_t roundings, const real *p, ptrdiff_t n) {
    printf("%s %td", name, roundings);
    for (ptrdiff_t i = 0; i < n; i++) printf(" %.17g", (double)p[i]);
    putchar('\n');
}

static void write_doubles(const char *name, ptrdiff_t roundings, const double *p, ptrdiff_t n) {
    printf("%s %td", name, roundings);
    for (ptrdiff_t i = 0; i < n; i++) printf(" %.17g", p[i]);
    putchar('\n');
}

static void release(void *const *memory, int count) {
    for (int i = 0; i < count; i++) free(memory[i]);
}
#define RELEASE(...)                                                                      \
    do {                                                                                  \
        void *const memory_[] = {__VA_ARGS__};                                            \
        release(memory_, (int)(sizeof(memory_) / sizeof(memory_[0])));                    \
    } while (0)

/* A window's geometry; the last windows end within the padding at the bottom and on the right. */
static window_shape windows(ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, ptrdiff_t k, ptrdiff_t r, ptrdiff_t s,
                            ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t top, ptrdiff_t left, ptrdiff_t bottom,
                            ptrdiff_t right) {
    window_shape shape = {.n = n, .h = h, .w = w, .c = c, .k = k, .r = r, .s = s, .stride = stride,
                          .dilation = dilation, .pad_top = top, .pad_left = left};
    shape.oh = (h + top + bottom - (r - 1) * (dilation + 1) - 1) / stride + 1;
    shape.ow = (w + left + right - (s - 1) * (dilation + 1) - 1) / stride + 1;
    return shape;
}

#endif
