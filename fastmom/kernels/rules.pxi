# The update rules: one plain loop over one chunk each, compiled once per instruction set.
#
# Design. The loops hold no branch and no bare number: what distinguishes conventions of the same
# method is folded into coefficients by the optimizer class, and a literal would widen float
# arithmetic to double. `scale` multiplies the gradient: clipping by norm, unscaling, maximizing. The compiler vectorises them; contraction into fused multiply-adds is off
# (setup.py), so every instruction set, chunk position and thread count gives the same bits.

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport sqrt, sqrtf
from fastmom.kernels.rules cimport Rule, Table

ctypedef fused real:
    float
    double


cdef inline real root(real x) noexcept nogil:
    return sqrtf(x) if real is float else sqrt(x)


cdef void sgd(real** a, Py_ssize_t n, const double* c, double scale) noexcept nogil:
    # p = keep p - lr (s g + wd p)
    cdef real lr = <real>c[0], wd = <real>c[1], keep = <real>c[2], s = <real>scale
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = keep * p[i] - lr * (s * g[i] + wd * p[i])


cdef void momentum(real** a, Py_ssize_t n, const double* c, double scale) noexcept nogil:
    # d = s g + wd p;  v = m v + k d;  p = keep p - (x v + y d)
    # Polyak 1964; Nesterov 1983; quasi-hyperbolic: Ma and Yarats 2019
    cdef real m = <real>c[0], k = <real>c[1], x = <real>c[2], y = <real>c[3], wd = <real>c[4]
    cdef real keep = <real>c[5], s = <real>scale, d, w, u
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* v = a[2]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = s * g[i] + wd * u
        w = m * v[i] + k * d
        v[i] = w
        p[i] = keep * u - (x * w + y * d)


cdef void aggmo(real** a, Py_ssize_t n, const double* c, double scale) noexcept nogil:
    # v_j = m_j v_j + (s g + wd p);  p -= lr / K sum v_j      (Lucas et al. 2019)
    # All velocities first, since they share one p: the chunk stays in the cache meanwhile.
    cdef real step = <real>c[0], wd = <real>c[1], s = <real>scale, m
    cdef int count = <int>c[2], j
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* v
    cdef Py_ssize_t i
    for j in range(count):
        m = <real>c[3 + j]
        v = a[2 + j]
        for i in range(n):
            v[i] = m * v[i] + (s * g[i] + wd * p[i])
    for j in range(count):
        v = a[2 + j]
        for i in range(n):
            p[i] = p[i] - step * v[i]


cdef void sign(real** a, Py_ssize_t n, const double* c, double scale) noexcept nogil:
    # w = b1 v + k1 s g;  p = keep p - lr sign(w);  v = b2 v + k2 s g
    # Signum: Bernstein et al. 2018; Lion: Chen et al. 2023
    cdef real b1 = <real>c[0], k1 = <real>c[1], b2 = <real>c[2], k2 = <real>c[3]
    cdef real lr = <real>c[4], keep = <real>c[5], s = <real>scale, zero = <real>0, d, w
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* v = a[2]
    cdef Py_ssize_t i
    for i in range(n):
        d = s * g[i]
        w = b1 * v[i] + k1 * d
        v[i] = b2 * v[i] + k2 * d
        w = lr if w > zero else (-lr if w < zero else lr * w)      # of 0 it is 0, of NaN NaN
        p[i] = keep * p[i] - w


cdef void adam(real** a, Py_ssize_t n, const double* c, double scale) noexcept nogil:
    # d = s g + wd p;  m = b1 m + k1 d;  v = b2 v + k2 d^2
    # p = keep p - (x m + y d) / (r sqrt(v) + eps)
    # The class puts bias corrections into x, y and r. Kingma and Ba 2015; decoupled decay:
    # Loshchilov and Hutter 2019; with Nesterov (y > 0): Dozat 2016
    cdef real b1 = <real>c[0], k1 = <real>c[1], b2 = <real>c[2], k2 = <real>c[3], x = <real>c[4]
    cdef real y = <real>c[5], r = <real>c[6], eps = <real>c[7], wd = <real>c[8], keep = <real>c[9]
    cdef real s = <real>scale, d, u, mean, square
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* m = a[2]
    cdef real* v = a[3]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = s * g[i] + wd * u
        mean = b1 * m[i] + k1 * d
        square = b2 * v[i] + k2 * (d * d)
        m[i] = mean
        v[i] = square
        p[i] = keep * u - (x * mean + y * d) / (r * root(square) + eps)


cdef void amsgrad(real** a, Py_ssize_t n, const double* c, double scale) noexcept nogil:
    # as adam, dividing by the largest v so far      (Reddi, Kale and Kumar 2018)
    cdef real b1 = <real>c[0], k1 = <real>c[1], b2 = <real>c[2], k2 = <real>c[3], x = <real>c[4]
    cdef real y = <real>c[5], r = <real>c[6], eps = <real>c[7], wd = <real>c[8], keep = <real>c[9]
    cdef real s = <real>scale, d, u, mean, square
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* m = a[2]
    cdef real* v = a[3]
    cdef real* largest = a[4]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = s * g[i] + wd * u
        mean = b1 * m[i] + k1 * d
        square = b2 * v[i] + k2 * (d * d)
        m[i] = mean
        v[i] = square
        square = largest[i] if largest[i] > square else square
        largest[i] = square
        p[i] = keep * u - (x * mean + y * d) / (r * root(square) + eps)


cdef void rmsprop(real** a, Py_ssize_t n, const double* c, double scale) noexcept nogil:
    # d = s g + wd p;  q = b q + k d^2;  p -= lr d / (sqrt(q) + eps)      (Hinton 2012)
    # With k = 1 and b = 1 it is Adagrad (Duchi, Hazan and Singer 2011).
    cdef real lr = <real>c[0], b = <real>c[1], k = <real>c[2], eps = <real>c[3], wd = <real>c[4]
    cdef real s = <real>scale, d, u, square
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* q = a[2]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = s * g[i] + wd * u
        square = b * q[i] + k * (d * d)
        q[i] = square
        p[i] = u - lr * (d / (root(square) + eps))


cdef void rmsprop_momentum(real** a, Py_ssize_t n, const double* c, double scale) noexcept nogil:
    # as rmsprop;  v = m v + d / (sqrt(q) + eps);  p -= lr v
    cdef real lr = <real>c[0], b = <real>c[1], k = <real>c[2], eps = <real>c[3], wd = <real>c[4]
    cdef real m = <real>c[5], s = <real>scale, d, u, square, w
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* q = a[2]
    cdef real* v = a[3]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = s * g[i] + wd * u
        square = b * q[i] + k * (d * d)
        w = m * v[i] + d / (root(square) + eps)
        q[i] = square
        v[i] = w
        p[i] = u - lr * w


cdef void rmsprop_centered(real** a, Py_ssize_t n, const double* c, double scale) noexcept nogil:
    # as rmsprop_momentum with sqrt(q - h^2) for sqrt(q), h the mean gradient      (Graves 2013)
    cdef real lr = <real>c[0], b = <real>c[1], k = <real>c[2], eps = <real>c[3], wd = <real>c[4]
    cdef real m = <real>c[5], s = <real>scale, d, u, square, mean, w
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* q = a[2]
    cdef real* v = a[3]
    cdef real* h = a[4]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = s * g[i] + wd * u
        square = b * q[i] + k * (d * d)
        mean = b * h[i] + k * d
        w = m * v[i] + d / (root(square - mean * mean) + eps)
        q[i] = square
        h[i] = mean
        v[i] = w
        p[i] = u - lr * w


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
_table.update = [
    Rule(sgd[float], sgd[double]),
    Rule(momentum[float], momentum[double]),
    Rule(aggmo[float], aggmo[double]),
    Rule(sign[float], sign[double]),
    Rule(adam[float], adam[double]),
    Rule(amsgrad[float], amsgrad[double]),
    Rule(rmsprop[float], rmsprop[double]),
    Rule(rmsprop_momentum[float], rmsprop_momentum[double]),
    Rule(rmsprop_centered[float], rmsprop_centered[double]),
]
names = ("sgd", "momentum", "aggmo", "sign", "adam", "amsgrad", "rmsprop", "rmsprop_momentum",
         "rmsprop_centered")        # in the table's order
table = PyCapsule_New(&_table, b"fastmom.rules", NULL)
