/* Dense layers: products of a batch with a weight matrix, and with its transpose. */
#ifndef CVAE_DENSE_H
#define CVAE_DENSE_H

#include "live.h"
#include "optimizers.h"

/* DENSE_SCRATCH: elements of one packed panel, or of the sums of a single example. */
enum { DENSE_SCRATCH = BLOCK_DEPTH * PANEL, ROWS_AT_ONCE = 8 };

/* sums (columns) += `count` rows of b, each times its element of x. */
INLINE void add_rows(const int count, real *sums, const real *x, const real *b, ptrdiff_t row_stride,
                     const ptrdiff_t *rows, ptrdiff_t columns) {
    const real *row[ROWS_AT_ONCE];
    vec factor[ROWS_AT_ONCE];
    UNROLL for (int i = 0; i < count; i++) {
        row[i] = b + rows[i] * row_stride;
        factor[i] = broadcast(x[rows[i]]);
    }
    for (ptrdiff_t j = 0; j < columns; j += LANES) {
        vec sum = load(sums + j);
        UNROLL for (int i = 0; i < count; i++) sum += factor[i] * load_some(row[i] + j, columns - j);
        store(sums + j, sum);
    }
}

/* y (columns) = x (k) times b (k, columns)[row_stride] for a single example, limited by how fast b can be read.  Rows
 * of b whose x is zero (half of them after a ReLU) are skipped.  That changes nothing as long as b is finite; an
 * infinite or NaN weight shows only where x is not zero.  Sums are in the order of the tiles, so the bits are the same.
 * */
static void dense_row(real *y, const real *x, const real *b, const real *bias, ptrdiff_t columns, ptrdiff_t k,
                      ptrdiff_t row_stride, int relu, real *sums) {
    const ptrdiff_t chunk = depth_chunk(k);
    for (ptrdiff_t p = 0; p < k; p += chunk) {
        const ptrdiff_t depth = smaller(chunk, k - p);
        const real *start = p > 0 ? y : bias, *part = b + p * row_stride;
        ptrdiff_t rows[BLOCK_DEPTH], count = 0, i = 0;
        for (ptrdiff_t q = 0; q < depth; q++) {
            rows[count] = q;
            count += x[p + q] != 0;
        }
        for (ptrdiff_t j = 0; j < columns; j += LANES) store(sums + j, broadcast(0));
        for (; i + ROWS_AT_ONCE <= count; i += ROWS_AT_ONCE)
            add_rows(ROWS_AT_ONCE, sums, x + p, part, row_stride, rows + i, columns);
        for (; i < count; i++) add_rows(1, sums, x + p, part, row_stride, rows + i, columns);
        for (ptrdiff_t j = 0; j < columns; j += LANES) {
            const vec v = load(sums + j) + (start ? load_some(start + j, columns - j) : broadcast(0));
            store_some(y + j, relu && p + depth == k ? positive_part(v) : v, columns - j);
        }
    }
}

static void dense_forward(void *y, const void *x, const void *w, const void *bias, ptrdiff_t n, ptrdiff_t k, int relu,
                          ptrdiff_t first_row, ptrdiff_t last_row, ptrdiff_t first, ptrdiff_t last, void *scratch) {
    const ptrdiff_t first_column = first * PANEL, last_column = smaller(last * PANEL, n), chunk = depth_chunk(k);
    const real *left = (const real *)x + first_row * k;
    real *out = (real *)y + first_row * n;
    if (last_row - first_row == 1) {
        for (ptrdiff_t j = first_column; j < last_column; j += DENSE_SCRATCH)
            dense_row(out + j, left, (const real *)w + j, (const real *)bias + j,
                      smaller(DENSE_SCRATCH, last_column - j), k, n, relu, scratch);
        return;
    }
    for (ptrdiff_t p = 0; p < k; p += chunk)
        for (ptrdiff_t j = first_column; j < last_column; j += PANEL) {
            const ptrdiff_t depth = smaller(chunk, k - p), next = p + depth;
            /* During the product with some rows of w, the rows below are prefetched; with the first rows also, before
             * these, the next panel of the same rows, which nothing else has prefetched. */
            const upcoming below = {(const real *)w + next * n + j, n, smaller(chunk, k - next), NULL};
            const upcoming beside = {(const real *)w + j + PANEL, n, j + PANEL < last_column ? depth : 0, &below};
            upcoming rows = p == 0 ? beside : below;
            const epilogue finish = {p == 0 ? (const real *)bias + j : NULL, p > 0, relu && next == k, &rows};
            gemm_unpacked(out + j, n, smaller(PANEL, n - j), left + p, k, (const real *)w + p * n + j, n, 1,
                          last_row - first_row, depth, &finish, scratch);
        }
}

/* The row stride of the sums of a weight gradient: live_spread reads up to a vector beyond a row of live columns. */
INLINE ptrdiff_t sums_row(ptrdiff_t n) { return panels_size(1, n) + LANES; }

static ptrdiff_t dense_backward_scratch(ptrdiff_t n) { return DENSE_SCRATCH + (PANEL + 1) * sums_row(n); }

/* Columns first <= . < last of the gradient of `rows` rows of w, from row `start` on. */
typedef struct {
    ptrdiff_t start, rows, first, last;
} weight_range;

/* sums (rows)[sums_row] = the live columns of a range of the weight gradient, each at its rank among all of them. */
static void sum_weight_gradient(real *sums, const dense_gradients *g, const live_columns *live, weight_range of,
                                upcoming *next) {
    const ptrdiff_t chunk = depth_chunk(g->m), stride = sums_row(g->n);
    const ptrdiff_t end = live_before(live, of.last, g->n);
    for (ptrdiff_t i = 0; i < g->m; i += chunk)
        for (ptrdiff_t j = live_before(live, of.first, g->n); j < end; j += PANEL) {
            const epilogue finish = {NULL, i > 0, 0, next};
            ptrdiff_t right_stride;
            const real *right = live_panel(live, g->dy, g->n, j, &right_stride);
            gemm_panel(sums + j, stride, smaller(PANEL, end - j), (const real *)g->x + i * g->k + of.start, DEPTH_FIRST,
                       g->k, NULL, right + i * right_stride, right_stride, of.rows, smaller(chunk, g->m - i), &finish);
        }
}

/* A range of the weight gradient, and the update of its weights, from its sums.  row: scratch (sums_row). */
static void finish_weight_gradient(const dense_gradients *g, const live_columns *live, weight_range of,
                                   const real *sums, real *row) {
    for (ptrdiff_t i = 0; i < of.rows; i++) {
        const ptrdiff_t at = (of.start + i) * g->n;
        const real *gradient = sums + i * sums_row(g->n);
        if (live->some) {
            live_spread(row, gradient, live, of.first, of.last);
            gradient = row;
        }
        if (g->dw)
            memcpy((real *)g->dw + at + of.first, gradient + of.first, (size_t)(of.last - of.first) * sizeof(real));
        if (g->update) update_parameter(g->update, gradient + of.first, at + of.first, at + of.last);
    }
}

/* Moves some of a panel's rows, which belong to the columns of dy from `first` on, to its start: those of `columns`. */
static void keep_rows(real *packed, const ptrdiff_t *columns, ptrdiff_t count, ptrdiff_t first) {
    for (ptrdiff_t q = 0; q < count; q++)
        memmove(packed + q * PANEL, packed + (columns[q] - first) * PANEL, PANEL * sizeof(real));
}

/* Rows first_row <= . < last_row of the columns of dx from `first` on, at most a panel. */
static void input_gradient(const dense_gradients *g, const live_columns *live, ptrdiff_t first, ptrdiff_t columns,
                           ptrdiff_t first_row, ptrdiff_t last_row, upcoming *next, real *packed) {
    const ptrdiff_t left_stride = live->some ? live->stride : g->n, chunk = depth_chunk(g->n);
    const real *left = (live->some ? live->matrix : (const real *)g->dy) + first_row * left_stride;
    for (ptrdiff_t p = 0, done = 0; p < g->n; p += chunk) {
        const ptrdiff_t depth = smaller(chunk, g->n - p), start = done;
        const epilogue finish = {NULL, p > 0, 0, next};
        pack_panel(packed, (const real *)g->w + first * g->n + p, depth, columns, 1, g->n);
        if (live->some) {
            while (done < *live->count && live->columns[done] < p + depth) done++;
            keep_rows(packed, live->columns + start, done - start, p);
        } else {
            done += depth;
        }
        gemm_panel((real *)g->dx + first_row * g->k + first, g->k, columns, left + start, ROWS_FIRST, left_stride, NULL,
                   packed, PANEL, last_row - first_row, done - start, &finish);
    }
}

/* `count` elements of an array from `first` on, to prefetch; none if it is NULL. */
INLINE upcoming elements(const void *array, ptrdiff_t first, ptrdiff_t count, const upcoming *then) {
    upcoming next = {array ? (const real *)array + first : NULL, PANEL, array ? count / PANEL : 0, then};
    return next;
}

/* The optimizer's states of `count` weights from `first` on, to prefetch, each followed by the one before it, and the
 * first by `then`; returns the last. */
INLINE upcoming *states_ahead(upcoming ahead[MAX_STATES], const dense_gradients *g, ptrdiff_t first, ptrdiff_t count,
                              const upcoming *then) {
    const parameter_update *update = g->update;
    for (int i = 0; i < MAX_STATES; i++)
        ahead[i] = elements(update ? update->states[MAX_STATES - 1 - i] : NULL, first, count, i ? &ahead[i - 1] : then);
    return &ahead[MAX_STATES - 1];
}

/* A panel of rows of the weights, so that they are still in cache when they are updated. */
static void dense_backward(const dense_gradients *g, const void *live_memory, ptrdiff_t panel, void *scratch) {
    const live_columns live = live_in(live_memory, g->n);
    const weight_range of = {panel * PANEL, smaller(PANEL, g->k - panel * PANEL), 0, g->n};
    const ptrdiff_t begin = of.start * g->n, count = of.rows * g->n;
    real *packed = scratch, *sums = packed + DENSE_SCRATCH;
    upcoming w = elements(g->w, begin, count, NULL), states[MAX_STATES];
    upcoming *next = states_ahead(states, g, begin, count, NULL);
    if (g->dw || g->update) sum_weight_gradient(sums, g, &live, of, &w); /* before dx, which may be x */
    if (g->dx) input_gradient(g, &live, of.start, of.rows, 0, g->m, next, packed);
    if (g->dw || g->update) finish_weight_gradient(g, &live, of, sums, sums + PANEL * sums_row(g->n));
}

/* Some rows of a panel of columns of dx. */
static void dense_grad_input(const dense_gradients *g, const void *live_memory, ptrdiff_t panel, ptrdiff_t first_row,
                             ptrdiff_t last_row, void *scratch) {
    const live_columns live = live_in(live_memory, g->n);
    const ptrdiff_t start = panel * PANEL, next = start + PANEL;
    upcoming w = elements(g->w, next * g->n, next < g->k ? smaller(PANEL, g->k - next) * g->n : 0, NULL);
    input_gradient(g, &live, start, smaller(PANEL, g->k - start), first_row, last_row, &w, scratch);
}

/* Some columns, from the start of a vector on, of a panel of rows of the weight gradient, and the update of these
 * weights. */
static void dense_grad_weight(const dense_gradients *g, const void *live_memory, ptrdiff_t panel,
                              ptrdiff_t first_column, ptrdiff_t last_column, void *scratch) {
    const live_columns live = live_in(live_memory, g->n);
    const weight_range of = {panel * PANEL, smaller(PANEL, g->k - panel * PANEL), first_column, last_column};
    const ptrdiff_t count = last_column - first_column == g->n && g->update ? of.rows * g->n : 0;
    real *sums = scratch;
    upcoming w = elements(g->w, of.start * g->n, count, NULL), states[MAX_STATES];
    sum_weight_gradient(sums, g, &live, of, states_ahead(states, g, of.start * g->n, count, &w));
    finish_weight_gradient(g, &live, of, sums, sums + PANEL * sums_row(g->n));
}

#endif
