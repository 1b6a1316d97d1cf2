"""A step's passes over the chunks of all tensors, each spread over the threads.

Design. Every tensor is cut into chunks of fixed size, counted from its first element, so that the
role of an element (vector body or remainder, which partial sum) never depends on the number of
threads: the same bits for any team. A thread takes its share of each large tensor, one contiguous run
that the hardware's prefetchers follow: layers divide their weights at the same places, so that it
steps what is in its cache.
"""

from libc.math cimport INFINITY
from libc.string cimport memset

from fastmom.kernels.codecs cimport Codec, drawn
from fastmom.kernels.rules cimport (FLOAT64, LANES, MAX_ARRAYS, SIDE_BY_SIDE, Direction, Factors,
                                    Stages, Update)
from fastmom.kernels.system cimport fm_float_mode, fm_flush_begin, fm_flush_end
from fastmom.kernels.team cimport spread
from fastmom.kernels.touched cimport ask_ahead, ask_for, collect, gather, place_of, rest_of_row

cdef enum:
    RUN = 64                # chunks taken in ascending order, also when the sweep goes backward
    PIECE = 1024            # elements of gradients loaded at a time
    ASKED = 256             # so few that the processor reads ahead in one loop during the other
    LATER = ASKED + ASKED // 2      # by so many the memory is asked before
    ASKED_FROM = 1 << 19    # elements: of fewer the caches hold so much that asking costs time
    STAGED = 512            # elements decoded, updated and encoded at a time: whole blocks; threads'
                            # shares of a tensor are cut at multiples
    BUFFER = 4 * STAGED + LINE      # bytes of one array's; no two start at the same place of a page
    SERIAL_BELOW = 32768    # elements: below this, waking a team costs more than it saves
    MINOR = 16              # small tensors are one thread's if this times as many are not more than all

cdef Factors ONES = Factors(1, 1, 1)

# Squares of numbers whose square sum is between these are neither lost nor infinite.
cdef double FEW = 2.0 ** -900, MANY = 2.0 ** 1000
cdef double[2] UP = [2.0 ** SHIFT, 1], DOWN = [2.0 ** -SHIFT, 1]

cdef void cut(Plan* plan) noexcept:
    """Lay out the chunks of tensors whose extents are set, those of small ones first."""
    cdef Py_ssize_t i, k = 0, start = 0, offset
    cdef bint large
    cdef Tensor* t
    for large in range(2):
        for i in range(plan.n_tensors):
            t = &plan.tensors[i]
            if large != (t.extent >= SERIAL_BELOW):
                continue
            t.first = k
            for offset in range(0, t.extent, CHUNK):
                plan.chunks[k] = Chunk(i, offset, min(<Py_ssize_t>CHUNK, t.extent - offset),
                                       start + offset)
                k += 1
            start += t.extent
        if not large:
            plan.n_small, plan.small = k, start
    plan.n_chunks, plan.n_elements = k, start


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
    """One thread's share, with subnormals flushed and the caller's mode restored."""
    cdef double scratch[CHUNK]
    cdef fm_float_mode mode = 0
    cdef Py_ssize_t low = 0, high = plan.n_chunks, k, first, last
    cdef Py_ssize_t small = border(plan, part, parts), small_end = border(plan, part + 1, parts)
    cdef const Tensor* t
    if plan.flush:
        mode = fm_flush_begin()
    while low < high:
        k = high - 1 if plan.backward else low
        t = &plan.tensors[plan.chunks[k].tensor]
        first, last = t.first, t.first + (t.extent + CHUNK - 1) // CHUNK
        if t.data[GRADIENT] == NULL:
            pass
        elif k < plan.n_small:
            walk(plan, stage, plan.chunks[k].tensor, CHUNK * max(<Py_ssize_t>0, small - first),
                 CHUNK * (min(small_end, last) - first), <char*>scratch)
        else:
            walk(plan, stage, plan.chunks[k].tensor, place_in(t, part, parts),
                 place_in(t, part + 1, parts), <char*>scratch)
        low, high = (low, first) if plan.backward else (last, high)
    if plan.flush:
        fm_flush_end(mode)


cdef inline Py_ssize_t place_in(const Tensor* t, int part, int parts) noexcept nogil:
    """Where a thread's share of a large tensor begins; a chunk that is looked at remains whole."""
    cdef Py_ssize_t unit = CHUNK if t.look else STAGED
    return t.extent if part == parts else (t.extent * part // parts + unit // 2) // unit * unit


cdef Py_ssize_t border(const Plan* plan, int part, int parts) noexcept nogil:
    """The first chunk of a thread's run of small tensors.

    Few of them are the calling thread's, which has made their gradients.
    """
    cdef Py_ssize_t low = 0, high = plan.n_small, middle
    cdef Py_ssize_t element = plan.small * part // parts - CHUNK // 2
    if part == parts or part > 0 and MINOR * plan.small <= plan.n_elements:
        return high
    while low < high:
        middle = (low + high) // 2
        if plan.chunks[middle].start < element:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline void walk(const Plan* plan, Stage stage, Py_ssize_t tensor, Py_ssize_t start,
                      Py_ssize_t stop, char* scratch) noexcept nogil:
    """Pass over a tensor's elements: an update in runs, and a sum over the chunks that start there."""
    cdef const Tensor* t = &plan.tensors[tensor]
    cdef Py_ssize_t size = RUN * CHUNK if stage == UPDATE else CHUNK, runs, i, first
    stop = min(stop, t.extent)
    if stage != UPDATE:
        start = (start + CHUNK - 1) // CHUNK * CHUNK
    runs = (stop - start + size - 1) // size
    for i in range(runs):
        first = start + size * (runs - 1 - i if plan.backward else i)
        if stage == UPDATE:
            update(plan, tensor, first, min(first + size, stop), scratch)
        else:
            visit(plan, stage, t, t.first + first // CHUNK, scratch)


cdef inline void visit(const Plan* plan, Stage stage, const Tensor* t, Py_ssize_t k,
                       char* scratch) noexcept nogil:
    """Square sums over one chunk."""
    cdef const Chunk* chunk = &plan.chunks[k]
    cdef char* a[MAX_ARRAYS]
    if stage == DIRECTION_SUMS:
        direct(plan, t, chunk, scratch, plan.partial + 2 * k)
        return
    if t.sources == ROWS:
        collect(plan, t, chunk.offset, chunk.size, scratch)
        a[GRADIENT] = scratch
    else:
        point(plan, t, a, chunk.offset)
        widen(plan, t, a, chunk.offset, chunk.size, scratch)
    if stage == LOADED_SUMS:
        load(plan, t, a, chunk.size, scratch)
    plan.partial[2 * k] = square_sum(&plan.table.stages[<int>t.form], a[GRADIENT], chunk.size,
                                     scratch)


cdef inline void update(const Plan* plan, Py_ssize_t tensor, Py_ssize_t start, Py_ssize_t stop,
                        char* scratch) noexcept nogil:
    """Take each piece of some elements through the stages: load, rule, average, and back."""
    cdef char* a[MAX_ARRAYS]
    cdef const Tensor* t = &plan.tensors[tensor]
    cdef const Row* row = &plan.rows[t.row]
    cdef Update rule = plan.table.rules[row.rule].loop[<int>t.form]
    cdef Factors factors = remaining(plan, t)
    # All but the first element start on a cache line. Unlike sums, updates may be cut anywhere, but
    # for blocks.
    cdef Py_ssize_t lead = 0 if t.staged or t.look or t.sources == ROWS else t.lead
    cdef bint asks = t.sources != ROWS and asked(plan, t)
    cdef Py_ssize_t most = ASKED if asks else piece(plan, t), size, place
    cdef double[LANES] lane
    start, stop = start + lead if start else 0, min(stop + lead, t.extent)
    while start < stop:
        size, place = min(most, stop - start), start
        if t.sources == ROWS:
            size, place = min(size, rest_of_row(t, start)), place_of(plan, t, start)
            ask_ahead(plan, t, start)
        elif asks:
            ask_on(plan, t, start, size, 0, STATE)
        point(plan, t, a, place)
        widen(plan, t, a, start, size, scratch)
        load(plan, t, a, size, scratch)
        if t.staged:
            decode(plan, t, a, size, scratch)
        if t.look == BEFORE:
            multiply(plan, t, a, start, size, lane)
        rule(a, a + STATE, size, row.c, &factors)
        if asks:
            ask_on(plan, t, start, size, STATE, plan.n_arrays)
        if t.look == AFTER:
            multiply(plan, t, a, start, size, lane)
        average(plan, t, a, size)
        if t.copy != NULL:
            plan.table.codecs[<int>t.copied].encode(t.copy + place * 2, <float*>a[0], size, 0)
        if t.staged:
            encode(plan, tensor, a, place, size, 0)
        start += size


cdef inline Py_ssize_t piece(const Plan* plan, const Tensor* t) noexcept nogil:
    """How many elements go through the stages together.

    What is loaded lies in a buffer in the first-level cache, in pieces small enough that all
    streams keep flowing. Where nothing but the rule works on the arrays, they are not cut.
    """
    if t.staged:
        return STAGED
    if t.sources or loaded(plan, t) or t.format[GRADIENT] or t.copy != NULL:
        return PIECE
    return CHUNK + LINE if plan.average else t.size


cdef inline bint asked(const Plan* plan, const Tensor* t) noexcept nogil:
    """Whether the memory is asked for pieces: where loops take turns, or rules convert numbers.

    So many instructions come between two lines of an array that the processor reads too few of them
    ahead, and the hardware guesses little. With 3 x 10^7 elements steps of int8 and 16-bit formats
    became 5 to 30 % faster; of float32 alone, none did.
    """
    return t.look != AWAY or plan.n_elements >= ASKED_FROM and (
        t.staged or t.form > FLOAT64 or t.format[GRADIENT] or t.copy != NULL)


cdef inline void ask_on(const Plan* plan, const Tensor* t, Py_ssize_t start, Py_ssize_t size,
                        int first, int stop) noexcept nogil:
    """Ask the memory for a later piece of some arrays: more at once than it takes would wait."""
    cdef char* a[MAX_ARRAYS]
    cdef int j
    point(plan, t, a, start + LATER)
    for j in range(first, stop):
        ask_for(a[j], (size >> t.shift[j]) * t.item[j])
    if stop > STATE and t.copy != NULL:
        ask_for(t.copy + 2 * (start + LATER), 2 * size)


cdef inline void multiply(const Plan* plan, const Tensor* t, char** a, Py_ssize_t start,
                          Py_ssize_t size, double* lane) noexcept nogil:
    """Add a piece's product of gradient and velocity to that of its chunk.

    The lanes go on through all of the chunk, so that bits do not depend on how it is cut.
    """
    cdef Py_ssize_t j
    cdef double total = 0
    if start % CHUNK == 0:
        memset(lane, 0, LANES * sizeof(double))
    plan.table.stages[<int>t.form].add_products(a[GRADIENT], a[STATE], size, lane)
    if (start + size) % CHUNK == 0 or start + size == t.extent:
        for j in range(LANES):
            total += lane[j]
        plan.partial[2 * (t.first + start // CHUNK) + 1] = SquareSum(total, 0)


cdef inline void direct(const Plan* plan, const Tensor* t, const Chunk* chunk, char* scratch,
                        SquareSum* sums) noexcept nogil:
    """Square sums over one chunk of a rule's parameters and of its direction."""
    cdef char* a[MAX_ARRAYS]
    cdef const Row* row = &plan.rows[t.row]
    cdef Direction direction = plan.table.rules[row.rule].direction[<int>t.form]
    cdef const Stages* stages = &plan.table.stages[<int>t.form]
    cdef Factors factors = remaining(plan, t)
    cdef Py_ssize_t start = chunk.offset, stop = chunk.offset + chunk.size
    cdef Py_ssize_t size = STAGED if t.staged else CHUNK
    cdef char* g
    cdef char* out = scratch                # what loaded gradients lie in, too
    if direction == NULL:
        return
    point(plan, t, a, start)
    if t.format[0]:
        codec(plan, t, 0).decode(<float*>scratch, a[0], chunk.size)
        a[0] = scratch
    sums[0] = square_sum(stages, a[0], chunk.size, scratch)
    widen(plan, t, a, start, chunk.size, scratch)
    load(plan, t, a, chunk.size, scratch)
    g = a[GRADIENT]
    while start < stop:
        size = min(size, stop - start)
        point(plan, t, a, start)
        a[GRADIENT] = g
        if t.staged:
            decode(plan, t, a, size, scratch)
        direction(a, a + STATE, size, row.c, &factors, out)     # reads each element first
        if t.staged:
            encode(plan, chunk.tensor, a, start, size, STATE)
        g += 4 * size                       # one piece is all where they are doubles
        out += 4 * size
        start += size
    sums[1] = square_sum(stages, scratch, chunk.size, scratch)


cdef inline SquareSum square_sum(const Stages* stages, const char* x, Py_ssize_t n,
                                 char* scratch) noexcept nogil:
    """Sum squares, in another unit where they would overflow or be lost; may overwrite scratch."""
    cdef double value = stages.square_sum(x, n)
    cdef int shift
    cdef const double* unit
    if FEW < value < MANY or not stages.squares_overflow:
        return SquareSum(value, 0)
    shift = -1 if value <= FEW else 1
    unit = &UP[0] if shift < 0 else &DOWN[0]
    stages.load(scratch, x, n, unit, INFINITY)
    value = stages.square_sum(scratch, n)
    return SquareSum(value, 0 if value == 0 else shift)


include "pieces.pxi"
