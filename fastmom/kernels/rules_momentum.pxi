# Rules that keep a velocity, or none.

cdef void sgd(real** a, Py_ssize_t n, const double* c, const double* t) noexcept nogil:
    # p = keep p - lr (s g + wd p)
    cdef real lr = <real>c[0], wd = <real>c[1], keep = <real>c[2], s = <real>t[SCALE]
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = keep * p[i] - lr * (s * g[i] + wd * p[i])


cdef void momentum(real** a, Py_ssize_t n, const double* c, const double* t) noexcept nogil:
    # d = s g + wd p;  v = m v + k d;  p = keep p - (x v + y d)
    # Polyak 1964; Nesterov 1983; quasi-hyperbolic: Ma and Yarats 2019
    cdef real m = <real>c[0], k = <real>c[1], x = <real>c[2], y = <real>c[3], wd = <real>c[4]
    cdef real keep = <real>c[5], s = <real>t[SCALE], d, w, u
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


cdef void aggmo(real** a, Py_ssize_t n, const double* c, const double* t) noexcept nogil:
    # v_j = m_j v_j + (s g + wd p);  p -= lr / K sum v_j      (Lucas et al. 2019)
    # All velocities first, since they share one p: the chunk stays in the cache meanwhile.
    cdef real step = <real>c[0], wd = <real>c[1], s = <real>t[SCALE], m
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


cdef void sign(real** a, Py_ssize_t n, const double* c, const double* t) noexcept nogil:
    # w = b1 v + k1 s g;  p = keep p - lr sign(w);  v = b2 v + k2 s g
    # Signum: Bernstein et al. 2018; Lion: Chen et al. 2023
    cdef real b1 = <real>c[0], k1 = <real>c[1], b2 = <real>c[2], k2 = <real>c[3]
    cdef real lr = <real>c[4], keep = <real>c[5], s = <real>t[SCALE], zero = <real>0, d, w
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


cdef void lookahead(real** a, Py_ssize_t n, const double* c, const double* t) noexcept nogil:
    # d = s g;  v = m v + k d;  u = x v + y d: the matrix that Muon makes orthogonal
    cdef real m = <real>c[0], k = <real>c[1], x = <real>c[2], y = <real>c[3], s = <real>t[SCALE]
    cdef real d, w
    cdef real* g = a[1]
    cdef real* v = a[2]
    cdef real* u = a[3]
    cdef Py_ssize_t i
    for i in range(n):
        d = s * g[i]
        w = m * v[i] + k * d
        v[i] = w
        u[i] = x * w + y * d


cdef void lars_direction(real** a, Py_ssize_t n, const double* c, const double* t,
                         real* out) noexcept nogil:
    cdef real wd = <real>c[4], s = <real>t[SCALE]
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = s * g[i] + wd * p[i]


cdef void lars(real** a, Py_ssize_t n, const double* c, const double* t) noexcept nogil:
    # d = trust (s g + wd p);  v = m v + k d;  p -= x v + y d      (You, Gitman and Ginsburg 2017)
    cdef real m = <real>c[0], k = <real>c[1], x = <real>c[2], y = <real>c[3], wd = <real>c[4]
    cdef real s = <real>t[SCALE], trust = <real>t[TRUST], d, w, u
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* v = a[2]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = trust * (s * g[i] + wd * u)
        w = m * v[i] + k * d
        v[i] = w
        p[i] = u - (x * w + y * d)
