/* Which instruction sets the CPU supports, and whether the compiler had OpenMP. */
#ifndef CVAE_CPU_H
#define CVAE_CPU_H

#include "kernels/kernels.h"

#ifdef _OPENMP
#include <omp.h>
static int openmp_enabled(void) { return 1; }
static int openmp_max_threads(void) { return omp_get_max_threads(); }
#else
static int openmp_enabled(void) { return 0; }
static int openmp_max_threads(void) { return 1; }
#endif

#if defined(CVAE_X86_VARIANTS)
/* __builtin_cpu_supports also checks that the operating system saves the registers. */
static int cpu_level(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl"))
        return 1;
    return 2;
}
static const kernel_table *const kernels_f32[] = {&kernels_f32_baseline, &kernels_f32_avx2, &kernels_f32_avx512};
static const kernel_table *const kernels_f64[] = {&kernels_f64_baseline, &kernels_f64_avx2, &kernels_f64_avx512};
#else
static int cpu_level(void) { return 0; }
static const kernel_table *const kernels_f32[] = {&kernels_f32_baseline};
static const kernel_table *const kernels_f64[] = {&kernels_f64_baseline};
#endif
static const int kernel_levels = (int)(sizeof(kernels_f32) / sizeof(kernels_f32[0]));

#endif
