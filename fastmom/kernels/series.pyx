# Exponential smoothing: s = m s + gain x, down each column of an array.
#
# Design. `take` is the whole of the arithmetic: one value, one column. A series and a single value
# go through the same loop around it, so that values one by one round exactly as the series does.
# Arrays are C-contiguous, (outer, rows, columns) with time as the rows: nothing is transposed.

cimport cython
cimport numpy as cnp
from libc.math cimport expm1, log

from fastmom.kernels.arrays cimport PyArray_BYTES, RawArray, size_of

cnp.import_array()

cdef enum:
    LONG = 16384    # values from which the GIL is released: some 30 us

cdef struct Formula:
    double momentum, logarithm, gain
    bint debias
    long long count     # the latest one that `weight` was asked for,
    double weight       # and its answer: neighbours mostly have the same

cdef struct Sums:       # of each column, over its finite values; all 0 at first
    double* total
    long long* count
    double* low
    double* high


cdef inline double weight(Formula* f, long long count) noexcept nogil:
    """Return the total of so many ones, 1 - m^n, without cancellation for m close to 1."""
    cdef double exponent
    if f.count != count:
        exponent = count * f.logarithm
        f.count = count
        f.weight = count if f.momentum == 1 else -expm1(exponent) if exponent > -40 else 1
    return f.weight


cdef inline cython.floating take(Formula* f, const Sums* sums, Py_ssize_t j,
                                 cython.floating x) noexcept nogil:
    """Take a value into column j and return the smoothed one; one that is not finite, as it is."""
    cdef double value = x, y
    cdef bint first = sums.count[j] == 0
    if value - value != 0:
        return x
    y = f.momentum * sums.total[j] + f.gain * value
    sums.total[j] = y
    sums.count[j] += 1
    if f.debias:
        sums.low[j] = value if first or value < sums.low[j] else sums.low[j]
        sums.high[j] = value if first or value > sums.high[j] else sums.high[j]
        y /= weight(f, sums.count[j])
        y = sums.low[j] if y < sums.low[j] else y       # rounding must not take a mean out of
        y = sums.high[j] if y > sums.high[j] else y     # the range of its values
    return <cython.floating>(y + 0.0)                   # -0 becomes +0


cdef void walk(Formula* f, Sums sums, const cython.floating* x, cython.floating* y,
               Py_ssize_t outer, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef double total, low, high
    cdef long long count
    cdef Sums one = Sums(&total, &count, &low, &high)
    cdef Py_ssize_t i, r, j
    for i in range(outer):
        if columns == 1:    # its sums stay in registers
            total, count, low, high = sums.total[i], sums.count[i], sums.low[i], sums.high[i]
            for r in range(rows):
                y[r] = take(f, &one, 0, x[r])
            sums.total[i], sums.count[i], sums.low[i], sums.high[i] = total, count, low, high
            x += rows
            y += rows
            continue
        for r in range(rows):
            for j in range(columns):
                y[j] = take(f, &sums, i * columns + j, x[j])
            x += columns
            y += columns


cdef void walk_kind(int kind, Formula* f, Sums sums, const char* x, char* y, Py_ssize_t outer,
                    Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    if kind == cnp.NPY_FLOAT:
        walk(f, sums, <const float*>x, <float*>y, outer, rows, columns)
    else:
        walk(f, sums, <const double*>x, <double*>y, outer, rows, columns)


cdef char* memory(object array, int kind, Py_ssize_t size) except NULL:
    """Return the array's memory if it may be written and is so many elements in a row."""
    if not cnp.PyArray_Check(array) or cnp.PyArray_TYPE(array) != kind:
        raise TypeError(f"a kernel was given {getattr(array, 'dtype', type(array))}")
    if not cnp.PyArray_ISCARRAY(array) or size_of(<RawArray*>array) != size:
        raise ValueError(f"a kernel was given an array of shape {array.shape} where {size} elements "
                         f"in a row are needed, to be written to")
    return PyArray_BYTES(<RawArray*>array)


def advance(series, int axis, double momentum, bint debias, total, count, low, high):
    """Return a new array, smoothed along the axis; -1: a value each for all columns.

    The columns' sums go on from what they are.
    """
    if not cnp.PyArray_Check(series) or cnp.PyArray_TYPE(series) not in (cnp.NPY_FLOAT,
                                                                         cnp.NPY_DOUBLE):
        raise TypeError(f"a kernel was given {getattr(series, 'dtype', type(series))}")
    cdef int kind = cnp.PyArray_TYPE(series), d
    cdef Py_ssize_t outer = 1, rows = 1, columns = 1
    for d in range(cnp.PyArray_NDIM(series)):
        if d < axis:
            outer *= cnp.PyArray_DIM(series, d)
        elif d == axis:
            rows = cnp.PyArray_DIM(series, d)
        else:
            columns *= cnp.PyArray_DIM(series, d)
    cdef Py_ssize_t size = outer * columns
    cdef Sums sums = Sums(<double*>memory(total, cnp.NPY_DOUBLE, size),
                          <long long*>memory(count, cnp.NPY_INT64, size),
                          <double*>memory(low, cnp.NPY_DOUBLE, size),
                          <double*>memory(high, cnp.NPY_DOUBLE, size))
    # With momentum 1 the gain would be 0, and so would the weight. Debiased it cancels: as 1 it
    # gives a sum divided by a count, the limit.
    cdef Formula f = Formula(momentum, log(momentum),
                             1 if debias and momentum == 1 else 1 - momentum, debias, -1, 0)
    cdef object x = cnp.PyArray_FROMANY(series, kind, 0, 0, cnp.NPY_ARRAY_CARRAY_RO)
    cdef object y = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), kind, 0)
    cdef const char* source = PyArray_BYTES(<RawArray*>x)
    cdef char* target = PyArray_BYTES(<RawArray*>y)
    if size * rows < LONG:
        walk_kind(kind, &f, sums, source, target, outer, rows, columns)
    else:
        with nogil:
            walk_kind(kind, &f, sums, source, target, outer, rows, columns)
    return y
