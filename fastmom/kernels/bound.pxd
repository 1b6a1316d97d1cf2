"""Arrays that are bound once and looked at again at every step."""

from cpython.object cimport PyObject

from fastmom.kernels.arrays cimport Gap, MemoryMap, Slot
from fastmom.kernels.sweep cimport Plan


cdef class Bound:
    cdef readonly list params
    cdef readonly list state
    cdef readonly list copies               # of the parameters in 16 bits, or None for each
    cdef readonly bint averaged             # the last array of each state is a running average
    cdef readonly bint stochastic           # numbers in few bits are rounded up or down, by noise
    cdef Plan plan
    cdef Slot* slots                        # of the parameters
    cdef Slot* watched                      # what else a step writes: owners of state, copies
    cdef Py_ssize_t n_watched
    cdef list dtypes                        # of each tensor's arrays
    cdef MemoryMap memory                   # all that a step writes
    cdef PyObject** grads                   # held during a step
    cdef Gap* gaps                          # where each tensor's last gradient lay
    cdef Py_ssize_t work, active            # elements and tensors that have a gradient

    cdef int _find_form(self, Py_ssize_t i) except -1
    cdef int _bind_memory(self) except -1
    cdef int _check_copy(self, Py_ssize_t i) except -1
    cdef int hold(self, grads) except -1
    cdef void release(self) noexcept
    cdef int match(self) except -1
    cdef bint _is_read(self, Py_ssize_t i) noexcept
    cdef int _find_format(self, Py_ssize_t i, dtype) except -1
    cdef bint _is_apart(self, Py_ssize_t i) noexcept
    cdef int _check_gradient(self, Py_ssize_t i) except -1
