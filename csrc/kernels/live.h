/* The columns of a gradient that matter in a dense layer's backward pass.
 *
 * A ReLU passes no gradient on where its output is zero.  Units whose output is zero for every example of a batch (a
 * fifth to a third of a hidden layer in training) therefore have a column of zeros in the gradient.  Products with it
 * need only the other, live, columns, which are copied next to each other.  The remaining terms of a sum keep their
 * order, so that results do not change. */
#ifndef CVAE_LIVE_H
#define CVAE_LIVE_H

#include "gemm.h"

/* The live columns of dy (m, n), in live_size(m, n) bytes of memory. */
typedef struct {
    ptrdiff_t *count;   /* the number of live columns */
    ptrdiff_t *columns; /* (count) their indices */
    ptrdiff_t *before;  /* (ceil(n / LANES)) the number of live columns before each vector of columns */
    real_int *lane;     /* (n, to whole vectors) a column's rank among the live ones of its vector, or -1 */
    real *matrix;       /* (m, stride) the live columns, then zeros; if all are live, only those of the last panel */
    ptrdiff_t stride;
    int some;           /* whether enough columns are dead for skipping to pay; if not, all count as live */
} live_columns;

INLINE ptrdiff_t live_matrix_at(ptrdiff_t n) {
    const ptrdiff_t vectors = (n + LANES - 1) / LANES, bytes = (1 + n + vectors) * (ptrdiff_t)sizeof(ptrdiff_t);
    return (bytes + vectors * VECTOR_BYTES + 63) / 64 * 64;
}

/* A panel of live columns may start at any of them, so that the last row is read up to a panel beyond its end. */
static ptrdiff_t live_size(ptrdiff_t m, ptrdiff_t n) {
    return live_matrix_at(n) + (panels_size(m, n) + PANEL) * (ptrdiff_t)sizeof(real);
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

/* The number of live columns before a column, which is the end or the first of a vector. */
INLINE ptrdiff_t live_before(const live_columns *live, ptrdiff_t column, ptrdiff_t n) {
    return !live->some ? column : column < n ? live->before[column / LANES] : *live->count;
}

/* One panel of live columns, from the j-th on, and its row stride. */
INLINE const real *live_panel(const live_columns *live, const real *dy, ptrdiff_t n, ptrdiff_t j, ptrdiff_t *stride) {
    const int in_place = !live->some && j + PANEL <= n;
    *stride = in_place ? n : live->stride;
    return in_place ? dy + j : live->matrix + (live->some ? j : 0);
}

/* from[lane] in each lane, or 0 where lane is -1. */
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

/* Elements first <= . < last of out, `first` being that of a vector, = a row of live columns at their places, 0
 * elsewhere; row is read up to a vector beyond its end. */
INLINE void live_spread(real *out, const real *row, const live_columns *live, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t j = first; j < last; j += LANES) {
        vec_int lane;
        memcpy(&lane, live->lane + j, sizeof(lane));
        store_some(out + j, take(row + live->before[j / LANES], lane), last - j);
    }
}

#endif
