"""The batch source: it cuts samples into batches, and may do the work of the first layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmom.kernels import layers as kernels
from fastmom.nn.layer_base import Layer
from fastmom.types import Array

SAMPLE = 1000   # about so many rows tell whether most of the samples' numbers are zero


class Batches:
    """Batches of inputs, targets and weights, in buffers made once.

    Parameters
    ----------
    x : ndarray
        As `fastmom.nn.inputs.check_input` returns it.
    size : int
        Largest batch.
    y, weights : ndarray or None
        Targets and weights of the samples, batched as they are.
    rank, ranks : int
        Which share of each batch this is, of how many: all are equally large, and what is left of
        the last batch is left out.
    """

    def __init__(self, x: Any, size: int, y: Any = None, weights: Array | None = None,
                 rank: int = 0, ranks: int = 1) -> None:
        self.x, self._whole, self.y, self.weights = x, max(1, min(size, len(x))), y, weights
        self.size, self.rank, self.ranks = max(1, self._whole // ranks), rank, ranks
        self._order: NDArray[np.int64] = np.arange(len(x))
        self._shuffled: list[Any] = []      # y and weights in a random order
        self._sparse: bool | None = None

    def __len__(self) -> int:
        """Batches of one pass over the samples; the last one holds what is left."""
        return len(self.x) // self._whole + (len(self.x) % self._whole >= self.ranks)

    def fold(self, layers: Sequence[Layer], buffer: Array) -> Sequence[Layer]:
        """Fold a leading Rescaling or sparse Dense into the batch source; return the layers left.

        Parameters
        ----------
        layers : sequence of Layer
            For which the batches are from now on.
        buffer : ndarray
            The inputs are gathered in its first rows, unless the Dense takes their nonzeros.
        """
        self._buffer, self._batch = buffer, None
        self._scale, self._offset = 1.0, 0.0
        if (scaling := layers[0].scaling()) is not None:
            self._scale, self._offset = scaling
            layers = layers[1:]
        place = next((i for i, layer in enumerate(layers) if not layer.is_view), None)
        if place is not None and layers[place].numbers is not None:
            if self._sparse is None:
                some = self.x[::max(1, len(self.x) // SAMPLE)]
                self._sparse = kernels.is_sparse(np.ascontiguousarray(some))
            skip = self._sparse and self._offset == 0 and layers[place].nonzeros is not None
            self._batch = layers[place].nonzeros if skip else layers[place].numbers
            layers = layers[place:]
        return layers

    def in_order(self) -> Iterator[tuple[int, Any, Any, Any]]:
        """Yield the place of a batch's first sample, its inputs, targets and weights.

        Each batch of inputs overwrites the one before.
        """
        return self._batches(self._order, self.y, self.weights)

    def shuffled(self, rng: np.random.Generator) -> Iterator[tuple[int, Any, Any, Any]]:
        """Yield the same in a new random order."""
        order = rng.permutation(len(self.x))
        self._shuffled = self._shuffled or [None if a is None else np.empty_like(a)
                                            for a in (self.y, self.weights)]
        for a, b in zip((self.y, self.weights), self._shuffled, strict=True):
            if a is not None:   # mode="clip" takes straight into the buffer; all are in range
                np.take(a, order, axis=0, out=b, mode="clip")
        return self._batches(order, *self._shuffled)

    def _batches(self, order: NDArray[np.int64], y: Any,
                 weights: Any) -> Iterator[tuple[int, Any, Any, Any]]:
        size, batch = self._whole, self._batch
        for first in range(0, len(order), size):
            share = min(size, len(order) - first) // self.ranks
            i = first + self.rank * share
            stop = i + share
            if not share:
                return
            if batch is not None:
                x: Any = batch
                x.load(self.x, order[i:stop], self._scale, self._offset,
                       order[i + size:stop + size])
            else:
                x = self._buffer[:stop - i]
                kernels.gather(self.x, order[i:stop], x, self._scale, self._offset)
            yield (i, x, None if y is None else y[i:stop],
                   None if weights is None else weights[i:stop])
