/* Dense layers: products of a batch with a weight matrix, and with its transpose. */
#ifndef CVAE_DENSE_H
#define CVAE_DENSE_H

#include "gemm.h"

static ptrdiff_t dense_scratch(ptrdiff_t k, ptrdiff_t panels) { return SCRATCH_SIZE + panels * k * PANEL; }

static void dense_block(void *y, const void *x, const void *b, const void *bias, ptrdiff_t n, ptrdiff_t k,
                        ptrdiff_t row_stride, ptrdiff_t column_stride, int relu, ptrdiff_t first_row,
                        ptrdiff_t last_row, ptrdiff_t first, ptrdiff_t last, void *scratch) {
    const ptrdiff_t column = first * PANEL, columns = smaller(last * PANEL, n) - column, step = depth_step(k);
    real *block = scratch, *packed = block + SCRATCH_SIZE;
    pack_panels(packed, (const real *)b + column * column_stride, k, columns, row_stride, column_stride, 0,
                last - first);
    for (ptrdiff_t i = first_row; i < last_row; i += BLOCK_ROWS) {
        const ptrdiff_t rows = smaller(BLOCK_ROWS, last_row - i);
        for (ptrdiff_t p = 0; p < k; p += step) {
            const ptrdiff_t depth = smaller(step, k - p);
            const epilogue finish = {p == 0 && bias ? (const real *)bias + column : NULL, p > 0, relu && p + depth == k};
            load_block(block, (const real *)x + i * k + p, k, rows, depth);
            gemm_block((real *)y + i * n + column, n, block, ROWS_FIRST, packed + p * PANEL, k * PANEL, rows, columns,
                       depth, finish);
        }
    }
}

static ptrdiff_t dense_grad_weight_scratch(ptrdiff_t n) { return SCRATCH_SIZE + panels_size(BLOCK_ROWS, n); }

static void dense_grad_weight(void *dw, const void *x, const void *dy, ptrdiff_t m, ptrdiff_t k, ptrdiff_t n,
                              ptrdiff_t first, ptrdiff_t last, void *scratch) {
    real *block = scratch, *packed = block + SCRATCH_SIZE;
    for (ptrdiff_t i = 0; i < m; i += BLOCK_ROWS) {
        const ptrdiff_t depth = smaller(BLOCK_ROWS, m - i);
        const epilogue finish = {NULL, i > 0, 0};
        pack_panels(packed, (const real *)dy + i * n, depth, n, n, 1, 0, (n + PANEL - 1) / PANEL);
        load_block(block, (const real *)x + i * k + first, k, depth, last - first);
        gemm_block((real *)dw + first * n, n, block, DEPTH_FIRST, packed, depth * PANEL, last - first, n, depth,
                   finish);
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

#endif
