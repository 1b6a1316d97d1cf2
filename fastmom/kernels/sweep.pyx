"""A step's passes over the chunks of all tensors, each spread over the threads.

Design. Every tensor is cut into chunks of fixed size, counted from its first element, so that the
role of an element (vector body or remainder, which partial sum) never depends on the number of
threads: the same bits for any team. A thread takes one contiguous run of chunks with its share of
the elements, which the hardware's prefetchers follow.
"""

cimport cython
from libc.math cimport sqrt

from fastmom.kernels.rules cimport (MAX_ARRAYS, SCALE, TRUST, TRUST_COEFFICIENT, TRUST_EPS, Rule)
from fastmom.kernels.system cimport fm_float_mode, fm_flush_begin, fm_flush_end
from fastmom.kernels.team cimport spread

cdef enum:
    RUN = 64                # chunks taken in ascending order, also when the sweep goes backward
    PIECE = 1024            # elements of gradients limited at a time
    SGD = 0                 # place of the rule sgd, whose formula a running average has
    SERIAL_BELOW = 32768    # elements: below this, waking a team costs more than it saves

cdef double[2] ONES = [1, 1]


cdef void cut(Plan* plan) noexcept:
    """Lay out the chunks of tensors whose sizes are set."""
    cdef Py_ssize_t i, k = 0, start = 0, offset
    cdef Tensor* t
    for i in range(plan.n_tensors):
        t = &plan.tensors[i]
        t.first = k
        t.t[SCALE] = t.t[TRUST] = 1
        for offset in range(0, t.size, CHUNK):
            plan.chunks[k] = Chunk(i, offset, min(<Py_ssize_t>CHUNK, t.size - offset),
                                   start + offset)
            k += 1
        start += t.size
    plan.n_elements = start


cdef struct Sweep:
    const Plan* plan
    Stage stage


cdef int sweep(Plan* plan, Stage stage, Py_ssize_t work, int parts) except -1:
    """Pass over all chunks with `parts` threads (0: as many as pay for `work` elements).

    Every sweep runs against the direction of the one before: what that touched last, and the cache
    still holds, comes first.
    """
    cdef Sweep what = Sweep(plan, stage)
    plan.backward = not plan.backward
    return spread(take_share, &what, &plan.pace[<int>stage], work, SERIAL_BELOW, parts)


cdef void take_share(const void* what, int part, int parts) noexcept nogil:
    share((<const Sweep*>what).plan, (<const Sweep*>what).stage, part, parts)


cdef void share(const Plan* plan, Stage stage, int part, int parts) noexcept nogil:
    """One thread's run of chunks, with subnormals flushed and the caller's mode restored."""
    cdef double scratch[CHUNK]
    cdef fm_float_mode mode = 0
    cdef Py_ssize_t low = first_chunk(plan, plan.n_elements * part // parts)
    cdef Py_ssize_t high = first_chunk(plan, plan.n_elements * (part + 1) // parts)
    cdef Py_ssize_t runs = (high - low + RUN - 1) // RUN, first, i, k
    cdef const Tensor* t
    if plan.flush:
        mode = fm_flush_begin()
    for i in range(runs):
        first = low + RUN * (runs - 1 - i if plan.backward else i)
        for k in range(first, min(first + RUN, high)):
            t = &plan.tensors[plan.chunks[k].tensor]
            if t.data[GRADIENT] == NULL:
                continue
            if t.is64:
                visit[double](plan, stage, t, k, scratch)
            else:
                visit[float](plan, stage, t, k, <float*>scratch)
    if plan.flush:
        fm_flush_end(mode)


cdef Py_ssize_t first_chunk(const Plan* plan, Py_ssize_t element) noexcept nogil:
    """The first chunk that starts at or after this element of all tensors together."""
    cdef Py_ssize_t low = 0, high = plan.n_chunks, middle
    while low < high:
        middle = (low + high) // 2
        if plan.chunks[middle].start < element:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline void visit(const Plan* plan, Stage stage, const Tensor* t, Py_ssize_t k,
                       cython.floating* scratch) noexcept nogil:
    if stage == UPDATE:
        update(plan, t, &plan.chunks[k], scratch)
    elif stage == GRADIENT_SUMS:
        plan.partial[2 * k] = square_sum(
            plan, <cython.floating*>t.data[GRADIENT] + plan.chunks[k].offset, plan.chunks[k].size)
    else:
        direct(plan, t, &plan.chunks[k], scratch, plan.partial + 2 * k)


cdef inline void update(const Plan* plan, const Tensor* t, const Chunk* chunk,
                        cython.floating* scratch) noexcept nogil:
    cdef cython.floating* a[MAX_ARRAYS]
    cdef cython.floating* h[2]
    cdef double local[2]
    cdef const double* coefficients = plan.rows[t.row].c
    cdef const Rule* rule = &plan.table.update[plan.rows[t.row].rule]
    # All but the first chunk start on a cache line. Unlike sums, updates may be cut anywhere.
    cdef Py_ssize_t start = chunk.offset + t.lead if chunk.offset else 0
    cdef Py_ssize_t stop = min(chunk.offset + CHUNK + t.lead, t.size)
    # Limited gradients go through a buffer in the first-level cache, in pieces small enough that
    # all of the chunk's streams keep flowing.
    cdef Py_ssize_t size = PIECE if plan.limited else CHUNK + LINE
    cdef int j
    local[SCALE], local[TRUST] = 1 if plan.limited else t.t[SCALE], t.t[TRUST]
    while start < stop:
        size = min(size, stop - start)
        for j in range(plan.n_arrays):
            a[j] = <cython.floating*>t.data[j] + start
        if plan.limited:
            h[0], h[1] = scratch, a[GRADIENT]
            a[GRADIENT] = scratch
            if cython.floating is float:
                plan.table.limit.f32(h, size, &plan.limit, t.t)
            else:
                plan.table.limit.f64(h, size, &plan.limit, t.t)
        if cython.floating is float:
            rule.f32(a, size, coefficients, local)
        else:
            rule.f64(a, size, coefficients, local)
        if plan.average:        # e = k e + (1 - k) p, while p is in the cache
            h[0], h[1] = a[plan.average], a[0]
            if cython.floating is float:
                plan.table.update[SGD].f32(h, size, plan.smoothing, ONES)
            else:
                plan.table.update[SGD].f64(h, size, plan.smoothing, ONES)
        start += size


cdef inline void direct(const Plan* plan, const Tensor* t, const Chunk* chunk,
                        cython.floating* scratch, double* sums) noexcept nogil:
    """Square sums over one chunk of a rule's parameters and of its direction."""
    cdef cython.floating* a[MAX_ARRAYS]
    cdef cython.floating* h[2]
    cdef double local[2]
    cdef const Row* row = &plan.rows[t.row]
    cdef const Rule* rule = &plan.table.update[row.rule]
    cdef int j
    if rule.direct32 == NULL:
        return
    for j in range(plan.n_arrays):
        a[j] = <cython.floating*>t.data[j] + chunk.offset
    local[SCALE], local[TRUST] = 1 if plan.limited else t.t[SCALE], 1
    if plan.limited:        # each element is read before its direction takes its place
        h[0], h[1] = scratch, a[GRADIENT]
        a[GRADIENT] = scratch
        if cython.floating is float:
            plan.table.limit.f32(h, chunk.size, &plan.limit, t.t)
        else:
            plan.table.limit.f64(h, chunk.size, &plan.limit, t.t)
    if cython.floating is float:
        rule.direct32(a, chunk.size, row.c, local, scratch)
    else:
        rule.direct64(a, chunk.size, row.c, local, scratch)
    sums[0] = square_sum(plan, a[0], chunk.size)
    sums[1] = square_sum(plan, scratch, chunk.size)


cdef inline double square_sum(const Plan* plan, const cython.floating* x,
                              Py_ssize_t n) noexcept nogil:
    if cython.floating is float:
        return plan.table.square_sum32(x, n)
    else:
        return plan.table.square_sum64(x, n)


# Between sweeps ----------------------------------------------------------------------------------

cdef double tensor_sum(const Plan* plan, const Tensor* t, int which) noexcept:
    """One of the two sums of a tensor, from its chunks in order."""
    cdef double total = 0
    cdef Py_ssize_t k
    for k in range(t.first, t.first + (t.size + CHUNK - 1) // CHUNK):
        total += plan.partial[2 * k + which]
    return total


cdef void set_trust(Plan* plan) noexcept:
    """Each tensor's trust ratio: coefficient |p| / (|direction| + eps), 1 where one is zero."""
    cdef const Row* row
    cdef Tensor* t
    cdef double p, r
    cdef Py_ssize_t i
    for i in range(plan.n_tensors):
        t = &plan.tensors[i]
        row = &plan.rows[t.row]
        if t.data[GRADIENT] != NULL and plan.table.update[row.rule].direct32 != NULL:
            p, r = sqrt(tensor_sum(plan, t, 0)), sqrt(tensor_sum(plan, t, 1))
            t.t[TRUST] = (1 if p == 0 or r == 0
                          else row.c[TRUST_COEFFICIENT] * p / (r + row.c[TRUST_EPS]))
