# Rules that divide by the root of squared gradients.
#
# In the first-level cache their loops take as long as the processor's divider: on AMD's Zen 4 the
# root and the quotient of 16 floats take 10 and 6 cycles, and all of adam 16.3 (9 without both).
# Newton's steps from vrsqrt14ps, with the same bits (tried for all 2^24 mantissas), take the
# multipliers' time instead: with them for every other vector or for all adam becomes 4 to 24 %
# slower. For every fourth they gain 4 %, with a branch for zeros, infinities and numbers below
# 2^-90, and 2 % in the second-level cache: too little for a loop of its own per instruction set.

cdef struct Adam:
    double b1, k1, b2, k2, x, y, r, eps, wd, keep


cdef void adam(real** a, stored** s, Py_ssize_t n, const Adam* c, const Factors* f) noexcept nogil:
    # d = s g + wd p;  m = b1 m + k1 d;  v = b2 v + k2 d^2
    # p = keep p - (x m + y d) / (r sqrt(v) + eps)
    # The class puts bias corrections into x, y and r. Kingma and Ba 2015; decoupled decay:
    # Loshchilov and Hutter 2019; with Nesterov (y > 0): Dozat 2016
    cdef real b1 = <real>c.b1, k1 = <real>c.k1, b2 = <real>c.b2, k2 = <real>c.k2, x = <real>c.x
    cdef real y = <real>c.y, r = <real>c.r, eps = positive(<real>c.eps), wd = <real>c.wd
    cdef real keep = <real>c.keep, scale = <real>f.scale, d, u, mean, square
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef stored* m = s[0]
    cdef real* v = <real*>s[1]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = scale * g[i] + wd * u
        mean = b1 * <real>m[i] + k1 * d
        square = b2 * v[i] + k2 * (d * d)
        m[i] = <stored>mean
        v[i] = square
        p[i] = keep * u - (x * mean + y * d) / (r * root(square) + eps)

register("adam", (<Adam*>NOTHING)[0], "sp",
         [<Update>adam[float, float], <Update>adam[double, double],
          <Update>adam[float, bfloat16], <Update>adam[float, float16]])


cdef void amsgrad(real** a, stored** s, Py_ssize_t n, const Adam* c,
                  const Factors* f) noexcept nogil:
    # as adam, dividing by the largest v so far      (Reddi, Kale and Kumar 2018)
    cdef real b1 = <real>c.b1, k1 = <real>c.k1, b2 = <real>c.b2, k2 = <real>c.k2, x = <real>c.x
    cdef real y = <real>c.y, r = <real>c.r, eps = positive(<real>c.eps), wd = <real>c.wd
    cdef real keep = <real>c.keep, scale = <real>f.scale, d, u, mean, square
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef stored* m = s[0]
    cdef real* v = <real*>s[1]
    cdef real* largest = <real*>s[2]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = scale * g[i] + wd * u
        mean = b1 * <real>m[i] + k1 * d
        square = b2 * v[i] + k2 * (d * d)
        m[i] = <stored>mean
        v[i] = square
        square = largest[i] if largest[i] > square else square
        largest[i] = square
        p[i] = keep * u - (x * mean + y * d) / (r * root(square) + eps)

register("amsgrad", (<Adam*>NOTHING)[0], "spp",
         [<Update>amsgrad[float, float], <Update>amsgrad[double, double],
          <Update>amsgrad[float, bfloat16], <Update>amsgrad[float, float16]])


cdef struct RMSprop:
    double lr, b, k, e, eps, wd


cdef void rmsprop(real** a, stored** s, Py_ssize_t n, const RMSprop* c,
                  const Factors* f) noexcept nogil:
    # d = s g + wd p;  q = b q + k d^2;  p -= lr d / (sqrt(q + e) + eps)      (Hinton 2012)
    # With k = 1 and b = 1 it is Adagrad (Duchi, Hazan and Singer 2011).
    cdef real lr = <real>c.lr, b = <real>c.b, k = <real>c.k, e = <real>c.e
    cdef real eps = positive(<real>c.eps), wd = <real>c.wd, scale = <real>f.scale, d, u, square
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* q = <real*>s[0]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = scale * g[i] + wd * u
        square = b * q[i] + k * (d * d)
        q[i] = square
        p[i] = u - lr * (d / (root(square + e) + eps))

register("rmsprop", (<RMSprop*>NOTHING)[0], "p",
         [<Update>rmsprop[float, float], <Update>rmsprop[double, double],
          <Update>rmsprop[float, bfloat16], <Update>rmsprop[float, float16]])


cdef struct RMSpropMomentum:
    double x, y, b, k, e, eps, wd, m


cdef void rmsprop_momentum(real** a, stored** s, Py_ssize_t n, const RMSpropMomentum* c,
                           const Factors* f) noexcept nogil:
    # as rmsprop with z = d / (sqrt(q + e) + eps);  v = m v + z;  p -= x v + y z
    cdef real x = <real>c.x, y = <real>c.y, b = <real>c.b, k = <real>c.k, e = <real>c.e
    cdef real eps = positive(<real>c.eps), wd = <real>c.wd, m = <real>c.m, scale = <real>f.scale
    cdef real d, u, square, w, z
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* q = <real*>s[0]
    cdef stored* v = s[1]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = scale * g[i] + wd * u
        square = b * q[i] + k * (d * d)
        z = d / (root(square + e) + eps)
        w = m * <real>v[i] + z
        q[i] = square
        v[i] = <stored>w
        p[i] = u - (x * w + y * z)

register("rmsprop_momentum", (<RMSpropMomentum*>NOTHING)[0], "ps",
         [<Update>rmsprop_momentum[float, float], <Update>rmsprop_momentum[double, double],
          <Update>rmsprop_momentum[float, bfloat16], <Update>rmsprop_momentum[float, float16]])


cdef void rmsprop_centered(real** a, stored** s, Py_ssize_t n, const RMSpropMomentum* c,
                           const Factors* f) noexcept nogil:
    # as rmsprop_momentum with max(q - h^2, 0) for q, h the mean gradient      (Graves 2013)
    # Of steady gradients q is h^2, and rounding may leave less.
    cdef real x = <real>c.x, y = <real>c.y, b = <real>c.b, k = <real>c.k, e = <real>c.e
    cdef real eps = positive(<real>c.eps), wd = <real>c.wd, m = <real>c.m, scale = <real>f.scale
    cdef real zero = <real>0, d, u, square, mean, variance, w, z
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* q = <real*>s[0]
    cdef stored* v = s[1]
    cdef real* h = <real*>s[2]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = scale * g[i] + wd * u
        square = b * q[i] + k * (d * d)
        mean = b * h[i] + k * d
        variance = square - mean * mean
        variance = zero if variance < zero else variance
        z = d / (root(variance + e) + eps)
        w = m * <real>v[i] + z
        q[i] = square
        h[i] = mean
        v[i] = <stored>w
        p[i] = u - (x * w + y * z)

register("rmsprop_centered", (<RMSpropMomentum*>NOTHING)[0], "psp",
         [<Update>rmsprop_centered[float, float], <Update>rmsprop_centered[double, double],
          <Update>rmsprop_centered[float, bfloat16], <Update>rmsprop_centered[float, float16]])


cdef struct LAMB:
    double trust_coefficient, trust_eps, b1, k1, b2, k2, x, r, eps, wd, lr


cdef void lamb_direction(real** a, stored** s, Py_ssize_t n, const LAMB* c, const Factors* f,
                         real* out) noexcept nogil:
    # m = b1 m + k1 s g;  v = b2 v + k2 (s g)^2;  z = x m / (r sqrt(v) + eps) + wd p
    cdef real b1 = <real>c.b1, k1 = <real>c.k1, b2 = <real>c.b2, k2 = <real>c.k2, x = <real>c.x
    cdef real r = <real>c.r, eps = positive(<real>c.eps), wd = <real>c.wd, scale = <real>f.scale
    cdef real d, mean, square
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef stored* m = s[0]
    cdef real* v = <real*>s[1]
    cdef Py_ssize_t i
    for i in range(n):
        d = scale * g[i]
        mean = b1 * <real>m[i] + k1 * d
        square = b2 * v[i] + k2 * (d * d)
        m[i] = <stored>mean
        v[i] = square
        out[i] = x * mean / (r * root(square) + eps) + wd * p[i]


cdef void lamb(real** a, stored** s, Py_ssize_t n, const LAMB* c, const Factors* f) noexcept nogil:
    # p -= lr trust z, with m and v as lamb_direction left them      (You et al. 2020)
    cdef real x = <real>c.x, r = <real>c.r, eps = positive(<real>c.eps), wd = <real>c.wd
    cdef real step = <real>(c.lr * f.trust), unit = <real>f.unit
    cdef real* p = a[0]
    cdef stored* m = s[0]
    cdef real* v = <real*>s[1]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = p[i] - step * (unit * (x * <real>m[i] / (r * root(v[i]) + eps) + wd * p[i]))

register("lamb", (<LAMB*>NOTHING)[0], "sp",
         [<Update>lamb[float, float], <Update>lamb[double, double],
          <Update>lamb[float, bfloat16], <Update>lamb[float, float16]],
         [<Direction>lamb_direction[float, float], <Direction>lamb_direction[double, double],
          <Direction>lamb_direction[float, bfloat16], <Direction>lamb_direction[float, float16]])
