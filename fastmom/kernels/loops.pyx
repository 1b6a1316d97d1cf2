"""The table of loops in use. `isa` chooses it; the engine and the layers call through it."""

from cpython.pycapsule cimport PyCapsule_GetPointer

cdef const Loops* _in_use = NULL


def use(capsule) -> None:
    """Take the loops of this build, from the next call on."""
    global _in_use
    _in_use = <const Loops*>PyCapsule_GetPointer(capsule, b"fastmom.loops")


def in_use() -> str:
    """Return the name of the build that the next call runs."""
    return _in_use.build.decode()


cdef const Loops* loops() noexcept:
    return _in_use
