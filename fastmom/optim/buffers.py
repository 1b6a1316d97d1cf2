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


Kind = tuple[tuple[int, ...], np.dtype[Any]]        # shape and dtype


def zeros_beside(arrays: Sequence[Array],
                 kinds: Sequence[Sequence[Kind]]) -> list[tuple[Array, ...]]:
    """Return for each array arrays of zeros of the shapes and dtypes listed for it.

    Each has the same element at the start of a cache line as its array: so the vector loops, which
    align themselves to the parameters, meet aligned state too. The large ones also lie as far from
    each other and from their array, in terms of places in a page, as they can: a processor compares
    a load with the stores before it by these alone, and where state lay 64 to 256 bytes past its
    parameter, steps of 10^5 to 10^6 elements took 10 to 40 % longer (AMD Zen 4); from 3 x 10^6 on
    main memory hides it. State on pages of 2 MiB made no difference (0.94 to 1.07 of the time, six
    processes). A gradient 64 to 192 bytes before its parameter or state costs up to 30 % for the
    same reason; where it lies is not chosen here.

    All lie in one piece of memory, but for an array in a memory-mapped file: its own are in an
    unnamed file in the same directory, since they, too, may not fit into memory.

    Raises
    ------
    OSError
        If the disk has no room for such a file.
    """
    shared = np.zeros(sum(_size(array, own) for array, own in zip(arrays, kinds, strict=True)
                          if not _is_mapped(array)), np.uint8)
    start, result = 0, []
    for array, own in zip(arrays, kinds, strict=True):
        memory, first = (_file_like(array, own), 0) if _is_mapped(array) else (shared, start)
        buffers, end = _carve(memory, first, array, own)
        result.append(buffers)
        start = start if _is_mapped(array) else end
    return result


def _size(array: Array, kinds: Sequence[Kind]) -> int:
    """Return the bytes that these arrays take at most."""
    sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in kinds]
    return sum(size + _step(array, size) + LINE for size in sizes)


def _step(array: Any, size: int) -> int:
    """Return the bytes in whose terms the place of so large a buffer beside the array is chosen."""
    return PAGE if size >= LARGE and not _is_mapped(array) else LINE


def _carve(memory: Any, start: int, array: Any,
           kinds: Sequence[Kind]) -> tuple[tuple[Array, ...], int]:
    """Cut such arrays out of bytes; return them and where they end."""
    buffers, plain = [], np.asarray(array)      # a subclass may say anything
    lead = -plain.ctypes.data % LINE // plain.itemsize      # elements before its first whole line
    line = plain.ctypes.data + lead * plain.itemsize
    for i, (shape, dtype) in enumerate(kinds, 1):
        size = math.prod(shape) * dtype.itemsize
        place = line - lead * dtype.itemsize + i * PAGE // (len(kinds) + 1) // LINE * LINE
        buffer, start = cut_at(memory, start, place, _step(array, size), shape, dtype)
        buffers.append(buffer)
    return tuple(buffers), start


def cut_at(memory: Any, start: int, place: int, step: int, shape: tuple[int, ...],
           dtype: np.dtype[Any]) -> tuple[Array, int]:
    """Cut an array out of bytes, at this address modulo `step`; return it and where it ends."""
    start += (place - memory.ctypes.data - start) % step
    end = start + math.prod(shape) * dtype.itemsize
    return memory[start:end].view(dtype).reshape(shape), end


def _is_mapped(array: Any) -> bool:
    return isinstance(array, np.memmap) and array.filename is not None


def _file_like(array: Any, kinds: Sequence[Kind]) -> Any:
    """Return zeros in a file without a name, gone with the last array that uses it.

    Its place on the disk is reserved at once: a step that met a full disk would end the process.
    """
    from tempfile import TemporaryFile  # slow to import, and used here alone

    directory = os.path.dirname(os.path.abspath(array.filename))
    size = max(1, _size(array, kinds))
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
