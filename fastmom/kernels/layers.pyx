"""A network's layers call these: arguments are checked here, loops are those of the build in use.

Arrays are checked, not converted: these functions are the layers' own, and a wrong array is an error
in the library. Subnormals are flushed, as in the optimizers' rules: one that got into a buffer would
slow every product down.
"""

cimport cython
cimport numpy as cnp
from libc.stdint cimport uint32_t, uint64_t

import numpy as np

from fastmom.kernels.arrays cimport PyArray_BYTES, RawArray, size_of
from fastmom.kernels.layer_loops cimport (N_FORMS, N_SOURCES, SPARE, Gather, Loop, Range,
                                          Reduction, Slice, Work)
from fastmom.kernels.loops cimport loops
from fastmom.kernels.system cimport flushing, fm_float_mode, fm_flush_begin, fm_flush_end
from fastmom.kernels.team cimport Pace, spread

cnp.import_array()

ctypedef char* Memory

cdef enum:
    SLICE = 65536           # weights of a slice
    MOST_SLICES = 3         # of a dense batch: more weights, with gradient and state, leave the cache
    LEAST_COLUMNS = 256     # of a dense batch's slice: below, adding the slices costs too much
    GRAIN = 8               # rows of weights, a multiple of which each thread takes
    SERIAL_BELOW = 1500000  # multiplications: below this, waking a team costs more than it saves

cdef double DENSITY = 0.3   # share of nonzeros up to which skipping the zeros pays

# Arguments ----------------------------------------------------------------------------------------

cdef int[N_SOURCES] KIND = [cnp.NPY_FLOAT, cnp.NPY_DOUBLE, cnp.NPY_UINT8]
DTYPE = (np.float32, np.float64)


cdef char* data(object array, int kind, Py_ssize_t size) except NULL:
    """Return the array's memory if it is C-contiguous, of this kind, and so many elements."""
    if not cnp.PyArray_Check(array) or cnp.PyArray_TYPE(array) != kind:
        raise TypeError(f"a kernel was given {getattr(array, 'dtype', type(array))}")
    if not cnp.PyArray_ISCARRAY_RO(array) or size_of(<RawArray*>array) != size:
        raise ValueError(f"a kernel was given an array of shape {array.shape} where {size} elements "
                         f"in a row are needed")
    return PyArray_BYTES(<RawArray*>array)


cdef char* target(object array, int kind, Py_ssize_t size) except NULL:
    """Return `data` of an array that is to be written."""
    cdef char* memory = data(array, kind, size)
    if not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError("a kernel was given a read-only array to write to")
    return memory


cdef int source_of(object array) except -1:
    """Return which of KIND the samples are; raise if none."""
    if cnp.PyArray_Check(array):
        for source in range(N_SOURCES):
            if cnp.PyArray_TYPE(array) == KIND[source]:
                return source
    raise TypeError(f"a kernel was given {getattr(array, 'dtype', type(array))}")


cdef int form_of(object array) except -1:
    """Return the form of the loops for this dtype, float32 or float64."""
    cdef int form = source_of(array)
    if form >= N_FORMS:
        raise TypeError(f"a kernel was given {array.dtype}")
    return form


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


cdef const long long* order_of(object order, Py_ssize_t limit) except? NULL:
    """Return the numbers of rows, all of them below this limit."""
    cdef Py_ssize_t rows = rows_of(order), r
    cdef const long long* o = <const long long*>data(order, cnp.NPY_INT64, rows)
    for r in range(rows):
        if not 0 <= o[r] < limit:
            raise IndexError(f"row {o[r]} of {limit}")
    return o


cdef inline fm_float_mode begin(bint flush) noexcept nogil:
    """Flush subnormals from here to `fm_flush_end`, unless the user wants them."""
    cdef fm_float_mode mode = fm_flush_begin()
    if not flush:
        fm_flush_end(mode)
    return mode


cdef void call(Loop loop, char** a, Py_ssize_t rows, Py_ssize_t width, double first,
               double second) noexcept:
    cdef Py_ssize_t[2] n = [rows, width]
    cdef double[2] c = [first, second]
    cdef fm_float_mode mode = begin(flushing())
    loop(a, n, c)
    fm_flush_end(mode)


cdef double reduce(Reduction loop, char** a, Py_ssize_t rows, Py_ssize_t width) noexcept:
    cdef Py_ssize_t[2] n = [rows, width]
    cdef fm_float_mode mode = begin(flushing())
    cdef double result = loop(a, n, NULL)
    fm_flush_end(mode)
    return result


# Batches and activations --------------------------------------------------------------------------

def gather(source, order, out, double scale=1, double offset=0) -> None:
    """out[r] = scale source[order[r]] + offset, for uint8, float32 and float64 sources."""
    cdef Py_ssize_t rows = rows_of(order), limit = rows_of(source)
    cdef Py_ssize_t size = elements_of(source)
    cdef const long long* o = order_of(order, limit)
    cdef int form = form_of(out), kind = source_of(source)
    cdef Py_ssize_t length = size // limit if limit else 0
    cdef Py_ssize_t[4] n = [rows, length, length, length]
    cdef double[2] c = [scale, offset]
    cdef Memory[2] a = [target(out, KIND[form], rows * length), <char*>o]
    cdef char* x = data(source, KIND[kind], size)
    cdef fm_float_mode mode = begin(flushing())
    loops().layers.gather[kind][form](a, n, c, x)
    fm_flush_end(mode)


def bias_activation(y, bias=None, double slope=1) -> None:
    """Add the bias to each row, then multiply negative numbers by the slope: (leaky) ReLU."""
    cdef int form = form_of(y)
    cdef Py_ssize_t size = elements_of(y), width = size if bias is None else elements_of(bias)
    cdef Py_ssize_t rows = 1 if bias is None else rows_of(y)
    cdef Memory[2] a = [target(y, KIND[form], rows * width), NULL]
    if bias is not None:
        a[1] = data(bias, KIND[form], width)
    call(loops().layers.bias_activation[form], a, rows, width, slope, 0)


def activation_gradient(dy, y, db=None, double slope=1) -> None:
    """Multiply dy by the slope where y is not above 0, and sum it over the rows into db."""
    cdef int form = form_of(dy)
    cdef Py_ssize_t size = elements_of(dy), width = size if db is None else elements_of(db)
    cdef Py_ssize_t rows = 1 if db is None else rows_of(dy)
    cdef Memory[3] a = [target(dy, KIND[form], rows * width), data(y, KIND[form], rows * width),
                        NULL]
    if db is not None:
        a[2] = target(db, KIND[form], width)
    call(loops().layers.activation_gradient[form], a, rows, width, slope, 0)


def gelu(z, slopes=None) -> None:
    """Overwrite z by GELU, and slopes, if given, by its derivative (Hendrycks and Gimpel 2016)."""
    cdef int form = form_of(z)
    cdef Py_ssize_t size = elements_of(z)
    cdef Memory[2] a = [target(z, KIND[form], size), NULL]
    if slopes is not None:
        a[1] = target(slopes, KIND[form], size)
    call(loops().layers.gelu[form], a, size, 1, 0, 0)


# Dropout ------------------------------------------------------------------------------------------

def dropout(x, y, kept, double rate, uint64_t key, uint64_t step) -> None:
    """y = x / (1 - rate) where kept, else 0; the key's mask of this step goes to `kept` (uint8)."""
    cdef int form = form_of(x)
    cdef Py_ssize_t size = elements_of(x)
    cdef uint64_t[2] seed = [key, step]
    cdef Memory[4] a = [data(x, KIND[form], size), target(y, KIND[form], size),
                       target(kept, cnp.NPY_UINT8, size), <char*>seed]
    call(loops().layers.dropout[form], a, size, 1, min(rate * 4294967296.0, 4294967295.0),
         1 / (1 - rate))


def dropout_gradient(dy, kept, double rate) -> None:
    """dy = dy / (1 - rate) where kept, else 0"""
    cdef int form = form_of(dy)
    cdef Py_ssize_t size = elements_of(dy)
    cdef Memory[2] a = [target(dy, KIND[form], size), data(kept, cnp.NPY_UINT8, size)]
    call(loops().layers.dropout_gradient[form], a, size, 1, 1 / (1 - rate), 0)


def random_words(uint32_t first, uint64_t key, uint64_t step):
    """Return the 64 words that decide on a group of elements, four of each counter, words first."""
    out = np.empty((4, 16), np.uint32)
    loops().layers.random_words(first, step, key, <uint32_t*>data(out, cnp.NPY_UINT32, 64))
    return out


# Softmax and its loss -----------------------------------------------------------------------------

def softmax_cross_entropy(z, labels=None, weights=None, dz=None) -> float:
    """Overwrite logits by probabilities; return the summed loss of these int64 labels.

    `dz` gets the gradient of that sum divided by the number of rows; `weights` are the rows' own.
    """
    cdef int form = form_of(z), kind = KIND[form]
    cdef Py_ssize_t rows = rows_of(z), size = elements_of(z), n = size // rows if rows else 0, r
    cdef Memory[4] a = [target(z, kind, size), NULL, NULL, NULL]
    cdef const long long* y
    if labels is not None:
        y = <const long long*>data(labels, cnp.NPY_INT64, rows)
        a[1] = <char*>y
        a[2] = NULL if weights is None else data(weights, kind, rows)
        a[3] = NULL if dz is None else target(dz, kind, size)
        for r in range(rows):
            if not 0 <= y[r] < n:
                raise IndexError(f"label {y[r]} of {n} classes")
    return reduce(loops().layers.softmax_cross_entropy[form], a, rows, n)


def count_hits(p, labels) -> int:
    """Return how many rows are largest at their label (int64)."""
    cdef int form = form_of(p)
    cdef Py_ssize_t rows = rows_of(p), size = elements_of(p)
    cdef Memory[2] a = [data(p, KIND[form], size), data(labels, cnp.NPY_INT64, rows)]
    return <Py_ssize_t>reduce(loops().layers.count_hits[form], a, rows,
                              size // rows if rows else 0)


# Products with a batch ----------------------------------------------------------------------------

def is_sparse(x) -> bool:
    """Return whether so much of x (uint8, float32 or float64) is zero that skipping it pays."""
    cdef int source = source_of(x)
    cdef Py_ssize_t size = elements_of(x)
    cdef char* memory = data(x, KIND[source], size)
    return DENSITY * size >= loops().layers.count_nonzeros[source](memory, size)


include "batches.pxi"
