"""Memory for what optimizers keep beside the parameters."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastmom.types import Array

LINE = 64       # bytes of a cache line


def zeros_beside(arrays: Sequence[Array], count: int) -> list[tuple[Array, ...]]:
    """Return for each array `count` arrays of zeros of its shape and dtype.

    Each lies as far past a cache line as the data of its array: so the vector loops, which align
    themselves to the parameters, meet aligned state too. All lie in one piece of memory, but for
    an array in a memory-mapped file: its own are in an unnamed file in the same directory, since
    they, too, may not fit into memory.

    Raises
    ------
    OSError
        If the disk has no room for such a file.
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


def _carve(memory: Any, start: int, array: Any, count: int) -> tuple[tuple[Array, ...], int]:
    """Cut `count` arrays like this one out of bytes; return them and where they end."""
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
    """Return zeros in a file without a name, gone with the last array that uses it.

    Its place on the disk is reserved at once: a step that met a full disk would end the process.
    """
    from tempfile import TemporaryFile  # slow to import, and used here alone

    directory = os.path.dirname(os.path.abspath(array.filename))
    size = max(1, count * (array.nbytes + 2 * LINE))
    try:
        with TemporaryFile(dir=directory) as file:
            _reserve(file, size)
            return np.memmap(file, np.uint8, "r+", shape=(size,))
    except OSError as error:
        raise OSError(error.errno, f"cannot reserve {size} bytes for the state of the parameter in "
                                   f"{array.filename}: {error.strerror}", directory) from error


def _reserve(file: Any, size: int) -> None:
    """Make an empty file `size` zeros long, all of them on the disk."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise               # else the file system cannot
    zeros = bytes(min(size, 2 ** 20))
    for start in range(0, size, len(zeros)):
        file.write(zeros[:size - start])
    file.flush()
