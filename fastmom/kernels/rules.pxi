# The update rules: one plain loop over one chunk each, compiled once per instruction set.
#
# Design. The loops hold no branch and no bare number: what distinguishes conventions of the same
# method is folded into coefficients by the optimizer class, and a literal would widen float
# arithmetic to double. `scale` multiplies the gradient: clipping by norm, unscaling, maximizing. The compiler vectorises them; contraction into fused multiply-adds is off
# (setup.py), so every instruction set, chunk position and thread count gives the same bits.

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport sqrt, sqrtf
from fastmom.kernels.rules cimport MAX_RULES, Rule, Table

ctypedef fused real:
    float
    double


cdef void sgd(real** a, Py_ssize_t n, const double* c, double scale) noexcept nogil:
    # p -= lr (s g + wd p)
    cdef real lr = <real>c[0], wd = <real>c[1], s = <real>scale
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = p[i] - lr * (s * g[i] + wd * p[i])


cdef void momentum(real** a, Py_ssize_t n, const double* c, double scale) noexcept nogil:
    # d = s g + wd p;  v = m v + k d;  p -= x v + y d      (Polyak 1964, Nesterov 1983)
    cdef real m = <real>c[0], k = <real>c[1], x = <real>c[2], y = <real>c[3], wd = <real>c[4]
    cdef real s = <real>scale, d, w, u
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* v = a[2]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = s * g[i] + wd * u
        w = m * v[i] + k * d
        v[i] = w
        p[i] = u - (x * w + y * d)


cdef void limit(real** a, Py_ssize_t n, const double* c, double scale) noexcept nogil:
    # h = min(max(s g, -c), c), written so that a NaN stays a NaN
    cdef real s = <real>scale, high = <real>c[0], low = -<real>c[0]
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
_table.limit = Rule(limit[float], limit[double])
_table.square_sum32 = square_sum[float]
_table.square_sum64 = square_sum[double]
_table.update[0] = Rule(sgd[float], sgd[double])
_table.update[1] = Rule(momentum[float], momentum[double])

names = ("sgd", "momentum")          # index in the table; the engine looks rules up by name
table = PyCapsule_New(&_table, b"fastmom.rules", NULL)
