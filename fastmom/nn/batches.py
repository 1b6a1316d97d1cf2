"""Cutting a data set into batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fastmom.nn.losses import Labels
from fastmom.types import Array


def batches(x: Array, y: Labels, size: int,
            order: NDArray[np.int64] | None = None) -> Iterator[tuple[Array, Labels]]:
    """Yield batches of C-contiguous `x` and `y`, the last one with what is left.

    In the given order of the samples each batch overwrites the one before; without it they are
    views.
    """
    if order is None:
        yield from ((x[i:i + size], y[i:i + size]) for i in range(0, len(x), size))
        return
    xs, ys = np.empty((size, *x.shape[1:]), x.dtype), np.empty(size, y.dtype)
    for i in range(0, len(x), size):
        chosen = order[i:i + size]
        n = len(chosen)
        # mode="clip" gathers straight into the buffer; the indices are in range
        yield (np.take(x, chosen, axis=0, out=xs[:n], mode="clip"),
               np.take(y, chosen, axis=0, out=ys[:n], mode="clip"))
