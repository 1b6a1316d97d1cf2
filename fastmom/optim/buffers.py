"""Memory for what optimizers keep beside the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fastmom.types import Array


def zeros_beside(arrays: Sequence[Array], count: int) -> list[tuple[Array, ...]]:
    """For each array `count` arrays of zeros of its shape and dtype, all in one piece of memory.

    Each lies as far past a cache line as the data of its array: so the vector loops, which align
    themselves to the parameters, meet aligned state too.
    """
    line = 64
    memory = np.zeros(sum(count * (array.nbytes + 2 * line) for array in arrays), np.uint8)
    start, first = 0, memory.ctypes.data
    result = []
    for array in arrays:
        buffers = []
        for _ in range(count):
            start += (array.ctypes.data - first - start) % line
            buffers.append(memory[start:start + array.nbytes].view(array.dtype)
                           .reshape(array.shape))
            start += array.nbytes
        result.append(tuple(buffers))
    return result
