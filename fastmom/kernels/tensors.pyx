"""Tensors of other libraries as arrays, by DLPack's exchange in C: no call of Python for each.
"""

cimport cython
cimport numpy as cnp
from cpython.object cimport PyObject, PyObject_TypeCheck, PyTypeObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

import numpy as np

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(void*, cnp.dtype, int, cnp.npy_intp*, cnp.npy_intp*, void*, int,
                                PyObject*)
    int PyArray_Type

cdef extern from "dlpack_exchange.h":
    ctypedef struct DLTensor:
        char* data
        int32_t device_type
        int32_t ndim
        uint8_t code
        uint8_t bits
        uint16_t lanes
        int64_t* shape
        int64_t* strides        # in elements
        uint64_t byte_offset
    ctypedef struct Exchange_ "DLPackExchangeAPI":
        uint32_t major
        int (*tensor_of)(void* tensor, DLTensor* out) except -1     # owns nothing

cdef enum:
    CPU = 1
    FLOAT = 2
    BFLOAT = 4
    MOST_AXES = 64          # NumPy's limit

# By kind and bits; bfloat16 is another library's, imported when it is met.
cdef dict DTYPES = {(FLOAT, 16): np.dtype(np.float16), (FLOAT, 32): np.dtype(np.float32),
                    (FLOAT, 64): np.dtype(np.float64)}
cdef cnp.dtype SINGLE = np.dtype(np.float32)


@cython.final
cdef class Exchange:
    """Makes arrays of tensors of one class, which are views of their memory.

    Parameters
    ----------
    kind : type
        Of the tensors, such as ``torch.Tensor``.

    Raises
    ------
    AttributeError, BufferError
        If the class does not offer DLPack's exchange in C, or that of another major version.
    """

    cdef object kind
    cdef object capsule
    cdef object is_neg      # asks a tensor whether its numbers are yet to be negated, or None
    cdef const Exchange_* api

    def __cinit__(self, kind):
        if not isinstance(kind, type):
            raise TypeError(f"kind must be a class, not {kind!r}")
        self.kind, self.capsule = kind, kind.__dlpack_c_exchange_api__
        self.is_neg = getattr(kind, "is_neg", None)
        self.api = <const Exchange_*>PyCapsule_GetPointer(self.capsule, "dlpack_exchange_api")
        if self.api.major != 1 or self.api.tensor_of == NULL:
            raise BufferError(f"{kind.__name__} offers no look at its tensors by DLPack 1")

    def arrays(self, list tensors) -> list:
        """Return an array for each tensor that is dense, on the CPU and of a float dtype.

        Of None, and of a tensor that takes a closer look, the entry is the same object.
        """
        cdef DLTensor t
        cdef list result = []
        for tensor in tensors:
            if (tensor is not None and self._look(tensor, &t)
                    and not (self.is_neg is not None and self.is_neg(tensor))):
                tensor = array_of(tensor, &t)
            result.append(tensor)
        return result

    def are(self, list tensors, list arrays) -> bool:
        """Return whether all tensors lie where these arrays do, and are as long and as wide."""
        cdef DLTensor t
        cdef cnp.ndarray array
        cdef Py_ssize_t size
        cdef int d
        for tensor, array in zip(tensors, arrays, strict=True):
            if not self._look(tensor, &t):
                return False
            size = 1
            for d in range(t.ndim):
                size *= t.shape[d]
            if (size != cnp.PyArray_SIZE(array) or t.bits != 8 * cnp.PyArray_ITEMSIZE(array)
                    or (size and t.data + t.byte_offset != cnp.PyArray_BYTES(array))):
                return False
        return True

    cdef bint _look(self, tensor, DLTensor* t) except -1:
        """Fill in where a tensor lies; False if it cannot be an array."""
        if not PyObject_TypeCheck(tensor, <PyTypeObject*>self.kind):
            raise TypeError(f"expected {self.kind.__name__}, not {type(tensor).__name__}")
        try:
            self.api.tensor_of(<void*>tensor, t)
        except Exception:           # sparse, or without memory
            return False
        return (t.device_type == CPU and t.lanes == 1 and t.ndim <= MOST_AXES
                and dtype_of(t.code, t.bits) is not None)


cdef object array_of(tensor, const DLTensor* t):
    cdef cnp.npy_intp[MOST_AXES] shape, strides
    cdef cnp.npy_intp size = 1
    cdef bint contiguous = True
    cdef int d
    cdef cnp.dtype dtype = dtype_of(t.code, t.bits)
    for d in range(t.ndim - 1, -1, -1):
        shape[d], strides[d] = t.shape[d], t.strides[d] * (t.bits // 8)
        contiguous = contiguous and (t.shape[d] == 1 or t.strides[d] == size)
        size *= t.shape[d]
    if size == 0:
        return np.empty([shape[d] for d in range(t.ndim)], dtype)
    if t.data == NULL:
        return tensor
    Py_INCREF(dtype)            # which the array takes
    array = PyArray_NewFromDescr(&PyArray_Type, dtype, t.ndim, shape,
                                 NULL if contiguous else strides, t.data + t.byte_offset,
                                 cnp.NPY_ARRAY_WRITEABLE, NULL)
    cnp.set_array_base(array, tensor)
    return array


cdef object dtype_of(int code, int bits):
    """Return the dtype, or None if there is no such of ours."""
    if code == FLOAT and bits == 32:
        return SINGLE
    if code == BFLOAT and bits == 16 and (BFLOAT, 16) not in DTYPES:
        from fastmom.extras import need
        DTYPES[BFLOAT, 16] = np.dtype(need("ml_dtypes", "formats", "numbers in bfloat16").bfloat16)
    return DTYPES.get((code, bits))
