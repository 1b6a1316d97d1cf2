"""Losses: a weighted sum over a batch, and the gradient of its mean, into buffers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastmom.checks import number
from fastmom.kernels import layers as kernels
from fastmom.nn.activations import shift_rows, sigmoid, softmax_rows
from fastmom.nn.inputs import as_array, whole_numbers
from fastmom.nn.loss_base import Doubles, FromOutputsOrLogits, Labels, Loss, Shape, dense
from fastmom.nn.names import by_name
from fastmom.types import Array

__all__ = ["LOSSES", "BinaryCrossentropy", "CategoricalCrossentropy", "Huber", "Labels", "Loss",
           "MeanAbsoluteError", "MeanSquaredError", "SparseCategoricalCrossentropy", "get_loss"]


class Crossentropy(FromOutputsOrLogits):
    """Base of the losses of one class among several."""

    activation = "softmax"

    def allocate(self, shape: Shape, dtype: np.dtype[Any]) -> None:
        super().allocate(shape, dtype)
        self.column, self.sums, self.own = (np.empty((shape[0], 1), dtype) for _ in range(3))

    def _one_axis(self, output_shape: Shape) -> None:
        if len(output_shape) != 1:
            raise ValueError(f"loss {self.name!r} needs a model with outputs of shape (classes,), "
                             f"not {output_shape}")

    def samples(self, z: Array, y: Array) -> Doubles:
        n, y = len(z), self.smoothed(y, z.shape[1])
        p, dz, column, own = self.outputs(z), self.dz[:n], self.column[:n], self.own[:n]
        sums = np.sum(y, axis=1, keepdims=True, out=self.sums[:n])
        shift_rows(p, column)
        np.vecdot(p, y, out=own[:, 0])
        softmax_rows(p, column)
        np.multiply(p, sums, out=dz)
        dz -= y
        losses: Doubles = (sums * np.log(column.astype(np.float64)) - own)[:, 0]
        return losses


class SparseCategoricalCrossentropy(Crossentropy):
    """``-log p[label]`` with ``p`` the softmax of the logits: stable, and a simple gradient.

    Parameters and errors are those of `FromOutputsOrLogits`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmom.nn.losses import SparseCategoricalCrossentropy
    >>> loss = SparseCategoricalCrossentropy()
    >>> z = np.array([[0.0, np.log(3)]])
    >>> y = loss.check([1], (2,), z.dtype)
    >>> loss.allocate(z.shape, z.dtype)
    >>> round(loss.forward(z, y, None, training=True), 4)
    0.2877
    >>> z.round(4), loss.dz.round(4)    # now the outputs, and the gradient by the logits
    (array([[0.25, 0.75]]), array([[ 0.25, -0.25]]))
    """

    name = "sparse_categorical_crossentropy"
    targets = "labels"

    def check(self, y: Any, output_shape: Shape, dtype: np.dtype[Any]) -> Labels:
        """Return labels of shape (samples,) or (samples, 1), whole numbers below ``classes``.

        Raises ValueError naming y.
        """
        self._one_axis(output_shape)
        y, classes = as_array("y", y), output_shape[0]
        labels = whole_numbers(y)
        if labels is None or labels.ndim != 1:
            raise ValueError(f"y must be one integer label per sample, not {y.dtype} of shape "
                             f"{y.shape}")
        if labels.size and not (labels.min() >= 0 and labels.max() < classes):
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise ValueError(f"y has label {wrong}, expected 0 to {classes - 1}, one per output of "
                             f"the model")
        return np.ascontiguousarray(labels, np.int64)

    def forward(self, z: Array, y: Any, weights: Array | None, training: bool) -> float:
        if self.label_smoothing:
            return super().forward(z, y, weights, training)
        dz = self.dz[:len(z)]
        return kernels.softmax_cross_entropy(self.outputs(z), y, weights, dz if training else None)

    def smoothed(self, y: Any, classes: int) -> Array:
        soft = self.soft[:len(y)]
        soft[...] = self.label_smoothing / classes
        soft[np.arange(len(y)), y] += 1 - self.label_smoothing
        return soft


class CategoricalCrossentropy(Crossentropy):
    """``-sum(y * log p)`` with ``p`` the softmax of the logits, for shares of each class.

    `y` has a column per class and no negative element. Its rows need not sum to 1. Parameters and
    errors are those of `FromOutputsOrLogits`.
    """

    name = "categorical_crossentropy"
    targets = "classes"

    def check(self, y: Any, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        self._one_axis(output_shape)
        return dense(y, output_shape, dtype, 0)


class Elementwise(Loss):
    """Base of the losses that are a mean over a sample's outputs."""

    def allocate(self, shape: Shape, dtype: np.dtype[Any]) -> None:
        super().allocate(shape, dtype)
        self.terms: Array = np.empty(shape, dtype)

    def samples(self, z: Array, y: Array) -> Doubles:
        n = len(z)
        terms, dz = self.terms[:n], self.dz[:n]
        self.elements(z, y, terms, dz)
        dz /= math.prod(z.shape[1:])
        losses: Doubles = terms.reshape(n, -1).mean(axis=1, dtype=np.float64)
        return losses

    def elements(self, z: Array, y: Array, terms: Array, dz: Array) -> None:
        """Fill `terms` with each output's loss, and `dz` with its derivative."""
        raise NotImplementedError


class BinaryCrossentropy(Elementwise, FromOutputsOrLogits):
    """``-y * log p - (1 - y) * log(1 - p)`` with ``p`` the sigmoid of the logits; `y` from 0 to 1.

    Parameters and errors are those of `FromOutputsOrLogits`.
    """

    name = "binary_crossentropy"
    targets = "binary"
    activation = "sigmoid"

    def check(self, y: Any, output_shape: Shape, dtype: np.dtype[Any]) -> Array:
        return dense(y, output_shape, dtype, 0, 1)

    def elements(self, z: Array, y: Array, terms: Array, dz: Array) -> None:
        y = self.smoothed(y, 2)
        # max(z, 0) - z * y + log(1 + exp(-|z|)), which cannot overflow
        np.abs(z, out=terms)
        np.negative(terms, out=terms)
        np.exp(terms, out=terms)
        np.log1p(terms, out=terms)
        terms += np.maximum(z, 0, out=dz)
        terms -= np.multiply(z, y, out=dz)
        p = self.outputs(z)
        sigmoid(p)
        np.subtract(p, y, out=dz)


class MeanSquaredError(Elementwise):
    """``(z - y)**2``."""

    name = "mean_squared_error"
    targets = "values"

    def elements(self, z: Array, y: Array, terms: Array, dz: Array) -> None:
        np.square(np.subtract(z, y, out=dz), out=terms)
        dz *= 2


class MeanAbsoluteError(Elementwise):
    """``|z - y|``; its derivative at 0 is taken as 0."""

    name = "mean_absolute_error"
    targets = "values"

    def elements(self, z: Array, y: Array, terms: Array, dz: Array) -> None:
        np.abs(np.subtract(z, y, out=dz), out=terms)
        np.sign(dz, out=dz)


class Huber(Elementwise):
    """``d**2 / 2`` where ``|d| <= delta``, and linear beyond, with ``d = z - y``.

    Parameters
    ----------
    delta : float, default 1.0
        Above 0; also the largest derivative.

    Raises
    ------
    TypeError, ValueError
        If `delta` is no finite number above 0.

    References
    ----------
    P. J. Huber, "Robust estimation of a location parameter", 1964.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmom.nn.losses import Huber
    >>> loss, z, y = Huber(delta=2.0), np.array([[1.0], [5.0]]), np.zeros((2, 1))
    >>> loss.allocate(z.shape, z.dtype)
    >>> loss.forward(z, y, None, training=True)     # 1/2 + 8
    8.5
    >>> loss.dz     # of the mean
    array([[0.5],
           [1. ]])
    """

    name = "huber"
    targets = "values"

    arguments = ("delta",)
    delta = 1.0

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = number("delta", delta, 0.0, open_low=True)

    def elements(self, z: Array, y: Array, terms: Array, dz: Array) -> None:
        np.subtract(z, y, out=terms)
        np.clip(terms, -self.delta, self.delta, out=dz)
        terms *= 2      # (d - c / 2) * c, where c is d clipped
        terms -= dz
        terms *= dz
        terms *= 0.5


LOSSES: Mapping[str, Callable[..., Loss]] = {kind.name: kind for kind in (
    SparseCategoricalCrossentropy, CategoricalCrossentropy, BinaryCrossentropy, MeanSquaredError,
    MeanAbsoluteError, Huber)} | {"mse": MeanSquaredError, "mae": MeanAbsoluteError}


def get_loss(given: Any) -> Loss:
    """Return the loss of this name, or a copy of a Loss: its buffers belong to one model.

    Raises
    ------
    ValueError
        If there is none of this name.

    Examples
    --------
    >>> from fastmom.nn.losses import get_loss
    >>> get_loss("binaryCrossentropy").fused
    'sigmoid'
    >>> get_loss("mse").name
    'mean_squared_error'
    """
    if isinstance(given, Loss):
        return copy.copy(given)
    return by_name("loss", given, LOSSES, "a Loss")()
