"""Layers that normalize what passes through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from fastmom.checks import number
from fastmom.nn.initializers import INITIALIZERS
from fastmom.nn.layer_base import Layer, Shape, Weight
from fastmom.nn.registered import Check
from fastmom.types import Array


class BatchNorm(Layer):
    """``gamma * (x - mean) / sqrt(variance + eps) + beta``, over all axes but the last.

    In training, mean and variance are those of the batch, and move the averages that are used
    afterwards: ``moving = momentum * moving + (1 - momentum) * batch's``.

    Parameters
    ----------
    momentum : float, default 0.99
        Of the moving averages, from 0 to 1. torch's ``momentum`` is ``1 - momentum``.
    eps : float, default 1e-3
        Above 0.
    input_shape : sequence of int, optional
        Shape of one sample, where this is the first layer.

    Attributes
    ----------
    params : list of ndarray
        `gamma`, at first ones, and `beta`, zeros; each has one element per feature.
    state : list of ndarray
        `moving_mean` and `moving_variance`, at first 0 and 1: saved with the weights, not trained.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    As in Keras the moving variance is of the biased ones (divided by the number of values `m`, not
    ``m - 1`` as in torch).

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch normalization", 2015. Keras, ``BatchNormalization``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmom.nn.normalization import BatchNorm
    >>> layer, dtype = BatchNorm(momentum=0.9), np.dtype(np.float64)
    >>> layer.build((1,), dtype, np.random.default_rng(0))
    (1,)
    >>> layer.allocate(2, dtype, needs_dx=False)
    >>> layer.forward(np.array([[1.0], [3.0]]), training=True).round(3)
    array([[-1.],
           [ 1.]])
    >>> layer.moving_mean
    array([0.2])
    """

    arguments: ClassVar[Mapping[str, Check]] = {
        "momentum": partial(number, "momentum", low=0.0, high=1.0),
        "eps": partial(number, "eps", low=0.0, open_low=True)}
    buffers = ("y", "normal", "inverse", "needs_dx", "frozen")

    gamma: Array
    beta: Array
    moving_mean: Array
    moving_variance: Array

    def __init__(self, momentum: float = 0.99, eps: float = 1e-3, *,
                 input_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape)
        self.momentum, self.eps = momentum, eps

    def describe_weights(self, input_shape: Shape) -> dict[str, Weight]:
        shape, ones = input_shape[-1:], INITIALIZERS["ones"]
        return {"gamma": Weight(shape, ones), "beta": Weight(shape),
                "moving_mean": Weight(shape, trained=False),
                "moving_variance": Weight(shape, ones, trained=False)}

    def allocate(self, batch: int, dtype: np.dtype[Any], needs_dx: bool) -> None:
        self.y = np.empty((batch, *self.shape), dtype)
        self.normal = np.empty_like(self.y)     # the input normalized, before gamma and beta
        self.needs_dx = needs_dx

    def forward(self, x: Array, training: bool) -> Array:
        y = self.y[:len(x)]
        self.frozen = not (training and self.trainable)
        if self.frozen:
            scale = self.gamma / self._deviation(self.moving_variance)
            np.multiply(x, scale, out=y)
            y += self.beta - self.moving_mean * scale
            return y
        rows, normal = self._rows(x), self._rows(self.normal[:len(x)])
        mean = np.mean(rows, axis=0)
        np.subtract(rows, mean, out=normal)
        variance = np.einsum("ij,ij->j", normal, normal) / len(rows)
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving *= self.momentum
            moving += (1 - self.momentum) * new
        self.inverse = 1 / self._deviation(variance)
        normal *= self.inverse
        np.multiply(self.normal[:len(x)], self.gamma, out=y)
        y += self.beta
        return y

    def backward(self, dy: Array) -> Array | None:
        if self.frozen:
            dy *= self.gamma / self._deviation(self.moving_variance)
            return dy
        rows, normal = self._rows(dy), self._rows(self.normal[:len(dy)])
        dgamma, dbeta = self.grads
        np.einsum("ij,ij->j", rows, normal, out=dgamma)
        np.sum(rows, axis=0, out=dbeta)
        if not self.needs_dx:
            return None
        # uses `normal` up: (dy - mean of dy - normal * mean of dy * normal) * gamma / deviation
        normal *= dgamma / len(rows)
        dy -= self.normal[:len(dy)]
        dy -= dbeta / len(rows)
        dy *= self.gamma * self.inverse
        return dy

    def _deviation(self, variance: Array) -> Array:
        return np.sqrt(variance + self.eps)

    def _rows(self, a: Array) -> Array:
        return a.reshape(-1, self.shape[-1])
