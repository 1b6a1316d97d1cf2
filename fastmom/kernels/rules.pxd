"""Types shared by the engine and the update rules compiled once per instruction set."""

cdef enum:
    MAX_STATE = 4           # state buffers a rule may own
    MAX_ARRAYS = 7          # parameter, gradient, state, average
    N_RULES = 12
    MAX_COEFFICIENTS = 12

# A rule updates one chunk in place: a[0] parameters, a[1] gradients (never written), a[2:] state.
# Coefficients c and what belongs to the tensor, t, arrive as doubles and are narrowed once per chunk.
# A direction is the first half of a rule with a trust ratio: it writes to out what the update will
# step along, so that its norm is known before; it may update state.
ctypedef void (*update32)(float** a, Py_ssize_t n, const double* c,
                         const double* t) noexcept nogil
ctypedef void (*update64)(double** a, Py_ssize_t n, const double* c,
                         const double* t) noexcept nogil
ctypedef void (*direction32)(float** a, Py_ssize_t n, const double* c, const double* t,
                            float* out) noexcept nogil
ctypedef void (*direction64)(double** a, Py_ssize_t n, const double* c, const double* t,
                            double* out) noexcept nogil
ctypedef double (*reduce32)(const float* g, Py_ssize_t n) noexcept nogil
ctypedef double (*reduce64)(const double* g, Py_ssize_t n) noexcept nogil

cdef enum:                  # places in t
    SCALE                   # of the gradient
    TRUST                   # of the direction

cdef enum:                  # the last coefficients of a rule with a direction
    TRUST_COEFFICIENT = MAX_COEFFICIENTS - 2
    TRUST_EPS = MAX_COEFFICIENTS - 1

cdef struct Rule:
    update32 f32
    update64 f64
    direction32 direct32    # NULL: the rule has none
    direction64 direct64

cdef struct Table:          # what one instruction-set build offers
    Rule update[N_RULES]
    Rule limit
    reduce32 square_sum32
    reduce64 square_sum64
