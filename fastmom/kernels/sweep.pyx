"""The only parallel region: one pass over the chunks of all tensors.

Design. Every tensor is cut into chunks of fixed size, counted from its first element, so that the
role of an element (vector body or remainder, which partial sum) never depends on the number of
threads: the same bits for any team. A thread takes one contiguous run of chunks with its share of
the elements, which the hardware's prefetchers follow.
"""

cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer
from cython.parallel cimport prange

from fastmom.kernels.rules cimport MAX_ARRAYS, Table
from fastmom.kernels.system cimport fm_float_mode, fm_flush_begin, fm_flush_end, team_size

cdef enum:
    SERIAL_BELOW = 262144   # elements: below this, waking a team costs more than it saves

cdef const Table* _table = NULL


def use_rules(capsule) -> None:
    """Take the update rules from this instruction-set build, from the next step on."""
    global _table
    _table = <const Table*>PyCapsule_GetPointer(capsule, b"fastmom.rules")


cdef const Table* table() noexcept:
    return _table


cdef int sweep(const Plan* plan, Stage stage, Py_ssize_t work, int parts) except -1:
    """Pass over all chunks with `parts` threads (0: as many as pay for `work` elements)."""
    cdef int part
    if parts == 0:
        parts = 1 if work < SERIAL_BELOW else team_size()
    if parts > 1:
        for part in prange(parts, num_threads=parts, schedule="static", nogil=True):
            share(plan, stage, part, parts)
    elif work < SERIAL_BELOW:       # shorter than handing over the GIL
        share(plan, stage, 0, 1)
    else:
        with nogil:
            share(plan, stage, 0, 1)
    return 0


cdef void share(const Plan* plan, Stage stage, int part, int parts) noexcept nogil:
    """One thread's run of chunks, with subnormals flushed and the caller's mode restored."""
    cdef double scratch[CHUNK]
    cdef fm_float_mode mode = 0
    cdef const Chunk* chunk
    cdef const Tensor* t
    cdef Py_ssize_t k
    if plan.flush:
        mode = fm_flush_begin()
    for k in range(first_chunk(plan, plan.n_elements * part // parts),
                   first_chunk(plan, plan.n_elements * (part + 1) // parts)):
        chunk = &plan.chunks[k]
        t = &plan.tensors[chunk.tensor]
        if t.data[GRADIENT] == NULL:
            continue
        if stage == SQUARE_SUMS:
            plan.partial[k] = square_sum(plan, t, chunk)
        elif t.is64:
            update[double](plan, t, chunk, scratch)
        else:
            update[float](plan, t, chunk, <float*>scratch)
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


cdef inline void update(const Plan* plan, const Tensor* t, const Chunk* chunk,
                        cython.floating* scratch) noexcept nogil:
    cdef cython.floating* a[MAX_ARRAYS]
    cdef cython.floating* h[2]
    cdef double c[2]
    cdef const double* coefficients = plan.rows[t.row].c
    cdef int rule = plan.rows[t.row].rule, j
    for j in range(plan.n_arrays):
        a[j] = <cython.floating*>t.data[j] + chunk.offset
    if plan.prepare:        # into a scratch buffer that stays in the cache
        h[0], h[1] = scratch, a[GRADIENT]
        c[0], c[1] = t.scale, plan.limit
        if cython.floating is float:
            plan.table.prepare.f32(h, chunk.size, c)
        else:
            plan.table.prepare.f64(h, chunk.size, c)
        a[GRADIENT] = scratch
    if cython.floating is float:
        plan.table.update[rule].f32(a, chunk.size, coefficients)
    else:
        plan.table.update[rule].f64(a, chunk.size, coefficients)


cdef inline double square_sum(const Plan* plan, const Tensor* t, const Chunk* chunk) noexcept nogil:
    if t.is64:
        return plan.table.square_sum64(<double*>t.data[GRADIENT] + chunk.offset, chunk.size)
    return plan.table.square_sum32(<float*>t.data[GRADIENT] + chunk.offset, chunk.size)
