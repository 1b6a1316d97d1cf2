from fastmom.kernels.codecs cimport Format

cdef Format format_of(object dtype) except *
