"""The plan of one step, as plain C: all that the threads see."""

from libc.stdint cimport uint64_t

from fastmom.kernels.codecs cimport Format
from fastmom.kernels.rules cimport MAX_ARRAYS, MAX_COEFFICIENTS, Factors, Form, Rule, Table
from fastmom.kernels.team cimport Pace

cdef enum:
    CHUNK = 4096            # elements: one chunk's arrays fit in the first-level cache
    LINE = 64               # bytes of a cache line
    GRADIENT = 1            # place of the gradient among a tensor's arrays
    STATE = 2               # and of the first state buffer
    ROWS = -1               # sources of a tensor whose gradient is of rows
    SHIFT = 600             # numbers are squared after multiplication with 2^-SHIFT, 1 or 2^SHIFT

cdef enum Stage:
    UPDATE
    GRADIENT_SUMS           # square sums of the gradients
    LOADED_SUMS             # the same after clipping by value
    DIRECTION_SUMS          # square sums of the parameters and of their rules' directions
    N_STAGES

cdef enum Look:             # at the products of gradients and velocities, the first state
    AWAY
    BEFORE                  # with the velocity before the step
    AFTER

cdef struct SquareSum:      # value 4^(SHIFT shift)
    double value
    int shift

cdef struct Source:         # one of the arrays that a gradient is the weighted sum of
    const char* data
    Py_ssize_t item
    Format format
    double weight

cdef struct Entry:          # one of the rows that a gradient has values for
    Py_ssize_t row          # of the parameter
    Py_ssize_t place        # of its values among the gradient's

cdef struct Tensor:
    Py_ssize_t size
    Py_ssize_t extent       # elements that the step updates: all, or those of the rows touched
    Py_ssize_t first        # of its chunks
    Py_ssize_t lead         # elements before its first whole cache line
    int row                 # which of the plan's rows applies
    Form form               # of what dtypes its arrays are
    int low                 # bit j: array j of its state is not of the parameter's dtype
    Factors factors
    double sign             # of its gradient: -1 to maximize
    Look look
    SquareSum square        # of its gradient, where it was needed
    bint rescaled           # its scale is beyond its type: the gradient is multiplied on its way in
    double scale[2]         # what with: scale[1] counts if it is rescaled
    char* data[MAX_ARRAYS]  # parameter, gradient (NULL: skip this tensor), state, average
    Py_ssize_t item[MAX_ARRAYS]     # bytes of each 2^shift elements
    int shift[MAX_ARRAYS]
    Format format[MAX_ARRAYS]
    Py_ssize_t sources      # how many its gradient is the sum of; 0: it is an array; or ROWS
    Py_ssize_t first_source
    Py_ssize_t width        # elements of a row, where its gradient is of rows,
    Py_ssize_t touched      # how many of them it has,
    Py_ssize_t first_entry  # and where their entries and the starts of these begin
    Py_ssize_t first_start
    bint relative           # its gradient is the parameter minus the sum
    bint staged             # some of its state, or itself, is not native
    char* copy              # its new parameters in another format, or NULL
    Format copied           # in which

cdef struct Chunk:
    Py_ssize_t tensor
    Py_ssize_t offset       # in the tensor, in elements
    Py_ssize_t size
    Py_ssize_t start        # in all tensors together

cdef struct Row:            # a rule with its coefficients
    int rule
    double c[MAX_COEFFICIENTS]

cdef struct Plan:
    Tensor* tensors
    Chunk* chunks
    Row* rows
    SquareSum* partial      # two per chunk; of an update the second is a product
    Source* sources         # of all tensors
    Entry* entries          # of all tensors; of each in the order of the rows
    Py_ssize_t* starts      # of each touched row's entries, and where the last one's end
    const Table* table
    Py_ssize_t n_tensors
    Py_ssize_t n_chunks
    Py_ssize_t n_small      # chunks of small tensors, which come first,
    Py_ssize_t small        # and their elements
    Py_ssize_t n_elements
    int n_arrays
    bint flush
    bint backward           # direction of the coming sweep
    Pace pace[N_STAGES]
    SquareSum square        # of all gradients, where it was needed
    double uniform          # scale that all tensors have, up to their signs, or NaN
    bint limited            # gradients are clipped by value on their way into the rule
    double limit
    int average             # place of the parameters' running average in data, or 0
    double smoothing[3]     # its coefficients
    uint64_t step           # number of this step, which the noise depends on
    bint dithers            # all that is encoded is rounded by noise

cdef int sweep(Plan* plan, Stage stage, Py_ssize_t work, int parts) except -1
cdef void add_up(const Plan* plan, const Tensor* t, Py_ssize_t start, Py_ssize_t size, char* out,
                 char* spare) noexcept nogil
cdef void cut(Plan* plan) noexcept


cdef inline bint used(const Plan* plan, const Tensor* t, int j) noexcept nogil:
    """Return whether the tensor's rule works on array j, a parameter or state."""
    cdef const Rule* rule = &plan.table.rules[plan.rows[t.row].rule]
    return j == 0 or j >= STATE and (rule.stored | rule.precise) >> (j - STATE) & 1
