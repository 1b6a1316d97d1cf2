"""The tables of the loops compiled once per instruction set."""

from fastmom.kernels.layer_loops cimport LayerLoops
from fastmom.kernels.rules cimport Table

cdef struct Loops:
    const char* build       # its name, as in setup.py
    Table rules
    LayerLoops layers

cdef const Loops* loops() noexcept      # of the build in use
