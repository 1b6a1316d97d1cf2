# The stages around a rule, and the sums that norms come from.

cdef void load(real* out, const real* g, Py_ssize_t n, const double* scale,
               double limit) noexcept nogil:
    # h = min(max(s g, -c), c), written so that a NaN stays a NaN
    cdef real s = <real>scale[0], high = <real>limit, low = -<real>limit
    cdef real h
    cdef Py_ssize_t i
    for i in range(n):
        h = s * g[i]
        h = high if high < h else h
        out[i] = low if low > h else h


cdef void rescale(real* out, const real* g, Py_ssize_t n, const double* scale,
                  double limit) noexcept nogil:
    # as load, in double and in two steps that are both up or both down: only the result is rounded
    cdef double first = scale[0], second = scale[1]
    cdef real high = <real>limit, low = -<real>limit
    cdef real h
    cdef Py_ssize_t i
    for i in range(n):
        h = <real>(second * (first * <double>g[i]))
        h = high if high < h else h
        out[i] = low if low > h else h


cdef void weigh(real* out, const real* x, Py_ssize_t n, double weight) noexcept nogil:
    # h = w x
    cdef real w = <real>weight
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = w * x[i]


cdef void add_weighted(real* out, const real* x, Py_ssize_t n, double weight) noexcept nogil:
    # h = h + w x
    cdef real w = <real>weight
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = out[i] + w * x[i]


cdef void subtract_from(real* out, const real* x, Py_ssize_t n, double weight) noexcept nogil:
    # h = w x - h
    cdef real w = <real>weight
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = w * x[i] - out[i]


cdef double square_sum(const real* x, Py_ssize_t n) noexcept nogil:
    # Sixteen lanes, added in a fixed order: vectorises without reassociation, same bits everywhere.
    cdef double lane[16]
    cdef double total
    cdef Py_ssize_t i, j
    for j in range(16):
        lane[j] = 0
    for i in range(n // 16):
        for j in range(16):
            lane[j] += <double>x[16 * i + j] * <double>x[16 * i + j]
    for j in range(n % 16):
        lane[j] += <double>x[n - n % 16 + j] * <double>x[n - n % 16 + j]
    total = 0
    for j in range(16):
        total += lane[j]
    return total


# The average moves by the rule of plain descent:  e = k e - (k - 1) p
cdef Stages _single = Stages(<Load>load[float], <Load>rescale[float], <Add>weigh[float],
                             <Add>add_weighted[float], <Add>subtract_from[float],
                             <Update>sgd[float, float], <Sum>square_sum[float], False)
cdef Stages _double = Stages(<Load>load[double], <Load>rescale[double], <Add>weigh[double],
                             <Add>add_weighted[double], <Add>subtract_from[double],
                             <Update>sgd[double, double], <Sum>square_sum[double], True)
_table.stages = [_single, _double, _single, _single]
