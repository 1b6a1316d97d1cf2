# The stages around a rule, and the sums that norms come from.

cdef void load(real* out, const real* g, Py_ssize_t n, double scale, double limit) noexcept nogil:
    # h = min(max(s g, -c), c), written so that a NaN stays a NaN
    cdef real s = <real>scale, high = <real>limit, low = -<real>limit
    cdef real h
    cdef Py_ssize_t i
    for i in range(n):
        h = s * g[i]
        h = high if high < h else h
        out[i] = low if low > h else h


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
_table.stages = [
    Stages(<Load>load[float], <Loop>sgd[float, float], <Sum>square_sum[float]),
    Stages(<Load>load[double], <Loop>sgd[double, double], <Sum>square_sum[double]),
]
