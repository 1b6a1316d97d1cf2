"""Memory for what optimizers keep beside the parameters."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastmom.types import Array

LINE = 64       # bytes of a cache line
PAGE = 4096     # bytes; a load waits for an earlier store at the same place of another page
LARGE = 65536   # bytes of an array from which its place in a page is chosen


Shape = tuple[int, ...]


def zeros_beside(arrays: Sequence[Array],
                 shapes: Sequence[Sequence[Shape]]) -> list[tuple[Array, ...]]:
    """Return for each array arrays of zeros of its dtype and the shapes listed for it.

    Each lies as far past a cache line as the data of its array: so the vector loops, which align
    themselves to the parameters, meet aligned state too. The large ones also lie as far from each
    other and from their array, in terms of places in a page, as they can: a processor compares a
    load with the stores before it by these alone, and where state lay 64 to 256 bytes past its
    parameter, steps of 10^5 to 10^6 elements took 10 to 40 % longer (AMD Zen 4). Larger pages made
    no difference. All lie in one piece of memory, but for an array in a memory-mapped file: its own
    are in an unnamed file in the same directory, since they, too, may not fit into memory.

    Raises
    ------
    OSError
        If the disk has no room for such a file.
    """
    shared = np.zeros(sum(_size(array, own) for array, own in zip(arrays, shapes, strict=True)
                          if not _is_mapped(array)), np.uint8)
    start, result = 0, []
    for array, own in zip(arrays, shapes, strict=True):
        memory, first = (_file_like(array, own), 0) if _is_mapped(array) else (shared, start)
        buffers, end = _carve(memory, first, array, own)
        result.append(buffers)
        start = start if _is_mapped(array) else end
    return result


def _size(array: Array, shapes: Sequence[Shape]) -> int:
    """Return the bytes that these arrays take at most."""
    itemsize = np.asarray(array).itemsize       # a subclass may say anything
    sizes = [math.prod(shape) * itemsize for shape in shapes]
    return sum(size + _step(array, size) + LINE for size in sizes)


def _step(array: Any, size: int) -> int:
    """Return the bytes in whose terms the place of so large a buffer beside the array is chosen."""
    return PAGE if size >= LARGE and not _is_mapped(array) else LINE


def _carve(memory: Any, start: int, array: Any,
           shapes: Sequence[Shape]) -> tuple[tuple[Array, ...], int]:
    """Cut arrays of these shapes out of bytes; return them and where they end."""
    buffers, plain = [], np.asarray(array)
    for i, shape in enumerate(shapes, 1):
        size = math.prod(shape) * plain.itemsize
        place = plain.ctypes.data + i * PAGE // (len(shapes) + 1) // LINE * LINE
        start += (place - memory.ctypes.data - start) % _step(array, size)
        piece = memory[start:start + size]
        buffers.append(piece.view(plain.dtype).reshape(shape))
        start += piece.size
    return tuple(buffers), start


def _is_mapped(array: Any) -> bool:
    return isinstance(array, np.memmap) and array.filename is not None


def _file_like(array: Any, shapes: Sequence[Shape]) -> Any:
    """Return zeros in a file without a name, gone with the last array that uses it.

    Its place on the disk is reserved at once: a step that met a full disk would end the process.
    """
    from tempfile import TemporaryFile  # slow to import, and used here alone

    directory = os.path.dirname(os.path.abspath(array.filename))
    size = max(1, _size(array, shapes))
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
