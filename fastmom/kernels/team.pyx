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
        if free and parts > 1 and not takes_a_team(pace):
            parts = 1
        start = omp_get_wtime()
        if parts == 1:
            job(what, 0, 1)
        else:
            for part in prange(parts, num_threads=parts, schedule="static"):
                job(what, part, parts)
        if free:
            note(pace, omp_get_wtime() - start, work, parts > 1)
    return 0


# A team waits for its last thread. Where another program, or another library's spinning threads,
# keep a core busy, that takes a time slice of the operating system, a hundred times a small step.
# So a team is watched: what it takes longer than one thread would adds up, what it gains is taken
# off. Beyond an allowance, which is less than two time slices, it is judged by all that it has
# gained since the last time. If that is more than it has lost, it goes on: a disturbance costs
# little. If not, one thread works for a while, and then the team is tried again. This rest is
# several times the last one and as long at least as what was lost, so that failing costs little.
# All of this is counted in seconds, not in steps, as a disturbance is; results do not depend on it.
# The pace of one thread is its mean during a rest, and is measured by single steps, ever rarer ones,
# while the team works. The first step of all is the team's in any case: where memory is divided
# among processors, each thread touches first the state that will be its own.

cdef enum:
    RARELY = 1024           # steps of a team for one on one thread
    GROWTH = 4              # of rests while the team keeps failing
    PRICE = 20              # seconds of rest, at most, for a second lost; or LONGEST

cdef double ALLOWANCE = 2e-3, SHORTEST = 5e-3, LONGEST = 0.5


cdef bint _watched = True


def watch(bint on) -> None:
    """Watch teams, or let them do all that is large enough: to measure what watching gains."""
    global _watched
    _watched = on


cdef bint takes_a_team(Pace* pace) noexcept nogil:
    """Return whether the next work is the team's."""
    if not _watched:
        return True
    if pace.rest > 0:
        return False
    pace.steps += 1
    return pace.steps <= pace.patience or (pace.serial == 0 and pace.steps == 1)


cdef void note(Pace* pace, double seconds, double work, bint team) noexcept nogil:
    """Learn from how long some work has taken."""
    if team:
        if _watched and pace.serial > 0:
            judge(pace, seconds, pace.serial * work)
    elif pace.rest > 0:
        pace.rest -= seconds
        pace.seconds += seconds
        pace.work += work
        if pace.rest <= 0:
            pace.serial = pace.seconds / pace.work
            pace.seconds = pace.work = 0
    else:
        pace.patience = min(max(1, 2 * pace.patience), RARELY)
        pace.steps = 0
        seconds /= work
        if pace.serial == 0:
            pace.serial, pace.last = seconds, SHORTEST / GROWTH
        elif seconds < pace.serial:
            pace.serial = (pace.serial + seconds) / 2
        else:       # maybe disturbed: no reason to think much worse of it
            pace.serial += min(seconds - pace.serial, pace.serial) / 8


cdef void judge(Pace* pace, double seconds, double alone) noexcept nogil:
    """Send the team to rest if it is too far behind one thread."""
    pace.loss = max(0.0, pace.loss + seconds - alone)
    pace.gain += alone - seconds
    if pace.loss <= ALLOWANCE:
        return
    if pace.gain > 0:
        pace.last = SHORTEST / GROWTH
    else:
        pace.rest = min(max(GROWTH * pace.last, -pace.gain), max(LONGEST, -PRICE * pace.gain))
        pace.last = pace.rest
    pace.loss = pace.gain = 0
    pace.patience = pace.steps = 0


def decisions(alone, together, work=1.0) -> list:
    """Return for each step whether a team takes it, if it takes so many seconds either way.

    The guard's decisions without the machine's influence, for tests.
    """
    cdef Pace pace = Pace(0, 0, 0, 0, 0, 0, 0, 0, 0)
    cdef bint team
    taken = []
    for one, all_ in zip(alone, together, strict=True):
        team = takes_a_team(&pace)
        note(&pace, all_ if team else one, work, team)
        taken.append(team)
    return taken
