"""Memory for what optimizers keep beside the parameters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastmom.types import Array

LINE = 64       # bytes of a cache line


def zeros_beside(arrays: Sequence[Array], count: int) -> list[tuple[Array, ...]]:
    """For each array `count` arrays of zeros of its shape and dtype.

    Each lies as far past a cache line as the data of its array: so the vector loops, which align
    themselves to the parameters, meet aligned state too. All lie in one piece of memory, but for
    an array in a memory-mapped file: its own are in an unnamed file in the same directory, since
    they, too, may not fit into memory.
    """
    in_memory = [np.asarray(array) for array in arrays if not _is_mapped(array)]
    shared = np.zeros(sum(count * (array.nbytes + 2 * LINE) for array in in_memory), np.uint8)
    start, result = 0, []
    for array in arrays:
        memory, first = (_file_like(array, count), 0) if _is_mapped(array) else (shared, start)
        buffers, end = _carve(memory, first, np.asarray(array), count)
        result.append(buffers)
        start = start if _is_mapped(array) else end
    return result


def _carve(memory: Any, start: int, array: Array, count: int) -> tuple[tuple[Array, ...], int]:
    """Cut `count` arrays like this one out of bytes, and say where they end."""
    buffers = []
    for _ in range(count):
        start += (array.ctypes.data - memory.ctypes.data - start) % LINE
        piece = memory[start:start + array.nbytes]
        buffers.append(piece.view(array.dtype).reshape(array.shape))
        start += array.nbytes
    return tuple(buffers), start


def _is_mapped(array: Any) -> bool:
    return isinstance(array, np.memmap) and array.filename is not None


def _file_like(array: Any, count: int) -> Any:
    """Zeros in a file without a name, gone with the last array that uses it; no disk until used."""
    from tempfile import TemporaryFile  # slow to import, and used here alone

    with TemporaryFile(dir=os.path.dirname(os.path.abspath(array.filename))) as file:
        size = max(1, count * (array.nbytes + 2 * LINE))
        return np.memmap(file, np.uint8, "w+", shape=(size,))
