/* The functions that exported models call. Each is a section of this file, which starts with its name and those of the
 * sections that it needs; `cvae.export.c_source` copies the sections that a model calls.
 *
 * Sizes are constants wherever these functions are called, and calls are inlined, so that the compiler unrolls the loops
 * over a tile and keeps its sums in registers. Images are (rows, cols, channels); `real` is float or double. What is
 * computed from NaN is NaN. */

/* ---- vectors */

#if defined(__GNUC__) && !defined(PLAIN_C99)
#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("GCC unroll 32")
#define ALIGNED __attribute__((aligned(64)))
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#if defined(__AVX512F__) || (defined(__AVX__) && defined(__FMA__))
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real vec_in_memory __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
enum { LANES = VECTOR_BYTES / (int)sizeof(real) };
INLINE vec load(const real *p) { return *(const vec_in_memory *)p; }
INLINE void store(real *p, vec v) { *(vec_in_memory *)p = v; }
INLINE vec broadcast(real x) { return x - (vec){0}; }
INLINE vec sum_of(vec a, vec b) { return a + b; }
/* sum + a * b, in one rounding where the processor does that; ISO C compilers do not contract it by themselves. */
INLINE vec multiply_add(vec sum, vec a, vec b) {
#if defined(__AVX512F__)
    return sizeof(real) == 4 ? (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum)
                             : (vec)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)sum);
#elif defined(__AVX__) && defined(__FMA__)
    return sizeof(real) == 4 ? (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum)
                             : (vec)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)sum);
#elif defined(__aarch64__)
    return sizeof(real) == 4 ? (vec)vfmaq_f32((float32x4_t)sum, (float32x4_t)a, (float32x4_t)b)
                             : (vec)vfmaq_f64((float64x2_t)sum, (float64x2_t)a, (float64x2_t)b);
#else
    return sum + a * b;
#endif
}
INLINE vec positive_part(vec v) {
    typedef __typeof__(v > v) mask;
    return (vec)((mask)v & ~(v < broadcast(0)));
}
#else
#define INLINE static inline
#define UNROLL
#define ALIGNED
enum { LANES = 4 };
typedef struct {
    real lane[4];
} vec;
INLINE vec load(const real *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void store(real *p, vec v) { memcpy(p, &v, sizeof v); }
INLINE vec broadcast(real x) {
    const vec v = {{x, x, x, x}};
    return v;
}
INLINE vec sum_of(vec a, vec b) {
    int l;
    for (l = 0; l < LANES; l++) a.lane[l] += b.lane[l];
    return a;
}
INLINE vec multiply_add(vec sum, vec a, vec b) {
    int l;
    for (l = 0; l < LANES; l++) sum.lane[l] += a.lane[l] * b.lane[l];
    return sum;
}
INLINE vec positive_part(vec v) {
    int l;
    for (l = 0; l < LANES; l++) v.lane[l] = v.lane[l] < 0 ? 0 : v.lane[l];
    return v;
}
#endif
#define SMALLER(a, b) ((a) < (b) ? (a) : (b))
#define LARGER(a, b) ((a) > (b) ? (a) : (b))
#define QUOTIENT(a, b) (((a) + (b)-1) / (b)) /* rounded up */

/* ---- pad */

/* y (y_rows, y_cols, channels) = x (rows, cols, channels), from row `top` and col `left` on; zeros elsewhere. */
INLINE void pad(real *y, const real *x, int rows, int cols, int channels, int top, int left, int y_rows, int y_cols) {
    int i;
    memset(y, 0, (size_t)y_rows * (size_t)y_cols * (size_t)channels * sizeof(real));
    for (i = 0; i < rows; i++)
        memcpy(y + ((i + top) * y_cols + left) * channels, x + i * cols * channels,
               (size_t)cols * (size_t)channels * sizeof(real));
}

/* ---- conv: vectors */

/* The sums of a tile must fit the registers together with their weights. */
#if defined(__AVX512F__) || defined(__aarch64__)
enum { TILE_PIXELS = 12, TILE_VECTORS = 2 }; /* 32 registers */
#else
enum { TILE_PIXELS = 6, TILE_VECTORS = 2 };
#endif

/* A tile of t_rows x t_cols output pixels, y_row and y_col apart, and `outputs` <= vectors * LANES of their channels.
 * The pixels of x for neighbouring outputs are x_row and x_col apart, those for neighbouring elements of the kernel
 * (taps, taps_across) k_row and k_col. The weights of an element and an input channel are w_step apart. */
INLINE void conv_tile(const int t_rows, const int t_cols, const int vectors, const int outputs, real *y, int y_row,
                      int y_col, const real *x, int x_row, int x_col, int k_row, int k_col, const real *w, int w_step,
                      const real *b, int taps, int taps_across, int channels, const int relu) {
    vec sum[TILE_PIXELS][TILE_VECTORS];
    int r, s, c, i, j, v;
    UNROLL for (i = 0; i < t_rows * t_cols; i++)
        UNROLL for (v = 0; v < vectors; v++) sum[i][v] = load(b + v * LANES);
    for (r = 0; r < taps; r++)
        for (s = 0; s < taps_across; s++) {
            const real *in = x + r * k_row + s * k_col;
            for (c = 0; c < channels; c++) {
                vec right[TILE_VECTORS];
                UNROLL for (v = 0; v < vectors; v++) right[v] = load(w + v * LANES);
                UNROLL for (i = 0; i < t_rows; i++)
                    UNROLL for (j = 0; j < t_cols; j++) {
                        const vec left = broadcast(in[c + i * x_row + j * x_col]);
                        UNROLL for (v = 0; v < vectors; v++)
                            sum[i * t_cols + j][v] = multiply_add(sum[i * t_cols + j][v], left, right[v]);
                    }
                w += w_step;
            }
        }
    UNROLL for (i = 0; i < t_rows; i++)
        UNROLL for (j = 0; j < t_cols; j++)
            UNROLL for (v = 0; v < vectors; v++) {
                const vec value = relu ? positive_part(sum[i * t_cols + j][v]) : sum[i * t_cols + j][v];
                real *out = y + i * y_row + j * y_col + v * LANES;
                if ((v + 1) * LANES <= outputs)
                    store(out, value);
                else {
                    real lanes[LANES];
                    store(lanes, value);
                    memcpy(out, lanes, (size_t)(outputs - v * LANES) * sizeof(real));
                }
            }
}

/* y (rows, cols, outputs) = b + x * w, or its maximum with 0, for w (taps, taps_across, channels, width). The last tile of
 * a row and of a column may overlap the one before. */
INLINE void conv(real *y, int y_row, int y_col, const real *x, int x_row, int x_col, int k_row, int k_col,
                 const real *w, const real *b, int rows, int cols, int outputs, int width, int taps, int taps_across,
                 int channels, int relu) {
    const int t_cols = QUOTIENT(cols, QUOTIENT(cols, TILE_PIXELS));
    const int t_rows = SMALLER(rows, LARGER(1, TILE_PIXELS / t_cols));
    const int vectors = SMALLER(width / LANES, TILE_VECTORS), step = vectors * LANES;
    int i, j, k;
    for (k = 0; k + step <= outputs; k += step)
        for (i = 0; i < rows; i += t_rows)
            for (j = 0; j < cols; j += t_cols) {
                const int row = SMALLER(i, rows - t_rows), col = SMALLER(j, cols - t_cols);
                conv_tile(t_rows, t_cols, vectors, step, y + row * y_row + col * y_col + k, y_row, y_col,
                          x + row * x_row + col * x_col, x_row, x_col, k_row, k_col, w + k, width, b + k, taps,
                          taps_across, channels, relu);
            }
    if (outputs % step == 0) return;
    k = outputs / step * step;
    for (i = 0; i < rows; i += t_rows)
        for (j = 0; j < cols; j += t_cols) {
            const int row = SMALLER(i, rows - t_rows), col = SMALLER(j, cols - t_cols);
            conv_tile(t_rows, t_cols, QUOTIENT(outputs % step, LANES), outputs % step,
                      y + row * y_row + col * y_col + k, y_row, y_col, x + row * x_row + col * x_col, x_row, x_col,
                      k_row, k_col, w + k, width, b + k, taps, taps_across, channels, relu);
        }
}

/* ---- conv_to_few: vectors */

enum { FEW_PIXELS = 4 };

/* The same as `conv` for one output channel, one of few: w (taps, taps_across, channels), in vectors of channels. */
INLINE void few_tile(const int t_cols, real *y, int y_col, const real *x, int x_col, int k_row, int k_col,
                     const real *w, real b, int taps, int taps_across, int channels, const int relu) {
    vec sum[FEW_PIXELS];
    real lanes[LANES], rest[FEW_PIXELS];
    int r, s, c, j, l;
    UNROLL for (j = 0; j < t_cols; j++) {
        sum[j] = broadcast(0);
        rest[j] = b;
    }
    for (r = 0; r < taps; r++)
        for (s = 0; s < taps_across; s++) {
            const real *in = x + r * k_row + s * k_col;
            for (c = 0; c + LANES <= channels; c += LANES) {
                const vec right = load(w + c);
                UNROLL for (j = 0; j < t_cols; j++) sum[j] = multiply_add(sum[j], load(in + c + j * x_col), right);
            }
            for (; c < channels; c++)
                UNROLL for (j = 0; j < t_cols; j++) rest[j] += in[c + j * x_col] * w[c];
            w += channels;
        }
    UNROLL for (j = 0; j < t_cols; j++) {
        store(lanes, sum[j]);
        UNROLL for (l = 0; l < LANES; l++) rest[j] += lanes[l];
        y[j * y_col] = relu && rest[j] < 0 ? 0 : rest[j];
    }
}

INLINE void conv_to_few(real *y, int y_row, int y_col, const real *x, int x_row, int x_col, int k_row, int k_col,
                        const real *w, const real *b, int rows, int cols, int outputs, int taps, int taps_across,
                        int channels, int relu) {
    const int t_cols = QUOTIENT(cols, QUOTIENT(cols, FEW_PIXELS));
    int i, j, k;
    for (i = 0; i < rows; i++)
        for (j = 0; j < cols; j += t_cols) {
            const int col = SMALLER(j, cols - t_cols);
            for (k = 0; k < outputs; k++)
                few_tile(t_cols, y + i * y_row + col * y_col + k, y_col, x + i * x_row + col * x_col, x_col, k_row,
                         k_col, w + k * taps * taps_across * channels, b[k], taps, taps_across, channels, relu);
        }
}

/* ---- fill */

/* Each pixel's channels are those of b, or their maximum with 0. */
INLINE void fill(real *y, int y_row, int y_col, const real *b, int rows, int cols, int outputs, int relu) {
    int i, j, k;
    for (i = 0; i < rows; i++)
        for (j = 0; j < cols; j++)
            for (k = 0; k < outputs; k++) y[i * y_row + j * y_col + k] = relu && b[k] < 0 ? 0 : b[k];
}

/* ---- dense: vectors */

enum { DENSE_VECTORS = 8, DENSE_ROWS = 256 };

/* y (vectors * LANES) += x (count) * w (count, .)[width], of which only rows for x other than 0 are read. */
INLINE void dense_columns(const int vectors, real *y, const real *x, const real *w, int width, const int *which,
                          int count) {
    const int together = LARGER(1, SMALLER(4, DENSE_VECTORS / vectors)); /* independent sums hide the latency */
    vec sum[DENSE_VECTORS];
    int i, p, v;
    UNROLL for (v = 0; v < vectors; v++) sum[v] = load(y + v * LANES);
    UNROLL for (v = vectors; v < together * vectors; v++) sum[v] = broadcast(0);
    for (i = 0; i + together <= count; i += together)
        UNROLL for (p = 0; p < together; p++) {
            const real *row = w + (ptrdiff_t)which[i + p] * width;
            const vec left = broadcast(x[which[i + p]]);
            UNROLL for (v = 0; v < vectors; v++)
                sum[p * vectors + v] = multiply_add(sum[p * vectors + v], left, load(row + v * LANES));
        }
    for (; i < count; i++)
        UNROLL for (v = 0; v < vectors; v++)
            sum[v] = multiply_add(sum[v], broadcast(x[which[i]]), load(w + (ptrdiff_t)which[i] * width + v * LANES));
    UNROLL for (p = 1; p < together; p++)
        UNROLL for (v = 0; v < vectors; v++) sum[v] = sum_of(sum[v], sum[p * vectors + v]);
    UNROLL for (v = 0; v < vectors; v++) store(y + v * LANES, sum[v]);
}

/* y (blocks * width) = b + x (inputs) * w (blocks, inputs, width), or its maximum with 0; width is a multiple of 16. */
INLINE void dense(real *y, const real *x, const real *w, const real *b, int inputs, int blocks, int width, int relu) {
    const int vectors = SMALLER(width / LANES, DENSE_VECTORS), step = vectors * LANES, rest = width % step;
    int which[DENSE_ROWS], start, block, i, k;
    memcpy(y, b, (size_t)(blocks * width) * sizeof(real));
    for (start = 0; start < inputs; start += DENSE_ROWS) {
        const int rows = SMALLER(DENSE_ROWS, inputs - start);
        int count = 0;
        for (i = 0; i < rows; i++) {
            which[count] = i;
            count += x[start + i] != 0;
        }
        for (block = 0; block < blocks; block++) {
            const real *rows_of_w = w + ((ptrdiff_t)block * inputs + start) * width;
            for (k = 0; k + step <= width; k += step)
                dense_columns(vectors, y + block * width + k, x + start, rows_of_w + k, width, which, count);
            if (rest)
                dense_columns(LARGER(1, rest / LANES), y + block * width + width - rest, x + start,
                              rows_of_w + width - rest, width, which, count);
        }
    }
    if (relu)
        for (k = 0; k < blocks * width; k++) y[k] = y[k] < 0 ? 0 : y[k];
}

/* ---- max_pool: vectors */

INLINE void max_pool(real *y, const real *x, int x_cols, int channels, int rows, int cols, int kernel_rows,
                     int kernel_cols, int stride) {
    int i, j, r, s, c;
    for (i = 0; i < rows; i++)
        for (j = 0; j < cols; j++) {
            const real *window = x + (i * x_cols + j) * stride * channels;
            real *out = y + (i * cols + j) * channels;
            for (c = 0; c < channels; c++) {
                real largest = window[c];
                UNROLL for (r = 0; r < kernel_rows; r++)
                    UNROLL for (s = 0; s < kernel_cols; s++) {
                        const real value = window[(r * x_cols + s) * channels + c];
                        largest = value <= largest || largest != largest ? largest : value;
                    }
                out[c] = largest;
            }
        }
}

/* ---- average_pool: vectors */

INLINE void average_pool(real *y, const real *x, int x_cols, int channels, int rows, int cols, int kernel_rows,
                         int kernel_cols, int stride) {
    int i, j, r, s, c;
    for (i = 0; i < rows; i++)
        for (j = 0; j < cols; j++) {
            const real *window = x + (i * x_cols + j) * stride * channels;
            for (c = 0; c < channels; c++) {
                real sum = 0;
                UNROLL for (r = 0; r < kernel_rows; r++)
                    UNROLL for (s = 0; s < kernel_cols; s++) sum += window[(r * x_cols + s) * channels + c];
                y[(i * cols + j) * channels + c] = sum / (real)(kernel_rows * kernel_cols);
            }
        }
}

/* ---- upsample */

INLINE void upsample(real *y, const real *x, int rows, int cols, int channels, int down, int across) {
    int i, j;
    for (i = 0; i < rows * down; i++)
        for (j = 0; j < cols * across; j++)
            memcpy(y + (i * cols * across + j) * channels, x + (i / down * cols + j / across) * channels,
                   (size_t)channels * sizeof(real));
}

/* ---- upsample_bilinear: vectors */

/* Between the centres of pixels; those at the border reach beyond. */
INLINE void upsample_bilinear(real *y, const real *x, int rows, int cols, int channels, int down, int across) {
    int i, j, c;
    for (i = 0; i < rows * down; i++) {
        const int v = LARGER(0, 2 * i + 1 - down), row = v / (2 * down), next = SMALLER(row + 1, rows - 1);
        const real v_share = (real)(v % (2 * down)) / (real)(2 * down);
        for (j = 0; j < cols * across; j++) {
            const int h = LARGER(0, 2 * j + 1 - across), col = h / (2 * across), right = SMALLER(col + 1, cols - 1);
            const real h_share = (real)(h % (2 * across)) / (real)(2 * across);
            const real *a = x + (row * cols + col) * channels, *b = x + (row * cols + right) * channels;
            const real *d = x + (next * cols + col) * channels, *e = x + (next * cols + right) * channels;
            for (c = 0; c < channels; c++) {
                const real upper = a[c] + h_share * (b[c] - a[c]), lower = d[c] + h_share * (e[c] - d[c]);
                y[(i * cols * across + j) * channels + c] = upper + v_share * (lower - upper);
            }
        }
    }
}

/* ---- normalize */

/* In place: (x - mean) * factor + intercept, with numbers for each channel. */
INLINE void normalize(real *x, const real *mean, const real *factor, const real *intercept, int pixels, int channels) {
    int i, c;
    for (i = 0; i < pixels; i++)
        for (c = 0; c < channels; c++) x[i * channels + c] = (x[i * channels + c] - mean[c]) * factor[c] + intercept[c];
}

/* ---- group_norm */

/* In place: each group of channels has mean 0 and variance 1 before the scaler and the intercept. */
INLINE void group_norm(real *x, const real *scaler, const real *intercept, int pixels, int channels, int groups,
                       double epsilon) {
    const int width = channels / groups;
    int g, i, c;
    for (g = 0; g < groups; g++) {
        double sum = 0, squares = 0, mean, factor;
        for (i = 0; i < pixels; i++)
            for (c = g * width; c < (g + 1) * width; c++) sum += (double)x[i * channels + c];
        mean = sum / (pixels * width);
        for (i = 0; i < pixels; i++)
            for (c = g * width; c < (g + 1) * width; c++) {
                const double difference = (double)x[i * channels + c] - mean;
                squares += difference * difference;
            }
        factor = 1 / sqrt(squares / (pixels * width) + epsilon);
        for (i = 0; i < pixels; i++)
            for (c = g * width; c < (g + 1) * width; c++)
                x[i * channels + c] =
                    (real)(((double)x[i * channels + c] - mean) * factor) * scaler[c] + intercept[c];
    }
}

/* ---- append */

/* y (pixels, channels + count) = each pixel of x (pixels, channels), and after it the same numbers. */
INLINE void append(real *y, const real *x, const real *numbers, int pixels, int channels, int count) {
    int i;
    for (i = 0; i < pixels; i++) {
        memcpy(y + i * (channels + count), x + i * channels, (size_t)channels * sizeof(real));
        memcpy(y + i * (channels + count) + channels, numbers, (size_t)count * sizeof(real));
    }
}

/* ---- add */

INLINE void add(real *y, const real *x, int count) {
    int i;
    for (i = 0; i < count; i++) y[i] += x[i];
}

/* ---- exponentials */

/* exp, exp - 1 for x <= 0, and log(1 + x) for 0 <= x <= 1, with an error of some units of the last place: without
 * branches and calls, so that loops over them become vectors. */
#if REAL_IS_FLOAT
INLINE float power_of_two(int n) {
    const unsigned bits = ((unsigned)n + 127u) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}
/* x = n log(2) + r with |r| <= log(2) / 2: adding 1.5 * 2^23 leaves the integer n in the lowest bits. */
INLINE int reduce(float *r, float x) {
    const float shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
    int bits;
    memcpy(&bits, &shifted, sizeof bits);
    *r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    return bits - 0x4B400000;
}
INLINE float exp_slope(float r) { /* (exp(r) - 1) / r */
    return 1 + r * (0.5f + r * (1.66666672e-1f + r * (4.16666679e-2f + r * (8.33333377e-3f +
           r * (1.38888892e-3f + r * 1.98412701e-4f)))));
}
INLINE float exp_of(float x) {
    const float limited = x < -110 ? -110 : x > 110 ? 110 : x;
    float r;
    const int n = reduce(&r, limited), half = n / 2;
    return (exp_slope(r) * r + 1) * power_of_two(half) * power_of_two(n - half);
}
INLINE float expm1_of_negative(float x) {
    const float limited = x < -40 ? -40 : x;
    float r;
    const float scale = power_of_two(reduce(&r, limited));
    return scale * (exp_slope(r) * r) + (scale - 1);
}
INLINE float log1p_of_fraction(float x) { /* 2 artanh(x / (2 + x)) */
    const float s = x / (x + 2), q = s * s;
    return 2 * s * (1 + q * (1.0f / 3 + q * (1.0f / 5 + q * (1.0f / 7 + q * (1.0f / 9 + q * (1.0f / 11 +
           q * (1.0f / 13 + q * (1.0f / 15))))))));
}
#else
INLINE double exp_of(double x) { return exp(x); }
INLINE double expm1_of_negative(double x) { return expm1(x); }
INLINE double log1p_of_fraction(double x) { return log1p(x); }
#endif
INLINE real minus_size(real x) { return x < 0 ? x : -x; }

/* ---- sigmoid: exponentials */

INLINE real sigmoid_of(real x) {
    const real decay = exp_of(minus_size(x));
    return (x < 0 ? decay : 1) / (1 + decay);
}
INLINE void sigmoid(real *x, int count) {
    int i;
    for (i = 0; i < count; i++) x[i] = sigmoid_of(x[i]);
}

/* ---- sigmoid_mean: sigmoid */

INLINE void sigmoid_mean(real *mean, const real *logits, int count) {
    int i;
    for (i = 0; i < count; i++) mean[i] = sigmoid_of(logits[i]);
}

/* ---- relu */

INLINE void relu(real *x, int count) {
    int i;
    for (i = 0; i < count; i++) x[i] = x[i] < 0 ? 0 : x[i];
}

/* ---- leaky_relu */

INLINE void leaky_relu(real *x, int count, double alpha) {
    int i;
    for (i = 0; i < count; i++) x[i] = x[i] < 0 ? (real)alpha * x[i] : x[i];
}

/* ---- affine */

INLINE void affine(real *x, int count, double slope, double intercept) {
    int i;
    for (i = 0; i < count; i++) x[i] = (real)slope * x[i] + (real)intercept;
}

/* ---- hard_sigmoid */

INLINE void hard_sigmoid(real *x, int count) {
    int i;
    for (i = 0; i < count; i++) {
        const real line = (real)0.2 * x[i] + (real)0.5;
        x[i] = line < 0 ? 0 : line > 1 ? 1 : line;
    }
}

/* ---- hyperbolic_tangent: exponentials */

INLINE void hyperbolic_tangent(real *x, int count) {
    int i;
    for (i = 0; i < count; i++) {
        const real m = expm1_of_negative(2 * minus_size(x[i])), size = -m / (m + 2);
        x[i] = x[i] < 0 ? -size : size;
    }
}

/* ---- softplus: exponentials */

INLINE real softplus_of(real x) { return (x > 0 ? x : 0) + log1p_of_fraction(exp_of(minus_size(x))); }
INLINE void softplus(real *x, int count) {
    int i;
    for (i = 0; i < count; i++) x[i] = softplus_of(x[i]);
}

/* ---- exponential: exponentials */

INLINE void exponential(real *x, int count) {
    int i;
    for (i = 0; i < count; i++) x[i] = exp_of(x[i]);
}

/* ---- elu: exponentials */

/* slope * x, or below 0 limit * (exp(x) - 1). */
INLINE void elu(real *x, int count, double limit, double slope) {
    int i;
    for (i = 0; i < count; i++)
        x[i] = x[i] > 0 ? (real)slope * x[i] : (real)limit * expm1_of_negative(x[i] > 0 ? 0 : x[i]);
}

/* ---- gelu */

INLINE void gelu(real *x, int count) {
    int i;
    for (i = 0; i < count; i++) {
        const double z = (double)x[i], u = 1.5957691216057308 * (z + 0.044715 * z * z * z);
        x[i] = (real)(z / (1 + exp(-u)));
    }
}

/* ---- gelu_exact */

INLINE void gelu_exact(real *x, int count) {
    int i;
    for (i = 0; i < count; i++) x[i] = (real)((double)x[i] * erfc((double)x[i] * -0.7071067811865476) / 2);
}

/* ---- map_pixels */

/* y = (x - offset) / scale, with an offset and a scale for each channel. */
INLINE void map_pixels(real *y, const real *x, const double *offset, const double *scale, int pixels, int channels) {
    int i, c;
    for (i = 0; i < pixels; i++)
        for (c = 0; c < channels; c++)
            y[i * channels + c] = (real)(((double)x[i * channels + c] - offset[c]) / scale[c]);
}

/* ---- unmap_pixels */

INLINE void unmap_pixels(real *x, const double *offset, const double *scale, int pixels, int channels) {
    int i, c;
    for (i = 0; i < pixels; i++)
        for (c = 0; c < channels; c++) x[i * channels + c] = (real)((double)x[i * channels + c] * scale[c] + offset[c]);
}

/* ---- threshold */

INLINE void threshold(real *y, const real *x, double limit, int count) {
    int i;
    for (i = 0; i < count; i++) y[i] = (double)x[i] > limit;
}

/* ---- draw_code */

/* z = mean + noise * exp(log_var / 2) for a code of means and log variances side by side; returns z. */
INLINE const real *draw_code(real *z, const real *code, const real *noise, int count) {
    int i;
    for (i = 0; i < count; i++) z[i] = code[i] + noise[i] * (real)exp(0.5 * (double)code[count + i]);
    return z;
}

/* ---- gaussian_kl */

/* The divergence of N(mean, exp(log_var)) from N(0, 1), in nats. */
INLINE double gaussian_kl(const real *mean, const real *log_var, int count) {
    double sum = 0;
    int i;
    for (i = 0; i < count; i++)
        sum += (double)mean[i] * (double)mean[i] + (expm1((double)log_var[i]) - (double)log_var[i]);
    return sum / 2;
}

/* ---- bernoulli_loss: exponentials */

/* -log p(x | logits), summed in double in several sums, so that the loop becomes vectors. */
INLINE double bernoulli_loss(const real *z, const real *x, int count) {
    double sums[16] = {0}, sum = 0;
    int i, l;
    for (i = 0; i + 16 <= count; i += 16) {
        real loss[16];
        for (l = 0; l < 16; l++)
            loss[l] = (z[i + l] > 0 ? z[i + l] : 0) - z[i + l] * x[i + l] +
                      log1p_of_fraction(exp_of(minus_size(z[i + l])));
        for (l = 0; l < 16; l++) sums[l] += (double)loss[l];
    }
    for (; i < count; i++)
        sum += (double)((z[i] > 0 ? z[i] : 0) - z[i] * x[i] + log1p_of_fraction(exp_of(minus_size(z[i]))));
    for (l = 0; l < 16; l++) sum += sums[l];
    return sum;
}

/* ---- continuous_bernoulli_mean */

INLINE void continuous_bernoulli_mean(real *mean, const real *outputs, int count) {
    int i;
    for (i = 0; i < count; i++) {
        const double z = (double)outputs[i], size = fabs(z), square = z * z;
        if (size < 0.05)
            mean[i] = (real)(0.5 + z * (1.0 / 12 + square * (square / 30240 - 1.0 / 720)));
        else {
            const double from_end = 1 / size - 1 / expm1(size);
            mean[i] = (real)(z < 0 ? from_end : 1 - from_end);
        }
    }
}

/* ---- continuous_bernoulli_loss */

INLINE double continuous_bernoulli_loss(const real *outputs, const real *pixels, int count) {
    double sum = 0;
    int i;
    for (i = 0; i < count; i++) {
        const double z = (double)outputs[i], x = (double)pixels[i], size = fabs(z), square = z * z;
        if (size < 0.05)
            sum += z * (0.5 - x) + square * (1.0 / 24 - square / 2880);
        else
            sum += size * (z < 0 ? x : 1 - x) + log(-expm1(-size) / size);
    }
    return sum;
}

/* ---- gaussian_loss */

INLINE double gaussian_loss(const real *mean, const real *x, int count, double scale) {
    double sums[16] = {0}, sum = 0;
    int i, l;
    for (i = 0; i + 16 <= count; i += 16)
        for (l = 0; l < 16; l++) {
            const double distance = (double)(mean[i + l] - x[i + l]);
            sums[l] += distance * distance;
        }
    for (; i < count; i++) sums[0] += (double)(mean[i] - x[i]) * (double)(mean[i] - x[i]);
    for (l = 0; l < 16; l++) sum += sums[l];
    return sum / (2 * scale * scale);
}

/* ---- laplace_loss */

INLINE double laplace_loss(const real *median, const real *x, int count, double scale) {
    double sums[16] = {0}, sum = 0;
    int i, l;
    for (i = 0; i + 16 <= count; i += 16)
        for (l = 0; l < 16; l++) sums[l] += fabs((double)(median[i + l] - x[i + l]));
    for (; i < count; i++) sums[0] += fabs((double)(median[i] - x[i]));
    for (l = 0; l < 16; l++) sum += sums[l];
    return sum / scale;
}

/* ---- copy_outputs */

INLINE void copy_outputs(real *mean, const real *outputs, int count) {
    memcpy(mean, outputs, (size_t)count * sizeof(real));
}

/* ---- first_of_pairs */

/* The first of two outputs of each pixel, between low and high. */
INLINE void first_of_pairs(real *mean, const real *outputs, int count, double low, double high) {
    int i;
    for (i = 0; i < count; i++) {
        const real value = outputs[2 * i];
        mean[i] = value < low ? (real)low : value > high ? (real)high : value;
    }
}

/* ---- gaussian_pixel_loss */

INLINE double gaussian_pixel_loss(const real *outputs, const real *x, int count, double bound) {
    double sum = 0;
    int i;
    for (i = 0; i < count; i++) {
        const double log_var = bound * tanh((double)outputs[2 * i + 1] / bound);
        const double distance = (double)outputs[2 * i] - (double)x[i];
        sum += distance * distance * exp(-log_var) + log_var;
    }
    return sum / 2;
}

/* ---- laplace_pixel_loss */

INLINE double laplace_pixel_loss(const real *outputs, const real *x, int count, double bound) {
    double sum = 0;
    int i;
    for (i = 0; i < count; i++) {
        const double log_scale = bound * tanh((double)outputs[2 * i + 1] / bound);
        sum += fabs((double)outputs[2 * i] - (double)x[i]) * exp(-log_scale) + log_scale;
    }
    return sum;
}

/* ---- discretized_logistic_loss */

INLINE double softplus_in_double(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }
INLINE double discretized_logistic_loss(const real *outputs, const real *x, int count, double bound) {
    double sum = 0;
    int i;
    for (i = 0; i < count; i++) {
        const double inverse = exp(-bound * tanh((double)outputs[2 * i + 1] / bound));
        const double k = floor((double)x[i] * 255 + 0.5), distance = k / 255 - (double)outputs[2 * i];
        if (k < 255) sum += softplus_in_double(-(distance + 1.0 / 510) * inverse);
        if (k > 0) sum += softplus_in_double((distance - 1.0 / 510) * inverse);
        if (k > 0 && k < 255) sum -= log(-expm1(-inverse / 255));
    }
    return sum;
}
