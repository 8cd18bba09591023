/* Matrix product: the micro-kernel of convolution and dense layers.
 *
 * The scheme is that of Goto & van de Geijn (2008), "Anatomy of High-Performance Matrix Multiplication": a block of the
 * left matrix stays in the L2 cache (in place, or in scratch of BLOCK_ROWS x BLOCK_DEPTH with a constant row stride),
 * the right matrix passes through L1 in panels of PANEL columns, and a tile of the result stays in registers.  Each
 * element of the result is summed in the order of the inner dimension, whatever the tile, so that results do not depend
 * on which tile a row falls into. */
#ifndef CVAE_GEMM_H
#define CVAE_GEMM_H

#include "kernels.h"
#include "vector.h"

/* A tile of TILE_ROWS x PANEL must fit the registers together with two vectors of the panel and one broadcast. */
#if VECTOR_BYTES == 64 || defined(__aarch64__) /* 32 registers */
#define TILE_ROWS 12
#else /* 16 registers */
#define TILE_ROWS 6
#endif

enum {
    PANEL = 2 * LANES,
    /* The row stride of scratch: a cache line more than a power of two, so that rows map to different cache sets. */
    SCRATCH_STRIDE = BLOCK_DEPTH + 64 / (int)sizeof(real),
    SCRATCH_SIZE = BLOCK_ROWS * SCRATCH_STRIDE,
    PART_DEPTH = 32 /* of the sums of gemm_panels: whole panels */
};

/* The layout of the left block: where element (i, p), of row i and inner index p, is. */
typedef enum {
    ROWS_FIRST,  /* a[i * a_stride + p] */
    DEPTH_FIRST, /* a[p * a_stride + i] */
    PANEL_ROWS,  /* a[p / PANEL * a_stride + i * PANEL + p % PANEL]: a matrix in panels */
    IN_PLACE     /* a[offset[p] + i * a_stride]: patches of pixels, read from an image */
} block_order;

INLINE ptrdiff_t left_row_stride(block_order order, ptrdiff_t a_stride) {
    return order == ROWS_FIRST || order == IN_PLACE ? a_stride : order == DEPTH_FIRST ? 1 : PANEL;
}

/* Memory to prefetch: rows of PANEL elements, one of them every DEPTH_A_ROW inner indices of a product.  The hardware
 * prefetcher often misses rows that are far apart or on the next page.  Worth 6.5 % of a training step on one thread and
 * 3.5 % on two of a Zen 5 (AVX-512), 0.5 % of a Zen 3 (AVX2). */
typedef struct upcoming {
    const real *row;
    ptrdiff_t stride, rows;
    const struct upcoming *then; /* what to prefetch after these rows, or NULL */
} upcoming;

enum { DEPTH_A_ROW = 8 };

INLINE void fetch_row(upcoming *next) {
    while (next->rows <= 0) {
        if (!next->then) return;
        *next = *next->then;
    }
    prefetch(next->row);
    prefetch(next->row + LANES);
    next->row += next->stride;
    next->rows--;
}

/* What a tile starts from, how it ends, and what is prefetched meanwhile. */
typedef struct {
    const real *bias; /* (n) added to each row, or NULL */
    int accumulate;   /* add to what c holds (bias is then not used) */
    int relu;         /* end with max(., 0) */
    upcoming *next;   /* or NULL; not with PANEL_ROWS and IN_PLACE */
} epilogue;

/* c (rows, vectors * LANES)[ldc] = a (rows, k) times the first columns of one panel b (k, PANEL)[b_stride].  rows,
 * vectors and order are constants at each call, so that the loops over them are unrolled and sum stays in registers. */
INLINE void tile(const int rows, const int vectors, const block_order order, real *c, ptrdiff_t ldc, const real *a,
                 ptrdiff_t a_stride, const ptrdiff_t *offset, const real *b, ptrdiff_t b_stride, ptrdiff_t k,
                 const epilogue *end) {
    const ptrdiff_t row_stride = left_row_stride(order, a_stride), inner_stride = order == DEPTH_FIRST ? a_stride : 1;
    vec sum[TILE_ROWS][2];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = broadcast(0);

    const ptrdiff_t part = order == PANEL_ROWS ? PANEL : order == IN_PLACE ? k : DEPTH_A_ROW;
    for (ptrdiff_t q = 0; q < k; q += part) {
        const ptrdiff_t depth = smaller(k - q, part);
        if ((order == ROWS_FIRST || order == DEPTH_FIRST) && end->next) fetch_row(end->next);
        for (ptrdiff_t p = 0; p < depth; p++) {
            vec right[2];
            UNROLL for (int j = 0; j < vectors; j++) right[j] = load(b + p * b_stride + j * LANES);
            UNROLL for (int i = 0; i < rows; i++) {
                const vec left = broadcast(a[i * row_stride + (order == IN_PLACE ? offset[p] : p * inner_stride)]);
                UNROLL for (int j = 0; j < vectors; j++) sum[i][j] += left * right[j];
            }
        }
        a += order == PANEL_ROWS ? a_stride : part * inner_stride;
        b += part * b_stride;
    }

    UNROLL for (int j = 0; j < vectors; j++) {
        const vec bias = end->bias ? load(end->bias + j * LANES) : broadcast(0);
        UNROLL for (int i = 0; i < rows; i++) {
            real *out = c + i * ldc + j * LANES;
            const vec v = sum[i][j] + (end->accumulate ? load(out) : bias);
            store(out, end->relu ? positive_part(v) : v);
        }
    }
}

static void copy_columns(real *out, ptrdiff_t out_stride, const real *in, ptrdiff_t in_stride, ptrdiff_t rows,
                         ptrdiff_t columns) {
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++) out[i * out_stride + j] = in[i * in_stride + j];
}

/* A tile narrower than a panel is computed in a buffer as wide as the panel. */
#define TILE(rows, order)                                                                                              \
    static void tile_##rows##_##order(real *c, ptrdiff_t ldc, ptrdiff_t columns, const real *a, ptrdiff_t a_stride,    \
                                      const ptrdiff_t *offset, const real *b, ptrdiff_t b_stride, ptrdiff_t k,         \
                                      const epilogue *end) {                                                           \
        if (columns == PANEL) {                                                                                        \
            tile(rows, 2, order, c, ldc, a, a_stride, offset, b, b_stride, k, end);                                    \
            return;                                                                                                    \
        }                                                                                                              \
        real edge[rows * PANEL] = {0}, edge_bias[PANEL] = {0};                                                         \
        const epilogue edge_end = {edge_bias, end->accumulate, end->relu, end->next};                                  \
        if (end->bias) copy_columns(edge_bias, PANEL, end->bias, PANEL, 1, columns);                                   \
        if (end->accumulate) copy_columns(edge, PANEL, c, ldc, rows, columns);                                         \
        if (columns > LANES)                                                                                           \
            tile(rows, 2, order, edge, PANEL, a, a_stride, offset, b, b_stride, k, &edge_end);                         \
        else                                                                                                           \
            tile(rows, 1, order, edge, PANEL, a, a_stride, offset, b, b_stride, k, &edge_end);                         \
        copy_columns(c, ldc, edge, PANEL, rows, columns);                                                              \
    }
#define TILES(rows) TILE(rows, ROWS_FIRST) TILE(rows, DEPTH_FIRST) TILE(rows, PANEL_ROWS) TILE(rows, IN_PLACE)
TILES(1)
TILES(2)
TILES(4)
TILES(6)
#if TILE_ROWS == 12
TILES(8)
TILES(12)
#endif

typedef void (*tile_function)(real *, ptrdiff_t, ptrdiff_t, const real *, ptrdiff_t, const ptrdiff_t *, const real *,
                              ptrdiff_t, ptrdiff_t, const epilogue *);

/* Chooses the tallest tile that fits into `rows`; returns its height. */
INLINE int choose_tile(block_order order, ptrdiff_t rows, tile_function *function) {
#define USE(height)                                                                                                    \
    *function = order == ROWS_FIRST    ? tile_##height##_ROWS_FIRST                                                    \
                : order == DEPTH_FIRST ? tile_##height##_DEPTH_FIRST                                                   \
                : order == PANEL_ROWS  ? tile_##height##_PANEL_ROWS                                                    \
                                       : tile_##height##_IN_PLACE;                                                     \
    return height;
#define CHOOSE(height)                                                                                                 \
    if (rows >= height) {                                                                                              \
        USE(height)                                                                                                    \
    }
#if TILE_ROWS == 12
    CHOOSE(12)
    CHOOSE(8)
#endif
    CHOOSE(6)
    CHOOSE(4)
    CHOOSE(2)
    USE(1)
#undef USE
#undef CHOOSE
}

/* c (m, columns)[ldc] = a (m, k) times the first columns, at most PANEL, of b (k, PANEL)[b_stride].  If there are fewer
 * than PANEL, b is still read in whole vectors.  offset: for IN_PLACE, else NULL. */
INLINE void gemm_panel(real *c, ptrdiff_t ldc, ptrdiff_t columns, const real *a, block_order order, ptrdiff_t a_stride,
                       const ptrdiff_t *offset, const real *b, ptrdiff_t b_stride, ptrdiff_t m, ptrdiff_t k,
                       const epilogue *end) {
    for (ptrdiff_t i = 0; i < m;) {
        tile_function function;
        const int height = choose_tile(order, m - i, &function);
        function(c + i * ldc, ldc, columns, a + i * left_row_stride(order, a_stride), a_stride, offset, b, b_stride, k,
                 end);
        i += height;
    }
}

/* c (m, n)[ldc] = a (m, k) times packed panels b (k, n), panel_stride elements apart. */
static void gemm_ordered(real *c, ptrdiff_t ldc, const real *a, block_order order, ptrdiff_t a_stride,
                         const ptrdiff_t *offset, const real *b, ptrdiff_t panel_stride, ptrdiff_t m, ptrdiff_t n,
                         ptrdiff_t k, epilogue end) {
    for (ptrdiff_t j = 0; j < n; j += PANEL) {
        gemm_panel(c + j, ldc, smaller(n - j, PANEL), a, order, a_stride, offset, b, PANEL, m, k, &end);
        b += panel_stride;
        if (end.bias) end.bias += PANEL;
    }
}

/* The same with a block of a in scratch. */
static void gemm_block(real *c, ptrdiff_t ldc, const real *a, block_order order, const real *b, ptrdiff_t panel_stride,
                       ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, epilogue end) {
    gemm_ordered(c, ldc, a, order, SCRATCH_STRIDE, NULL, b, panel_stride, m, n, k, end);
}

/* c (m, n) = a (m, k) times b (k, n), all three in panels: element (i, j) at [j / PANEL][i][j % PANEL], the last panel
 * padded.  Long sums are added up from parts, which halves their rounding errors and keeps a part of b in L1. */
static void gemm_panels(real *c, const real *a, const real *b, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k) {
    for (ptrdiff_t j = 0; j < n; j += PANEL)
        for (ptrdiff_t p = 0; p < k; p += PART_DEPTH) {
            const epilogue end = {NULL, p > 0, 0, NULL};
            gemm_panel(c + j * m, PANEL, PANEL, a + p * m, PANEL_ROWS, m * PANEL, NULL, b + j * k + p * PANEL, PANEL, m,
                       smaller(PART_DEPTH, k - p), &end);
        }
}

/* c (m, n) = a (k, m) transposed times b (k, n), or c += that, all three in panels. */
static void gemm_panels_transposed(real *c, const real *a, const real *b, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k,
                                   int accumulate) {
    const epilogue end = {NULL, accumulate, 0, NULL};
    for (ptrdiff_t j = 0; j < n; j += PANEL)
        for (ptrdiff_t i = 0; i < m; i += PANEL)
            gemm_panel(c + j * m + i * PANEL, PANEL, PANEL, a + i * k, DEPTH_FIRST, PANEL, NULL, b + j * k,
                       PANEL, smaller(m - i, PANEL), k, &end);
}

/* out (rows, LANES)[PANEL] = in (columns, rows)[stride] transposed, at most LANES of each; missing columns are zero. */
INLINE void transpose_block(real *out, const real *in, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns) {
    vec block[LANES];
    UNROLL for (int j = 0; j < LANES; j++) block[j] = j < columns ? load_some(in + j * stride, rows) : broadcast(0);
    transpose(block);
    UNROLL for (int p = 0; p < LANES; p++)
        if (p < rows) store(out + p * PANEL, block[p]);
}

/* One panel of b (k, columns), whose columns are column_stride apart. */
static void pack_columns(real *out, const real *b, ptrdiff_t k, ptrdiff_t columns, ptrdiff_t column_stride) {
    for (ptrdiff_t j = 0; j < PANEL; j += LANES)
        for (ptrdiff_t p = 0; p < k; p += LANES) {
            const real *in = b + j * column_stride + p;
            if (columns - j >= LANES && k - p >= LANES)
                transpose_block(out + p * PANEL + j, in, column_stride, LANES, LANES);
            else
                transpose_block(out + p * PANEL + j, in, column_stride, smaller(k - p, LANES), columns - j);
        }
}

/* One panel of b (k, columns); one of the strides is 1. */
static void pack_panel(real *out, const real *b, ptrdiff_t k, ptrdiff_t columns, ptrdiff_t row_stride,
                       ptrdiff_t column_stride) {
    if (column_stride != 1) {
        pack_columns(out, b, k, columns, column_stride);
    } else if (columns == PANEL) {
        for (ptrdiff_t p = 0; p < k; p++) memcpy(out + p * PANEL, b + p * row_stride, PANEL * sizeof(real));
    } else {
        memset(out, 0, (size_t)(k * PANEL) * sizeof(real));
        copy_columns(out, PANEL, b, row_stride, k, columns);
    }
}

static void pack_panels(void *packed, const void *b, ptrdiff_t k, ptrdiff_t n, ptrdiff_t row_stride,
                        ptrdiff_t column_stride, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t panel = first; panel < last; panel++)
        pack_panel((real *)packed + panel * k * PANEL, (const real *)b + panel * PANEL * column_stride, k,
                   smaller(n - panel * PANEL, PANEL), row_stride, column_stride);
}

/* c (m, columns)[ldc] = a (m, k)[a_stride] times b (k, columns), at most one panel, which is not packed; one of b's
 * strides is 1.  A whole panel of rows is read in place, which is faster than a copy even if its rows map to the same
 * cache sets.  Others, which tiles cannot read in whole vectors, are packed first, a panel at a time. */
INLINE void gemm_unpacked(real *c, ptrdiff_t ldc, ptrdiff_t columns, const real *a, ptrdiff_t a_stride, const real *b,
                          ptrdiff_t row_stride, ptrdiff_t column_stride, ptrdiff_t m, ptrdiff_t k, const epilogue *end,
                          real *packed) {
    if (columns == PANEL && column_stride == 1) {
        gemm_panel(c, ldc, columns, a, ROWS_FIRST, a_stride, NULL, b, row_stride, m, k, end);
    } else {
        pack_panel(packed, b, k, columns, row_stride, column_stride);
        gemm_panel(c, ldc, columns, a, ROWS_FIRST, a_stride, NULL, packed, PANEL, m, k, end);
    }
}

/* Copies x (rows, columns)[stride] to scratch. */
static void load_block(real *scratch, const real *x, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns) {
    for (ptrdiff_t i = 0; i < rows; i++)
        memcpy(scratch + i * SCRATCH_STRIDE, x + i * stride, (size_t)columns * sizeof(real));
}

/* The inner dimension k is cut into equal parts of at most BLOCK_DEPTH. */
INLINE ptrdiff_t depth_chunk(ptrdiff_t k) {
    const ptrdiff_t parts = (k + BLOCK_DEPTH - 1) / BLOCK_DEPTH;
    return parts ? (k + parts - 1) / parts : 1;
}

INLINE ptrdiff_t panels_size(ptrdiff_t k, ptrdiff_t n) { return (n + PANEL - 1) / PANEL * PANEL * k; }

#endif
