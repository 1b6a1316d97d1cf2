"""Checks of the arrays that the engine works on: once in full, then compared field by field.

All is read from the C struct: a subclass of ndarray may say anything in its Python attributes.
"""

from bisect import bisect_right

import numpy as np

cimport numpy as cnp
from cpython.object cimport PyObject

cnp.import_array()

cdef enum:
    READABLE = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED
    WRITABLE = READABLE | cnp.NPY_ARRAY_WRITEABLE

cdef object FLOAT32 = np.dtype(np.float32), FLOAT64 = np.dtype(np.float64)


cpdef int check_array(object array, str name, Py_ssize_t index, bint writable) except -1:
    """Raise TypeError or ValueError, naming the array, if the kernels may not work on it."""
    if not cnp.PyArray_CheckExact(array) and (      # np.ma is imported only for a subclass
            not cnp.PyArray_Check(array) or isinstance(array, np.ma.MaskedArray)):
        raise TypeError(f"{name}[{index}] must be a NumPy array, not {type(array).__name__}")
    dtype = dtype_of(array)
    if dtype != FLOAT32 and dtype != FLOAT64:
        raise TypeError(f"{name}[{index}] has dtype {dtype}, expected float32 or float64 in "
                        f"native byte order")
    cdef int flags = PyArray_FLAGS(<RawArray*>array)
    if not flags & cnp.NPY_ARRAY_C_CONTIGUOUS:
        strides = tuple([PyArray_STRIDES(<RawArray*>array)[d]
                         for d in range(PyArray_NDIM(<RawArray*>array))])
        advice = ("it is updated in place, so a contiguous copy would not help; make it C-contiguous "
                  "from the start" if writable else
                  "pass a contiguous array, e.g. np.ascontiguousarray")
        raise ValueError(f"{name}[{index}] is not C-contiguous (shape {shape_of(array)}, strides "
                         f"{strides}); {advice}")
    if not flags & cnp.NPY_ARRAY_ALIGNED:
        raise ValueError(f"{name}[{index}] is not aligned to its {dtype} items")
    if writable and not flags & cnp.NPY_ARRAY_WRITEABLE:
        raise ValueError(f"{name}[{index}] is read-only; it is updated in place")
    owner = owner_of(array)
    if owner is not array and PyArray_FLAGS(<RawArray*>owner) & cnp.NPY_ARRAY_OWNDATA:
        start, first = address(array), address(owner)
        if size_of(<RawArray*>array) and not (
                first <= start <= start + bytes_of(array) <= first + bytes_of(owner)):
            raise ValueError(f"{name}[{index}] is a view of an array that was resized; its memory "
                             f"is gone")
    return 0


cpdef object owner_of(object array):
    """Return the array at the end of the chain of views: a view keeps it alive, not its memory."""
    cdef PyObject* base = PyArray_BASE(<RawArray*>array)
    while base != NULL and cnp.PyArray_Check(<object>base):
        array = <object>base
        base = PyArray_BASE(<RawArray*>array)
    return array


cdef object dtype_of(object array):
    return <object><PyObject*>PyArray_DESCR(<RawArray*>array)


cdef tuple shape_of(object array):
    cdef const RawArray* a = <RawArray*>array
    return tuple([PyArray_DIMS(a)[d] for d in range(PyArray_NDIM(a))])


cdef Py_ssize_t item_of(object array):
    return cnp.PyArray_ITEMSIZE(array)


cdef Py_ssize_t bytes_of(object array):
    return size_of(<RawArray*>array) * item_of(array)


cdef char* data_of(object array):
    return PyArray_BYTES(<RawArray*>array)


cdef size_t address(object array):
    return <size_t>data_of(array)


cdef void bind_slot(Slot* slot, object array, bint writable):
    """Remember a checked array, or None."""
    slot.array, slot.data, slot.owner = <PyObject*>array, NULL, NULL
    if array is None:
        return
    cdef const RawArray* a = <RawArray*>array
    slot.data = PyArray_BYTES(a)
    slot.dtype = PyArray_DESCR(a)
    slot.flags = WRITABLE if writable else READABLE
    slot.size = size_of(a)
    # A view stays as it is when the array below it is resized: watch that one as well.
    cdef object owner = owner_of(array)
    if owner is not array:
        slot.owner = <PyObject*>owner
        slot.owner_data = PyArray_BYTES(<RawArray*>owner)
        slot.owner_size = size_of(<RawArray*>owner)


class MemoryMap:
    """Byte ranges that the engine writes: no two may overlap, and no gradient may lie in one."""

    def __init__(self):
        self.ranges = []

    def add(self, array, str name) -> None:
        start, size = address(array), bytes_of(array)
        if size:
            self.ranges.append((start, start + size, name))

    def seal(self) -> None:
        """Sort, and raise if two of the ranges overlap."""
        self.ranges.sort()
        for (_, stop, a), (start, _, b) in zip(self.ranges, self.ranges[1:]):
            if start < stop:
                raise ValueError(f"{b} overlaps {a} in memory; every array must have its own")
        self.starts = [start for start, _, _ in self.ranges]

    def refuse(self, array, str name) -> None:
        """Raise if this array shares memory with one of the ranges."""
        start, size = address(array), bytes_of(array)
        last = bisect_right(self.starts, start + size - 1) - 1
        if size and last >= 0 and self.ranges[last][1] > start:
            raise ValueError(f"{name} overlaps {self.ranges[last][2]} in memory; a gradient may "
                             f"not share memory with what the step writes")
