/* Weighted sums of several arrays, some of them at a time: they are read side by side, which memory
 * serves faster than one after the other. The order of the additions stays that of the arrays.
 */
#ifndef FASTMOM_SUMS_H
#define FASTMOM_SUMS_H

#include <stddef.h>

namespace fm {
namespace {

/* y = w0 x0 + w1 x1 + ..., or y = y + w0 x0 + w1 x1 + ... if some were added ON before. */
template <class T, int K, bool ON>
void add(char *out, const char **arrays, ptrdiff_t n, const double *weights) {
    T *y = (T *)out;
    const T *x[K];
    T w[K];
    for (int k = 0; k < K; k++) {
        x[k] = (const T *)arrays[k];
        w[k] = (T)weights[k];
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        T h = ON ? y[i] + w[0] * x[0][i] : w[0] * x[0][i];
        for (int k = 1; k < K; k++)
            h = h + w[k] * x[k][i];
        y[i] = h;
    }
}

/* y = x - y */
template <class T> void subtract_from(char *out, const char *array, ptrdiff_t n) {
    T *y = (T *)out;
    const T *x = (const T *)array;
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = x[i] - y[i];
}

}
}

#endif
