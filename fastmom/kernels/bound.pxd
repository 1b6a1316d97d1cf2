"""Arrays that are bound once and looked at again at every step."""

from cpython.object cimport PyObject

from fastmom.kernels.arrays cimport Gap, MemoryMap, Slot
from fastmom.kernels.codecs cimport Format
from fastmom.kernels.rules cimport FLOAT64
from fastmom.kernels.sweep cimport GRADIENT, Plan, Tensor


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

    cdef int _find_form(self, Py_ssize_t i) except -1
    cdef int _bind_memory(self) except -1
    cdef int _check_copy(self, Py_ssize_t i) except -1


cdef inline Py_ssize_t item_in(const Tensor* t, Format format) noexcept:
    """Return the bytes of an element of a gradient."""
    return 2 if format else 8 if t.form == FLOAT64 else 4


cdef inline void read_as(Tensor* t, Format format) noexcept:
    t.format[GRADIENT] = format
    t.item[GRADIENT] = item_in(t, format)
