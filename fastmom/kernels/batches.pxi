# A batch as a layer has it, for the products with weights and gradients; the loops are in products.pxi
# and dense.pxi.

cdef void share(const void* what, int part, int parts) noexcept nogil:
    """Do one thread's slices, or its range."""
    cdef const Work* work = <const Work*>what
    cdef fm_float_mode mode = begin(work.flush)
    cdef Py_ssize_t s, grain = work.grain, grains, first, stop
    if work.range == NULL:
        for s in range(work.slices * part // parts, work.slices * (part + 1) // parts):
            work.loop(work, s, work.out if s == 0 else work.rest + (s - 1) * work.stride)
    else:
        grains = (work.size + grain - 1) // grain
        first, stop = grains * part // parts * grain, grains * (part + 1) // parts * grain
        stop = min(stop, work.size)
        if first < stop:
            work.range(work, first, stop, work.out)
    fm_flush_end(mode)


cdef class Batch:
    """A batch ``x`` for its products with a layer's weights and gradients: base of both kinds.

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
    cdef bint ready             # for the gradient
    cdef list buffers
    cdef list memory            # what the pointers point to
    cdef char* partial
    cdef Pace[3] pace

    def __cinit__(self, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t width, dtype):
        if rows < 0 or n < 1 or width < 1:
            raise ValueError(f"a kernel was given {rows} rows of {n} for weights of width {width}")
        self.work.n, self.work.width, self.most = n, width, rows
        self.form, self.buffers = form_of(np.empty(0, dtype)), []

    cdef int _cut(self, Py_ssize_t slices) except -1:
        """Cut the weights' rows into about so many slices of even size."""
        cdef Py_ssize_t n = self.work.n
        self.work.columns = (n + slices - 1) // slices
        self.work.slices = (n + self.work.columns - 1) // self.work.columns
        self.partial = self._buffer((self.work.slices - 1) * self.most * self.work.width,
                                    DTYPE[self.form])
        return 0

    cdef char* _buffer(self, Py_ssize_t size, object dtype) except NULL:
        array = np.zeros(size, dtype)
        self.buffers.append(array)
        return PyArray_BYTES(<RawArray*>array)

    cdef int _check_idle(self) except -1:
        if self.busy:
            raise RuntimeError("this batch is in use in another thread (or was when the process "
                               "forked); each thread needs its own")
        return 0

    def __len__(self):
        """Return the rows of the batch."""
        return self.work.rows

    def release(self) -> None:
        """Let go of the samples, until others are loaded."""
        self._check_idle()
        self.memory, self.ready = None, False

    cdef int _load(self, object x, object order, double scale, double offset,
                   object ahead) except -1:
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
        self.memory = [x, order, ahead]
        self.work.source, self.work.order, self.work.ahead = source, now, then
        self.work.source_bytes = cnp.PyArray_ITEMSIZE(x)
        self.work.n_ahead = 0 if ahead is None else rows_of(ahead)
        self.work.scale, self.work.offset, self.work.rows = scale, offset, rows
        self.source, self.ready = kind, False
        return 0

    cdef int _set_product(self, object w, object out, bint training) except -1:
        """Take the arrays of a product."""
        self._check_idle()
        if self.memory is None:
            raise ValueError("a kernel needs a batch to be loaded before the product")
        cdef int kind = KIND[self.form]
        cdef Py_ssize_t size = self.work.rows * self.work.width
        self.work.base = data(w, kind, self.work.n * self.work.width)
        self.work.out, self.work.rest = target(out, kind, size), self.partial
        self.work.stride = size * out.itemsize
        self.ready = False
        return 0

    cdef int _set_gradient(self, object dy, object out) except -1:
        """Take the arrays of the gradient."""
        self._check_idle()
        if not self.ready:
            raise ValueError("a kernel needs a product in training before the gradient")
        cdef int kind = KIND[self.form]
        self.work.base = data(dy, kind, self.work.rows * self.work.width)
        self.work.out = self.work.rest = target(out, kind, self.work.n * self.work.width)
        self.work.stride = 0
        return 0

    cdef int _add_slices(self) except -1:
        cdef Memory[2] a = [self.partial, self.work.out]
        if self.work.slices > 1:
            call(loops().layers.add_slices[self.form], a, self.work.slices - 1,
                 self.work.rows * self.work.width, 0, 0)
        return 0

    cdef int _spread(self, Slice loop, Range range, Py_ssize_t size, Py_ssize_t grain,
                     Pace* pace) except -1:
        """Run a loop over all slices or a range. The arrays are held by the caller, or by self."""
        self.work.loop, self.work.flush = loop, flushing()
        self.work.range, self.work.size, self.work.grain = range, size, grain
        self.busy = True
        try:
            spread(share, &self.work, pace, self.work.rows * self.work.width * self.work.n,
                   SERIAL_BELOW, 0)
        finally:
            self.busy = False
        return 0


@cython.final
cdef class Nonzeros(Batch):
    """The nonzeros of a batch ``x``."""
    cdef char* by_column

    def __cinit__(self, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t width, dtype):
        cdef Py_ssize_t columns = max(<Py_ssize_t>1, SLICE // width)
        self._cut((n + columns - 1) // columns)
        cdef Py_ssize_t slices = self.work.slices, room = slices * (rows * self.work.columns + SPARE)
        self.work.values = self._buffer(room, dtype)
        self.work.places = <int*>self._buffer(room, np.intc)
        self.work.starts = <int*>self._buffer(slices * (rows + 1), np.intc)
        self.by_column = self._buffer(room, dtype)
        self.work.places_by_column = <int*>self._buffer(room, np.intc)
        self.work.starts_by_column = <int*>self._buffer(slices * (self.work.columns + 2), np.intc)

    def load(self, x, order=None, double scale=1, double offset=0, ahead=None) -> None:
        """Take ``scale * x``, or its rows of this order (int64), as the batch; the offset must be 0.

        `x` (uint8, float32 or float64) has to stay as it is until the products are done. `ahead`
        has the rows of the batch after this one, if there is one.
        """
        if offset:
            raise ValueError(f"a kernel was given an offset of {offset}, which leaves no zeros")
        self._load(x, order, scale, offset, ahead)

    def product(self, w, out, bint training) -> None:
        """out = x @ w; in training the gradient comes after."""
        self._set_product(w, out, training)
        self.work.values_by_column = self.by_column if training else NULL
        self.work.pack = loops().layers.pack[self.source][self.form]
        self._spread(loops().layers.product[self.form], NULL, 0, 1, &self.pace[0])
        self._add_slices()
        self.ready = training

    def gradient(self, dy, out) -> None:
        """out = x.T @ dy, after a product in training."""
        self._set_gradient(dy, out)
        self._spread(loops().layers.gradient[self.form], NULL, 0, 1, &self.pace[1])


@cython.final
cdef class DenseBatch(Batch):
    """All numbers of a batch ``x``.

    Results have the same bits for any number of threads. A build without dense products leaves them
    to NumPy, as do all builds for a single row: no weight is used twice then, and BLAS streams them.
    """
    cdef bint own_product, own_gradient

    def __cinit__(self, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t width, dtype):
        cdef Py_ssize_t slices = (n * width + SLICE - 1) // SLICE
        self._cut(slices if slices <= MOST_SLICES and n >= slices * LEAST_COLUMNS else 1)
        size = rows * self.work.slices * self.work.columns
        self.buffers.append(np.empty(size, dtype))      # memory that is not used costs nothing

    def load(self, x, order=None, double scale=1, double offset=0, ahead=None) -> None:
        """Take ``scale * x + offset``, or its rows of this order (int64), as the batch.

        `x` (uint8, float32 or float64) has to stay as it is until the products are done. `ahead`
        has the rows of the batch after this one, if there is one.
        """
        self._load(x, order, scale, offset, ahead)
        cdef Py_ssize_t rows = self.work.rows, n = self.work.n
        self.own_gradient = loops().layers.own_products
        self.own_product = self.own_gradient and rows > 1
        self.work.gather = NULL
        self.work.x_row, self.work.x_slice = n, self.work.columns
        if order is None and self.source == self.form and scale == 1 and offset == 0:
            x = x.reshape(rows, n)
        else:
            x = self.buffers[1][:rows * n].reshape(rows, n)
            self._gather(x)
        self.work.values = PyArray_BYTES(<RawArray*>x)
        self.memory.append(x)

    cdef int _gather(self, object x) except -1:
        """Have the threads gather into this buffer, each its slices, or do it now for NumPy."""
        cdef Py_ssize_t n = self.work.n
        cdef Py_ssize_t[4] sizes = [self.work.rows, n, n, n]
        cdef double[2] c = [self.work.scale, self.work.offset]
        cdef Memory[2] a = [PyArray_BYTES(<RawArray*>x), <char*>self.work.order]
        cdef Gather gather = loops().layers.gather[self.source][self.form]
        cdef fm_float_mode mode
        if self.own_product:
            self.work.gather = gather
            self.work.x_row, self.work.x_slice = self.work.columns, self.most * self.work.columns
        else:
            mode = begin(flushing())
            gather(a, sizes, c, self.work.source)
            fm_flush_end(mode)
        return 0

    cdef int _matmul(self, object a, object b, object out) except -1:
        """out = a @ b by NumPy."""
        self.busy = True
        try:
            np.matmul(a, b, out=out)
        finally:
            self.busy = False
        return 0

    def product(self, w, out, bint training) -> None:
        """out = x @ w; in training the gradient comes after."""
        self._set_product(w, out, training)
        if self.own_product:
            self._spread(NULL, loops().layers.dense_product[self.form],
                         self.work.slices * self.work.rows, 1, &self.pace[0])
            self._add_slices()
        else:
            self._matmul(self.memory[3], w, out)
        self.ready = training

    def gradient(self, dy, out) -> None:
        """out = x.T @ dy, after a product in training."""
        self._set_gradient(dy, out)
        if self.own_gradient:
            self._spread(NULL, loops().layers.dense_gradient[self.form], self.work.n, GRAIN,
                         &self.pace[1])
        else:
            self._matmul(self.memory[3].T, dy, out)

    def back(self, dy, w, out) -> None:
        """out = dy @ w.T, for dy of any number of rows."""
        self._check_idle()
        cdef int kind = KIND[self.form]
        cdef Py_ssize_t rows = rows_of(dy), n = self.work.n
        self.work.base = data(dy, kind, rows * self.work.width)
        self.work.other = data(w, kind, n * self.work.width)
        self.work.out = target(out, kind, rows * n)
        if loops().layers.own_products and rows > 1:
            self.work.rows = rows
            self._spread(NULL, loops().layers.dense_back[self.form], n, GRAIN, &self.pace[2])
        else:
            self._matmul(dy, w.T, out)
