"""Arrays that are bound once and looked at again at every step."""

from fastmom.kernels.arrays cimport Slot
from fastmom.kernels.sweep cimport Plan


cdef class Bound:
    cdef readonly list params
    cdef readonly list state
    cdef readonly bint averaged             # the last array of each state is a running average
    cdef Plan plan
    cdef Slot* slots                        # of parameter and gradient, in turn
    cdef Slot* owners                       # of the memory of all state
    cdef Py_ssize_t n_owners
    cdef list _grads
    cdef object _memory
    cdef Py_ssize_t work, active            # elements and tensors that have a gradient
    cdef bint _moved

    cdef int _form(self, Py_ssize_t i) except -1
    cdef object _dtype(self, Py_ssize_t i, int j)
    cdef int _bind_memory(self) except -1
    cdef int _bind_gradient(self, Py_ssize_t i, object grad) except -1
    cdef int match(self, tuple grads) except -1
