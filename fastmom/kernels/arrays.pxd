cimport numpy as cnp
from cpython.object cimport PyObject

cdef extern from "numpy/arrayobject.h":
    ctypedef struct RawArray "PyArrayObject":
        pass
    char* PyArray_BYTES(const RawArray*) noexcept
    int PyArray_NDIM(const RawArray*) noexcept
    const cnp.npy_intp* PyArray_DIMS(const RawArray*) noexcept
    int PyArray_FLAGS(const RawArray*) noexcept
    void* PyArray_DESCR(const RawArray*) noexcept
    PyObject* PyArray_BASE(const RawArray*) noexcept
    const cnp.npy_intp* PyArray_STRIDES(const RawArray*) noexcept


cdef struct Slot:           # an array as it was when it was bound
    PyObject* array         # borrowed: the engine holds the reference
    char* data
    void* dtype
    int flags
    Py_ssize_t size
    PyObject* owner         # of the memory, where it is another array
    char* owner_data
    Py_ssize_t owner_size

cpdef int check_array(object array, str name, Py_ssize_t index, bint writable) except -1
cdef void bind_slot(Slot* slot, object array, bint writable)
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
    if slot.data == NULL:
        return slot.array == <PyObject*>None
    if (PyArray_BYTES(a) != slot.data or PyArray_DESCR(a) != slot.dtype
            or PyArray_FLAGS(a) & slot.flags != slot.flags or size_of(a) != slot.size):
        return False
    a = <const RawArray*>slot.owner
    return a == NULL or (PyArray_BYTES(a) == slot.owner_data and size_of(a) == slot.owner_size)


cdef inline bint same_shape(const Slot* x, const Slot* y) noexcept:
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
