/* Pixels drawn black or white with the probability that a grey value is.
 *
 * The random bits are those of Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), a
 * hash of a key and a counter: any thread can compute any pixel's bits, in any order. */
#ifndef CVAE_BINARIZE_H
#define CVAE_BINARIZE_H

#include "vector.h"

enum {
    PHILOX_ROUNDS = 10,
    PHILOX_BLOCKS = 32, /* counters hashed side by side; GCC unrolls loops over 16 instead of using vectors */
    PHILOX_WORDS = 4    /* numbers of 32 bits from each counter */
};

/* words[w * PHILOX_BLOCKS + lane]: number w of the counter (first + lane, 0, stream), under the key. */
static void philox(uint32_t *RESTRICT words, uint32_t first, uint64_t stream, uint64_t key) {
    uint32_t a[PHILOX_BLOCKS], b[PHILOX_BLOCKS], c[PHILOX_BLOCKS], d[PHILOX_BLOCKS];
    uint32_t low = (uint32_t)key, high = (uint32_t)(key >> 32);
    for (int lane = 0; lane < PHILOX_BLOCKS; lane++) {
        a[lane] = first + (uint32_t)lane;
        b[lane] = 0;
        c[lane] = (uint32_t)stream;
        d[lane] = (uint32_t)(stream >> 32);
    }
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        for (int lane = 0; lane < PHILOX_BLOCKS; lane++) {
            const uint64_t p = (uint64_t)a[lane] * 0xD2511F53u, q = (uint64_t)c[lane] * 0xCD9E8D57u;
            a[lane] = (uint32_t)(q >> 32) ^ b[lane] ^ low;
            c[lane] = (uint32_t)(p >> 32) ^ d[lane] ^ high;
            b[lane] = (uint32_t)q;
            d[lane] = (uint32_t)p;
        }
        low += 0x9E3779B9u;
        high += 0xBB67AE85u;
    }
    memcpy(words, a, sizeof a);
    memcpy(words + PHILOX_BLOCKS, b, sizeof b);
    memcpy(words + 2 * PHILOX_BLOCKS, c, sizeof c);
    memcpy(words + 3 * PHILOX_BLOCKS, d, sizeof d);
}

/* A hash of the values of an image, each rounded to a float and cut off after 24 bits: that of a byte divided by 255 is
 * the same for float and double. */
static uint64_t image_hash(const real *x, ptrdiff_t m) {
    uint64_t hash = (uint64_t)m;
    for (ptrdiff_t i = 0; i < m; i++) {
        hash = (hash ^ (uint32_t)((float)x[i] * 0x1p24f)) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
    }
    return hash;
}

static void binarize(void *out, const void *x, ptrdiff_t m, uint64_t key, int by_content, ptrdiff_t row) {
    enum { AT_ONCE = PHILOX_WORDS * PHILOX_BLOCKS };
    const real *image = (const real *)x + row * m;
    real *drawn = (real *)out + row * m;
    const uint64_t stream = by_content ? image_hash(image, m) : (uint64_t)row;
    uint32_t words[AT_ONCE];
    for (ptrdiff_t i = 0; i < m; i += AT_ONCE) {
        const ptrdiff_t count = m - i < AT_ONCE ? m - i : AT_ONCE;
        philox(words, (uint32_t)(i / PHILOX_WORDS), stream, key);
        for (ptrdiff_t j = 0; j < count; j++) {
            /* 24 bits: uniform in [0, 1), and exact as a float. */
            const float uniform = (float)(int32_t)(words[j] >> 8) * 0x1p-24f;
            drawn[i + j] = uniform < (float)image[i + j] ? (real)1 : (real)0;
        }
    }
}

static void threshold(void *out, const void *x, double limit, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t i = first; i < last; i++) ((real *)out)[i] = (double)((const real *)x)[i] > limit;
}

#endif
