"""What the engine asks of an array: checked once in full, then compared field by field."""

from bisect import bisect_right

import numpy as np

cimport numpy as cnp
from cpython.object cimport PyObject

cnp.import_array()

cdef enum:
    READABLE = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED
    WRITABLE = READABLE | cnp.NPY_ARRAY_WRITEABLE


cpdef int check_array(object array, str name, Py_ssize_t index, bint writable) except -1:
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
    owner = owner_of(array)
    if owner is not array and owner.flags.owndata:
        start, first = address(array), address(owner)
        if array.size and not first <= start <= start + array.nbytes <= first + owner.nbytes:
            raise ValueError(f"{name}[{index}] is a view of an array that was resized; its memory "
                             f"is gone")
    return 0


cpdef object owner_of(object array):
    """The array at the end of the chain of views: a view keeps it alive, but not its memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


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
    """The byte ranges the engine writes; no two may overlap, and no gradient may lie in one."""

    def __init__(self):
        self.ranges = []

    def add(self, array, str name) -> None:
        if array.size:
            start = address(array)
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
        start = address(array)
        last = bisect_right(self.starts, start + array.nbytes - 1) - 1
        if array.size and last >= 0 and self.ranges[last][1] > start:
            raise ValueError(f"{name} overlaps {self.ranges[last][2]} in memory; a gradient may "
                             f"not share memory with what the step writes")
