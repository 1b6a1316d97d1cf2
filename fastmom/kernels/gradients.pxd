"""Gradients that are met anew at every step."""

from fastmom.kernels.arrays cimport RawArray
from fastmom.kernels.bound cimport Bound
from fastmom.kernels.sweep cimport Source


cdef class Gradients(Bound):
    cdef Py_ssize_t work, active                # elements and tensors that have a gradient
    cdef Py_ssize_t n_sources, most_sources     # in the plan, and for which there is room
    cdef Py_ssize_t n_entries, most_entries     # of rows
    cdef public str no_rows                     # why gradients of rows will not do, or None
    cdef bint by_rows                           # the latest step had such

    cdef int hold(self, grads) except -1
    cdef void release(self) noexcept
    cdef int match(self) except -1
    cdef bint _is_read(self, Py_ssize_t i, const RawArray* grad) noexcept
    cdef bint _is_apart(self, Py_ssize_t i, const RawArray* grad, Py_ssize_t item) noexcept
    cdef char* _check_gradient(self, Py_ssize_t i) except NULL
    cdef int _check(self, Py_ssize_t i, grad, str name, Py_ssize_t index) except -1
    cdef int _find_format(self, Py_ssize_t i, dtype, str name) except -1
    cdef char* _take_sum(self, Py_ssize_t i) except NULL
    cdef int _append(self, Source source) except -1
    cdef char* _take_rows(self, Py_ssize_t i) except NULL
    cdef int _check_rows(self, Py_ssize_t i, rows, values) except -1
    cdef int _make_room(self, Py_ssize_t n) except -1
    cdef void _lay_out(self) noexcept
