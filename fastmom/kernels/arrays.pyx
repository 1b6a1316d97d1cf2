"""What the engine asks of an array: checked once in full, then compared field by field."""

from bisect import bisect_right

import numpy as np

cimport numpy as cnp
from cpython.object cimport PyObject

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    ctypedef struct RawArray "PyArrayObject":
        pass
    char* PyArray_BYTES(const RawArray*) noexcept
    int PyArray_NDIM(const RawArray*) noexcept
    const cnp.npy_intp* PyArray_DIMS(const RawArray*) noexcept
    int PyArray_FLAGS(const RawArray*) noexcept
    void* PyArray_DESCR(const RawArray*) noexcept
    PyObject* PyArray_BASE(const RawArray*) noexcept

cdef enum:
    READABLE = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED
    WRITABLE = READABLE | cnp.NPY_ARRAY_WRITEABLE


cdef inline Py_ssize_t size_of(const RawArray* a) noexcept:
    cdef Py_ssize_t size = 1
    cdef int d
    for d in range(PyArray_NDIM(a)):
        size *= PyArray_DIMS(a)[d]
    return size


cdef int check_array(object array, str name, Py_ssize_t index, bint writable) except -1:
    """Raise, naming the array, unless the kernels may work on it as it is."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name}[{index}] must be a NumPy array, not {type(array).__name__}")
    if array.dtype != np.float32 and array.dtype != np.float64:
        raise TypeError(f"{name}[{index}] has dtype {array.dtype}, expected float32 or float64 in "
                        f"native byte order")
    cdef int flags = PyArray_FLAGS(<RawArray*>array)
    if not flags & cnp.NPY_ARRAY_C_CONTIGUOUS:
        raise ValueError(f"{name}[{index}] is not C-contiguous (shape {array.shape}, strides "
                         f"{array.strides}); pass a contiguous array, e.g. np.ascontiguousarray")
    if not flags & cnp.NPY_ARRAY_ALIGNED:
        raise ValueError(f"{name}[{index}] is not aligned to its {array.dtype} items")
    if writable and not flags & cnp.NPY_ARRAY_WRITEABLE:
        raise ValueError(f"{name}[{index}] is read-only; it is updated in place")
    return 0


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
    # A view stays as it is when the array below it is resized: watch that one as well. The view
    # keeps the chain alive.
    cdef object owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if owner is not array:
        slot.owner = <PyObject*>owner
        slot.owner_data = PyArray_BYTES(<RawArray*>owner)
        slot.owner_size = size_of(<RawArray*>owner)


cdef bint unchanged(const Slot* slot) noexcept:
    """Whether the bound array is still what it was, down to its memory."""
    cdef const RawArray* a = <const RawArray*>slot.array
    if slot.data == NULL:
        return slot.array == <PyObject*>None
    if (PyArray_BYTES(a) != slot.data or PyArray_DESCR(a) != slot.dtype
            or PyArray_FLAGS(a) & slot.flags != slot.flags or size_of(a) != slot.size):
        return False
    a = <const RawArray*>slot.owner
    return a == NULL or (PyArray_BYTES(a) == slot.owner_data and size_of(a) == slot.owner_size)


cdef bint same_shape(const Slot* x, const Slot* y) noexcept:
    cdef const RawArray* a = <const RawArray*>x.array
    cdef const RawArray* b = <const RawArray*>y.array
    cdef int d
    if x.data == NULL or y.data == NULL:
        return True
    if PyArray_NDIM(a) != PyArray_NDIM(b):
        return False
    for d in range(PyArray_NDIM(a)):
        if PyArray_DIMS(a)[d] != PyArray_DIMS(b)[d]:
            return False
    return True


class MemoryMap:
    """The byte ranges the engine writes; no two may overlap, and no gradient may lie in one."""

    def __init__(self):
        self.ranges = []

    def add(self, array, str name) -> None:
        if array.size:
            start = array.__array_interface__["data"][0]
            self.ranges.append((start, start + array.nbytes, name))

    def seal(self) -> None:
        """Sort, and raise if two of the ranges overlap."""
        self.ranges.sort()
        for (_, stop, a), (start, _, b) in zip(self.ranges, self.ranges[1:]):
            if start < stop:
                raise ValueError(f"{b} overlaps {a} in memory; every array must have its own")
        self.starts = [start for start, _, _ in self.ranges]

    def refuse(self, array, str name) -> None:
        """Raise if this array shares memory with one of the ranges."""
        start = array.__array_interface__["data"][0]
        last = bisect_right(self.starts, start + array.nbytes - 1) - 1
        if array.size and last >= 0 and self.ranges[last][1] > start:
            raise ValueError(f"{name} overlaps {self.ranges[last][2]} in memory; a gradient may "
                             f"not share memory with what the step writes")
