# Rules of Adam's family, and those that adapt each element's step in other ways.

cdef struct Adamax:
    double b1, k1, b2, x, eps, wd


cdef void adamax(real** a, stored** s, Py_ssize_t n, const Adamax* c,
                 const Factors* f) noexcept nogil:
    # d = s g + wd p;  m = b1 m + k1 d;  u = max(b2 u, |d| + eps);  p -= x m / u
    # Kingma and Ba 2015, section 7
    cdef real b1 = <real>c.b1, k1 = <real>c.k1, b2 = <real>c.b2, x = <real>c.x, wd = <real>c.wd
    cdef real eps = positive(<real>c.eps), scale = <real>f.scale, zero = <real>0
    cdef real d, size, mean, largest
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef stored* m = s[0]
    cdef real* u = <real*>s[1]
    cdef Py_ssize_t i
    for i in range(n):
        d = scale * g[i] + wd * p[i]
        mean = b1 * <real>m[i] + k1 * d
        size = (d if d > zero else -d) + eps
        largest = b2 * u[i]
        largest = largest if largest >= size else size
        m[i] = <stored>mean
        u[i] = largest
        p[i] = p[i] - x * mean / largest

register("adamax", (<Adamax*>NOTHING)[0], "sp",
         [<Update>adamax[float, float], <Update>adamax[double, double],
          <Update>adamax[float, bfloat16], <Update>adamax[float, float16]])


cdef struct Yogi:
    double b1, k1, k2, x, r, eps, wd


cdef void yogi(real** a, stored** s, Py_ssize_t n, const Yogi* c, const Factors* f) noexcept nogil:
    # d = s g + wd p;  m = b1 m + k1 d;  v -= k2 sign(v - d^2) d^2;  p -= x m / (r sqrt(v) + eps)
    # Zaheer et al. 2018
    cdef real b1 = <real>c.b1, k1 = <real>c.k1, k2 = <real>c.k2, x = <real>c.x, r = <real>c.r
    cdef real eps = positive(<real>c.eps), wd = <real>c.wd, scale = <real>f.scale, zero = <real>0
    cdef real d, mean, square, excess, change
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef stored* m = s[0]
    cdef real* v = <real*>s[1]
    cdef Py_ssize_t i
    for i in range(n):
        d = scale * g[i] + wd * p[i]
        mean = b1 * <real>m[i] + k1 * d
        change = k2 * (d * d)
        excess = v[i] - d * d
        change = change if excess > zero else (-change if excess < zero else excess)    # NaN stays
        square = v[i] - change
        m[i] = <stored>mean
        v[i] = square
        p[i] = p[i] - x * mean / (r * root(square) + eps)

register("yogi", (<Yogi*>NOTHING)[0], "sp",
         [<Update>yogi[float, float], <Update>yogi[double, double],
          <Update>yogi[float, bfloat16], <Update>yogi[float, float16]])


cdef struct AdaBelief:
    double b1, k1, b2, k2, e, x, r, eps, wd, keep


cdef void adabelief(real** a, stored** s, Py_ssize_t n, const AdaBelief* c,
                    const Factors* f) noexcept nogil:
    # d = s g + wd p;  m = b1 m + k1 d;  v = b2 v + k2 (d - m)^2 + e
    # p = keep p - x m / (r sqrt(v) + eps)      (Zhuang et al. 2020)
    cdef real b1 = <real>c.b1, k1 = <real>c.k1, b2 = <real>c.b2, k2 = <real>c.k2, e = <real>c.e
    cdef real x = <real>c.x, r = <real>c.r, eps = positive(<real>c.eps), wd = <real>c.wd
    cdef real keep = <real>c.keep, scale = <real>f.scale, d, u, mean, variance
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef stored* m = s[0]
    cdef real* v = <real*>s[1]
    cdef Py_ssize_t i
    for i in range(n):
        u = p[i]
        d = scale * g[i] + wd * u
        mean = b1 * <real>m[i] + k1 * d
        variance = b2 * v[i] + k2 * ((d - mean) * (d - mean)) + e
        m[i] = <stored>mean
        v[i] = variance
        p[i] = keep * u - x * mean / (r * root(variance) + eps)

register("adabelief", (<AdaBelief*>NOTHING)[0], "sp",
         [<Update>adabelief[float, float], <Update>adabelief[double, double],
          <Update>adabelief[float, bfloat16], <Update>adabelief[float, float16]])


cdef struct Adan:
    double b1, k1, b2, k2, b3, k3, z, x, y, r, e, eps, keep


cdef void adan(real** a, stored** s, Py_ssize_t n, const Adan* c, const Factors* f) noexcept nogil:
    # d = s g;  h = z (d - d of the step before);  m = b1 m + k1 d;  v = b2 v + k2 h
    # q = b3 q + k3 (d + k2 h)^2;  p = keep p - (x m + y v) / (sqrt(r q + e) + eps)
    # z is 0 in the first step, when there is none before. Xie et al. 2022
    cdef real b1 = <real>c.b1, k1 = <real>c.k1, b2 = <real>c.b2, k2 = <real>c.k2, b3 = <real>c.b3
    cdef real k3 = <real>c.k3, z = <real>c.z, x = <real>c.x, y = <real>c.y, r = <real>c.r
    cdef real e = <real>c.e, eps = positive(<real>c.eps), keep = <real>c.keep
    cdef real scale = <real>f.scale, d, h, ahead, mean
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef stored* m = s[0]
    cdef stored* v = s[1]
    cdef real* q = <real*>s[2]
    cdef stored* before = s[3]
    cdef Py_ssize_t i
    for i in range(n):      # in two loops: compilers do not vectorise one over so many arrays
        d = scale * g[i]
        h = z * (d - <real>before[i])
        ahead = d + k2 * h
        v[i] = <stored>(b2 * <real>v[i] + k2 * h)
        q[i] = b3 * q[i] + k3 * (ahead * ahead)
        before[i] = <stored>d
    for i in range(n):
        mean = b1 * <real>m[i] + k1 * <real>before[i]
        m[i] = <stored>mean
        p[i] = keep * p[i] - (x * mean + y * <real>v[i]) / (root(r * q[i] + e) + eps)

register("adan", (<Adan*>NOTHING)[0], "ssps",
         [<Update>adan[float, float], <Update>adan[double, double],
          <Update>adan[float, bfloat16], <Update>adan[float, float16]])


cdef struct Adadelta:
    double lr, b, k, eps, wd


cdef void adadelta(real** a, stored** s, Py_ssize_t n, const Adadelta* c,
                   const Factors* f) noexcept nogil:
    # d = s g + wd p;  q = b q + k d^2;  u = d sqrt((w + eps) / (q + eps));  w = b w + k u^2
    # p -= lr u      (Zeiler 2012)
    cdef real lr = <real>c.lr, b = <real>c.b, k = <real>c.k, eps = positive(<real>c.eps)
    cdef real wd = <real>c.wd, scale = <real>f.scale, d, square, ratio
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef real* q = <real*>s[0]
    cdef real* w = <real*>s[1]
    cdef Py_ssize_t i
    for i in range(n):
        d = scale * g[i] + wd * p[i]
        square = b * q[i] + k * (d * d)
        ratio = (w[i] + eps) / (square + eps)
        q[i] = square
        w[i] = b * w[i] + k * (ratio * (d * d))
        p[i] = p[i] - lr * (root(ratio) * d)

register("adadelta", (<Adadelta*>NOTHING)[0], "pp",
         [<Update>adadelta[float, float], <Update>adadelta[double, double],
          <Update>adadelta[float, bfloat16], <Update>adadelta[float, float16]])


cdef struct Rprop:
    double lr, plus, minus, low, high


cdef void rprop(real** a, stored** s, Py_ssize_t n, const Rprop* c,
                const Factors* f) noexcept nogil:
    # d = s g;  e = sign(d) h;  r = r times plus where e > 0, minus where e < 0, from low to high
    # d = 0 where e < 0;  p -= lr r sign(d);  h = d      (Riedmiller and Braun 1993)
    cdef real lr = <real>c.lr, plus = <real>c.plus, minus = <real>c.minus, low = <real>c.low
    cdef real high = <real>c.high, scale = <real>f.scale, zero = <real>0, one = <real>1
    cdef real d, e, turned, ratio
    cdef real* p = a[0]
    cdef real* g = a[1]
    cdef stored* h = s[0]
    cdef stored* r = s[1]
    cdef Py_ssize_t i
    for i in range(n):
        d = scale * g[i]
        turned = one if d > zero else (-one if d < zero else d)     # of 0 it is 0, of NaN NaN
        e = turned * <real>h[i]
        ratio = <real>r[i] * (plus if e > zero else (minus if e < zero else one))
        ratio = low if ratio < low else ratio
        ratio = high if ratio > high else ratio
        turned = zero if e < zero else turned
        h[i] = <stored>(zero if e < zero else d)
        r[i] = <stored>ratio
        p[i] = p[i] - lr * ratio * turned

register("rprop", (<Rprop*>NOTHING)[0], "ss",
         [<Update>rprop[float, float], <Update>rprop[double, double],
          <Update>rprop[float, bfloat16], <Update>rprop[float, float16]])
