"""The only parallel region."""

from cython.parallel cimport prange

from fastmom.kernels.system cimport team_size

cdef extern from "platform.h" nogil:
    double omp_get_wtime()


cdef int spread(Job job, const void* what, Pace* pace, Py_ssize_t work, Py_ssize_t few,
                int parts) except -1:
    """Do all parts of a job with `parts` threads (0: as many as pay for so much work).

    Less than `few` stays on the calling thread, which then does not even hand over the GIL.
    """
    cdef bint free = parts == 0
    cdef double start
    cdef int part
    if free:
        parts = 1 if work < few else team_size()
    if parts == 1 and work < few:
        job(what, 0, 1)
        return 0
    with nogil:
        if free and parts > 1 and not worth_a_team(pace):
            parts = 1
        start = omp_get_wtime()
        if parts == 1:
            job(what, 0, 1)
        else:
            for part in prange(parts, num_threads=parts, schedule="static"):
                job(what, part, parts)
        note_pace(pace, (omp_get_wtime() - start) / work, parts)
    return 0


# A team waits for its last thread. Where another program, or another library's spinning threads,
# keep a core busy, that takes a time slice of the operating system, a hundred times a small step.
# So the pace is kept: after a team that was slower than one thread the next work is serial, twice as
# long after each failure. Results do not depend on it.

cdef bint worth_a_team(Pace* pace) noexcept nogil:
    if pace.serial == 0:                        # unknown as yet
        return False
    if pace.wait > 0:
        pace.wait -= 1
        return False
    return True


cdef void note_pace(Pace* pace, double seconds, int parts) noexcept nogil:
    if parts == 1:
        pace.serial = seconds if pace.serial == 0 else min(pace.serial, seconds)
    elif seconds > pace.serial:
        pace.penalty = min(max(2 * pace.penalty, 4), 1024)
        pace.wait = pace.penalty
    else:
        pace.penalty = pace.penalty // 2
