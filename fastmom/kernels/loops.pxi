# All loops of one instruction-set build, exported as one table of C function pointers.

from cpython.pycapsule cimport PyCapsule_New
from fastmom.kernels.loops cimport Loops

ctypedef fused real:
    float
    double

include "rules.pxi"

cdef Loops _loops
_loops.rules = _table
table = PyCapsule_New(&_loops, b"fastmom.loops", NULL)
