# What a network's layers do beside dense products: compiled once per instruction set.
#
# Design. Each function is one pass over buffers that the caller allocated; all are serial, since a
# batch's activations fit into the cache. Subnormals are flushed, as in the optimizers' rules: one
# that got into a buffer would slow every product down. Arrays are checked, not converted: these
# functions are the layers' own, and a wrong array is an error in the library.

cimport numpy as cnp
from libc.math cimport erfc, exp, log

import numpy as np

from fastmom.kernels.arrays cimport PyArray_BYTES, RawArray, size_of
from fastmom.kernels.system cimport flushing, fm_float_mode, fm_flush_begin, fm_flush_end

cnp.import_array()

cdef enum:
    PANEL = 128         # columns of a product at a time
    SPARE = 16          # entries that packing may write past the last

cdef double DENSITY = 0.3   # share of nonzeros up to which skipping the zeros pays

ctypedef fused real:
    float
    double

ctypedef fused pixel:
    unsigned char
    float
    double

cdef extern from "layers.h" nogil:
    void fm_combine32(float*, const float*, Py_ssize_t, const float*, const int*, Py_ssize_t,
                      Py_ssize_t)
    void fm_combine64(double*, const double*, Py_ssize_t, const double*, const int*, Py_ssize_t,
                      Py_ssize_t)
    Py_ssize_t fm_nonzeros32(const float*, Py_ssize_t, float*, int*)
    Py_ssize_t fm_nonzeros64(const double*, Py_ssize_t, double*, int*)
    float fm_exp32(float)
    void fm_philox(unsigned int, unsigned long long, unsigned long long, unsigned int*)


# Arguments ----------------------------------------------------------------------------------------

cdef char* data(object array, int kind, Py_ssize_t size) except NULL:
    """Where the array's memory is, if it is C-contiguous, of this kind, and so many elements."""
    if not cnp.PyArray_Check(array) or cnp.PyArray_TYPE(array) != kind:
        raise TypeError(f"a kernel was given {getattr(array, 'dtype', type(array))}")
    if not cnp.PyArray_ISCARRAY_RO(array) or size_of(<RawArray*>array) != size:
        raise ValueError(f"a kernel was given an array of shape {array.shape} where {size} elements "
                         f"in a row are needed")
    return PyArray_BYTES(<RawArray*>array)


cdef int kind_of(object array) except -1:
    """NumPy's number of float or double, the dtype of this array."""
    if cnp.PyArray_Check(array):
        if cnp.PyArray_TYPE(array) in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE):
            return cnp.PyArray_TYPE(array)
    raise TypeError(f"a kernel was given {getattr(array, 'dtype', type(array))}")


cdef Py_ssize_t rows_of(object array) except -1:
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
    cdef Py_ssize_t rows = rows_of(order), limit = rows_of(source), r
    cdef Py_ssize_t n = size_of(<RawArray*>source) // limit if limit else 0
    cdef const long long* o = <const long long*>data(order, cnp.NPY_INT64, rows)
    cdef int kind = kind_of(out)
    cdef char* to = data(out, kind, rows * n)
    for r in range(rows):
        if not 0 <= o[r] < limit:
            raise IndexError(f"row {o[r]} of {limit}")
    if kind == cnp.NPY_FLOAT:
        gather_kind(source, o, rows, n, scale, offset, <float*>to)
    else:
        gather_kind(source, o, rows, n, scale, offset, <double*>to)


# Products with what is mostly zero ----------------------------------------------------------------

cdef inline void combine(real* out, const real* base, Py_ssize_t stride, const real* v,
                         const int* k, Py_ssize_t count, Py_ssize_t width) noexcept nogil:
    if real is float:
        fm_combine32(out, base, stride, v, k, count, width)
    else:
        fm_combine64(out, base, stride, v, k, count, width)


cdef void sparse_product(const real* v, const int* k, const int* starts, Py_ssize_t rows,
                         const real* base, Py_ssize_t width, real* out) noexcept nogil:
    # In panels of columns that leave the cache room for all of a panel's rows
    cdef Py_ssize_t panel, r, j
    for panel in range((width + PANEL - 1) // PANEL):
        j = panel * PANEL
        for r in range(rows):
            combine(out + r * width + j, base + j, width, v + starts[r], k + starts[r],
                    starts[r + 1] - starts[r], min(<Py_ssize_t>PANEL, width - j))


cdef void pack(const real* x, Py_ssize_t rows, Py_ssize_t n, real* v, int* k,
               int* starts) noexcept nogil:
    cdef Py_ssize_t r, c = 0
    starts[0] = 0
    for r in range(rows):
        if real is float:
            c += fm_nonzeros32(x + r * n, n, v + c, k + c)
        else:
            c += fm_nonzeros64(x + r * n, n, v + c, k + c)
        starts[r + 1] = <int>c


cdef void transpose(const real* v, const int* k, const int* starts, Py_ssize_t rows, Py_ssize_t n,
                    real* tv, int* tk, int* tstarts) noexcept nogil:
    # A counting sort by column; tstarts has n + 2 entries, one place ahead until the end
    cdef Py_ssize_t r, i
    cdef int place
    for i in range(n + 2):
        tstarts[i] = 0
    for i in range(starts[rows]):
        tstarts[k[i] + 2] += 1
    for i in range(1, n + 1):
        tstarts[i + 1] += tstarts[i]
    for r in range(rows):
        for i in range(starts[r], starts[r + 1]):
            place = tstarts[k[i] + 1]
            tstarts[k[i] + 1] = place + 1
            tv[place] = v[i]
            tk[place] = <int>r


cdef Py_ssize_t count_nonzero(const real* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int count = 0
    for i in range(n):
        count += x[i] != 0
    return count


cdef class Nonzeros:
    """The nonzeros of a batch of rows, for products that skip the zeros.

    Parameters
    ----------
    rows, n : int
        Largest batch, and length of a row.
    dtype : float32 or float64
    """
    cdef readonly double density        # of the latest batch
    cdef Py_ssize_t _rows, _most, _n, _loaded
    cdef int _kind
    cdef bint _transposed
    cdef object _by_row, _by_column     # values, places, where each row (column) starts

    def __init__(self, Py_ssize_t rows, Py_ssize_t n, dtype):
        self._rows, self._n, self._most = rows, n, <Py_ssize_t>(DENSITY * rows * n)
        self._by_row, self._by_column = [
            (np.zeros(self._most + SPARE, dtype), np.zeros(self._most + SPARE, np.intc),
             np.zeros(starts, np.intc)) for starts in (rows + 1, n + 2)]
        self._kind = kind_of(self._by_row[0])

    def load(self, x) -> bool:
        """Take this batch, unless too little of it is zero for the products below to pay."""
        cdef Py_ssize_t rows = rows_of(x), size = rows * self._n
        cdef char* memory = data(x, self._kind, size)
        cdef bint is32 = self._kind == cnp.NPY_FLOAT
        cdef Py_ssize_t count = (count_nonzero(<float*>memory, size) if is32
                                 else count_nonzero(<double*>memory, size))
        self.density = count / <double>size if size else 1
        if rows > self._rows or count > self._most or count > DENSITY * size:
            return False
        v, k, starts = self._by_row
        if is32:
            pack(<float*>memory, rows, self._n, <float*>at(v), <int*>at(k), <int*>at(starts))
        else:
            pack(<double*>memory, rows, self._n, <double*>at(v), <int*>at(k), <int*>at(starts))
        self._loaded, self._transposed = rows, False
        return True

    def product(self, w, out) -> None:
        """out = x @ w"""
        cdef Py_ssize_t width = size_of(<RawArray*>w) // self._n
        self._product(self._by_row, data(w, self._kind, self._n * width), self._loaded, width, out)

    def gradient(self, dy, out) -> None:
        """out = x.T @ dy"""
        cdef Py_ssize_t width = size_of(<RawArray*>dy) // self._loaded if self._loaded else 0
        cdef char* base = data(dy, self._kind, self._loaded * width)
        v, k, starts = self._by_row
        tv, tk, tstarts = self._by_column
        if not self._transposed:
            if self._kind == cnp.NPY_FLOAT:
                transpose(<float*>at(v), <int*>at(k), <int*>at(starts), self._loaded, self._n,
                          <float*>at(tv), <int*>at(tk), <int*>at(tstarts))
            else:
                transpose(<double*>at(v), <int*>at(k), <int*>at(starts), self._loaded, self._n,
                          <double*>at(tv), <int*>at(tk), <int*>at(tstarts))
            self._transposed = True
        self._product(self._by_column, base, self._n, width, out)

    cdef int _product(self, tuple lists, char* base, Py_ssize_t rows, Py_ssize_t width,
                      object out) except -1:
        cdef char* to = data(out, self._kind, rows * width)
        cdef char* v = at(lists[0])
        cdef int* k = <int*>at(lists[1])
        cdef int* starts = <int*>at(lists[2])
        cdef bint is32 = self._kind == cnp.NPY_FLOAT
        cdef fm_float_mode mode
        with nogil:
            mode = begin()
            if is32:
                sparse_product(<float*>v, k, starts, rows, <float*>base, width, <float*>to)
            else:
                sparse_product(<double*>v, k, starts, rows, <double*>base, width, <double*>to)
            fm_flush_end(mode)
        return 0


# Bias and activation ------------------------------------------------------------------------------

cdef void bend(real* y, const real* bias, Py_ssize_t rows, Py_ssize_t n, real slope) noexcept nogil:
    # y = z if z > 0 else slope z, with z = y + bias: linear, ReLU and leaky ReLU by the slope
    cdef Py_ssize_t r, i
    cdef real z, zero = 0
    for r in range(rows):
        for i in range(n):
            z = y[r * n + i] + bias[i]
            y[r * n + i] = z if z > zero else slope * z


cdef void unbend(real* dy, const real* y, Py_ssize_t rows, Py_ssize_t n, real slope,
                 real* db) noexcept nogil:
    # dz = dy if y > 0 else slope dy;  db = sum of dz over the rows
    cdef Py_ssize_t r, i
    cdef real d, zero = 0
    for i in range(n):
        db[i] = zero
    for r in range(rows):
        for i in range(n):
            d = dy[r * n + i]
            d = d if y[r * n + i] > zero else slope * d
            dy[r * n + i] = d
            db[i] += d


def bias_activation(y, bias, double slope=1) -> None:
    """Add the bias to each row, then multiply what is not above 0 with the slope."""
    cdef int kind = kind_of(y)
    cdef Py_ssize_t rows = rows_of(y), n = size_of(<RawArray*>bias)
    cdef char* to = data(y, kind, rows * n)
    cdef char* b = data(bias, kind, n)
    cdef fm_float_mode mode = begin()
    if kind == cnp.NPY_FLOAT:
        bend(<float*>to, <float*>b, rows, n, <float>slope)
    else:
        bend(<double*>to, <double*>b, rows, n, slope)
    fm_flush_end(mode)


def activation_gradient(dy, y, db, double slope=1) -> None:
    """Multiply dy with the slope where y is not above 0, and sum it over the rows into db."""
    cdef int kind = kind_of(dy)
    cdef Py_ssize_t rows = rows_of(dy), n = size_of(<RawArray*>db)
    cdef char* to = data(dy, kind, rows * n)
    cdef char* out = data(y, kind, rows * n)
    cdef char* sums = data(db, kind, n)
    cdef fm_float_mode mode = begin()
    if kind == cnp.NPY_FLOAT:
        unbend(<float*>to, <float*>out, rows, n, <float>slope, <float*>sums)
    else:
        unbend(<double*>to, <double*>out, rows, n, slope, <double*>sums)
    fm_flush_end(mode)


cdef void gauss(real* z, real* slopes, Py_ssize_t n) noexcept nogil:
    # y = z P(z), slope = P(z) + z p(z), with the normal distribution P and its density p
    cdef double x, below
    cdef Py_ssize_t i
    for i in range(n):
        x = z[i]
        below = 0.5 * erfc(-x * 0.7071067811865476)
        z[i] = <real>(x * below)
        if slopes != NULL:
            slopes[i] = <real>(below + x * exp(-0.5 * x * x) * 0.3989422804014327)


def gelu(z, slopes=None) -> None:
    """Overwrite z by GELU, and slopes, if given, by its derivative (Hendrycks and Gimpel 2016)."""
    cdef int kind = kind_of(z)
    cdef Py_ssize_t size = size_of(<RawArray*>z)
    cdef char* to = data(z, kind, size)
    cdef char* d = NULL if slopes is None else data(slopes, kind, size)
    cdef fm_float_mode mode = begin()
    if kind == cnp.NPY_FLOAT:
        gauss(<float*>to, <float*>d, size)
    else:
        gauss(<double*>to, <double*>d, size)
    fm_flush_end(mode)


# Dropout ------------------------------------------------------------------------------------------

cdef void drop(const real* x, real* y, unsigned char* kept, Py_ssize_t n, unsigned int bar,
               real scale, unsigned long long key, unsigned long long step) noexcept nogil:
    cdef unsigned int[64] words
    cdef Py_ssize_t group, i, first
    cdef real none = 0
    for group in range((n + 63) // 64):
        first = 64 * group
        fm_philox(<unsigned int>(16 * group), step, key, words)
        for i in range(min(<Py_ssize_t>64, n - first)):
            kept[first + i] = words[i] >= bar
            y[first + i] = x[first + i] * (scale if words[i] >= bar else none)


cdef void keep(real* dy, const unsigned char* kept, Py_ssize_t n, real scale) noexcept nogil:
    cdef real none = 0
    cdef Py_ssize_t i
    for i in range(n):
        dy[i] = dy[i] * (scale if kept[i] else none)


def dropout(x, y, kept, double rate, unsigned long long key, unsigned long long step) -> None:
    """y = x / (1 - rate) where kept, else 0; the key's mask of this step goes to `kept` (uint8)."""
    cdef int kind = kind_of(x)
    cdef Py_ssize_t size = size_of(<RawArray*>x)
    cdef char* source = data(x, kind, size)
    cdef char* to = data(y, kind, size)
    cdef unsigned char* mask = <unsigned char*>data(kept, cnp.NPY_UINT8, size)
    cdef unsigned int bar = <unsigned int>min(rate * 4294967296.0, 4294967295.0)
    cdef fm_float_mode mode = begin()
    if kind == cnp.NPY_FLOAT:
        drop(<float*>source, <float*>to, mask, size, bar, <float>(1 / (1 - rate)), key, step)
    else:
        drop(<double*>source, <double*>to, mask, size, bar, 1 / (1 - rate), key, step)
    fm_flush_end(mode)


def dropout_gradient(dy, kept, double rate) -> None:
    """dy = dy / (1 - rate) where kept, else 0"""
    cdef int kind = kind_of(dy)
    cdef Py_ssize_t size = size_of(<RawArray*>dy)
    cdef char* to = data(dy, kind, size)
    cdef unsigned char* mask = <unsigned char*>data(kept, cnp.NPY_UINT8, size)
    cdef fm_float_mode mode = begin()
    if kind == cnp.NPY_FLOAT:
        keep(<float*>to, mask, size, <float>(1 / (1 - rate)))
    else:
        keep(<double*>to, mask, size, 1 / (1 - rate))
    fm_flush_end(mode)


def random_words(unsigned int first, unsigned long long key, unsigned long long step):
    """The 64 words that decide on a group of elements, four of each counter, words first."""
    out = np.empty((4, 16), np.uint32)
    fm_philox(first, step, key, <unsigned int*>at(out))
    return out


# Softmax and its loss -----------------------------------------------------------------------------

cdef inline real largest(const real* z, Py_ssize_t n) noexcept nogil:
    cdef real top = z[0]
    cdef Py_ssize_t i
    for i in range(1, n):
        top = z[i] if z[i] > top else top
    return top


cdef inline double exponentials(real* z, Py_ssize_t n, real top) noexcept nogil:
    """Replace a row by e^(z - top) and return their sum."""
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(n):
        if real is float:
            z[i] = fm_exp32(z[i] - top)
        else:
            z[i] = exp(z[i] - top)
    for i in range(n):
        total += z[i]
    return total


cdef double cross_entropy(real* z, const long long* labels, const real* weights, real* dz,
                          Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    # z becomes p = softmax(z);  the loss of a row is -w log p[label], its gradient w (p - 1[label])
    cdef Py_ssize_t r, i
    cdef double total, loss = 0, w = 1
    cdef real top, own = 0, inverse, share
    for r in range(rows):
        top = largest(z, n)
        if labels != NULL:
            own = z[labels[r]] - top
        total = exponentials(z, n, top)
        inverse = <real>(1 / total)
        for i in range(n):
            z[i] = z[i] * inverse
        if labels != NULL:
            if weights != NULL:
                w = weights[r]
            loss += w * (log(total) - own)
        if dz != NULL:
            share = <real>(w / <double>rows)
            for i in range(n):
                dz[i] = z[i] * share
            dz[labels[r]] -= share
            dz += n
        z += n
    return loss


def softmax_cross_entropy(z, labels=None, weights=None, dz=None) -> float:
    """Overwrite logits by probabilities; return the summed loss of these int64 labels.

    `dz` gets the gradient of that sum divided by the number of rows; `weights` are the rows' own.
    """
    cdef int kind = kind_of(z)
    cdef Py_ssize_t rows = rows_of(z), size = size_of(<RawArray*>z), n = size // rows if rows else 0
    cdef char* to = data(z, kind, size)
    cdef const long long* y = NULL
    cdef char* w = NULL
    cdef char* gradient = NULL
    cdef double loss
    cdef Py_ssize_t r
    if labels is not None:
        y = <const long long*>data(labels, cnp.NPY_INT64, rows)
        w = NULL if weights is None else data(weights, kind, rows)
        gradient = NULL if dz is None else data(dz, kind, size)
        for r in range(rows):
            if not 0 <= y[r] < n:
                raise IndexError(f"label {y[r]} of {n} classes")
    cdef fm_float_mode mode = begin()
    if kind == cnp.NPY_FLOAT:
        loss = cross_entropy(<float*>to, y, <float*>w, <float*>gradient, rows, n)
    else:
        loss = cross_entropy(<double*>to, y, <double*>w, <double*>gradient, rows, n)
    fm_flush_end(mode)
    return loss


cdef Py_ssize_t hits(const real* p, const long long* labels, Py_ssize_t rows,
                     Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t r, i, best, count = 0
    for r in range(rows):
        best = 0
        for i in range(1, n):
            best = i if p[i] > p[best] else best
        count += best == labels[r]
        p += n
    return count


def count_hits(p, labels) -> int:
    """How many rows are largest at their label (int64)."""
    cdef int kind = kind_of(p)
    cdef Py_ssize_t rows = rows_of(p), size = size_of(<RawArray*>p), n = size // rows if rows else 0
    cdef char* memory = data(p, kind, size)
    cdef const long long* y = <const long long*>data(labels, cnp.NPY_INT64, rows)
    return (hits(<float*>memory, y, rows, n) if kind == cnp.NPY_FLOAT
            else hits(<double*>memory, y, rows, n))
