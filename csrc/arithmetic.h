/* How kernels compute, whatever the calling thread has been set to: rounding to nearest, without traps and, on x86, with
 * numbers below the smallest normal one as zero, for they take those processors some hundred times as long. */
#ifndef CVAE_ARITHMETIC_H
#define CVAE_ARITHMETIC_H

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>

enum { OWN_ARITHMETIC = 0x1F80 | 0x8000 | 0x0040 }; /* all exceptions masked, flush to zero, denormals are zero */

/* Sets the thread to this arithmetic and returns what is to be restored. */
static inline unsigned begin_arithmetic(void) {
    const unsigned before = _mm_getcsr();
    _mm_setcsr(OWN_ARITHMETIC);
    return before;
}

static inline void end_arithmetic(unsigned before) { _mm_setcsr(before); }
#else
static inline unsigned begin_arithmetic(void) { return 0; }
static inline void end_arithmetic(unsigned before) { (void)before; }
#endif

#endif
