/* The yardsticks for memory bandwidth, as simple as it gets: each runs in place, so that nothing
   is read but what is named. The passes of one call need not wait for each other's threads, as each
   thread has the same part in all of them. */
#include <stddef.h>

void scale(float *x, size_t n, float a, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++) x[i] *= a;
}

void scale_passes(float *x, const float *y, size_t n, float a, int threads, long passes) {
    (void)y;
#pragma omp parallel num_threads(threads)
    for (long pass = 0; pass < passes; pass++) {
#pragma omp for schedule(static) nowait
        for (size_t i = 0; i < n; i++) x[i] *= a;
        __asm__ volatile("" ::: "memory");      /* no two passes in one */
    }
}

void triad_passes(float *x, const float *y, size_t n, float a, int threads, long passes) {
#pragma omp parallel num_threads(threads)
    for (long pass = 0; pass < passes; pass++) {
#pragma omp for schedule(static) nowait
        for (size_t i = 0; i < n; i++) x[i] += a * y[i];
        __asm__ volatile("" ::: "memory");
    }
}
