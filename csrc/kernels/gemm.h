/* Matrix product: the one micro-kernel that convolution and dense layers stand on.
 *
 * The scheme is that of Goto & van de Geijn (2008), "Anatomy of High-Performance Matrix Multiplication": a block of the
 * left matrix lies in the L2 cache (scratch of BLOCK_ROWS x BLOCK_DEPTH with a constant row stride), the right matrix
 * is packed in panels of PANEL columns that pass through L1, and a tile of the result stays in registers.
 * Each element of the result is summed in the order of the inner dimension, whatever the tile, so results do not
 * depend on where a row falls. */
#ifndef CVAE_GEMM_H
#define CVAE_GEMM_H

#include "kernels.h"
#include "vector.h"

/* A tile of TILE_ROWS x PANEL must fit the registers beside two vectors of the panel and one broadcast. */
#if VECTOR_BYTES == 64 || defined(__aarch64__) /* 32 registers */
#define TILE_ROWS 12
#else /* 16 registers */
#define TILE_ROWS 6
#endif

enum {
    PANEL = 2 * LANES,
    /* The row stride of scratch: a cache line more than a power of two, so that rows fall into different cache sets. */
    SCRATCH_STRIDE = BLOCK_DEPTH + 64 / (int)sizeof(real),
    SCRATCH_SIZE = BLOCK_ROWS * SCRATCH_STRIDE
};

/* How the left block lies in scratch: where element (i, p) of rows i and inner index p is. */
typedef enum {
    ROWS_FIRST,  /* a[i * SCRATCH_STRIDE + p] */
    DEPTH_FIRST, /* a[p * stride + i] */
    PANEL_ROWS   /* a[p / PANEL * stride + i * PANEL + p % PANEL]: a matrix in panels */
} block_order;

/* What a tile starts from and how it ends. */
typedef struct {
    const real *bias; /* (n) added to each row, or NULL */
    int accumulate;   /* add to what c holds (bias is then not used) */
    int relu;         /* max(., 0) at the end */
} epilogue;

/* c (rows, vectors * LANES)[ldc] = a (rows, k) times the first columns of one panel b (k, PANEL).  rows, vectors and order are
 * constants at each call, so that the loops over them are unrolled and sum stays in registers. */
INLINE void tile(const int rows, const int vectors, const block_order order, real *c, ptrdiff_t ldc, const real *a,
                 ptrdiff_t stride, const real *b, ptrdiff_t k, const epilogue *end) {
    const ptrdiff_t row_step = order == ROWS_FIRST ? SCRATCH_STRIDE : order == DEPTH_FIRST ? 1 : PANEL;
    const ptrdiff_t inner_step = order == DEPTH_FIRST ? stride : 1;
    vec sum[TILE_ROWS][2];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = broadcast(0);

    for (ptrdiff_t q = 0; q < k; q += order == PANEL_ROWS ? PANEL : k) {
        const ptrdiff_t depth = order == PANEL_ROWS ? smaller(k - q, PANEL) : k;
        for (ptrdiff_t p = 0; p < depth; p++) {
            vec right[2];
            UNROLL for (int j = 0; j < vectors; j++) right[j] = load(b + p * PANEL + j * LANES);
            UNROLL for (int i = 0; i < rows; i++) {
                const vec left = broadcast(a[i * row_step + p * inner_step]);
                UNROLL for (int j = 0; j < vectors; j++) sum[i][j] += left * right[j];
            }
        }
        a += stride;
        b += PANEL * PANEL;
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

/* A tile of fewer columns than a panel is computed in a buffer as wide as the panel. */
#define TILE(rows, order)                                                                                              \
    static void tile_##rows##_##order(real *c, ptrdiff_t ldc, ptrdiff_t columns, const real *a, ptrdiff_t stride,      \
                                      const real *b, ptrdiff_t k, const epilogue *end) {                               \
        if (columns == PANEL) {                                                                                        \
            tile(rows, 2, order, c, ldc, a, stride, b, k, end);                                                        \
            return;                                                                                                    \
        }                                                                                                              \
        real edge[rows * PANEL] = {0}, edge_bias[PANEL] = {0};                                                         \
        const epilogue edge_end = {edge_bias, end->accumulate, end->relu};                                             \
        if (end->bias) copy_columns(edge_bias, PANEL, end->bias, PANEL, 1, columns);                                   \
        if (end->accumulate) copy_columns(edge, PANEL, c, ldc, rows, columns);                                         \
        if (columns > LANES)                                                                                           \
            tile(rows, 2, order, edge, PANEL, a, stride, b, k, &edge_end);                                             \
        else                                                                                                           \
            tile(rows, 1, order, edge, PANEL, a, stride, b, k, &edge_end);                                             \
        copy_columns(c, ldc, edge, PANEL, rows, columns);                                                              \
    }
#define TILES(rows) TILE(rows, ROWS_FIRST) TILE(rows, DEPTH_FIRST) TILE(rows, PANEL_ROWS)
TILES(1)
TILES(2)
TILES(4)
TILES(6)
#if TILE_ROWS == 12
TILES(8)
TILES(12)
#endif

typedef void (*tile_function)(real *, ptrdiff_t, ptrdiff_t, const real *, ptrdiff_t, const real *, ptrdiff_t,
                              const epilogue *);

/* The tallest tile that fits into rows, and its height. */
INLINE int choose_tile(block_order order, ptrdiff_t rows, tile_function *function) {
#define CHOOSE(height)                                                                                                 \
    if (rows >= height) {                                                                                              \
        *function = order == ROWS_FIRST    ? tile_##height##_ROWS_FIRST                                                \
                    : order == DEPTH_FIRST ? tile_##height##_DEPTH_FIRST                                               \
                                           : tile_##height##_PANEL_ROWS;                                               \
        return height;                                                                                                 \
    }
#if TILE_ROWS == 12
    CHOOSE(12)
    CHOOSE(8)
#endif
    CHOOSE(6)
    CHOOSE(4)
    CHOOSE(2)
    *function = order == ROWS_FIRST ? tile_1_ROWS_FIRST : order == DEPTH_FIRST ? tile_1_DEPTH_FIRST : tile_1_PANEL_ROWS;
    return 1;
#undef CHOOSE
}

/* c (m, n)[ldc] = block a (m, k) in scratch times packed panels b (k, n), b_stride elements apart. */
static void gemm_block(real *c, ptrdiff_t ldc, const real *a, block_order order, const real *b, ptrdiff_t b_stride,
                       ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, epilogue end) {
    const ptrdiff_t row_step = order == ROWS_FIRST ? SCRATCH_STRIDE : 1;
    for (ptrdiff_t j = 0; j < n; j += PANEL) {
        tile_function function;
        for (ptrdiff_t i = 0; i < m;) {
            const int height = choose_tile(order, m - i, &function);
            function(c + i * ldc + j, ldc, smaller(n - j, PANEL), a + i * row_step, SCRATCH_STRIDE, b, k, &end);
            i += height;
        }
        b += b_stride;
        if (end.bias) end.bias += PANEL;
    }
}

/* c (m, n) = a (m, k) times b (k, n), or c += that, all three in panels: element (i, j) at [j / PANEL][i][j % PANEL], the last
 * panel padded. */
static void gemm_panels(real *c, const real *a, const real *b, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k) {
    const epilogue none = {NULL, 0, 0};
    for (ptrdiff_t j = 0; j < n; j += PANEL) {
        tile_function function;
        for (ptrdiff_t i = 0; i < m;) {
            const int height = choose_tile(PANEL_ROWS, m - i, &function);
            function(c + j * m + i * PANEL, PANEL, PANEL, a + i * PANEL, m * PANEL, b + j * k, k, &none);
            i += height;
        }
    }
}

/* c (m, n) += a (k, m) transposed times b (k, n), all three in panels. */
static void gemm_panels_transposed(real *c, const real *a, const real *b, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k) {
    const epilogue add = {NULL, 1, 0};
    for (ptrdiff_t j = 0; j < n; j += PANEL)
        for (ptrdiff_t i0 = 0; i0 < m; i0 += PANEL) {
            tile_function function;
            const ptrdiff_t rows = smaller(m - i0, PANEL);
            for (ptrdiff_t i = 0; i < rows;) {
                const int height = choose_tile(DEPTH_FIRST, rows - i, &function);
                function(c + j * m + (i0 + i) * PANEL, PANEL, PANEL, a + i0 * k + i, PANEL, b + j * k, k, &add);
                i += height;
            }
        }
}

static void pack_panels(void *packed, const void *b, ptrdiff_t k, ptrdiff_t n, ptrdiff_t row_stride,
                        ptrdiff_t column_stride, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t panel = first; panel < last; panel++) {
        real *out = (real *)packed + panel * k * PANEL;
        const real *in = (const real *)b + panel * PANEL * column_stride;
        const ptrdiff_t columns = smaller(n - panel * PANEL, PANEL);
        if (columns < PANEL) memset(out, 0, (size_t)(k * PANEL) * sizeof(real));
        if (column_stride == 1 && columns == PANEL) {
            for (ptrdiff_t p = 0; p < k; p++) memcpy(out + p * PANEL, in + p * row_stride, PANEL * sizeof(real));
            continue;
        }
        /* Sixteen rows at a time: both the lines read and the lines written then stay in L1. */
        for (ptrdiff_t p0 = 0; p0 < k; p0 += 16) {
            const ptrdiff_t p1 = smaller(p0 + 16, k);
            for (ptrdiff_t j = 0; j < columns; j++)
                for (ptrdiff_t p = p0; p < p1; p++) out[p * PANEL + j] = in[p * row_stride + j * column_stride];
        }
    }
}

/* Copies x (rows, columns)[stride] to scratch. */
static void load_block(real *scratch, const real *x, ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns) {
    for (ptrdiff_t i = 0; i < rows; i++)
        memcpy(scratch + i * SCRATCH_STRIDE, x + i * stride, (size_t)columns * sizeof(real));
}

/* The inner dimension k is cut into equal parts of at most BLOCK_DEPTH. */
INLINE ptrdiff_t depth_step(ptrdiff_t k) {
    const ptrdiff_t parts = (k + BLOCK_DEPTH - 1) / BLOCK_DEPTH;
    return parts ? (k + parts - 1) / parts : 1;
}

INLINE ptrdiff_t panels_size(ptrdiff_t k, ptrdiff_t n) { return (n + PANEL - 1) / PANEL * PANEL * k; }

#endif
