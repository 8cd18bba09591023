/* The vector type of all inner loops.
 *
 * variant.c is compiled once for each number type and instruction set; the build defines CVAE_DOUBLE (0 or 1) and
 * CVAE_ISA (baseline, avx2, avx512), and the widths below follow from the compiler's target.  For a compiler without
 * vector extensions a vector has one lane: the same source is then plain C. */
#ifndef CVAE_VECTOR_H
#define CVAE_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if CVAE_DOUBLE
typedef double real;
typedef int64_t real_int; /* the integer as wide as real */
typedef uint64_t real_bits;
#else
typedef float real;
typedef int32_t real_int;
typedef uint32_t real_bits;
#endif

#if (defined(__GNUC__) || defined(__clang__)) && !defined(CVAE_PLAIN_C)
#define CVAE_VECTORS 1
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#else
#define CVAE_VECTORS 0
#define INLINE static inline
#define UNROLL
#endif

#if defined(_MSC_VER)
#define RESTRICT __restrict
#else
#define RESTRICT restrict
#endif

#if !CVAE_VECTORS && CVAE_DOUBLE
#define VECTOR_BYTES 8
#elif !CVAE_VECTORS
#define VECTOR_BYTES 4
#elif defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

enum { LANES = VECTOR_BYTES / (int)sizeof(real) };

#if CVAE_VECTORS
typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real_int vec_int __attribute__((vector_size(VECTOR_BYTES)));
typedef real_bits vec_bits __attribute__((vector_size(VECTOR_BYTES)));
/* The same vector in memory that is only aligned for a real. */
typedef real unaligned_vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
INLINE vec load(const real *p) { return *(const unaligned_vec *)p; }
INLINE void store(real *p, vec v) { *(unaligned_vec *)p = v; }
INLINE vec broadcast(real x) { return x - (vec){0}; }
INLINE void prefetch(const real *p) { __builtin_prefetch(p, 0, 2); } /* into the L2 cache */
/* Comparisons: all bits set in the lanes where they hold, none in the others. */
INLINE vec_int less(vec a, vec b) { return a < b; }
INLINE vec_int at_most(vec a, vec b) { return a <= b; }
INLINE vec_int equal_ints(vec_int a, vec_int b) { return a == b; }
INLINE vec_int less_ints(vec_int a, vec_int b) { return a < b; }
INLINE vec_int as_bits(vec v) { return (vec_int)v; }
INLINE vec as_real(vec_int v) { return (vec)v; }
#else
typedef real vec;
typedef real_int vec_int;
typedef real_bits vec_bits;
INLINE vec load(const real *p) { return *p; }
INLINE void store(real *p, vec v) { *p = v; }
INLINE vec broadcast(real x) { return x; }
INLINE void prefetch(const real *p) { (void)p; }
INLINE vec_int less(vec a, vec b) { return a < b ? -1 : 0; }
INLINE vec_int at_most(vec a, vec b) { return a <= b ? -1 : 0; }
INLINE vec_int equal_ints(vec_int a, vec_int b) { return a == b ? -1 : 0; }
INLINE vec_int less_ints(vec_int a, vec_int b) { return a < b ? -1 : 0; }
INLINE vec_int as_bits(vec v) {
    vec_int bits;
    memcpy(&bits, &v, sizeof(v));
    return bits;
}
INLINE vec as_real(vec_int bits) {
    vec v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}
#endif

INLINE vec_int broadcast_int(real_int x) { return x - (vec_int){0}; }
/* Also of negative numbers, and of those too large for it, which lose their highest bits. */
INLINE vec_int shift_left(vec_int v, const real_bits bits) { return (vec_int)((vec_bits)v << bits); }

/* a where the mask is set, b where it is not. */
INLINE vec_int choose_ints(vec_int mask, vec_int a, vec_int b) { return (a & mask) | (b & ~mask); }
INLINE vec choose(vec_int mask, vec a, vec b) { return as_real(choose_ints(mask, as_bits(a), as_bits(b))); }
INLINE vec positive_part(vec v) { return as_real(as_bits(v) & ~less(v, broadcast(0))); } /* NaN stays NaN */

INLINE ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
INLINE ptrdiff_t larger(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
/* distance / stride, rounded up; it divides only when it must. */
INLINE ptrdiff_t strides_over(ptrdiff_t distance, ptrdiff_t stride) {
    if (distance <= 0) return 0;
    return stride == 1 ? distance : (distance + stride - 1) / stride;
}
INLINE ptrdiff_t whole_vectors(ptrdiff_t count) { return (count + LANES - 1) / LANES * LANES; }

/* The first count lanes, or all if there are fewer; the others are read as zero, and not written. */
INLINE vec load_some(const real *p, ptrdiff_t count) {
    if (count >= LANES) return load(p);
    real part[LANES] = {0};
    for (ptrdiff_t i = 0; i < count; i++) part[i] = p[i];
    return load(part);
}
INLINE void store_some(real *p, vec v, ptrdiff_t count) {
    if (count >= LANES) {
        store(p, v);
        return;
    }
    real part[LANES];
    store(part, v);
    for (ptrdiff_t i = 0; i < count; i++) p[i] = part[i];
}

#if CVAE_VECTORS
/* a[start], b[start], a[start + 1], b[start + 1], ... for a whole vector. */
INLINE vec interleave(vec a, vec b, const int start) {
#if defined(__clang__)
    vec mixed = {0};
    UNROLL for (int i = 0; i < LANES; i++) mixed[i] = i % 2 ? b[start + i / 2] : a[start + i / 2];
    return mixed;
#else
    vec_int from = {0};
    UNROLL for (int i = 0; i < LANES; i++) from[i] = start + i / 2 + i % 2 * LANES;
    return __builtin_shuffle(a, b, from);
#endif
}

/* a[start], a[start + 2], ..., then b[start], b[start + 2], ... */
INLINE vec every_second(vec a, vec b, const int start) {
#if defined(__clang__)
    vec picked = {0};
    UNROLL for (int i = 0; i < LANES; i++) picked[i] = 2 * i < LANES ? a[start + 2 * i] : b[start + 2 * i - LANES];
    return picked;
#else
    vec_int from = {0};
    UNROLL for (int i = 0; i < LANES; i++) from[i] = start + 2 * i;
    return __builtin_shuffle(a, b, from);
#endif
}

/* Transposes LANES x LANES elements: each round interleaves the first half of the rows with the second. */
INLINE void transpose(vec rows[LANES]) {
    UNROLL for (int round = 1; round < LANES; round *= 2) {
        vec next[LANES];
        UNROLL for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = interleave(rows[i], rows[i + LANES / 2], 0);
            next[2 * i + 1] = interleave(rows[i], rows[i + LANES / 2], LANES / 2);
        }
        UNROLL for (int i = 0; i < LANES; i++) rows[i] = next[i];
    }
}
#else
INLINE void transpose(vec rows[LANES]) { (void)rows; }
#endif

/* Pairs p[0], p[1], p[2], ... as the vector of their first and that of their second elements. */
typedef struct {
    vec first, second;
} vec_pairs;

/* The first count pairs, or a whole vector of them; the others are read as zero, and not written. */
INLINE vec_pairs load_pairs(const real *p, ptrdiff_t count) {
    const vec low = load_some(p, 2 * count), high = load_some(p + smaller(LANES, 2 * count), 2 * count - LANES);
#if CVAE_VECTORS
    const vec_pairs pairs = {every_second(low, high, 0), every_second(low, high, 1)};
#else
    const vec_pairs pairs = {low, high};
#endif
    return pairs;
}
INLINE void store_pairs(real *p, vec_pairs pairs, ptrdiff_t count) {
#if CVAE_VECTORS
    const vec low = interleave(pairs.first, pairs.second, 0), high = interleave(pairs.first, pairs.second, LANES / 2);
#else
    const vec low = pairs.first, high = pairs.second;
#endif
    store_some(p, low, 2 * count);
    store_some(p + smaller(LANES, 2 * count), high, 2 * count - LANES);
}

/* Vectors of integers that are int32_t in memory. */
INLINE vec_int load_ints(const int32_t *p) {
    real_int part[LANES];
    for (int i = 0; i < LANES; i++) part[i] = p[i];
    vec_int v;
    memcpy(&v, part, sizeof(v));
    return v;
}
INLINE void store_some_ints(int32_t *p, vec_int v, ptrdiff_t count) {
    real_int part[LANES];
    memcpy(part, &v, sizeof(v));
    for (ptrdiff_t i = 0; i < smaller(count, LANES); i++) p[i] = (int32_t)part[i];
}

#endif
