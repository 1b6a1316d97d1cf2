# The loops of a network's layers, beside dense products: compiled once per instruction set.
#
# Design. Each is one pass over buffers that the caller allocated and checked. But for the products
# they are serial, since a batch's activations fit into the cache of one core. Each is registered
# below its text, with a pointer per form.

from libc.math cimport INFINITY, erfc, exp, log
from libc.string cimport memset

from fastmom.kernels.layer_loops cimport (F32, F64, U8, Count, Gather, LayerLoops, Loop, Reduction,
                                          Range, Slice, Work)

ctypedef unsigned char uchar
ctypedef char* Memory

ctypedef fused pixel:
    uchar
    float
    double

cdef LayerLoops _layers


cdef void gather(real** a, const Py_ssize_t* n, const double* c,
                 const pixel* source) noexcept nogil:
    # out[r] = scale source[order[r]] + offset;  a: out, order;  n: rows, length of a row, and from
    # one to the next in out and source
    cdef real scale = <real>c[0], offset = <real>c[1]
    cdef const long long* order = <const long long*>a[1]
    cdef real* out = a[0]
    cdef const pixel* x
    cdef Py_ssize_t rows = n[0], length = n[1], r, i
    for r in range(rows):
        x = source + (r if order == NULL else order[r]) * n[3]
        for i in range(length):
            out[r * n[2] + i] = scale * <real>x[i] + offset

_layers.gather[F32] = [<Gather>gather[float, float], <Gather>gather[double, float]]
_layers.gather[F64] = [<Gather>gather[float, double], <Gather>gather[double, double]]
_layers.gather[U8] = [<Gather>gather[float, uchar], <Gather>gather[double, uchar]]


include "activations.pxi"
include "products.pxi"
include "dense.pxi"
