# All loops of one instruction-set build, exported as one table of C function pointers.

from cpython.pycapsule cimport PyCapsule_New
from fastmom.kernels.loops cimport Loops

ctypedef fused real:
    float
    double

include "rules.pxi"
include "layer_loops.pxi"

cdef bytes _build = __name__.rpartition("_")[2].encode()
cdef Loops _loops
_loops.build = _build
_loops.rules = _table
_loops.layers = _layers
table = PyCapsule_New(&_loops, b"fastmom.loops", NULL)
