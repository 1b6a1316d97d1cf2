# Rules that divide by the root of squared gradients.

cdef inline real root(real x) noexcept nogil:
    return sqrtf(x) if real is float else sqrt(x)


cdef void adam(real** a, Py_ssize_t n, const double* c, const double* t) noexcept nogil:
    # d = s g + wd p;  m = b1 m + k1 d;  v = b2 v + k2 d^2
    # p = keep p - (x m + y d) / (r sqrt(v) + eps)
    # The class puts bias corrections into x, y and r. Kingma and Ba 2015; decoupled decay:
    # Loshchilov and Hutter 2019; with Nesterov (y > 0): Dozat 2016
    cdef real b1 = <real>c[0], k1 = <real>c[1], b2 = <real>c[2], k2 = <real>c[3], x = <real>c[4]
    cdef real y = <real>c[5], r = <real>c[6], eps = <real>c[7], wd = <real>c[8], keep = <real>c[9]
    cdef real s = <real>t[SCALE], d, u, mean, square
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


cdef void amsgrad(real** a, Py_ssize_t n, const double* c, const double* t) noexcept nogil:
    # as adam, dividing by the largest v so far      (Reddi, Kale and Kumar 2018)
    cdef real b1 = <real>c[0], k1 = <real>c[1], b2 = <real>c[2], k2 = <real>c[3], x = <real>c[4]
    cdef real y = <real>c[5], r = <real>c[6], eps = <real>c[7], wd = <real>c[8], keep = <real>c[9]
    cdef real s = <real>t[SCALE], d, u, mean, square
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


cdef void rmsprop(real** a, Py_ssize_t n, const double* c, const double* t) noexcept nogil:
    # d = s g + wd p;  q = b q + k d^2;  p -= lr d / (sqrt(q) + eps)      (Hinton 2012)
    # With k = 1 and b = 1 it is Adagrad (Duchi, Hazan and Singer 2011).
    cdef real lr = <real>c[0], b = <real>c[1], k = <real>c[2], eps = <real>c[3], wd = <real>c[4]
    cdef real s = <real>t[SCALE], d, u, square
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


cdef void rmsprop_momentum(real** a, Py_ssize_t n, const double* c, const double* t) noexcept nogil:
    # as rmsprop;  v = m v + d / (sqrt(q) + eps);  p -= lr v
    cdef real lr = <real>c[0], b = <real>c[1], k = <real>c[2], eps = <real>c[3], wd = <real>c[4]
    cdef real m = <real>c[5], s = <real>t[SCALE], d, u, square, w
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


cdef void rmsprop_centered(real** a, Py_ssize_t n, const double* c, const double* t) noexcept nogil:
    # as rmsprop_momentum with sqrt(q - h^2) for sqrt(q), h the mean gradient      (Graves 2013)
    cdef real lr = <real>c[0], b = <real>c[1], k = <real>c[2], eps = <real>c[3], wd = <real>c[4]
    cdef real m = <real>c[5], s = <real>t[SCALE], d, u, square, mean, w
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


cdef void lamb_direction(real** a, Py_ssize_t n, const double* c, const double* t,
                         real* out) noexcept nogil:
    # m = b1 m + k1 s g;  v = b2 v + k2 (s g)^2;  r = x m / (y sqrt(v) + eps) + wd p
    cdef real b1 = <real>c[0], k1 = <real>c[1], b2 = <real>c[2], k2 = <real>c[3], x = <real>c[4]
    cdef real y = <real>c[5], eps = <real>c[6], wd = <real>c[7], s = <real>t[SCALE]
    cdef real d, mean, square
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* m = a[2]
    cdef real* v = a[3]
    cdef Py_ssize_t i
    for i in range(n):
        d = s * g[i]
        mean = b1 * m[i] + k1 * d
        square = b2 * v[i] + k2 * (d * d)
        m[i] = mean
        v[i] = square
        out[i] = x * mean / (y * root(square) + eps) + wd * p[i]


cdef void lamb(real** a, Py_ssize_t n, const double* c, const double* t) noexcept nogil:
    # p -= lr trust r, with m and v as lamb_direction left them      (You et al. 2020)
    cdef real x = <real>c[4], y = <real>c[5], eps = <real>c[6], wd = <real>c[7]
    cdef real step = <real>(c[8] * t[TRUST])
    cdef real* p = a[0]
    cdef real* m = a[2]
    cdef real* v = a[3]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = p[i] - step * (x * m[i] / (y * root(v[i]) + eps) + wd * p[i])
