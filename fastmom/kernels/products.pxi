# Products with a batch that is mostly zero.
#
# Design. The weights' rows are cut into slices that fit a core's cache. A thread packs its slices'
# part of the batch, by sample and by column, and multiplies: its weights, and later their gradients,
# which the optimizer's threads take in the same order, stay in its cache. The slices depend on the
# shape alone and their results are added in order, so that any number of threads gives the same bits.

from fastmom.kernels.team cimport Pace, spread

cdef enum:
    PANEL = 128             # columns of a product at a time: so many sums stay in registers
    SPARE = 16              # entries that packing may write past the last
    SLICE = 65536           # weights of a slice
    SERIAL_BELOW = 100000   # multiplications: below this, waking a team costs more than it saves

cdef double DENSITY = 0.3   # share of nonzeros up to which skipping the zeros pays

cdef extern from "layers.h" nogil:
    void fm_combine32(float*, const float*, Py_ssize_t, const float*, const int*, Py_ssize_t,
                      Py_ssize_t)
    void fm_combine64(double*, const double*, Py_ssize_t, const double*, const int*, Py_ssize_t,
                      Py_ssize_t)
    void fm_prefetch(const char*)
    Py_ssize_t fm_nonzeros_8_32(const unsigned char*, Py_ssize_t, float, float*, int*)
    Py_ssize_t fm_nonzeros_32_32(const float*, Py_ssize_t, float, float*, int*)
    Py_ssize_t fm_nonzeros_64_32(const double*, Py_ssize_t, float, float*, int*)
    Py_ssize_t fm_nonzeros_8_64(const unsigned char*, Py_ssize_t, double, double*, int*)
    Py_ssize_t fm_nonzeros_32_64(const float*, Py_ssize_t, double, double*, int*)
    Py_ssize_t fm_nonzeros_64_64(const double*, Py_ssize_t, double, double*, int*)


cdef struct Work:               # of one batch; what the threads see
    const char* source          # samples of n numbers, of this kind
    int kind
    const long long* order      # which of them are the batch's rows, or NULL: the first ones
    const long long* ahead      # the coming batch's
    Py_ssize_t n_ahead
    double scale
    Py_ssize_t rows, n, width   # x is rows by n, the weights n by width
    Py_ssize_t slices, columns  # how x is cut, and columns of a slice but for the last
    char* values                # by slice, then by sample ...
    int* places
    int* starts
    char* values_by_column      # ... and by column
    int* places_by_column
    int* starts_by_column
    const char* base            # the other factor
    char* out
    char* partial               # results of all slices but the first
    bint is32


# One slice ----------------------------------------------------------------------------------------

cdef inline Py_ssize_t pack(const Work* work, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n, real* v,
                            int* k) noexcept nogil:
    """The nonzeros of n columns of one row."""
    cdef Py_ssize_t at = (row if work.order == NULL else work.order[row]) * work.n + first
    cdef real scale = <real>work.scale
    if real is float:
        if work.kind == cnp.NPY_UINT8:
            return fm_nonzeros_8_32(<const unsigned char*>work.source + at, n, scale, v, k)
        if work.kind == cnp.NPY_FLOAT:
            return fm_nonzeros_32_32(<const float*>work.source + at, n, scale, v, k)
        return fm_nonzeros_64_32(<const double*>work.source + at, n, scale, v, k)
    else:
        if work.kind == cnp.NPY_UINT8:
            return fm_nonzeros_8_64(<const unsigned char*>work.source + at, n, scale, v, k)
        if work.kind == cnp.NPY_FLOAT:
            return fm_nonzeros_32_64(<const float*>work.source + at, n, scale, v, k)
        return fm_nonzeros_64_64(<const double*>work.source + at, n, scale, v, k)


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


cdef void slice_product(const Work* work, Py_ssize_t s, real* values, real* values_by_column,
                        const real* base, real* out) noexcept nogil:
    cdef Py_ssize_t first = s * work.columns, n = min(work.columns, work.n - first), r
    cdef Py_ssize_t room = s * (work.rows * work.columns + SPARE)
    cdef real* v = values + room
    cdef int* k = work.places + room
    cdef int* starts = work.starts + s * (work.rows + 1)
    starts[0] = 0
    for r in range(work.rows):
        starts[r + 1] = starts[r] + <int>pack(work, r, first, n, v + starts[r], k + starts[r])
    multiply(v, k, starts, work.rows, base + first * work.width, work.width, out)
    if values_by_column != NULL:
        transpose(v, k, starts, work.rows, n, values_by_column + room,
                  work.places_by_column + room, work.starts_by_column + s * (work.columns + 2))


cdef void fetch(const Work* work, Py_ssize_t s) noexcept nogil:
    """Ask for this slice of the coming batch: its samples lie anywhere in memory."""
    cdef Py_ssize_t bytes = (1 if work.kind == cnp.NPY_UINT8 else
                             4 if work.kind == cnp.NPY_FLOAT else 8)
    cdef Py_ssize_t first = s * work.columns, size = min(work.columns, work.n - first) * bytes, r, i
    for r in range(work.n_ahead):
        for i in range(0, size, 64):
            fm_prefetch(work.source + (work.ahead[r] * work.n + first) * bytes + i)


cdef void slice_gradient(const Work* work, Py_ssize_t s, const real* values, const real* dy,
                         real* out) noexcept nogil:
    cdef Py_ssize_t first = s * work.columns, room = s * (work.rows * work.columns + SPARE)
    fetch(work, s)
    multiply(values + room, work.places_by_column + room,
             work.starts_by_column + s * (work.columns + 2), min(work.columns, work.n - first), dy,
             work.width, out + first * work.width)


# One thread's slices ------------------------------------------------------------------------------

cdef void product_share(const void* what, int part, int parts) noexcept nogil:
    cdef const Work* work = <const Work*>what
    cdef fm_float_mode mode = begin()
    cdef Py_ssize_t s, size = work.rows * work.width
    cdef char* out
    for s in range(work.slices * part // parts, work.slices * (part + 1) // parts):
        if work.is32:
            out = work.out if s == 0 else work.partial + (s - 1) * size * sizeof(float)
            slice_product(work, s, <float*>work.values, <float*>work.values_by_column,
                          <const float*>work.base, <float*>out)
        else:
            out = work.out if s == 0 else work.partial + (s - 1) * size * sizeof(double)
            slice_product(work, s, <double*>work.values, <double*>work.values_by_column,
                          <const double*>work.base, <double*>out)
    fm_flush_end(mode)


cdef void gradient_share(const void* what, int part, int parts) noexcept nogil:
    cdef const Work* work = <const Work*>what
    cdef fm_float_mode mode = begin()
    cdef Py_ssize_t s
    for s in range(work.slices * part // parts, work.slices * (part + 1) // parts):
        if work.is32:
            slice_gradient(work, s, <float*>work.values_by_column, <const float*>work.base,
                           <float*>work.out)
        else:
            slice_gradient(work, s, <double*>work.values_by_column, <const double*>work.base,
                           <double*>work.out)
    fm_flush_end(mode)


cdef void add_slices(const real* partial, Py_ssize_t slices, Py_ssize_t size,
                     real* out) noexcept nogil:
    cdef Py_ssize_t s, i
    for s in range(slices - 1):
        for i in range(size):
            out[i] = out[i] + partial[s * size + i]


# As a layer has it --------------------------------------------------------------------------------

cdef Py_ssize_t count(const pixel* x, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t block, i, total = 0
    cdef int some
    for block in range(0, size, 4096):      # a narrow counter vectorises better
        some = 0
        for i in range(block, min(block + 4096, size)):
            some += x[i] != 0
        total += some
    return total


def is_sparse(x) -> bool:
    """Whether so much of an array (uint8, float32 or float64) is zero that skipping it pays."""
    cdef int kind = kind_of_source(x)
    cdef Py_ssize_t size = elements_of(x)
    cdef char* memory = data(x, kind, size)
    return DENSITY * size >= (count(<const unsigned char*>memory, size) if kind == cnp.NPY_UINT8
                              else count(<const float*>memory, size) if kind == cnp.NPY_FLOAT
                              else count(<const double*>memory, size))


cdef int kind_of_source(object x) except -1:
    if cnp.PyArray_Check(x) and cnp.PyArray_TYPE(x) == cnp.NPY_UINT8:
        return cnp.NPY_UINT8
    return kind_of(x)


cdef class Nonzeros:
    """The nonzeros of a batch ``x``, for its products with a layer's weights and gradients.

    Parameters
    ----------
    rows, n, width : int
        Largest batch, length of a row, and columns of the weights.
    dtype : float32 or float64
        Of the products.
    """
    cdef Work work
    cdef Py_ssize_t most
    cdef int kind
    cdef object buffers, memory
    cdef Pace pace[2]

    def __init__(self, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t width, dtype):
        self.work.n, self.work.width, self.most = n, width, rows
        self.work.columns = max(<Py_ssize_t>1, SLICE // width)
        self.work.slices = (n + self.work.columns - 1) // self.work.columns
        self.work.columns = (n + self.work.slices - 1) // self.work.slices      # of even size
        self.work.slices = (n + self.work.columns - 1) // self.work.columns
        cdef Py_ssize_t room = self.work.slices * (rows * self.work.columns + SPARE)
        values, by_column = np.empty(room, dtype), np.empty(room, dtype)
        places, places_by_column = np.empty(room, np.intc), np.empty(room, np.intc)
        starts = np.zeros(self.work.slices * (rows + 1), np.intc)
        starts_by_column = np.zeros(self.work.slices * (self.work.columns + 2), np.intc)
        partial = np.empty((self.work.slices - 1) * rows * width, dtype)
        self.buffers = values, by_column, places, places_by_column, starts, starts_by_column, partial
        self.kind = kind_of(values)
        self.work.is32 = self.kind == cnp.NPY_FLOAT
        self.work.values, self.work.places = at(values), <int*>at(places)
        self.work.places_by_column = <int*>at(places_by_column)
        self.work.starts, self.work.partial = <int*>at(starts), at(partial)
        self.work.starts_by_column = <int*>at(starts_by_column)

    def __len__(self):
        """Rows of the batch."""
        return self.work.rows

    def load(self, x, order=None, double scale=1, ahead=None) -> None:
        """Take ``scale * x``, or its rows of this order (int64), as the batch.

        `x` (uint8, float32 or float64) has to stay as it is until the products are done. `ahead`
        has the rows of the batch after this one, if there is one.
        """
        cdef Py_ssize_t limit = rows_of(x), rows = limit if order is None else rows_of(order)
        cdef int kind = kind_of_source(x)
        cdef const char* source = data(x, kind, limit * self.work.n)
        cdef const long long* now = NULL
        cdef const long long* then = NULL
        if order is not None:
            now = order_of(order, limit)
        if ahead is not None:
            then = order_of(ahead, limit)
        if rows > self.most:
            raise ValueError(f"{rows} rows where there is room for {self.most}")
        self.memory = x, order, ahead
        self.work.source, self.work.kind, self.work.order, self.work.ahead = source, kind, now, then
        self.work.n_ahead = 0 if ahead is None else rows_of(ahead)
        self.work.scale, self.work.rows = scale, rows
        self.work.values_by_column = NULL

    def product(self, w, out, bint training) -> None:
        """out = x @ w; in training the gradient comes after."""
        cdef Py_ssize_t size = self.work.rows * self.work.width
        self.work.base = data(w, self.kind, self.work.n * self.work.width)
        self.work.out = target(out, self.kind, size)
        self.work.values_by_column = at(self.buffers[1]) if training else NULL
        spread(product_share, &self.work, &self.pace[0], size * self.work.n, SERIAL_BELOW, 0)
        if self.work.is32:
            add_slices(<float*>self.work.partial, self.work.slices, size, <float*>self.work.out)
        else:
            add_slices(<double*>self.work.partial, self.work.slices, size, <double*>self.work.out)

    def gradient(self, dy, out) -> None:
        """out = x.T @ dy, after a product in training."""
        if self.work.values_by_column == NULL:
            raise ValueError("a kernel needs a product in training before the gradient")
        self.work.base = data(dy, self.kind, self.work.rows * self.work.width)
        self.work.out = target(out, self.kind, self.work.n * self.work.width)
        spread(gradient_share, &self.work, &self.pace[1],
               self.work.rows * self.work.width * self.work.n, SERIAL_BELOW, 0)
