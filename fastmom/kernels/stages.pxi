# The stages around a rule, and the sums that norms come from.

cdef enum:
    ASKED = 256             # elements asked for together,
    FAR = 8192              # so many bytes before: the hardware reads less far ahead of one array


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


cdef double square_sum(const real* x, Py_ssize_t n) noexcept nogil:
    # Sixteen lanes, added in a fixed order: vectorises without reassociation, same bits everywhere.
    cdef double lane[16]
    cdef double total
    cdef Py_ssize_t i, j, start = 0
    for j in range(16):
        lane[j] = 0
    while start < n:
        for i in range(ASKED * <int>sizeof(real) // 64):
            fm_prefetch(<const char*>(x + start) + FAR + 64 * i)
        for i in range(start // 16, min(start + ASKED, n) // 16):
            for j in range(16):
                lane[j] += <double>x[16 * i + j] * <double>x[16 * i + j]
        start += ASKED
    for j in range(n % 16):
        lane[j] += <double>x[n - n % 16 + j] * <double>x[n - n % 16 + j]
    total = 0
    for j in range(16):
        total += lane[j]
    return total


cdef void add_products(const real* x, const stored* v, Py_ssize_t n, double* lanes) noexcept nogil:
    # lanes += x v, in as many lanes; the sum of the lanes is left to the caller
    cdef double lane[LANES]     # which no store to memory can change
    cdef Py_ssize_t i, j
    for j in range(LANES):
        lane[j] = lanes[j]
    for i in range(n // LANES):
        for j in range(LANES):
            lane[j] += <double>x[LANES * i + j] * <double><real>v[LANES * i + j]
    for j in range(n % LANES):
        lane[j] += <double>x[n - n % LANES + j] * <double><real>v[n - n % LANES + j]
    for j in range(LANES):
        lanes[j] = lane[j]


cdef extern from "sums.h" namespace "fm" nogil:
    Add add_1f "fm::add<float, 1, false>"
    Add add_2f "fm::add<float, 2, false>"
    Add add_3f "fm::add<float, 3, false>"
    Add add_4f "fm::add<float, 4, false>"
    Add on_1f "fm::add<float, 1, true>"
    Add on_2f "fm::add<float, 2, true>"
    Add on_3f "fm::add<float, 3, true>"
    Add on_4f "fm::add<float, 4, true>"
    Subtract subtract_f "fm::subtract_from<float>"
    Add add_1d "fm::add<double, 1, false>"
    Add add_2d "fm::add<double, 2, false>"
    Add add_3d "fm::add<double, 3, false>"
    Add add_4d "fm::add<double, 4, false>"
    Add on_1d "fm::add<double, 1, true>"
    Add on_2d "fm::add<double, 2, true>"
    Add on_3d "fm::add<double, 3, true>"
    Add on_4d "fm::add<double, 4, true>"
    Subtract subtract_d "fm::subtract_from<double>"


# The average moves by the rule of plain descent:  e = k e - (k - 1) p
cdef Stages _single = Stages(<Load>load[float], <Load>rescale[float],
                             [[add_1f, add_2f, add_3f, add_4f],
                              [on_1f, on_2f, on_3f, on_4f]],
                             subtract_f, <Update>sgd[float, float], <Sum>square_sum[float], False,
                             <AddProducts>add_products[float, float])
cdef Stages _double = Stages(<Load>load[double], <Load>rescale[double],
                             [[add_1d, add_2d, add_3d, add_4d],
                              [on_1d, on_2d, on_3d, on_4d]],
                             subtract_d, <Update>sgd[double, double], <Sum>square_sum[double], True,
                             <AddProducts>add_products[double, double])
_table.stages = [_single, _double, _single, _single]
_table.stages[2].add_products = <AddProducts>add_products[float, bfloat16]
_table.stages[3].add_products = <AddProducts>add_products[float, float16]
