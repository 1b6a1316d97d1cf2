"""Where weights and their gradients lie."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastmom.optim.buffers import LARGE, LINE, PAGE, cut_at
from fastmom.types import Array

# Of a gradient, past its weights in terms of places in a page: state lies at other parts of it, so
# that a step's loads never look like its stores (see `fastmom.optim.buffers`).
BESIDE = PAGE // 4


def zeros_on_lines(shape: tuple[int, ...], dtype: np.dtype[Any], place: int = 0) -> Array:
    """Return zeros from the start of a cache line on; large ones from this place in a page on.

    NumPy's own arrays start 16 bytes past one, so that each vector of a row lies in two lines:
    products took up to a quarter longer.
    """
    size = math.prod(shape) * dtype.itemsize
    step = PAGE if size >= LARGE else LINE
    return cut_at(np.zeros(size + step, np.uint8), 0, place, step, shape, dtype)[0]


def on_lines(array: Array) -> Array:
    """Return a copy on cache lines, or the array itself if it lies so."""
    if array.ctypes.data % LINE == 0:
        return array
    result = zeros_on_lines(array.shape, array.dtype)
    result[...] = array
    return result


def gradients_of(params: Any) -> list[Array]:
    """Return zeros for the gradient of each parameter."""
    return [zeros_on_lines(p.shape, p.dtype, p.ctypes.data + BESIDE) for p in params]
