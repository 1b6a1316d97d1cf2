"""Gradients of some rows: a step goes over the rows touched as if they lay one after the other.

Their elements are counted from the first row touched on, in ascending order of the rows; `extent`
is how many there are. So chunks, partial sums and threads' shares are as for a smaller tensor.
"""

from fastmom.kernels.rules cimport SIDE_BY_SIDE, Stages
from fastmom.kernels.sweep cimport GRADIENT, LINE, Entry, Plan, Tensor, used

cdef extern from "platform.h" nogil:
    void fm_prefetch(const char*)

cdef enum:
    AHEAD = 8               # rows: by so many the memory is asked for before it is needed

cdef Py_ssize_t read_rows(Entry* entries, const char* rows, bint wide, Py_ssize_t n,
                          Py_ssize_t limit) noexcept
cdef void sort_rows(Entry* entries, Entry* spare, Py_ssize_t n, Py_ssize_t limit) noexcept
cdef Py_ssize_t find_starts(Py_ssize_t* starts, const Entry* entries, Py_ssize_t n) noexcept


cdef inline const Py_ssize_t* starts_of(const Plan* plan, const Tensor* t,
                                        Py_ssize_t element) noexcept nogil:
    """Return where the entries of the row start that an element touched is in."""
    return plan.starts + t.first_start + element // t.width


cdef inline Py_ssize_t rest_of_row(const Tensor* t, Py_ssize_t element) noexcept nogil:
    return t.width - element % t.width


cdef inline Py_ssize_t place_of(const Plan* plan, const Tensor* t,
                                Py_ssize_t element) noexcept nogil:
    """Return the place of an element touched in the tensor."""
    cdef const Py_ssize_t* start = starts_of(plan, t, element)
    return plan.entries[t.first_entry + start[0]].row * t.width + element % t.width


cdef inline char* gather(const Plan* plan, const Tensor* t, Py_ssize_t element, Py_ssize_t size,
                         char* scratch) noexcept nogil:
    """Return the gradient of elements of one row; the sum, in scratch, if the row is there twice."""
    cdef const Py_ssize_t* start = starts_of(plan, t, element)
    cdef const Entry* entry = plan.entries + t.first_entry + start[0]
    cdef Py_ssize_t n = start[1] - start[0]
    if n == 1:
        return values(t, entry, element)
    add_entries(plan, t, entry, n, element, size, scratch)
    return scratch


cdef inline char* values(const Tensor* t, const Entry* entry, Py_ssize_t element) noexcept nogil:
    return t.data[GRADIENT] + (entry.place * t.width + element % t.width) * t.item[GRADIENT]


cdef inline void add_entries(const Plan* plan, const Tensor* t, const Entry* entry, Py_ssize_t n,
                             Py_ssize_t element, Py_ssize_t size, char* out) noexcept nogil:
    """Add up what one row's entries say, in their order."""
    cdef const Stages* stages = &plan.table.stages[<int>t.form]
    cdef double[SIDE_BY_SIDE] ones
    cdef const char* x[SIDE_BY_SIDE]
    cdef Py_ssize_t k = 0
    cdef int side, begun = 0
    for side in range(<int>SIDE_BY_SIDE):
        ones[side] = 1
    while k < n:
        side = 0
        while side < SIDE_BY_SIDE and k < n:
            x[side] = values(t, entry + k, element)
            side += 1
            k += 1
        stages.add[begun][side - 1](out, x, size, ones)
        begun = 1


cdef inline void collect(const Plan* plan, const Tensor* t, Py_ssize_t start, Py_ssize_t size,
                         char* out) noexcept nogil:
    """Write the gradient of elements of any number of rows, one after the other."""
    cdef Py_ssize_t stop = start + size, part
    cdef const Py_ssize_t* starts
    while start < stop:
        part = min(rest_of_row(t, start), stop - start)
        starts = starts_of(plan, t, start)
        add_entries(plan, t, plan.entries + t.first_entry + starts[0], starts[1] - starts[0],
                    start, part, out)
        out += part * t.item[GRADIENT]
        start += part


cdef inline void ask_ahead(const Plan* plan, const Tensor* t, Py_ssize_t element) noexcept nogil:
    """Ask the memory for a row that comes later: the hardware cannot guess where it is."""
    cdef Py_ssize_t later = element + AHEAD * t.width, place
    cdef int j
    if later >= t.extent:
        return
    place = place_of(plan, t, later)
    for j in range(plan.n_arrays):
        if used(plan, t, j):
            ask_for(t.data[j] + place * t.item[j], t.width * t.item[j])


cdef inline void ask_for(const char* first, Py_ssize_t size) noexcept nogil:
    """Ask the memory for so many bytes."""
    cdef Py_ssize_t i = 0
    while i < size:
        fm_prefetch(first + i)
        i += LINE
