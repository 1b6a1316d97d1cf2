"""Samples, and cutting them into batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmom.checks import number
from fastmom.kernels import layers as kernels
from fastmom.types import Array

if TYPE_CHECKING:
    from fastmom.nn.dense import Dense

EVALUATION_BATCH = 1000     # samples at a time where no gradient is needed
GATHERED = (np.uint8, np.float32, np.float64)       # dtypes that a batch is gathered from as it is


def check_input(x: Any, dtype: np.dtype[Any]) -> Any:
    """Return `x` C-contiguous and of a dtype that batches are gathered from, or raise naming it.

    Integers and float16 are converted as a whole, to the model's dtype.
    """
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "uifb":
        given = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"x must be an array of real numbers, not {given}")
    if x.ndim < 2:
        raise ValueError(f"x must have shape (samples, ...), not {x.shape}")
    if x.dtype.kind == "f":
        low, high = x.min(initial=0), x.max(initial=0)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("x has a NaN or an infinity; all values must be finite")
        if max(-low, high) > np.finfo(dtype).max:
            raise ValueError(f"x has a value too large for the model's {dtype}")
    return np.ascontiguousarray(x, x.dtype if x.dtype in GATHERED else dtype)


class Samples:
    """Batches of inputs, targets and weights, in buffers made once.

    Parameters
    ----------
    x : ndarray
        As `check_input` returns it.
    size : int
        Largest batch.
    dtype : float32 or float64
        Of the batches of `x`, which are ``scale * x + offset`` for a `scaling` (scale, offset).
    y, weights : ndarray or None
        Targets and weights of the samples, batched as they are.
    layer : Dense, optional
        Whose ``nonzeros`` take the batches of ``scale * x``, and are yielded in their place.
    """

    def __init__(self, x: Any, size: int, dtype: np.dtype[Any], scaling: tuple[float, float],
                 y: Any = None, weights: Array | None = None,
                 layer: Dense | None = None) -> None:
        self.x, self.size, self.scale, self.offset = x, size, *scaling
        self.layer = layer
        self.y, self.weights = y, weights
        self._order: NDArray[np.int64] = np.arange(len(x))
        self._shuffled = [None if a is None else np.empty_like(a) for a in (y, weights)]
        self._buffer = np.empty((size, *x.shape[1:]), dtype)

    def __len__(self) -> int:
        """Batches in a pass; the last one holds what is left."""
        return -(-len(self.x) // self.size)

    def __iter__(self) -> Iterator[tuple[int, Any, Any, Any]]:
        """Yield the place of a batch's first sample, its inputs, targets and weights, in order.

        Each batch of inputs overwrites the one before.
        """
        return self._batches(self._order, self.y, self.weights)

    def shuffled(self, rng: np.random.Generator) -> Iterator[tuple[int, Any, Any, Any]]:
        """The same in a new random order."""
        order = rng.permutation(len(self.x))
        for a, b in zip((self.y, self.weights), self._shuffled, strict=True):
            if a is not None:   # mode="clip" takes straight into the buffer; all are in range
                np.take(a, order, axis=0, out=b, mode="clip")
        return self._batches(order, *self._shuffled)

    def _batches(self, order: NDArray[np.int64], y: Any,
                 weights: Any) -> Iterator[tuple[int, Any, Any, Any]]:
        size = self.size
        for i in range(0, len(order), size):
            stop = min(i + size, len(order))
            if self.layer is not None:
                x: Any = self.layer.nonzeros    # other ones after a larger batch
                x.load(self.x, order[i:stop], self.scale, order[stop:stop + size])
            else:
                x = self._buffer[:stop - i]
                kernels.gather(self.x, order[i:stop], x, self.scale, self.offset)
            yield (i, x, None if y is None else y[i:stop],
                   None if weights is None else weights[i:stop])


def class_weights(given: Any, y: Any, targets: str, classes: int) -> NDArray[np.float64]:
    """Each sample's weight by the class of its target.

    Raises
    ------
    TypeError, ValueError
        If `given` is no dict of classes and weights, or the targets are no classes.
    """
    if targets not in ("labels", "classes"):
        raise ValueError("class_weight needs a loss of classes (sparse_categorical_crossentropy or "
                         "categorical_crossentropy)")
    if not isinstance(given, dict):
        raise TypeError(f"class_weight must be a dict {{class: weight}}, not {given!r}")
    labels = y if targets == "labels" else y.argmax(axis=1)
    weights = np.ones(len(y))
    for label, weight in given.items():
        if isinstance(label, bool) or not isinstance(label, (int, np.integer)):
            raise TypeError(f"class_weight must have integers as classes, not {label!r}")
        if not 0 <= label < classes:
            raise ValueError(f"class_weight has class {label}, expected 0 to {classes - 1}, one "
                             f"per output of the model")
        weights[labels == label] = number(f"class_weight[{label}]", weight, 0)
    return weights


def sample_weights(given: Any, samples: int, dtype: np.dtype[Any]) -> Array:
    """Return the weights of the samples in this dtype, or raise naming them."""
    weights = np.asarray(given)
    if weights.dtype.kind not in "uif" or weights.shape != (samples,):
        raise ValueError(f"sample_weight must be {samples} numbers, one per sample, not "
                         f"{weights.dtype} of shape {weights.shape}")
    weights = np.ascontiguousarray(weights, dtype)
    if weights.size and not (weights.min() >= 0 and np.isfinite(weights.max())):
        raise ValueError("sample_weight must be finite and >= 0")
    return weights
