/* The yardstick for memory bandwidth: an in-place scale, as simple as it gets. */
#include <stddef.h>

void scale(float *x, size_t n, float a, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++) x[i] *= a;
}
