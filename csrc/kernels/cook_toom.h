/* One-dimensional transforms between polynomials and their values at eight points, the building blocks of Winograd's
 * algorithm (winograd.h).  Source: Lavin & Gray (2016), "Fast Algorithms for Convolutional Neural Networks". */
#ifndef CVAE_COOK_TOOM_H
#define CVAE_COOK_TOOM_H

#include "conv2d.h"

enum { POINTS = 8 };

/* The matrices of Cook and Toom for the points p = 0, 1, -1, 2, -2, 1/2, -1/2, infinity. With N_j the product of p_j
 * - p_l over all other finite points: row j of INPUT (B') holds the coefficients of the product of x - p_l over all
 * other finite points; OUTPUT_m (A) the powers of p_j below m; KERNEL_r (G) those below r divided by N_j. The rows
 * of infinity hold the leading coefficient. A pair +p, -p differs only in the sign of the odd columns. */
static const real INPUT[POINTS][POINTS] = {
    {-1, 0, 5.25, 0, -5.25, 0, 1, 0},
    {0, 1, 1, -4.25, -4.25, 1, 1, 0},
    {0, -1, 1, 4.25, -4.25, -1, 1, 0},
    {0, 0.5, 0.25, -2.5, -1.25, 2, 1, 0},
    {0, -0.5, 0.25, 2.5, -1.25, -2, 1, 0},
    {0, 2, 4, -2.5, -5, 0.5, 1, 0},
    {0, -2, 4, 2.5, -5, -0.5, 1, 0},
    {0, -1, 0, 5.25, 0, -5.25, 0, 1},
};
static const real OUTPUT_4[POINTS][4] = {
    {1, 0, 0, 0},
    {1, 1, 1, 1},
    {1, -1, 1, -1},
    {1, 2, 4, 8},
    {1, -2, 4, -8},
    {1, 0.5, 0.25, 0.125},
    {1, -0.5, 0.25, -0.125},
    {0, 0, 0, 1},
};
static const real OUTPUT_6[POINTS][6] = {
    {1, 0, 0, 0, 0, 0},
    {1, 1, 1, 1, 1, 1},
    {1, -1, 1, -1, 1, -1},
    {1, 2, 4, 8, 16, 32},
    {1, -2, 4, -8, 16, -32},
    {1, 0.5, 0.25, 0.125, 0.0625, 0.03125},
    {1, -0.5, 0.25, -0.125, 0.0625, -0.03125},
    {0, 0, 0, 0, 0, 1},
};
static const real OUTPUT_7[POINTS][7] = {
    {1, 0, 0, 0, 0, 0, 0},
    {1, 1, 1, 1, 1, 1, 1},
    {1, -1, 1, -1, 1, -1, 1},
    {1, 2, 4, 8, 16, 32, 64},
    {1, -2, 4, -8, 16, -32, 64},
    {1, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625},
    {1, -0.5, 0.25, -0.125, 0.0625, -0.03125, 0.015625},
    {0, 0, 0, 0, 0, 0, 1},
};
static const real KERNEL_5[POINTS][5] = {
    {-1, 0, 0, 0, 0},
    {-2.0 / 9, -2.0 / 9, -2.0 / 9, -2.0 / 9, -2.0 / 9},
    {-2.0 / 9, 2.0 / 9, -2.0 / 9, 2.0 / 9, -2.0 / 9},
    {1.0 / 90, 1.0 / 45, 2.0 / 45, 4.0 / 45, 8.0 / 45},
    {1.0 / 90, -1.0 / 45, 2.0 / 45, -4.0 / 45, 8.0 / 45},
    {32.0 / 45, 16.0 / 45, 8.0 / 45, 4.0 / 45, 2.0 / 45},
    {32.0 / 45, -16.0 / 45, 8.0 / 45, -4.0 / 45, 2.0 / 45},
    {0, 0, 0, 0, 1},
};
static const real KERNEL_3[POINTS][3] = {
    {-1, 0, 0},
    {-2.0 / 9, -2.0 / 9, -2.0 / 9},
    {-2.0 / 9, 2.0 / 9, -2.0 / 9},
    {1.0 / 90, 1.0 / 45, 2.0 / 45},
    {1.0 / 90, -1.0 / 45, 2.0 / 45},
    {32.0 / 45, 16.0 / 45, 8.0 / 45},
    {32.0 / 45, -16.0 / 45, 8.0 / 45},
    {0, 0, 1},
};
static const real KERNEL_2[POINTS][2] = {
    {-1, 0},
    {-2.0 / 9, -2.0 / 9},
    {-2.0 / 9, 2.0 / 9},
    {1.0 / 90, 1.0 / 45},
    {1.0 / 90, -1.0 / 45},
    {32.0 / 45, 16.0 / 45},
    {32.0 / 45, -16.0 / 45},
    {0, 1},
};

/* The points 0 and infinity stand alone, the others come in pairs: PAIRS groups, whose first row is first_of.  Loops
 * over them are unrolled, so that the compiler resolves all of this, and the zeros and ones of the matrices. */
enum { PAIRS = POINTS / 2 + 1 };
INLINE int first_of(const int pair) { return pair == 0 ? 0 : 2 * pair - 1; }
INLINE int is_single(const int pair) { return pair == 0 || pair == PAIRS - 1; }

/* The sum over i of factor[i * factor_stride] in[i * in_stride].  It starts with a factor of 1 or -1, if there is one,
 * which saves an operation. */
INLINE vec weighted_sum(const real *factor, const int factor_stride, const vec *in, const int in_stride,
                        const int count) {
    vec sum = broadcast(0);
    int empty = 1;
    UNROLL for (int others = 0; others < 2; others++)
        UNROLL for (int i = 0; i < count; i++) {
            const real f = factor[i * factor_stride];
            if (f == 0 || others == (f == 1 || f == -1)) continue;
            sum = empty ? f * in[i * in_stride] : sum + f * in[i * in_stride];
            empty = 0;
        }
    return sum;
}

/* out[j] = sum over i of matrix[j][i] in[i]: a polynomial at all points, the pairs from its even and its odd half. */
INLINE void evaluate(const real *matrix, const int columns, const vec *in, vec *out, const int out_stride) {
    UNROLL for (int pair = 0; pair < PAIRS; pair++) {
        const int j = first_of(pair);
        const real *row = matrix + j * columns;
        if (is_single(pair)) {
            out[j * out_stride] = weighted_sum(row, 1, in, 1, columns);
        } else {
            const vec even = weighted_sum(row, 2, in, 2, (columns + 1) / 2);
            const vec odd = weighted_sum(row + 1, 2, in + 1, 2, columns / 2);
            out[j * out_stride] = even + odd;
            out[(j + 1) * out_stride] = even - odd;
        }
    }
}

/* out[i] = sum over j of matrix[j][i] in[j]: the transpose of evaluate. */
INLINE void collect(const real *matrix, const int columns, const vec *in, const int in_stride, vec *out) {
    vec even[PAIRS], odd[PAIRS];
    UNROLL for (int pair = 0; pair < PAIRS; pair++) {
        const int j = first_of(pair);
        even[pair] = is_single(pair) ? in[j * in_stride] : in[j * in_stride] + in[(j + 1) * in_stride];
        odd[pair] = is_single(pair) ? in[j * in_stride] : in[j * in_stride] - in[(j + 1) * in_stride];
    }
    UNROLL for (int i = 0; i < columns; i++) {
        real factor[PAIRS];
        UNROLL for (int pair = 0; pair < PAIRS; pair++) factor[pair] = matrix[first_of(pair) * columns + i];
        out[i] = weighted_sum(factor, 1, i % 2 ? odd : even, 1, PAIRS);
    }
}

#endif
