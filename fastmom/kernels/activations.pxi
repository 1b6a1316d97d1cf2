# Bias, activation, dropout, and softmax with its loss.

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "layers.h" nogil:
    float fm_exp32(float)
    void fm_philox(uint32_t, uint64_t, uint64_t, uint32_t*)


# Bias and activation ------------------------------------------------------------------------------

cdef inline real leaky_relu(real z, real slope, real floor) noexcept nogil:
    # A slope of 0 times -infinity would be NaN: the floor, another negative number, gives 0.
    cdef real zero = 0
    return z if z > zero else slope * (floor if z < floor else z)


cdef void bias_activation(real** a, const Py_ssize_t* n, const double* c) noexcept nogil:
    # y = z if z > 0 else slope z, with z = y + bias: linear, ReLU and leaky ReLU by the slope
    cdef real* y = a[0]
    cdef const real* bias = a[1]
    cdef real slope = <real>c[0], zero = 0
    cdef real floor = <real>(-1 if slope == zero else -INFINITY)
    cdef Py_ssize_t rows = n[0], width = n[1], r, i
    if bias == NULL:
        for i in range(rows * width):
            y[i] = leaky_relu(y[i], slope, floor)
        return
    for r in range(rows):
        for i in range(width):
            y[r * width + i] = leaky_relu(y[r * width + i] + bias[i], slope, floor)

_layers.bias_activation = [<Loop>bias_activation[float], <Loop>bias_activation[double]]


cdef inline real leaky_relu_gradient(real dy, real y, real slope) noexcept nogil:
    cdef real zero = 0
    return dy if y > zero else slope * dy


cdef void activation_gradient(real** a, const Py_ssize_t* n, const double* c) noexcept nogil:
    # dz = dy if y > 0 else slope dy;  db = sum of dz over the rows
    cdef real* dy = a[0]
    cdef const real* y = a[1]
    cdef real* db = a[2]
    cdef real slope = <real>c[0], zero = 0, d
    cdef Py_ssize_t rows = n[0], width = n[1], r, i
    if db == NULL:
        for i in range(rows * width):
            dy[i] = leaky_relu_gradient(dy[i], y[i], slope)
        return
    for i in range(width):
        db[i] = zero
    for r in range(rows):
        for i in range(width):
            d = leaky_relu_gradient(dy[r * width + i], y[r * width + i], slope)
            dy[r * width + i] = d
            db[i] += d

_layers.activation_gradient = [<Loop>activation_gradient[float], <Loop>activation_gradient[double]]


cdef void gelu(real** a, const Py_ssize_t* n, const double* c) noexcept nogil:
    # y = z P(z), slope = P(z) + z p(z), with the normal distribution P and its density p
    cdef real* z = a[0]
    cdef real* slopes = a[1]
    cdef double x, below
    cdef Py_ssize_t size = n[0], i
    for i in range(size):
        x = z[i]
        below = 0.5 * erfc(-x * 0.7071067811865476)
        z[i] = <real>(x * below)
        if slopes != NULL:
            slopes[i] = <real>(below + x * exp(-0.5 * x * x) * 0.3989422804014327)

_layers.gelu = [<Loop>gelu[float], <Loop>gelu[double]]


# Dropout ------------------------------------------------------------------------------------------

cdef void dropout(real** a, const Py_ssize_t* n, const double* c) noexcept nogil:
    # y = scale x where the random word is at least the bar, else 0;  a: x, y, kept, (key, step)
    cdef const real* x = a[0]
    cdef real* y = a[1]
    cdef unsigned char* kept = <unsigned char*>a[2]
    cdef const uint64_t* seed = <const uint64_t*>a[3]
    cdef uint32_t bar = <uint32_t>c[0]
    cdef real scale = <real>c[1], none = 0
    cdef uint32_t[64] words
    cdef Py_ssize_t size = n[0], group, i, first
    for group in range((size + 63) // 64):
        first = 64 * group
        fm_philox(<uint32_t>(16 * group), seed[1], seed[0], words)
        for i in range(min(<Py_ssize_t>64, size - first)):
            kept[first + i] = words[i] >= bar
            y[first + i] = x[first + i] * (scale if words[i] >= bar else none)

_layers.dropout = [<Loop>dropout[float], <Loop>dropout[double]]
_layers.random_words = fm_philox


cdef void dropout_gradient(real** a, const Py_ssize_t* n, const double* c) noexcept nogil:
    # dy = scale dy where kept, else 0
    cdef real* dy = a[0]
    cdef const unsigned char* kept = <const unsigned char*>a[1]
    cdef real scale = <real>c[0], none = 0
    cdef Py_ssize_t size = n[0], i
    for i in range(size):
        dy[i] = dy[i] * (scale if kept[i] else none)

_layers.dropout_gradient = [<Loop>dropout_gradient[float], <Loop>dropout_gradient[double]]


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


cdef double softmax_cross_entropy(real** a, const Py_ssize_t* n, const double* c) noexcept nogil:
    # z becomes p = softmax(z);  the loss of a row is -w log p[label], its gradient w (p - 1[label])
    cdef real* z = a[0]
    cdef const long long* labels = <const long long*>a[1]
    cdef const real* weights = a[2]
    cdef real* dz = a[3]
    cdef Py_ssize_t rows = n[0], classes = n[1], r, i
    cdef double total, loss = 0, w = 1
    cdef real top, own = 0, inverse, share
    for r in range(rows):
        top = largest(z, classes)
        if labels != NULL:
            own = z[labels[r]] - top
        total = exponentials(z, classes, top)
        inverse = <real>(1 / total)
        for i in range(classes):
            z[i] = z[i] * inverse
        if labels != NULL:
            if weights != NULL:
                w = weights[r]
            loss += w * (log(total) - own)
        if dz != NULL:
            share = <real>(w / <double>rows)
            for i in range(classes):
                dz[i] = z[i] * share
            dz[labels[r]] -= share
            dz += classes
        z += classes
    return loss

_layers.softmax_cross_entropy = [<Reduction>softmax_cross_entropy[float],
                                 <Reduction>softmax_cross_entropy[double]]


cdef double count_hits(real** a, const Py_ssize_t* n, const double* c) noexcept nogil:
    # how many rows of p are largest at their label
    cdef const real* p = a[0]
    cdef const long long* labels = <const long long*>a[1]
    cdef Py_ssize_t rows = n[0], classes = n[1], r, i, best, count = 0
    for r in range(rows):
        best = 0
        for i in range(1, classes):
            best = i if p[i] > p[best] else best
        count += best == labels[r]
        p += classes
    return <double>count

_layers.count_hits = [<Reduction>count_hits[float], <Reduction>count_hits[double]]
