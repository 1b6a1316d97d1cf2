"""Work that is spread over threads."""

cdef struct Pace:           # how a team has fared beside one thread; all times in seconds
    double serial           # per unit of work on one thread, lately; 0: not known yet
    double loss             # by which the team is behind one thread
    double rest             # to spend on one thread before the team is tried again
    double last             # rest that there was
    double gain             # of the team over one thread since then; negative if it has lost
    double seconds          # of the current rest, and the work done in them
    double work
    int steps               # of the team since one thread was measured
    int patience            # steps of the team until one thread is measured again

# One part of some work, for any number of parts
ctypedef void (*Job)(const void* what, int part, int parts) noexcept nogil

cdef int spread(Job job, const void* what, Pace* pace, Py_ssize_t work, Py_ssize_t few,
                int parts) except -1
