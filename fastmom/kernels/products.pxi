# Products with a batch that is mostly zero.
#
# Design. The weights' rows are cut into slices that fit a core's cache. A thread packs its slices'
# part of the batch, by sample and by column, and multiplies: its weights, and later their gradients,
# which the optimizer's threads take in the same order, stay in its cache. The slices depend on the
# shape alone and their results are added in order, so that any number of threads gives the same bits.

from fastmom.kernels.layer_loops cimport SPARE

cdef enum:
    PANEL = 128             # columns of a product at a time: so many sums stay in registers

cdef extern from "layers.h" nogil:
    void fm_combine32(float*, const float*, Py_ssize_t, const float*, const int*, Py_ssize_t,
                      Py_ssize_t)
    void fm_combine64(double*, const double*, Py_ssize_t, const double*, const int*, Py_ssize_t,
                      Py_ssize_t)
    void fm_prefetch(const char*)           # into the first cache
    void fm_prefetch_near(const char*)      # into the second
    Py_ssize_t fm_nonzeros_8_32(const char*, Py_ssize_t, double, char*, int*)
    Py_ssize_t fm_nonzeros_32_32(const char*, Py_ssize_t, double, char*, int*)
    Py_ssize_t fm_nonzeros_64_32(const char*, Py_ssize_t, double, char*, int*)
    Py_ssize_t fm_nonzeros_8_64(const char*, Py_ssize_t, double, char*, int*)
    Py_ssize_t fm_nonzeros_32_64(const char*, Py_ssize_t, double, char*, int*)
    Py_ssize_t fm_nonzeros_64_64(const char*, Py_ssize_t, double, char*, int*)

ctypedef void (*Prefetch)(const char*) noexcept nogil

_layers.pack[F32] = [fm_nonzeros_32_32, fm_nonzeros_32_64]
_layers.pack[F64] = [fm_nonzeros_64_32, fm_nonzeros_64_64]
_layers.pack[U8] = [fm_nonzeros_8_32, fm_nonzeros_8_64]


cdef inline void ask_for(const void* memory, Py_ssize_t size) noexcept nogil:
    """Ask for so many bytes that another thread has written, for all of them at once."""
    cdef Py_ssize_t i
    for i in range(0, size, 64):
        fm_prefetch(<const char*>memory + i)


# One slice ----------------------------------------------------------------------------------------

cdef void transpose(const real* v, const int* k, const int* starts, Py_ssize_t rows, Py_ssize_t n,
                    real* tv, int* tk, int* tstarts) noexcept nogil:
    # A counting sort by column; tstarts has n + 2 entries, one place ahead until the end
    cdef Py_ssize_t r, i
    cdef int place
    memset(tstarts, 0, (n + 2) * sizeof(int))
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


cdef inline void combine(real* out, const real* base, Py_ssize_t stride, const real* v,
                         const int* k, Py_ssize_t count, Py_ssize_t width) noexcept nogil:
    if real is float:
        fm_combine32(out, base, stride, v, k, count, width)
    else:
        fm_combine64(out, base, stride, v, k, count, width)


cdef void multiply(const real* v, const int* k, const int* starts, Py_ssize_t rows,
                   const real* base, Py_ssize_t width, real* out) noexcept nogil:
    # In panels of columns, so that all of the base's rows of a panel stay in the cache
    cdef Py_ssize_t panel, r, j
    for panel in range((width + PANEL - 1) // PANEL):
        j = panel * PANEL
        for r in range(rows):
            combine(out + r * width + j, base + j, width, v + starts[r], k + starts[r],
                    starts[r + 1] - starts[r], min(<Py_ssize_t>PANEL, width - j))


cdef void product(const Work* work, Py_ssize_t s, real* out) noexcept nogil:
    # out = the slice's part of x @ base; values_by_column, if there are, for the gradient
    cdef Py_ssize_t first = s * work.columns, n = min(work.columns, work.n - first), r, row
    cdef Py_ssize_t room = s * (work.rows * work.columns + SPARE)
    cdef real* v = <real*>work.values + room
    cdef int* k = work.places + room
    cdef int* starts = work.starts + s * (work.rows + 1)
    starts[0] = 0
    for r in range(work.rows):
        row = r if work.order == NULL else work.order[r]
        starts[r + 1] = starts[r] + <int>work.pack(
            work.source + (row * work.n + first) * work.source_bytes, n, work.scale,
            <char*>(v + starts[r]), k + starts[r])
    multiply(v, k, starts, work.rows, <const real*>work.base + first * work.width, work.width, out)
    if work.values_by_column != NULL:
        transpose(v, k, starts, work.rows, n, <real*>work.values_by_column + room,
                  work.places_by_column + room, work.starts_by_column + s * (work.columns + 2))

_layers.product = [<Slice>product[float], <Slice>product[double]]


cdef inline void fetch(const Work* work, Py_ssize_t first, Py_ssize_t columns,
                       Prefetch prefetch) noexcept nogil:
    """Ask for these columns of the coming batch: its samples lie anywhere in memory."""
    cdef Py_ssize_t bytes = work.source_bytes, size = columns * bytes, r, i
    for r in range(work.n_ahead):
        for i in range(0, size, 64):
            prefetch(work.source + (work.ahead[r] * work.n + first) * bytes + i)


cdef void gradient(const Work* work, Py_ssize_t s, real* out) noexcept nogil:
    # the slice's rows of out = x.T @ base
    cdef Py_ssize_t first = s * work.columns, n = min(work.columns, work.n - first)
    cdef Py_ssize_t room = s * (work.rows * work.columns + SPARE)
    fetch(work, first, n, fm_prefetch)
    multiply(<const real*>work.values_by_column + room, work.places_by_column + room,
             work.starts_by_column + s * (work.columns + 2), n,
             <const real*>work.base, work.width, out + first * work.width)

_layers.gradient = [<Slice>gradient[float], <Slice>gradient[double]]


cdef void add_slices(real** a, const Py_ssize_t* n, const double* c) noexcept nogil:
    # out += all slices of partial, in order;  a: partial, out;  n: their number, size of one
    cdef const real* partial = a[0]
    cdef real* out = a[1]
    cdef Py_ssize_t slices = n[0], size = n[1], s, i
    ask_for(a[0], slices * size * sizeof(real))
    for s in range(slices):
        for i in range(size):
            out[i] = out[i] + partial[s * size + i]

_layers.add_slices = [<Loop>add_slices[float], <Loop>add_slices[double]]


cdef Py_ssize_t count_nonzeros(const pixel* x, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t block, i, total = 0
    cdef int some
    for block in range(0, size, 4096):      # a narrow counter vectorises better
        some = 0
        for i in range(block, min(block + 4096, size)):
            some += x[i] != 0
        total += some
    return total

_layers.count_nonzeros = [<Count>count_nonzeros[float], <Count>count_nonzeros[double],
                          <Count>count_nonzeros[uchar]]
