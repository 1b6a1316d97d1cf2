# Products with a dense batch.
#
# Design. A thread does some rows of a result, and always the same ones of the weights where they are
# cut into slices, as for products that skip zeros: its weights, their gradient and the optimizer's
# step then find each other in its cache. Cuts depend on the shape alone.

cdef extern from "dense.h" nogil:
    bint FM_OWN_PRODUCTS
    void fm_multiply32(Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, Py_ssize_t, Py_ssize_t,
                       const float*, Py_ssize_t, Py_ssize_t, float*, Py_ssize_t)
    void fm_multiply64(Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, Py_ssize_t, Py_ssize_t,
                       const double*, Py_ssize_t, Py_ssize_t, double*, Py_ssize_t)

_layers.own_products = FM_OWN_PRODUCTS


cdef inline void matrix_product(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth,
                                const real* a, Py_ssize_t a_row, Py_ssize_t a_column,
                                const real* b, Py_ssize_t b_row, Py_ssize_t b_column,
                                real* c, Py_ssize_t c_row) noexcept nogil:
    if real is float:
        fm_multiply32(rows, columns, depth, a, a_row, a_column, b, b_row, b_column, c, c_row)
    else:
        fm_multiply64(rows, columns, depth, a, a_row, a_column, b, b_row, b_column, c, c_row)


cdef void take(const Work* work, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column,
               Py_ssize_t columns, real* x) noexcept nogil:
    """Gather a part of the batch, its place x."""
    cdef Py_ssize_t[4] n = [rows, columns, work.x_row, work.n]
    cdef double[2] c = [work.scale, work.offset]
    cdef const char* source = work.source + column * work.source_bytes
    cdef Memory[2] a = [<char*>x, NULL]
    if work.order == NULL:
        source += row * work.n * work.source_bytes
    else:
        a[1] = <char*>(work.order + row)
    work.gather(a, n, c, source)


cdef void dense_product(const Work* work, Py_ssize_t first, Py_ssize_t stop,
                        real* out) noexcept nogil:
    # out = the slice's part of x @ base, for some of the batch's rows in each of the slices
    cdef const real* w = <const real*>work.base
    cdef real* x
    cdef real* part
    cdef Py_ssize_t s, row, rows, column, columns
    while first < stop:
        s, row = first // work.rows, first % work.rows
        rows = min(work.rows - row, stop - first)
        column = s * work.columns
        columns = min(work.columns, work.n - column)
        x = <real*>work.values + s * work.x_slice + row * work.x_row
        part = out if s == 0 else <real*>(work.rest + (s - 1) * work.stride)
        if work.gather != NULL:
            take(work, row, rows, column, columns, x)
        matrix_product(rows, work.width, columns, x, work.x_row, 1, w + column * work.width,
                       work.width, 1, part + row * work.width, work.width)
        first += rows

_layers.dense_product = [<Range>dense_product[float], <Range>dense_product[double]]


cdef void dense_gradient(const Work* work, Py_ssize_t first, Py_ssize_t stop,
                         real* out) noexcept nogil:
    # some rows of out = x.T @ base, slice by slice
    cdef Py_ssize_t s, place, n
    ask_for(work.base, work.rows * work.width * sizeof(real))
    while first < stop:
        s, place = first // work.columns, first % work.columns
        n = min(work.columns - place, stop - first)
        fetch(work, first, n, fm_prefetch_near)
        matrix_product(n, work.width, work.rows,
                       <const real*>work.values + s * work.x_slice + place, 1, work.x_row,
                       <const real*>work.base, work.width, 1, out + first * work.width, work.width)
        first += n

_layers.dense_gradient = [<Range>dense_gradient[float], <Range>dense_gradient[double]]


cdef void dense_back(const Work* work, Py_ssize_t first, Py_ssize_t stop,
                     real* out) noexcept nogil:
    # some columns of out = base @ w.T
    matrix_product(work.rows, stop - first, work.width, <const real*>work.base, work.width, 1,
                   <const real*>work.other + first * work.width, 1, work.width, out + first,
                   work.n)

_layers.dense_back = [<Range>dense_back[float], <Range>dense_back[double]]
