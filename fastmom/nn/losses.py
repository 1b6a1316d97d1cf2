"""Losses: the mean over a batch, and its gradient into a buffer."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmom.types import Array

Labels: TypeAlias = NDArray[np.integer[Any]]


class SparseCategoricalCrossentropy:
    """``-log softmax(logits)[label]``, with the softmax inside: stable, and a simple gradient.

    A model that ends in softmax hands over its logits instead.
    """

    name = "sparse_categorical_crossentropy"

    def check(self, y: Any, classes: int) -> Labels:
        """Return the labels if they are whole numbers from 0 to ``classes - 1``, else raise."""
        y = np.asarray(y, order="C")
        if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
            raise ValueError(f"y must be one integer label per sample, not {y.dtype} of shape "
                             f"{y.shape}")
        if y.size and not (y.min() >= 0 and y.max() < classes):
            raise ValueError(f"y has label {y.min() if y.min() < 0 else y.max()}, expected 0 to "
                             f"{classes - 1}, one per output of the model")
        labels: Labels = y
        return labels

    def forward(self, logits: Array, y: Labels) -> tuple[float, int]:
        """Replace the logits by probabilities; return the summed loss and the correct guesses."""
        rows = np.arange(len(y))
        correct = int(np.count_nonzero(logits.argmax(axis=-1) == y))
        logits -= logits.max(axis=-1, keepdims=True)
        own = logits[rows, y].astype(np.float64)
        np.exp(logits, out=logits)
        total = logits.sum(axis=-1, keepdims=True)
        logits /= total
        return float(np.sum(np.log(total[:, 0].astype(np.float64)) - own)), correct

    def backward(self, probabilities: Array, y: Labels) -> Array:
        """Replace the probabilities by the gradient of the mean loss by the logits."""
        probabilities[np.arange(len(y)), y] -= 1
        probabilities /= len(y)
        return probabilities


LOSSES = {loss.name: loss for loss in (SparseCategoricalCrossentropy,)}
