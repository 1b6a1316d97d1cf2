"""Gradients, which are met anew at every step.

Design. They are expected to be new arrays each time: all that a plain one must satisfy is read from
its struct, and nothing of it is kept.
"""

cimport numpy as cnp
from cpython.list cimport PyList_GET_ITEM
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.sequence cimport PySequence_Fast_GET_ITEM
from libc.float cimport DBL_MAX, FLT_MAX
from libc.stdlib cimport realloc

import numpy as np

from fastmom.kernels.arrays cimport (PyArray_BYTES, PyArray_DESCR, PyArray_FLAGS, PyArray_NDIM,
                                     READABLE, RawArray, check_array, data_of, dtype_of,
                                     has_memory, is_plain_array, item_of, lies_in, same_shape,
                                     shape_of, size_of, unchanged)
from fastmom.kernels.bound cimport Bound, item_in, read_as
from fastmom.kernels.codecs cimport FLOAT16, NATIVE, Format
from fastmom.kernels.formats cimport format_of
from fastmom.kernels.rules cimport FLOAT64
from fastmom.kernels.sweep cimport GRADIENT, ROWS, Entry, Source, Tensor, cut
from fastmom.kernels.touched cimport find_starts, read_rows, sort_rows

from fastmom.kernels.interchange import shared
from fastmom.kernels.row_grads import ROWS as ROW_DTYPES, RowGrad
from fastmom.kernels.sums import WeightedSum

cnp.import_array()          # for the type of arrays

# The dtypes of gradients of float32 parameters by their format, and of float64 ones. bfloat16 is
# another library's, so that it is not known before it was seen.
cdef list SINGLES = [np.dtype(np.float32), None, np.dtype(np.float16)]
cdef object DOUBLE = np.dtype(np.float64)


cdef class Gradients(Bound):
    """What a step reads besides."""

    cdef int hold(self, grads) except -1:
        """Keep the gradients alive during a step, whatever becomes of the list of them."""
        cdef Py_ssize_t i
        if len(grads) != self.plan.n_tensors:
            raise ValueError(f"grads has {len(grads)} entries, expected {self.plan.n_tensors}: one "
                             f"for each array in params")
        for i in range(self.plan.n_tensors):
            self.grads[i] = PySequence_Fast_GET_ITEM(grads, i)
            Py_INCREF(<object>self.grads[i])
        return 0

    cdef void release(self) noexcept:
        cdef Py_ssize_t i
        for i in range(self.plan.n_tensors):
            Py_DECREF(<object>self.grads[i])

    cdef int match(self) except -1:
        """Make the plan point at the gradients that are held."""
        cdef Py_ssize_t i
        cdef Tensor* t
        cdef const RawArray* grad
        cdef char* data
        for i in range(self.n_watched):
            if not unchanged(&self.watched[i]):
                self._bind_memory()
        for i in range(self.plan.n_tensors):
            if not unchanged(&self.slots[i]):
                self._bind_memory()
        self.work = self.active = self.n_sources = self.n_entries = 0
        for i in range(self.plan.n_tensors):
            t, data = &self.plan.tensors[i], NULL
            if self.grads[i] != <PyObject*>None:
                grad = <const RawArray*>self.grads[i]
                if (is_plain(grad, <RawArray*>self.slots[i].array) and self._is_read(i, grad)
                        and self._is_apart(i, grad, t.item[GRADIENT])):
                    data = PyArray_BYTES(grad)
                    if t.sources:
                        t.sources = 0
                else:
                    data = self._check_gradient(i)
                self.work += t.size
                self.active += 1
            if t.data[GRADIENT] != data:    # the other threads would have to read it anew
                t.data[GRADIENT] = data
        if self.n_entries or self.by_rows:
            self._lay_out()
        return 0

    cdef void _lay_out(self) noexcept:
        """Let the plan go over the rows touched, and over all of the other tensors."""
        cdef Py_ssize_t i
        cdef Tensor* t
        self.work, self.by_rows = 0, False
        for i in range(self.plan.n_tensors):
            t = &self.plan.tensors[i]
            t.extent = t.size
            if t.data[GRADIENT] != NULL and t.sources == ROWS:
                t.extent, self.by_rows = t.touched * t.width, True
            if t.data[GRADIENT] != NULL:
                self.work += t.extent
        cut(&self.plan)

    cdef inline bint _is_read(self, Py_ssize_t i, const RawArray* grad) noexcept:
        """Let the plan read a gradient in its format; False if that takes a closer look."""
        cdef Tensor* t = &self.plan.tensors[i]
        cdef int format = known_format(t, grad)
        if format < 0:
            return False
        if t.format[GRADIENT] != format:
            read_as(t, <Format>format)
        return True

    cdef inline bint _is_apart(self, Py_ssize_t i, const RawArray* grad, Py_ssize_t item) noexcept:
        """Return whether a gradient lies where the last one did, or in another gap."""
        cdef size_t start = <size_t>PyArray_BYTES(grad)
        cdef size_t size = self.plan.tensors[i].size * item
        if lies_in(&self.gaps[i], start, size):
            return True
        self.gaps[i] = self.memory.gap(start)[0]
        return lies_in(&self.gaps[i], start, size)

    cdef char* _check_gradient(self, Py_ssize_t i) except NULL:
        """Return the data of a gradient, or raise if it will not do.

        An array takes the place of a scalar that will, and a tuple of arrays that of their sum.
        """
        cdef Tensor* t = &self.plan.tensors[i]
        param, grad = self.params[i], <object>self.grads[i]
        if type(grad) is WeightedSum:
            return self._take_sum(i)
        if type(grad) is RowGrad:
            return self._take_rows(i)
        if not cnp.PyArray_Check(grad):
            other, grad = grad, shared(grad, f"grads[{i}]")
            Py_INCREF(grad)
            self.grads[i] = <PyObject*>grad
            Py_DECREF(other)
        if isinstance(grad, np.generic) and PyArray_NDIM(<RawArray*>param) == 0:
            scalar, grad = grad, np.array(grad)     # arithmetic on arrays without axes gives scalars
            Py_INCREF(grad)
            self.grads[i] = <PyObject*>grad
            Py_DECREF(scalar)
        read_as(t, <Format>self._check(i, grad, "grads", i))
        t.sources = 0
        return data_of(grad)

    cdef char* _take_sum(self, Py_ssize_t i) except NULL:
        """Let the plan add up the arrays of a gradient, which are held in its place."""
        cdef Tensor* t = &self.plan.tensors[i]
        cdef const RawArray* grad
        cdef int format
        cdef double weight, most
        total = <object>self.grads[i]
        cdef tuple arrays = total.arrays, weights = total.weights
        Py_INCREF(arrays)
        self.grads[i] = <PyObject*>arrays
        Py_DECREF(total)
        for k, (array, weight) in enumerate(zip(arrays, weights, strict=True)):
            grad = <const RawArray*><PyObject*>array
            format = -1
            if is_plain(grad, <RawArray*>self.slots[i].array):
                format = known_format(t, grad)
            if format < 0 or not self._is_apart(i, grad, item_in(t, <Format>format)):
                format = self._check(i, array, f"grads[{i}].arrays", k)
            most = DBL_MAX if t.form == FLOAT64 else FLT_MAX
            if not -most <= weight <= most:
                raise ValueError(f"grads[{i}].weights[{k}] is {weight:g}, which "
                                 f"{dtype_of(self.params[i])}, the dtype of params[{i}], cannot "
                                 f"hold")
            self._append(Source(data_of(array), item_in(t, <Format>format), <Format>format, weight))
        if not arrays:
            raise ValueError(f"grads[{i}].arrays is empty; expected at least one array")
        t.sources, t.relative = len(arrays), total.relative
        t.first_source = self.n_sources - t.sources
        return data_of(arrays[0])

    cdef int _append(self, Source source) except -1:
        cdef Source* longer
        if self.n_sources == self.most_sources:
            longer = <Source*>realloc(self.plan.sources,
                                      (2 * self.n_sources + 8) * sizeof(Source))
            if longer == NULL:
                raise MemoryError()
            self.plan.sources, self.most_sources = longer, 2 * self.n_sources + 8
        self.plan.sources[self.n_sources] = source
        self.n_sources += 1
        return 0

    # Gradients of rows ---------------------------------------------------------------------------

    cdef char* _take_rows(self, Py_ssize_t i) except NULL:
        """Let the plan go over some rows; their arrays are held in the gradient's place."""
        cdef Tensor* t = &self.plan.tensors[i]
        cdef Py_ssize_t n, wrong, limit
        cdef Entry* entries
        grad = <object>self.grads[i]
        cdef tuple held = (grad.rows, grad.values)
        Py_INCREF(held)
        self.grads[i] = <PyObject*>held
        Py_DECREF(grad)
        rows, values = held
        self._check_rows(i, rows, values)
        n, limit = size_of(<RawArray*>rows), shape_of(self.params[i])[0]
        self._make_room(n)
        entries = self.plan.entries + self.n_entries
        wrong = read_rows(entries, data_of(rows), item_of(rows) == 8, n, limit)
        if wrong < n:
            raise ValueError(f"grads[{i}].rows[{wrong}] is {rows[wrong]}, which is no row of "
                             f"params[{i}]: that has rows 0 to {limit - 1}" if limit else
                             f"grads[{i}].rows has {n} entries, and params[{i}] no rows")
        sort_rows(entries, self.plan.entries + self.most_entries, n, limit)
        # each tensor's starts end with one entry more
        t.first_entry, t.first_start = self.n_entries, self.n_entries + i
        t.touched = find_starts(self.plan.starts + t.first_start, entries, n)
        t.width = t.size // limit if limit else 0
        t.sources = ROWS
        read_as(t, NATIVE)
        self.n_entries += n
        self.by_rows = True
        return data_of(values)

    cdef int _check_rows(self, Py_ssize_t i, rows, values) except -1:
        """Raise if a gradient of rows does not fit."""
        param = self.params[i]
        cdef tuple shape = shape_of(param)
        if self.no_rows is not None:
            raise TypeError(f"grads[{i}] is a RowGrad, {self.no_rows}")
        if not shape:
            raise ValueError(f"grads[{i}] is a RowGrad, and params[{i}] has no axis")
        if shape_of(rows) != shape_of(values)[:1] or shape_of(values)[1:] != shape[1:]:
            raise ValueError(f"grads[{i}] has values of shape {shape_of(values)}, expected "
                             f"{(size_of(<RawArray*>rows), *shape[1:])} as params[{i}] has shape "
                             f"{shape}")
        real = self.dtypes[i][1]
        if dtype_of(values) != real or dtype_of(rows) not in ROW_DTYPES:
            raise TypeError(f"grads[{i}] has rows of {dtype_of(rows)} and values of "
                            f"{dtype_of(values)}, expected int64 or int32 and {real} as for "
                            f"params[{i}]")
        for array, name in ((rows, "rows"), (values, "values")):
            if PyArray_FLAGS(<RawArray*>array) & READABLE != READABLE or not has_memory(
                    <RawArray*>array):
                raise ValueError(f"grads[{i}].{name} was changed in place after the RowGrad was made")
            self.memory.refuse(array, f"grads[{i}].{name}")
        return 0

    cdef int _make_room(self, Py_ssize_t n) except -1:
        """Have room for n more entries, and as many to sort them."""
        cdef Py_ssize_t most = 2 * (self.n_entries + n) + 8
        cdef Entry* entries
        cdef Py_ssize_t* starts
        if self.plan.starts != NULL and self.n_entries + n <= self.most_entries:
            return 0
        entries = <Entry*>realloc(self.plan.entries, 2 * most * sizeof(Entry))
        if entries != NULL:
            self.plan.entries = entries
        starts = <Py_ssize_t*>realloc(self.plan.starts,
                                      (most + self.plan.n_tensors) * sizeof(Py_ssize_t))
        if starts != NULL:
            self.plan.starts = starts
        if entries == NULL or starts == NULL:
            raise MemoryError()
        self.most_entries = most
        return 0

    cdef int _check(self, Py_ssize_t i, grad, str name, Py_ssize_t index) except -1:
        """Return the format of an array of the gradient i, or raise if it will not do."""
        param = self.params[i]
        check_array(grad, name, index, False, True)
        cdef int format = self._find_format(i, dtype_of(grad), f"{name}[{index}]")
        if shape_of(grad) != shape_of(param):
            raise ValueError(f"{name}[{index}] has shape {shape_of(grad)}, expected "
                             f"{shape_of(param)} as params[{i}]")
        self.memory.refuse(grad, f"{name}[{index}]")
        return format

    cdef int _find_format(self, Py_ssize_t i, dtype, str name) except -1:
        """Return the format of a gradient of this dtype, or raise TypeError."""
        cdef Format format = format_of(dtype)
        if self.plan.tensors[i].form == FLOAT64:
            expected = "float64"
            fits = dtype == DOUBLE
        else:
            expected = "float32, float16 or bfloat16"
            fits = format <= FLOAT16 if format else dtype == SINGLES[NATIVE]
        if not fits:
            raise TypeError(f"{name} has dtype {dtype}, expected {expected} as params[{i}] is "
                            f"{dtype_of(self.params[i])}")
        if SINGLES[<int>format] is None:
            SINGLES[<int>format] = dtype
        return format


cdef inline bint is_plain(const RawArray* grad, const RawArray* param) noexcept:
    """Return whether a gradient fits but for its dtype; False if that takes a closer look."""
    return (is_plain_array(grad) and PyArray_FLAGS(grad) & READABLE == READABLE
            and same_shape(grad, param) and has_memory(grad))


cdef inline int known_format(const Tensor* t, const RawArray* grad) noexcept:
    """Return the format of a gradient; -1 if that takes a closer look."""
    cdef void* dtype = PyArray_DESCR(grad)
    cdef int format = NATIVE
    if t.form == FLOAT64:
        return NATIVE if dtype == <void*>DOUBLE else -1
    while dtype != <void*><PyObject*>PyList_GET_ITEM(SINGLES, format):
        format += 1
        if format > FLOAT16:
            return -1
    return format
