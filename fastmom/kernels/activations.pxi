# Bias, activation, dropout, and softmax with its loss.

cdef extern from "layers.h" nogil:
    float fm_exp32(float)
    void fm_philox(unsigned int, unsigned long long, unsigned long long, unsigned int*)


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
    cdef Py_ssize_t rows = rows_of(y), n = elements_of(bias)
    cdef char* to = target(y, kind, rows * n)
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
    cdef Py_ssize_t rows = rows_of(dy), n = elements_of(db)
    cdef char* to = target(dy, kind, rows * n)
    cdef char* out = data(y, kind, rows * n)
    cdef char* sums = target(db, kind, n)
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
    cdef Py_ssize_t size = elements_of(z)
    cdef char* to = target(z, kind, size)
    cdef char* d = NULL if slopes is None else target(slopes, kind, size)
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
    cdef Py_ssize_t size = elements_of(x)
    cdef char* source = data(x, kind, size)
    cdef char* to = target(y, kind, size)
    cdef unsigned char* mask = <unsigned char*>target(kept, cnp.NPY_UINT8, size)
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
    cdef Py_ssize_t size = elements_of(dy)
    cdef char* to = target(dy, kind, size)
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
    cdef Py_ssize_t rows = rows_of(z), size = elements_of(z), n = size // rows if rows else 0
    cdef char* to = target(z, kind, size)
    cdef const long long* y = NULL
    cdef char* w = NULL
    cdef char* gradient = NULL
    cdef double loss
    cdef Py_ssize_t r
    if labels is not None:
        y = <const long long*>data(labels, cnp.NPY_INT64, rows)
        w = NULL if weights is None else data(weights, kind, rows)
        gradient = NULL if dz is None else target(dz, kind, size)
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
    cdef Py_ssize_t rows = rows_of(p), size = elements_of(p), n = size // rows if rows else 0
    cdef char* memory = data(p, kind, size)
    cdef const long long* y = <const long long*>data(labels, cnp.NPY_INT64, rows)
    return (hits(<float*>memory, y, rows, n) if kind == cnp.NPY_FLOAT
            else hits(<double*>memory, y, rows, n))
