# The stages of a piece. Each leaves pointers to what the next one shall work on in a.

cdef inline void point(const Plan* plan, const Tensor* t, char** a,
                       Py_ssize_t start) noexcept nogil:
    cdef int j
    for j in range(plan.n_arrays):
        a[j] = t.data[j] + (start >> t.shift[j]) * t.item[j]


cdef inline const Codec* codec(const Plan* plan, const Tensor* t, int j) noexcept nogil:
    return &plan.table.codecs[<int>t.format[j]]


cdef inline void widen(const Plan* plan, const Tensor* t, char** a, Py_ssize_t start,
                       Py_ssize_t size, char* scratch) noexcept nogil:
    """Sum gradients, or decode those not of the parameter's type, to the start of scratch."""
    if t.sources == ROWS:
        a[GRADIENT] = gather(plan, t, start, size, scratch)
    elif t.sources:
        add_up(plan, t, start, size, scratch, scratch + 4 * CHUNK)
        a[GRADIENT] = scratch
    elif t.format[GRADIENT]:
        codec(plan, t, GRADIENT).decode(<float*>scratch, a[GRADIENT], size)
        a[GRADIENT] = scratch


cdef void add_up(const Plan* plan, const Tensor* t, Py_ssize_t start, Py_ssize_t size, char* out,
                 char* spare) noexcept nogil:
    """Write elements of a gradient that is a weighted sum; `spare` takes as many floats."""
    cdef const Stages* stages = &plan.table.stages[<int>t.form]
    cdef const Source* source = plan.sources + t.first_source
    cdef const char* x[SIDE_BY_SIDE]
    cdef double weights[SIDE_BY_SIDE]
    cdef Py_ssize_t k = 0
    cdef int n, begun = 0
    while k < t.sources:
        n = 0
        while n < SIDE_BY_SIDE and k + n < t.sources and not source[k + n].format:
            x[n] = source[k + n].data + start * source[k + n].item
            weights[n] = source[k + n].weight
            n += 1
        if n == 0:                      # one that is not of the parameter's type
            plan.table.codecs[<int>source[k].format].decode(
                <float*>spare, source[k].data + start * source[k].item, size)
            x[0], weights[0], n = spare, source[k].weight, 1
        stages.add[begun][n - 1](out, x, size, weights)
        begun = 1
        k += n
    if t.relative:
        x[0] = t.data[0] + start * t.item[0]
        if t.format[0]:
            codec(plan, t, 0).decode(<float*>spare, x[0], size)
            x[0] = spare
        stages.subtract_from(out, x[0], size)


cdef inline void decode(const Plan* plan, const Tensor* t, char** a, Py_ssize_t size,
                        char* scratch) noexcept nogil:
    """Decode parameters and state that are not native, to the second half of scratch."""
    cdef char* buffer = scratch + 4 * CHUNK
    cdef int j
    for j in range(plan.n_arrays):
        if t.format[j] and used(plan, t, j):
            codec(plan, t, j).decode(<float*>buffer, a[j], size)
            a[j] = buffer
            buffer += BUFFER


cdef inline void encode(const Plan* plan, Py_ssize_t tensor, char** a, Py_ssize_t start,
                        Py_ssize_t size, int first) noexcept nogil:
    """Put back what was decoded, from array `first` on."""
    cdef const Tensor* t = &plan.tensors[tensor]
    cdef const Codec* own
    cdef int j
    for j in range(first, plan.n_arrays):
        if t.format[j] and used(plan, t, j):
            own = codec(plan, t, j)
            (own.dither if plan.dithers else own.encode)(
                t.data[j] + (start >> t.shift[j]) * t.item[j], <float*>a[j], size,
                drawn(plan.step, tensor, j, start))


cdef inline Factors remaining(const Plan* plan, const Tensor* t) noexcept nogil:
    """The factors that are left for the rule to apply."""
    cdef Factors factors = t.factors
    if loaded(plan, t):
        factors.scale = 1
    return factors


cdef inline bint loaded(const Plan* plan, const Tensor* t) noexcept nogil:
    return plan.limited or t.rescaled


cdef inline void load(const Plan* plan, const Tensor* t, char** a, Py_ssize_t size,
                      char* scratch) noexcept nogil:
    """Scale and limit gradients on their way into the rule, where it cannot scale them itself."""
    cdef const Stages* stages = &plan.table.stages[<int>t.form]
    if loaded(plan, t):
        (stages.rescale if t.rescaled else stages.load)(scratch, a[GRADIENT], size, t.scale,
                                                        plan.limit)
        a[GRADIENT] = scratch


cdef inline void average(const Plan* plan, const Tensor* t, char** a,
                         Py_ssize_t size) noexcept nogil:
    """Move the running average, while the parameters are in the cache."""
    cdef char* h[2]
    if plan.average:
        h[0], h[1] = a[plan.average], a[0]
        plan.table.stages[<int>t.form].average(h, NULL, size, plan.smoothing, &ONES)
