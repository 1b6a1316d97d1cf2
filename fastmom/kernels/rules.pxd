"""Types shared by the engine and the update rules compiled once per instruction set."""

cdef enum:
    MAX_STATE = 4           # state buffers a rule may own
    MAX_ARRAYS = 6          # parameter, gradient, state...
    N_RULES = 9
    MAX_COEFFICIENTS = 12

# A rule updates one chunk in place: a[0] parameters, a[1] gradients (never written), a[2:] state.
# Coefficients and the gradients' scale arrive as doubles, narrowed once per chunk.
ctypedef void (*update32)(float** a, Py_ssize_t n, const double* c,
                         double scale) noexcept nogil
ctypedef void (*update64)(double** a, Py_ssize_t n, const double* c,
                         double scale) noexcept nogil
ctypedef double (*reduce32)(const float* g, Py_ssize_t n) noexcept nogil
ctypedef double (*reduce64)(const double* g, Py_ssize_t n) noexcept nogil

cdef struct Rule:
    update32 f32
    update64 f64

cdef struct Table:          # what one instruction-set build offers
    Rule update[N_RULES]
    Rule limit
    reduce32 square_sum32
    reduce64 square_sum64
