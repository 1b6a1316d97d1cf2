"""The machine as the engine sees it: CPU features, thread count, subnormals, fork."""

from time import monotonic

from fastmom.kernels.quota import cpu_quota

cdef extern from "platform.h" nogil:
    const int FM_OPENMP
    const char* FM_FLUSH
    const char* fm_openmp_library()
    int omp_get_max_threads()
    int fm_cpus()
    int omp_get_thread_limit()
    bint fm_has_avx2()
    bint fm_has_avx512()
    int fm_on_fork(void (*child)() noexcept nogil)

cdef enum:
    UNLIMITED = 2147483647

cdef double QUOTA_SECONDS = 1.0     # how long a quota once read is believed

cdef int _user = UNLIMITED
cdef int _quota = UNLIMITED
cdef double _quota_read = -QUOTA_SECONDS
cdef bint _forked = False
cdef bint _flush = True

openmp = FM_OPENMP
openmp_library = fm_openmp_library().decode()
flush_register = FM_FLUSH.decode()


cdef void _after_fork() noexcept nogil:
    global _forked
    _forked = True

fm_on_fork(_after_fork)


def limits() -> dict:
    """Each limit on the thread count, by name; the smallest one is in force."""
    global _quota, _quota_read
    cdef double now = monotonic()
    if now - _quota_read >= QUOTA_SECONDS:      # a file read costs more than a small step
        quota = cpu_quota()
        _quota = UNLIMITED if quota is None else quota
        _quota_read = now
    found = {"CPU affinity": fm_cpus(),
             "OpenMP (OMP_NUM_THREADS, threadpoolctl)": min(omp_get_max_threads(),
                                                            omp_get_thread_limit())}
    if _quota < UNLIMITED:
        found["cgroup CPU quota"] = _quota
    if _user < UNLIMITED:
        found["set_num_threads"] = _user
    if _forked:
        found["forked process (its OpenMP threads stayed in the parent)"] = 1
    if not FM_OPENMP:
        found["built without OpenMP"] = 1
    return found


cdef int team_size() except -1:
    """Threads the next parallel region may use."""
    cdef int n = min(fm_cpus(), omp_get_max_threads())
    if _forked or not FM_OPENMP:
        return 1
    if monotonic() - _quota_read >= QUOTA_SECONDS:
        limits()
    return max(1, min(min(n, omp_get_thread_limit()), min(_quota, _user)))


cdef bint flushing() noexcept nogil:
    return _flush


def get_num_threads() -> int:
    return team_size()


def get_user_limit():
    return None if _user == UNLIMITED else _user


def set_user_limit(n) -> None:
    global _user
    _user = UNLIMITED if n is None else n


def get_flush() -> bool:
    return _flush


def set_flush(bint on) -> None:
    global _flush
    _flush = on


def usable_isas() -> tuple:
    """Instruction sets this CPU and its operating system can run, best last."""
    found = ["baseline"]
    if fm_has_avx2():
        found.append("avx2")
        if fm_has_avx512():
            found.append("avx512")
    return tuple(found)
