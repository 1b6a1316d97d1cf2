# The nonzeros of a batch as a layer has them; the loops are in products.pxi.

cdef void share(const void* what, int part, int parts) noexcept nogil:
    """Take one thread's slices."""
    cdef const Work* work = <const Work*>what
    cdef fm_float_mode mode = begin(work.flush)
    cdef Py_ssize_t s
    for s in range(work.slices * part // parts, work.slices * (part + 1) // parts):
        work.loop(work, s, work.out if s == 0 else work.rest + (s - 1) * work.stride)
    fm_flush_end(mode)


@cython.final
cdef class Nonzeros:
    """The nonzeros of a batch ``x``, for its products with a layer's weights and gradients.

    Parameters
    ----------
    rows, n, width : int
        Largest batch, length of a row, and columns of the weights.
    dtype : float32 or float64
        Of the products.

    Raises
    ------
    RuntimeError
        By any method while another thread is in one: a batch is one thread's.
    """
    cdef Work work
    cdef Py_ssize_t most
    cdef int form, source
    cdef bint busy              # the GIL is released during products
    cdef list buffers
    cdef object memory
    cdef char* by_column
    cdef char* partial
    cdef Pace[2] pace

    def __cinit__(self, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t width, dtype):
        if rows < 0 or n < 1 or width < 1:
            raise ValueError(f"a kernel was given {rows} rows of {n} for weights of width {width}")
        self.work.n, self.work.width, self.most = n, width, rows
        self.work.columns = max(<Py_ssize_t>1, SLICE // width)
        self.work.slices = (n + self.work.columns - 1) // self.work.columns
        self.work.columns = (n + self.work.slices - 1) // self.work.slices      # of even size
        self.work.slices = (n + self.work.columns - 1) // self.work.columns
        cdef Py_ssize_t slices = self.work.slices, room = slices * (rows * self.work.columns + SPARE)
        self.form, self.buffers = form_of(np.empty(0, dtype)), []
        self.work.values = self._buffer(room, dtype)
        self.work.places = <int*>self._buffer(room, np.intc)
        self.work.starts = <int*>self._buffer(slices * (rows + 1), np.intc)
        self.by_column = self._buffer(room, dtype)
        self.work.places_by_column = <int*>self._buffer(room, np.intc)
        self.work.starts_by_column = <int*>self._buffer(slices * (self.work.columns + 2), np.intc)
        self.partial = self._buffer((slices - 1) * rows * width, dtype)

    cdef char* _buffer(self, Py_ssize_t size, object dtype) except NULL:
        array = np.zeros(size, dtype)
        self.buffers.append(array)
        return PyArray_BYTES(<RawArray*>array)

    cdef int _check_idle(self) except -1:
        if self.busy:
            raise RuntimeError("these nonzeros are in use in another thread (or were when the "
                               "process forked); each thread needs its own")
        return 0

    def __len__(self):
        """Return the rows of the batch."""
        return self.work.rows

    def load(self, x, order=None, double scale=1, ahead=None) -> None:
        """Take ``scale * x``, or its rows of this order (int64), as the batch.

        `x` (uint8, float32 or float64) has to stay as it is until the products are done. `ahead`
        has the rows of the batch after this one, if there is one.
        """
        self._check_idle()
        cdef Py_ssize_t limit = rows_of(x), rows = limit if order is None else rows_of(order)
        cdef int kind = source_of(x)
        cdef const char* source = data(x, KIND[kind], limit * self.work.n)
        cdef const long long* now = NULL
        cdef const long long* then = NULL
        if order is not None:
            now = order_of(order, limit)
        if ahead is not None:
            then = order_of(ahead, limit)
        if rows > self.most:
            raise ValueError(f"{rows} rows where there is room for {self.most}")
        self.memory = x, order, ahead
        self.work.source, self.work.order, self.work.ahead = source, now, then
        self.work.source_bytes = cnp.PyArray_ITEMSIZE(x)
        self.work.n_ahead = 0 if ahead is None else rows_of(ahead)
        self.work.scale, self.work.rows = scale, rows
        self.work.values_by_column = NULL
        self.source = kind

    def product(self, w, out, bint training) -> None:
        """out = x @ w; in training the gradient comes after."""
        self._check_idle()
        cdef int kind = KIND[self.form]
        cdef Py_ssize_t size = self.work.rows * self.work.width
        self.work.base = data(w, kind, self.work.n * self.work.width)
        self.work.out, self.work.rest = target(out, kind, size), self.partial
        self.work.stride = size * out.itemsize
        self.work.values_by_column = self.by_column if training else NULL
        self.work.pack = loops().layers.pack[self.source][self.form]
        self._spread(loops().layers.product[self.form], &self.pace[0])
        cdef Memory[2] a = [self.partial, self.work.out]
        call(loops().layers.add_slices[self.form], a, self.work.slices - 1, size, 0, 0)

    def gradient(self, dy, out) -> None:
        """out = x.T @ dy, after a product in training."""
        self._check_idle()
        if self.work.values_by_column == NULL:
            raise ValueError("a kernel needs a product in training before the gradient")
        cdef int kind = KIND[self.form]
        self.work.base = data(dy, kind, self.work.rows * self.work.width)
        self.work.out = self.work.rest = target(out, kind, self.work.n * self.work.width)
        self.work.stride = 0
        self._spread(loops().layers.gradient[self.form], &self.pace[1])

    cdef int _spread(self, Slice loop, Pace* pace) except -1:
        """Run a loop over all slices. The arrays are held by the caller, the batch's by self."""
        self.work.loop, self.work.flush = loop, flushing()
        self.busy = True
        try:
            spread(share, &self.work, pace, self.work.rows * self.work.width * self.work.n,
                   SERIAL_BELOW, 0)
        finally:
            self.busy = False
        return 0
