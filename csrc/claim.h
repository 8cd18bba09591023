/* How threads claim pieces of work without locks. */
#ifndef CVAE_CLAIM_H
#define CVAE_CLAIM_H

#include <stddef.h>

#if defined(_MSC_VER) && defined(_OPENMP)
#include <intrin.h>
#endif

/* Atomically adds count to *next and returns its previous value. */
static inline ptrdiff_t claim(ptrdiff_t *next, ptrdiff_t count) {
#if !defined(_OPENMP)
    const ptrdiff_t first = *next;
    *next += count;
    return first;
#elif defined(_MSC_VER) && defined(_WIN64)
    return _InterlockedExchangeAdd64(next, count);
#elif defined(_MSC_VER)
    return _InterlockedExchangeAdd((long *)next, (long)count);
#else
    return __atomic_fetch_add(next, count, __ATOMIC_RELAXED);
#endif
}

#endif
