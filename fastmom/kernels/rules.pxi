# The update rules: one plain loop over one chunk each, compiled once per instruction set.
#
# Design. The loops hold no branch and no bare number: what distinguishes conventions of the same
# method is folded into coefficients by the optimizer class, and a literal would widen float
# arithmetic to double. t[SCALE] multiplies the gradient: clipping by norm, unscaling, maximizing. The
# compiler vectorises the loops; contraction into fused multiply-adds is off (setup.py), so every
# instruction set, chunk position and thread count gives the same bits.

from libc.math cimport sqrt, sqrtf
from fastmom.kernels.rules cimport SCALE, TRUST, Rule, Table

include "rules_momentum.pxi"
include "rules_adaptive.pxi"


cdef void limit(real** a, Py_ssize_t n, const double* c, const double* t) noexcept nogil:
    # h = min(max(s g, -c), c), written so that a NaN stays a NaN
    cdef real s = <real>t[SCALE], high = <real>c[0], low = -<real>c[0]
    cdef real h
    cdef real* out = a[0]
    cdef real* g = a[1]
    cdef Py_ssize_t i
    for i in range(n):
        h = s * g[i]
        h = high if high < h else h
        out[i] = low if low > h else h


cdef double square_sum(const real* g, Py_ssize_t n) noexcept nogil:
    # Sixteen lanes, added in a fixed order: vectorises without reassociation, same bits everywhere.
    cdef double lane[16]
    cdef double total
    cdef Py_ssize_t i, j
    for j in range(16):
        lane[j] = 0
    for i in range(n // 16):
        for j in range(16):
            lane[j] += <double>g[16 * i + j] * <double>g[16 * i + j]
    for j in range(n % 16):
        lane[j] += <double>g[n - n % 16 + j] * <double>g[n - n % 16 + j]
    total = 0
    for j in range(16):
        total += lane[j]
    return total


cdef Table _table
_table.limit = Rule(limit[float], limit[double], NULL, NULL)
_table.square_sum32 = square_sum[float]
_table.square_sum64 = square_sum[double]
_table.update = [
    Rule(sgd[float], sgd[double], NULL, NULL),
    Rule(momentum[float], momentum[double], NULL, NULL),
    Rule(aggmo[float], aggmo[double], NULL, NULL),
    Rule(sign[float], sign[double], NULL, NULL),
    Rule(adam[float], adam[double], NULL, NULL),
    Rule(amsgrad[float], amsgrad[double], NULL, NULL),
    Rule(rmsprop[float], rmsprop[double], NULL, NULL),
    Rule(rmsprop_momentum[float], rmsprop_momentum[double], NULL, NULL),
    Rule(rmsprop_centered[float], rmsprop_centered[double], NULL, NULL),
    Rule(lookahead[float], lookahead[double], NULL, NULL),
    Rule(lars[float], lars[double], lars_direction[float], lars_direction[double]),
    Rule(lamb[float], lamb[double], lamb_direction[float], lamb_direction[double]),
]
names = ("sgd", "momentum", "aggmo", "sign", "adam", "amsgrad", "rmsprop", "rmsprop_momentum",
         "rmsprop_centered", "lookahead", "lars", "lamb")       # in the table's order
