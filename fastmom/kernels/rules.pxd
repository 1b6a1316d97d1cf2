"""Types shared by the engine and the update rules compiled once per instruction set."""

from fastmom.kernels.codecs cimport N_FORMATS, Codec

cdef enum:
    MAX_STATE = 4           # state buffers a rule may own
    MAX_ARRAYS = 7          # parameter, gradient, state, average
    MAX_COEFFICIENTS = 13
    LANES = 16              # of products that are added up
    SIDE_BY_SIDE = 4        # arrays of a weighted sum that are read at a time

cdef enum Form:             # dtypes of a parameter (as its gradient, its average and state that is
                            # precise) and of all other state
    FLOAT32                 # float32, float32
    FLOAT64                 # float64, float64
    BFLOAT16                # float32, bfloat16
    FLOAT16                 # float32, float16
    N_FORMS

cdef struct Factors:        # of one tensor in one step
    double scale            # of the gradient
    double trust            # of the direction, which is first multiplied with
    double unit             # a power of two: 1, except where the type could not hold their product

cdef struct TrustRatio:     # the first coefficients of every rule with a direction
    double trust_coefficient
    double trust_eps

# Here the types end: a table holds one pointer per form to the same text compiled for other types.
#
# A loop updates one piece of a tensor in place: a[0] parameters, a[1] gradients (never written),
# s state. Coefficients c and the tensor's factors f are doubles, narrowed once per call.
# A direction is the first half of a rule with a trust ratio: it writes to out what the loop will
# step along, so that its norm is known before; it may update state.
ctypedef void (*Update)(char** a, char** s, Py_ssize_t n, const double* c,
                      const Factors* f) noexcept nogil
ctypedef void (*Direction)(char** a, char** s, Py_ssize_t n, const double* c, const Factors* f,
                           char* out) noexcept nogil
ctypedef void (*Load)(char* out, const char* g, Py_ssize_t n, const double* scale,
                      double limit) noexcept nogil
ctypedef void (*Add)(char* out, const char** x, Py_ssize_t n, const double* weights) noexcept nogil
ctypedef void (*Subtract)(char* out, const char* x, Py_ssize_t n) noexcept nogil
ctypedef double (*Sum)(const char* x, Py_ssize_t n) noexcept nogil
ctypedef void (*AddProducts)(const char* x, const char* v, Py_ssize_t n,
                            double* lane) noexcept nogil

cdef struct Rule:
    Update loop[N_FORMS]
    Direction direction[N_FORMS]    # NULL: the rule has none
    int n_coefficients
    int stored, precise     # bit j: array j of its state is of that kind

cdef struct Stages:         # around the rule, for one form
    Load load               # scales gradients by scale[0] and limits them
    Load rescale            # by scale[0] scale[1], which the type could not hold
    Add add[2][SIDE_BY_SIDE]    # begin a weighted sum with 1, 2, ... arrays, or go on with them
    Subtract subtract_from  # what the sum is subtracted from
    Update average            # moves the running average: a[0] the average, a[1] the parameters
    Sum square_sum
    bint squares_overflow   # whether squares of the type leave the range of double
    AddProducts add_products    # of gradients and a velocity

cdef struct Table:          # of one instruction-set build
    Rule* rules
    int n_rules
    Stages stages[N_FORMS]
    Codec codecs[N_FORMATS]
