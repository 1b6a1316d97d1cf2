"""The table of the loops compiled once per instruction set."""

from fastmom.kernels.rules cimport Table

cdef struct Loops:
    Table rules

cdef const Loops* loops() noexcept      # of the build in use
