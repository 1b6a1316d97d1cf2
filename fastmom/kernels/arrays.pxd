from cpython.object cimport PyObject

cdef struct Slot:           # what was true of an array when it was bound
    PyObject* array         # borrowed: the engine holds the reference
    char* data
    void* dtype
    int flags
    Py_ssize_t size
    PyObject* owner         # of the memory, where it is another array
    char* owner_data
    Py_ssize_t owner_size

cdef int check_array(object array, str name, Py_ssize_t index, bint writable) except -1
cdef void bind_slot(Slot* slot, object array, bint writable)
cdef bint unchanged(const Slot* slot) noexcept
cdef bint same_shape(const Slot* a, const Slot* b) noexcept
