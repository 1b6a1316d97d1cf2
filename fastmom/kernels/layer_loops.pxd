"""Types shared by the layers' functions and their loops, compiled once per instruction set."""

from libc.stdint cimport uint32_t, uint64_t

# A loop has one pointer per form: what its arrays `a` hold. Sizes n and coefficients c are the
# loop's own; coefficients arrive as doubles and are narrowed before the loop.
cdef enum:
    F32
    F64
    N_FORMS
    U8 = N_FORMS            # of samples only
    N_SOURCES

ctypedef void (*Loop)(char** a, const Py_ssize_t* n, const double* c) noexcept nogil
ctypedef double (*Reduction)(char** a, const Py_ssize_t* n, const double* c) noexcept nogil
ctypedef void (*Gather)(char** a, const Py_ssize_t* n, const double* c,
                        const char* source) noexcept nogil
ctypedef Py_ssize_t (*Count)(const char* x, Py_ssize_t size) noexcept nogil
ctypedef void (*Random)(uint32_t first, uint64_t step, uint64_t key, uint32_t* words) noexcept nogil

# The nonzeros of n numbers times a scale, and their places; returns how many there are
ctypedef Py_ssize_t (*Pack)(const char* x, Py_ssize_t n, double scale, char* values,
                            int* places) noexcept nogil

cdef enum:
    SPARE = 16              # entries that packing may write past the last

cdef struct Work
ctypedef void (*Slice)(const Work* work, Py_ssize_t s, char* out) noexcept nogil
ctypedef void (*Range)(const Work* work, Py_ssize_t first, Py_ssize_t stop,
                      char* out) noexcept nogil

cdef struct Work:               # products with one batch; what the threads see
    const char* source          # samples of n numbers of so many bytes
    Py_ssize_t source_bytes
    Pack pack
    const long long* order      # which of them are the batch's rows, or NULL: the first ones
    const long long* ahead      # the coming batch's
    Py_ssize_t n_ahead
    double scale, offset
    Py_ssize_t rows, n, width   # x is rows by n, the weights n by width
    Py_ssize_t slices, columns  # how x is cut, and columns of a slice but for the last
    Gather gather               # of a dense batch that is not used where it lies, or NULL
    Py_ssize_t x_row, x_slice   # elements from a row of a dense batch, or a slice, to the next
    char* values                # a dense batch; of a sparse one by slice, then by sample ...
    int* places
    int* starts
    char* values_by_column      # ... and by column, or NULL
    int* places_by_column
    int* starts_by_column
    Slice loop
    Range range                 # instead of a loop over slices, one over ranges of `size`,
    Py_ssize_t size, grain      # cut at multiples of the grain
    const char* base            # the other factor,
    const char* other           # the weights where that is a gradient
    char* out                   # of the first slice,
    char* rest                  # of the others,
    Py_ssize_t stride           # bytes between these
    bint flush

cdef struct LayerLoops:
    Gather gather[N_SOURCES][N_FORMS]
    Loop bias_activation[N_FORMS]
    Loop activation_gradient[N_FORMS]
    Loop gelu[N_FORMS]
    Random random_words
    Loop dropout[N_FORMS]
    Loop dropout_gradient[N_FORMS]
    Reduction softmax_cross_entropy[N_FORMS]
    Reduction count_hits[N_FORMS]
    Count count_nonzeros[N_SOURCES]
    Pack pack[N_SOURCES][N_FORMS]
    Slice product[N_FORMS]
    Slice gradient[N_FORMS]
    Loop add_slices[N_FORMS]
    bint own_products           # whether there are dense ones, or NumPy's are faster
    Range dense_product[N_FORMS]
    Range dense_gradient[N_FORMS]
    Range dense_back[N_FORMS]
