/* The columns of a gradient that a dense layer's backward pass goes through.
 *
 * A ReLU hands on no gradient where it put out zero.  Units that put out zero for every example of a batch, a fifth to
 * a third of a hidden layer in training, therefore have a column of zeros in the gradient: products with it need only
 * the other columns, which are copied side by side.  The sums that are left keep their order, so nothing changes. */
#ifndef CVAE_LIVE_H
#define CVAE_LIVE_H

#include "gemm.h"

/* What is known of the columns of dy (m, n), in memory of live_size(m, n) bytes. */
typedef struct {
    ptrdiff_t *count;   /* how many columns are live, */
    ptrdiff_t *columns; /* (count) which, */
    ptrdiff_t *before;  /* (ceil(n / LANES)) how many of them lie before each vector of columns, */
    real_int *lane;     /* (n, to whole vectors) and a column's place among those of its vector, or -1 */
    real *matrix;       /* (m, stride) the live columns side by side, zeros after them; of all, the last panel alone */
    ptrdiff_t stride;
    int some;           /* whether it is worth leaving the others out; if not, all count as live */
} live_columns;

INLINE ptrdiff_t live_matrix_at(ptrdiff_t n) {
    const ptrdiff_t vectors = (n + LANES - 1) / LANES, bytes = (1 + n + vectors) * (ptrdiff_t)sizeof(ptrdiff_t);
    return (bytes + vectors * VECTOR_BYTES + 63) / 64 * 64;
}

static ptrdiff_t live_size(ptrdiff_t m, ptrdiff_t n) {
    return live_matrix_at(n) + panels_size(m, n) * (ptrdiff_t)sizeof(real);
}

INLINE live_columns live_in(const void *memory, ptrdiff_t n) {
    live_columns live;
    live.count = (ptrdiff_t *)memory;
    live.columns = live.count + 1;
    live.before = live.columns + n;
    live.lane = (real_int *)(live.before + (n + LANES - 1) / LANES);
    live.matrix = (real *)((char *)memory + live_matrix_at(n));
    live.some = *live.count < n;
    live.stride = live.some ? panels_size(1, *live.count) : PANEL;
    return live;
}

static void live_find(void *memory, const void *dy, int skip_dead, ptrdiff_t m, ptrdiff_t n) {
    *(ptrdiff_t *)memory = n;
    if (!skip_dead) return;
    const live_columns live = live_in(memory, n);
    ptrdiff_t count = 0;
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        const ptrdiff_t some = smaller(LANES, n - j);
        vec_int bits = broadcast_int(0);
        real_int column[LANES];
        for (ptrdiff_t i = 0; i < m; i++) bits |= as_bits(load_some((const real *)dy + i * n + j, some));
        memcpy(column, &bits, sizeof(bits));
        live.before[j / LANES] = count;
        for (ptrdiff_t i = 0; i < LANES; i++) {
            const int is_live = i < some && column[i] != 0;
            live.lane[j + i] = is_live ? (real_int)(count - live.before[j / LANES]) : -1;
            if (is_live) live.columns[count++] = j + i;
        }
    }
    if (count <= n - LANES) *live.count = count;
}

/* Rows first <= i < last of the matrix. */
static void live_copy(void *memory, const void *dy, ptrdiff_t n, ptrdiff_t first, ptrdiff_t last) {
    const live_columns live = live_in(memory, n);
    const ptrdiff_t whole = n / PANEL * PANEL;
    if (!live.some && whole == n) return;
    for (ptrdiff_t i = first; i < last; i++) {
        const real *in = (const real *)dy + i * n;
        real *out = live.matrix + i * live.stride;
        const ptrdiff_t count = live.some ? *live.count : n - whole;
        for (ptrdiff_t q = 0; q < count; q++) out[q] = in[live.some ? live.columns[q] : whole + q];
        for (ptrdiff_t q = count; q < live.stride; q++) out[q] = 0;
    }
}

/* One panel of live columns, from the j-th on, and the stride of its rows. */
INLINE const real *live_panel(const live_columns *live, const real *dy, ptrdiff_t n, ptrdiff_t j, ptrdiff_t *stride) {
    const int in_place = !live->some && j + PANEL <= n;
    *stride = in_place ? n : live->stride;
    return in_place ? dy + j : live->matrix + (live->some ? j : 0);
}

/* from[lane] in each lane, 0 where lane is -1. */
INLINE vec take(const real *from, vec_int lane) {
#if CVAE_VECTORS && !defined(__clang__)
    return as_real(as_bits(__builtin_shuffle(load(from), lane)) & ~less_ints(lane, broadcast_int(0)));
#else
    real_int index[LANES];
    real taken[LANES];
    memcpy(index, &lane, sizeof(lane));
    for (int i = 0; i < LANES; i++) taken[i] = index[i] < 0 ? 0 : from[index[i]];
    return load(taken);
#endif
}

/* out (n) = a row of the live columns where they belong, 0 elsewhere; row is read a vector beyond its end. */
INLINE void live_spread(real *out, const real *row, const live_columns *live, ptrdiff_t n) {
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        vec_int lane;
        memcpy(&lane, live->lane + j, sizeof(lane));
        store_some(out + j, take(row + live->before[j / LANES], lane), n - j);
    }
}

#endif
