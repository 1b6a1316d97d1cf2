cdef extern from "platform.h" nogil:
    ctypedef unsigned long long fm_float_mode
    fm_float_mode fm_flush_begin()
    void fm_flush_end(fm_float_mode)

cdef int team_size() except -1
cdef bint flushing() noexcept nogil
