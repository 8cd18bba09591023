/* Dense layers: products of a batch with a weight matrix, and with its transpose. */
#ifndef CVAE_DENSE_H
#define CVAE_DENSE_H

#include "live.h"

/* One packed panel, or the sums of one example: DENSE_SCRATCH elements. */
enum { DENSE_SCRATCH = BLOCK_DEPTH * PANEL, ROWS_AT_ONCE = 8, LIVE_ROWS = 24 /* a multiple of tile heights */ };

/* c (m, columns)[ldc] = a (m, k) times b (k, columns)[row_stride], at most one panel.  A whole panel of b is read where
 * it is: that costs less than a copy even if its rows fall into the same cache sets.  The last columns are packed
 * first, because tiles read whole vectors. */
INLINE void dense_panel(real *c, ptrdiff_t ldc, ptrdiff_t columns, const real *a, block_order order, ptrdiff_t a_stride,
                        const real *b, ptrdiff_t row_stride, ptrdiff_t m, ptrdiff_t k, const epilogue *end,
                        real *packed) {
    if (columns == PANEL) {
        gemm_panel(c, ldc, columns, a, order, a_stride, NULL, b, row_stride, m, k, end);
    } else {
        pack_panel(packed, b, k, columns, row_stride, 1);
        gemm_panel(c, ldc, columns, a, order, a_stride, NULL, packed, PANEL, m, k, end);
    }
}

/* sums (columns) += some rows of b, each times one element of x. */
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

/* y (columns) = x (k) times b (k, columns)[row_stride] for a single example, at the speed at which b can be read.  Rows
 * of b whose x is zero, half of them after a ReLU, are left out, which changes nothing as long as b is finite; a weight
 * that is infinite or NaN shows only where x is not zero.  Sums in the order of the tiles, so to the same bits. */
static void dense_row(real *y, const real *x, const real *b, const real *bias, ptrdiff_t columns, ptrdiff_t k,
                      ptrdiff_t row_stride, int relu, real *sums) {
    const ptrdiff_t step = depth_step(k);
    for (ptrdiff_t p = 0; p < k; p += step) {
        const ptrdiff_t depth = smaller(step, k - p);
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
    const ptrdiff_t first_column = first * PANEL, last_column = smaller(last * PANEL, n), step = depth_step(k);
    const real *left = (const real *)x + first_row * k;
    real *out = (real *)y + first_row * n;
    if (last_row - first_row == 1) {
        for (ptrdiff_t j = first_column; j < last_column; j += DENSE_SCRATCH)
            dense_row(out + j, left, (const real *)w + j, (const real *)bias + j,
                      smaller(DENSE_SCRATCH, last_column - j), k, n, relu, scratch);
        return;
    }
    for (ptrdiff_t p = 0; p < k; p += step)
        for (ptrdiff_t j = first_column; j < last_column; j += PANEL) {
            const ptrdiff_t depth = smaller(step, k - p);
            const epilogue finish = {p == 0 ? (const real *)bias + j : NULL, p > 0, relu && p + depth == k};
            dense_panel(out + j, n, smaller(PANEL, n - j), left + p, ROWS_FIRST, k, (const real *)w + p * n + j, n,
                        last_row - first_row, depth, &finish, scratch);
        }
}

/* Of a panel's rows first <= p < first + .., those of some columns of the left matrix, moved to its start. */
static void keep_rows(real *packed, const ptrdiff_t *columns, ptrdiff_t count, ptrdiff_t first) {
    for (ptrdiff_t q = 0; q < count; q++)
        memmove(packed + q * PANEL, packed + (columns[q] - first) * PANEL, PANEL * sizeof(real));
}

static void dense_grad_input(void *dx, const void *dy, const void *w, const void *live_memory, ptrdiff_t n, ptrdiff_t k,
                             ptrdiff_t first_row, ptrdiff_t last_row, ptrdiff_t first, ptrdiff_t last, void *scratch) {
    const int less = live_memory && live_is_less(live_memory, n);
    live_columns live = {0};
    if (less) live = live_in(live_memory, n);
    const ptrdiff_t step = depth_step(n), left_stride = less ? live.stride : n;
    const real *left = (less ? live.matrix : (const real *)dy) + first_row * left_stride;
    for (ptrdiff_t p = 0, done = 0; p < n; p += step) {
        const ptrdiff_t depth = smaller(step, n - p), start = done;
        if (less)
            while (done < *live.count && live.columns[done] < p + depth) done++;
        else
            done += depth;
        for (ptrdiff_t j = first * PANEL; j < smaller(last * PANEL, k); j += PANEL) {
            const ptrdiff_t columns = smaller(PANEL, k - j);
            const epilogue finish = {NULL, p > 0, 0};
            pack_panel(scratch, (const real *)w + j * n + p, depth, columns, 1, n);
            if (less) keep_rows(scratch, live.columns + start, done - start, p);
            gemm_panel((real *)dx + first_row * k + j, k, columns, left + start, ROWS_FIRST, left_stride, NULL, scratch,
                       PANEL, last_row - first_row, done - start, &finish);
        }
    }
}

static void dense_grad_weight(void *dw, const void *x, const void *dy, ptrdiff_t m, ptrdiff_t k, ptrdiff_t n,
                              ptrdiff_t first_row, ptrdiff_t last_row, ptrdiff_t first, ptrdiff_t last, void *scratch) {
    const ptrdiff_t step = depth_step(m);
    for (ptrdiff_t i = 0; i < m; i += step)
        for (ptrdiff_t j = first * PANEL; j < smaller(last * PANEL, n); j += PANEL) {
            const epilogue finish = {NULL, i > 0, 0};
            dense_panel((real *)dw + first_row * n + j, n, smaller(PANEL, n - j), (const real *)x + i * k + first_row,
                        DEPTH_FIRST, k, (const real *)dy + i * n + j, n, last_row - first_row, smaller(step, m - i),
                        &finish, scratch);
        }
}

/* The row stride of the scratch of dense_grad_weight_live. */
INLINE ptrdiff_t live_row(ptrdiff_t n) { return panels_size(1, n) + LANES; }

static ptrdiff_t dense_live_scratch(ptrdiff_t n) { return LIVE_ROWS * live_row(n); }

static void dense_grad_weight_live(void *dw, const void *x, const void *live_memory, ptrdiff_t m, ptrdiff_t k,
                                   ptrdiff_t n, ptrdiff_t first_row, ptrdiff_t last_row, void *scratch) {
    const live_columns live = live_in(live_memory, n);
    const ptrdiff_t step = depth_step(m), stride = live_row(n);
    for (ptrdiff_t row = first_row; row < last_row; row += LIVE_ROWS) {
        const ptrdiff_t rows = smaller(LIVE_ROWS, last_row - row);
        for (ptrdiff_t i = 0; i < m; i += step)
            for (ptrdiff_t j = 0; j < *live.count; j += PANEL) {
                const epilogue finish = {NULL, i > 0, 0};
                gemm_panel((real *)scratch + j, stride, smaller(PANEL, *live.count - j),
                           (const real *)x + i * k + row, DEPTH_FIRST, k, NULL, live.matrix + i * live.stride + j,
                           live.stride, rows, smaller(step, m - i), &finish);
            }
        for (ptrdiff_t i = 0; i < rows; i++)
            live_spread((real *)dw + (row + i) * n, (const real *)scratch + i * stride, &live, n);
    }
}

/* Sums of BLOCK_ROWS rows are added up first, which keeps the rounding error small. */
static void column_sums(void *out, const void *x, ptrdiff_t m, ptrdiff_t n, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t j = first; j < last; j += LANES) {
        const ptrdiff_t count = last - j;
        vec total = broadcast(0);
        for (ptrdiff_t i = 0; i < m; i += BLOCK_ROWS) {
            vec sum = broadcast(0);
            for (ptrdiff_t p = i; p < smaller(i + BLOCK_ROWS, m); p++)
                sum += load_some((const real *)x + p * n + j, count);
            total += sum;
        }
        store_some((real *)out + j, total, count);
    }
}

/* sums (n) += the column sums of x (m, n). */
static void add_column_sums(void *sums, const void *x, ptrdiff_t m, ptrdiff_t n) {
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        vec sum = broadcast(0);
        for (ptrdiff_t i = 0; i < m; i++) sum += load_some((const real *)x + i * n + j, n - j);
        store_some((real *)sums + j, load_some((const real *)sums + j, n - j) + sum, n - j);
    }
}

#endif
