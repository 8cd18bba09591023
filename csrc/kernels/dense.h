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

/* sums (rows)[sums_row] = the live columns of the gradient of the rows of w from `first` on. */
static void sum_weight_gradient(real *sums, const dense_gradients *g, const live_columns *live, ptrdiff_t first,
                                ptrdiff_t rows, upcoming *next) {
    const ptrdiff_t chunk = depth_chunk(g->m), stride = sums_row(g->n);
    for (ptrdiff_t i = 0; i < g->m; i += chunk)
        for (ptrdiff_t j = 0; j < *live->count; j += PANEL) {
            const epilogue finish = {NULL, i > 0, 0, next};
            ptrdiff_t right_stride;
            const real *right = live_panel(live, g->dy, g->n, j, &right_stride);
            gemm_panel(sums + j, stride, smaller(PANEL, *live->count - j), (const real *)g->x + i * g->k + first,
                       DEPTH_FIRST, g->k, NULL, right + i * right_stride, right_stride, rows, smaller(chunk, g->m - i),
                       &finish);
        }
}

/* Moves some of a panel's rows, which belong to the columns of dy from `first` on, to its start: those of `columns`. */
static void keep_rows(real *packed, const ptrdiff_t *columns, ptrdiff_t count, ptrdiff_t first) {
    for (ptrdiff_t q = 0; q < count; q++)
        memmove(packed + q * PANEL, packed + (columns[q] - first) * PANEL, PANEL * sizeof(real));
}

/* Columns of dx from `first` on, at most a panel. */
static void input_gradient(const dense_gradients *g, const live_columns *live, ptrdiff_t first, ptrdiff_t columns,
                           upcoming *next, real *packed) {
    const real *left = live->some ? live->matrix : (const real *)g->dy;
    const ptrdiff_t left_stride = live->some ? live->stride : g->n, chunk = depth_chunk(g->n);
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
        gemm_panel((real *)g->dx + first, g->k, columns, left + start, ROWS_FIRST, left_stride, NULL, packed, PANEL,
                   g->m, done - start, &finish);
    }
}

/* `count` elements of an array from `first` on, to prefetch; none if it is NULL. */
INLINE upcoming elements(const void *array, ptrdiff_t first, ptrdiff_t count, const upcoming *then) {
    upcoming next = {array ? (const real *)array + first : NULL, PANEL, array ? count / PANEL : 0, then};
    return next;
}

/* A panel of rows of the weights, so that they are still in cache when they are updated. */
static void dense_backward(const dense_gradients *g, const void *live_memory, ptrdiff_t panel, void *scratch) {
    const live_columns live = live_in(live_memory, g->n);
    const parameter_update *update = g->update;
    const ptrdiff_t start = panel * PANEL, rows = smaller(PANEL, g->k - start), begin = start * g->n;
    real *packed = scratch, *sums = packed + DENSE_SCRATCH, *row = sums + PANEL * sums_row(g->n);
    upcoming states[MAX_STATES + 1] = {elements(NULL, 0, 0, NULL)}; /* each is followed by the one before it */
    for (int i = 0; i < MAX_STATES; i++)
        states[i + 1] = elements(update ? update->states[MAX_STATES - 1 - i] : NULL, begin, rows * g->n, &states[i]);
    upcoming w = elements(g->w, begin, rows * g->n, NULL);
    if (g->dw || update) sum_weight_gradient(sums, g, &live, start, rows, &w); /* before dx, which may be x */
    if (g->dx) input_gradient(g, &live, start, rows, &states[MAX_STATES], packed);
    for (ptrdiff_t i = 0; i < rows && (g->dw || update); i++) {
        const ptrdiff_t at = begin + i * g->n;
        const real *gradient = sums + i * sums_row(g->n);
        if (live.some) {
            live_spread(row, gradient, &live, g->n);
            gradient = row;
        }
        if (g->dw) memcpy((real *)g->dw + at, gradient, (size_t)g->n * sizeof(real));
        if (update) update_parameter(update, gradient, at, at + g->n);
    }
}

#endif
