/* Column sums of a matrix, such as the gradients of biases. */
#ifndef CVAE_COLUMN_SUMS_H
#define CVAE_COLUMN_SUMS_H

#include "kernels.h"
#include "vector.h"

/* start + the sums of `count` columns, at most a vector, of x (m rows)[n].  Blocks of BLOCK_ROWS rows are summed
 * separately, which keeps the rounding error small. */
INLINE vec add_rows_of(vec start, const real *x, ptrdiff_t m, ptrdiff_t n, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < m; i += BLOCK_ROWS) {
        vec sum = broadcast(0);
        for (ptrdiff_t p = i; p < smaller(i + BLOCK_ROWS, m); p++) sum += load_some(x + p * n, count);
        start += sum;
    }
    return start;
}

static void column_sums(void *out, const void *x, ptrdiff_t m, ptrdiff_t n, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t j = first; j < last; j += LANES)
        store_some((real *)out + j, add_rows_of(broadcast(0), (const real *)x + j, m, n, last - j), last - j);
}

static void add_column_sums(void *sums, const void *x, ptrdiff_t m, ptrdiff_t n) {
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        real *to = (real *)sums + j;
        store_some(to, add_rows_of(load_some(to, n - j), (const real *)x + j, m, n, n - j), n - j);
    }
}

#endif
