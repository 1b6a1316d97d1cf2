"""Checks of the arrays that the engine works on: once in full, then compared field by field.

All is read from the C struct: a subclass of ndarray may say anything in its Python attributes.
"""

cimport numpy as cnp
from cpython.object cimport PyObject
from libc.stdint cimport SIZE_MAX
from libc.stdlib cimport free, malloc

import numpy as np

from fastmom.kernels.formats cimport format_of

cnp.import_array()

cdef object FLOAT32 = np.dtype(np.float32), FLOAT64 = np.dtype(np.float64)


cpdef int check_array(object array, str name, Py_ssize_t index, bint writable,
                      bint stored=False) except -1:
    """Raise TypeError or ValueError, naming the array, if the kernels may not work on it.

    With `stored` it may have one of the formats that state is kept in.
    """
    if not cnp.PyArray_CheckExact(array) and (      # np.ma is imported only for a subclass
            not cnp.PyArray_Check(array) or isinstance(array, np.ma.MaskedArray)):
        raise TypeError(f"{name}[{index}] must be a NumPy array, not {type(array).__name__}")
    dtype = dtype_of(array)
    if dtype != FLOAT32 and dtype != FLOAT64 and not (
            stored and format_of(dtype)):
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
    if not has_memory(<RawArray*>array):
        raise ValueError(f"{name}[{index}] is a view of an array that was resized; its memory is "
                         f"gone")
    return 0


cpdef object owner_of(object array):
    return <object><PyObject*>raw_owner(<RawArray*>array)


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


cdef void bind_slot(Slot* slot, object array):
    """Remember a checked array."""
    cdef const RawArray* a = <RawArray*>array
    cdef const RawArray* owner = raw_owner(a)
    slot.array, slot.data, slot.dtype = <PyObject*>array, PyArray_BYTES(a), PyArray_DESCR(a)
    slot.size, slot.owner = size_of(a), NULL
    # A view stays as it is when the array below it is resized: watch that one as well.
    if owner != a:
        slot.owner = <PyObject*>owner
        slot.owner_data, slot.owner_size = PyArray_BYTES(owner), size_of(owner)


cdef class MemoryMap:
    """Byte ranges that the engine writes: no two may overlap, and no gradient may lie in one."""

    def __init__(self):
        self._ranges = []

    def __dealloc__(self):
        free(self._gaps)

    def add(self, array, str name) -> None:
        start, size = address(array), bytes_of(array)
        if size:
            self._ranges.append((start, start + size, name))

    def seal(self) -> None:
        """Sort, and raise if two of the ranges overlap."""
        cdef Py_ssize_t k
        self._ranges.sort()
        for (_, stop, a), (start, _, b) in zip(self._ranges, self._ranges[1:]):
            if start < stop:
                raise ValueError(f"{b} overlaps {a} in memory; every array must have its own")
        self._gaps = <Gap*>malloc((len(self._ranges) + 1) * sizeof(Gap))
        if self._gaps == NULL:
            raise MemoryError()
        self._gaps[0].low = 0
        for k, (start, stop, _) in enumerate(self._ranges):
            self._gaps[k].high, self._gaps[k + 1].low = start, stop
        self._gaps[len(self._ranges)].high = SIZE_MAX

    cdef const Gap* gap(self, size_t start) noexcept:
        """Return the gap that an address lies in; the one below, if it lies in a range."""
        cdef const Gap* gap = self._gaps
        cdef Py_ssize_t n = len(self._ranges) + 1, half
        while n > 1:                # the gap is among n from here on
            half = n // 2
            gap = gap + half if gap[half].low <= start else gap
            n -= half
        return gap

    def refuse(self, array, str name) -> None:
        """Raise if this array shares memory with one of the ranges."""
        cdef size_t start = address(array), size = bytes_of(array)
        cdef const Gap* gap = self.gap(start)
        if size and not lies_in(gap, start, size):
            raise ValueError(f"{name} overlaps {self._ranges[gap - self._gaps][2]} in memory; a "
                             f"gradient may not share memory with what the step writes")
