cimport numpy as cnp
from cpython.object cimport PyObject

cdef extern from "numpy/arrayobject.h":
    ctypedef struct RawArray "PyArrayObject":
        pass
    bint is_plain_array "PyArray_CheckExact"(const RawArray*) noexcept
    bint is_array "PyArray_Check"(const RawArray*) noexcept
    char* PyArray_BYTES(const RawArray*) noexcept
    int PyArray_NDIM(const RawArray*) noexcept
    const cnp.npy_intp* PyArray_DIMS(const RawArray*) noexcept
    int PyArray_FLAGS(const RawArray*) noexcept
    void* PyArray_DESCR(const RawArray*) noexcept
    PyObject* PyArray_BASE(const RawArray*) noexcept
    const cnp.npy_intp* PyArray_STRIDES(const RawArray*) noexcept
    int item_size "PyArray_ITEMSIZE"(const RawArray*) noexcept

cdef enum:
    READABLE = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED
    WRITABLE = READABLE | cnp.NPY_ARRAY_WRITEABLE


cdef struct Slot:           # an array that the step writes, as it was when it was bound
    PyObject* array         # borrowed: the engine holds the reference
    char* data
    void* dtype
    Py_ssize_t size
    PyObject* owner         # of the memory, where it is another array
    char* owner_data
    Py_ssize_t owner_size

cdef struct Gap:            # addresses from low to below high, which the step does not write
    size_t low
    size_t high

cdef class MemoryMap:
    cdef list _ranges
    cdef Gap* _gaps

    cdef const Gap* gap(self, size_t start) noexcept

cpdef int check_array(object array, str name, Py_ssize_t index, bint writable,
                      bint stored=*) except -1
cdef void bind_slot(Slot* slot, object array)
cdef char* data_of(object array)
cpdef object owner_of(object array)
cdef Py_ssize_t item_of(object array)      # bytes of an element
cdef object dtype_of(object array)
cdef tuple shape_of(object array)


# The checks of every array in every step, inline

cdef inline Py_ssize_t size_of(const RawArray* a) noexcept:
    cdef Py_ssize_t size = 1
    cdef int d
    for d in range(PyArray_NDIM(a)):
        size *= PyArray_DIMS(a)[d]
    return size


cdef inline bint unchanged(const Slot* slot) noexcept:
    """Return whether the bound array is still the same, down to its memory."""
    cdef const RawArray* a = <const RawArray*>slot.array
    if (PyArray_BYTES(a) != slot.data or PyArray_DESCR(a) != slot.dtype
            or PyArray_FLAGS(a) & WRITABLE != WRITABLE or size_of(a) != slot.size):
        return False
    a = <const RawArray*>slot.owner
    return a == NULL or (PyArray_BYTES(a) == slot.owner_data and size_of(a) == slot.owner_size)


cdef inline bint same_shape(const RawArray* a, const RawArray* b) noexcept:
    cdef int d
    if PyArray_NDIM(a) != PyArray_NDIM(b):
        return False
    for d in range(PyArray_NDIM(a)):
        if PyArray_DIMS(a)[d] != PyArray_DIMS(b)[d]:
            return False
    return True


cdef inline const RawArray* raw_owner(const RawArray* a) noexcept:
    """Return the array at the end of the chain of views: a view keeps it alive, not its memory."""
    cdef PyObject* base = PyArray_BASE(a)
    while base != NULL and is_array(<const RawArray*>base):
        a = <const RawArray*>base
        base = PyArray_BASE(a)
    return a


cdef inline bint has_memory(const RawArray* a) noexcept:
    """Return whether the elements of an array still lie in its owner, which may be resized."""
    cdef const RawArray* owner = raw_owner(a)
    if owner == a or not PyArray_FLAGS(owner) & cnp.NPY_ARRAY_OWNDATA:
        return True
    cdef Py_ssize_t size = size_of(a) * item_size(a)
    cdef Py_ssize_t first = PyArray_BYTES(a) - PyArray_BYTES(owner)
    return size == 0 or 0 <= first <= size_of(owner) * item_size(owner) - size


cdef inline bint lies_in(const Gap* gap, size_t start, size_t size) noexcept:
    return gap.low <= start and start + size <= gap.high
