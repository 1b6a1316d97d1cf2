"""Work that is spread over threads."""

cdef struct Pace:           # how teams have fared, to leave them where they do not pay
    double serial           # seconds per unit of work on one thread, the least seen
    int wait                # times to work serially before the next try
    int penalty             # how long to wait after the next failure

# One part of some work, for any number of parts
ctypedef void (*Job)(const void* what, int part, int parts) noexcept nogil

cdef int spread(Job job, const void* what, Pace* pace, Py_ssize_t work, Py_ssize_t few,
                int parts) except -1
