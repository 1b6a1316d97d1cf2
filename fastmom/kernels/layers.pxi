# What a network's layers do beside dense products: compiled once per instruction set.
#
# Design. Each function is one pass over buffers that the caller allocated. But for the products they
# are serial, since a batch's activations fit into the cache of one core. Subnormals are flushed, as in
# the optimizers' rules: one that got into a buffer would slow every product down. Arrays are checked,
# not converted: these functions are the layers' own, and a wrong array is an error in the library.

cimport numpy as cnp
from libc.math cimport erfc, exp, log
from libc.string cimport memset

import numpy as np

from fastmom.kernels.arrays cimport PyArray_BYTES, RawArray, size_of
from fastmom.kernels.system cimport flushing, fm_float_mode, fm_flush_begin, fm_flush_end

cnp.import_array()

ctypedef fused real:
    float
    double

ctypedef fused pixel:
    unsigned char
    float
    double

# Arguments ----------------------------------------------------------------------------------------

cdef char* data(object array, int kind, Py_ssize_t size) except NULL:
    """Where the array's memory is, if it is C-contiguous, of this kind, and so many elements."""
    if not cnp.PyArray_Check(array) or cnp.PyArray_TYPE(array) != kind:
        raise TypeError(f"a kernel was given {getattr(array, 'dtype', type(array))}")
    if not cnp.PyArray_ISCARRAY_RO(array) or size_of(<RawArray*>array) != size:
        raise ValueError(f"a kernel was given an array of shape {array.shape} where {size} elements "
                         f"in a row are needed")
    return PyArray_BYTES(<RawArray*>array)


cdef char* target(object array, int kind, Py_ssize_t size) except NULL:
    """`data` of an array that is to be written."""
    cdef char* memory = data(array, kind, size)
    if not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError("a kernel was given a read-only array to write to")
    return memory


cdef int kind_of(object array) except -1:
    """NumPy's number of float or double, the dtype of this array."""
    if cnp.PyArray_Check(array):
        if cnp.PyArray_TYPE(array) in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE):
            return cnp.PyArray_TYPE(array)
    raise TypeError(f"a kernel was given {getattr(array, 'dtype', type(array))}")


cdef Py_ssize_t elements_of(object array) except -1:
    if not cnp.PyArray_Check(array):
        raise TypeError(f"a kernel was given {type(array)}")
    return size_of(<RawArray*>array)


cdef Py_ssize_t rows_of(object array) except -1:
    if not cnp.PyArray_Check(array):
        raise TypeError(f"a kernel was given {type(array)}")
    if cnp.PyArray_NDIM(array) < 1:
        raise ValueError("a kernel was given an array without axes")
    return cnp.PyArray_DIM(array, 0)


cdef inline fm_float_mode begin() noexcept nogil:
    """Flush subnormals from here to `fm_flush_end`, unless the user wants them."""
    cdef fm_float_mode mode = fm_flush_begin()
    if not flushing():
        fm_flush_end(mode)
    return mode


cdef inline char* at(object array):
    return PyArray_BYTES(<RawArray*>array)


cdef const long long* order_of(object order, Py_ssize_t limit) except? NULL:
    """The numbers of rows, all of them below this limit."""
    cdef Py_ssize_t rows = rows_of(order), r
    cdef const long long* o = <const long long*>data(order, cnp.NPY_INT64, rows)
    for r in range(rows):
        if not 0 <= o[r] < limit:
            raise IndexError(f"row {o[r]} of {limit}")
    return o


include "products.pxi"
include "activations.pxi"


# Batches ------------------------------------------------------------------------------------------

cdef void gather_rows(const pixel* source, const long long* order, Py_ssize_t rows, Py_ssize_t n,
                      real scale, real offset, real* out) noexcept nogil:
    cdef Py_ssize_t r, i
    cdef const pixel* x
    for r in range(rows):
        x = source + order[r] * n
        for i in range(n):
            out[r * n + i] = scale * <real>x[i] + offset


cdef int gather_kind(object source, const long long* order, Py_ssize_t rows, Py_ssize_t n,
                     double scale, double offset, real* out) except -1:
    cdef Py_ssize_t size = rows_of(source) * n
    cdef int kind = cnp.PyArray_TYPE(source)
    cdef char* x = data(source, kind, size)
    if kind == cnp.NPY_UINT8:
        gather_rows(<unsigned char*>x, order, rows, n, <real>scale, <real>offset, out)
    elif kind == cnp.NPY_FLOAT:
        gather_rows(<float*>x, order, rows, n, <real>scale, <real>offset, out)
    elif kind == cnp.NPY_DOUBLE:
        gather_rows(<double*>x, order, rows, n, <real>scale, <real>offset, out)
    else:
        raise TypeError(f"a kernel was given {source.dtype}")
    return 0


def gather(source, order, out, double scale=1, double offset=0) -> None:
    """out[r] = scale source[order[r]] + offset, for uint8, float32 and float64 sources."""
    cdef Py_ssize_t rows = rows_of(order), limit = rows_of(source)
    cdef Py_ssize_t n = elements_of(source) // limit if limit else 0
    cdef const long long* o = order_of(order, limit)
    cdef int kind = kind_of(out)
    cdef char* to = target(out, kind, rows * n)
    cdef fm_float_mode mode = begin()
    try:
        if kind == cnp.NPY_FLOAT:
            gather_kind(source, o, rows, n, scale, offset, <float*>to)
        else:
            gather_kind(source, o, rows, n, scale, offset, <double*>to)
    finally:
        fm_flush_end(mode)
