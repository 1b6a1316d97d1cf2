"""Which rows a gradient touches: read, put in order, and counted."""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

cdef enum:
    BITS = 11               # of a row's number that one pass sorts by
    BINS = 2048


cdef Py_ssize_t read_rows(Entry* entries, const char* rows, bint wide, Py_ssize_t n,
                          Py_ssize_t limit) noexcept:
    """Fill n entries from int32 or, if wide, int64; return the first place that is not a row, or n."""
    cdef Py_ssize_t i, row
    for i in range(n):
        row = (<const int64_t*>rows)[i] if wide else (<const int32_t*>rows)[i]
        if not 0 <= row < limit:
            return i
        entries[i] = Entry(row, i)
    return n


cdef void sort_rows(Entry* entries, Entry* spare, Py_ssize_t n, Py_ssize_t limit) noexcept:
    """Sort by rows, which are below the limit; those of one row keep their order.

    By radix: in each pass by some more bits of the row, stably.
    """
    cdef Py_ssize_t bins[BINS]
    cdef Py_ssize_t i, total, count, b
    cdef int shift = 0
    cdef Entry* source = entries
    cdef Entry* target = spare
    if is_sorted(entries, n):
        return
    while (limit - 1) >> shift:
        memset(bins, 0, sizeof(bins))
        for i in range(n):
            bins[(source[i].row >> shift) & (BINS - 1)] += 1
        total = 0
        for b in range(BINS):
            count, bins[b] = bins[b], total
            total += count
        for i in range(n):
            b = (source[i].row >> shift) & (BINS - 1)
            target[bins[b]] = source[i]
            bins[b] += 1
        source, target = target, source
        shift += BITS
    if source != entries:
        for i in range(n):
            entries[i] = source[i]


cdef bint is_sorted(const Entry* entries, Py_ssize_t n) noexcept:
    cdef Py_ssize_t i
    for i in range(1, n):
        if entries[i - 1].row > entries[i].row:
            return False
    return True


cdef Py_ssize_t find_starts(Py_ssize_t* starts, const Entry* entries, Py_ssize_t n) noexcept:
    """Write where each row's entries start in sorted ones, and then n; return the number of rows."""
    cdef Py_ssize_t i, rows = 0
    for i in range(n):
        if i == 0 or entries[i].row != entries[i - 1].row:
            starts[rows] = i
            rows += 1
    starts[rows] = n
    return rows
