"""Layers: their parameters, gradients and activations live in buffers allocated once.

A layer is built for a largest batch; smaller batches use the first rows of its buffers. What
`forward` and `backward` return is such a buffer: the next call overwrites it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmom.nn.activations import Activation, get_activation
from fastmom.optim.schedule_base import integer
from fastmom.types import Array

Shape = tuple[int, ...]


def positive_int(name: str, value: Any) -> int:
    """Return `value` if it is an int >= 1, else raise naming it."""
    return integer(name, value, 1)


class Layer:
    """Base of all layers: no parameters, output shaped like the input.

    Attributes
    ----------
    params, grads : list of ndarray
        Aligned; `backward` overwrites the gradients, the optimizer updates the parameters.
    """

    def __init__(self, input_shape: Sequence[int] | None = None) -> None:
        if input_shape is not None and not (isinstance(input_shape, Sequence) and input_shape):
            raise TypeError(f"input_shape must be a sequence of integers >= 1, not {input_shape!r}")
        self.input_shape: Shape | None = None
        if input_shape is not None:
            self.input_shape = tuple(positive_int("input_shape", n) for n in input_shape)
        self.params: list[Array] = []
        self.grads: list[Array] = []
        self.in_use = False     # by a model: layers own their parameters and cannot be shared

    def build(self, input_shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator) -> Shape:
        """Create the parameters for samples of this shape and return the output's shape."""
        return input_shape

    def allocate(self, batch: int, dtype: np.dtype[Any], needs_dx: bool) -> None:
        """Make buffers for batches of up to this many samples."""

    def forward(self, x: Array, training: bool) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array) -> Array | None:
        """Fill `grads` from the gradient of the output, and return that of the input.

        May overwrite ``dy``. None where nobody needs the input's gradient.
        """
        raise NotImplementedError


class Flatten(Layer):
    """Each sample as one row; a view, nothing is copied."""

    def build(self, input_shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator) -> Shape:
        self.inner = input_shape
        return (math.prod(input_shape),)

    def forward(self, x: Array, training: bool) -> Array:
        return x.reshape(len(x), -1)

    def backward(self, dy: Array) -> Array:
        return dy.reshape(len(dy), *self.inner)


class Dense(Layer):
    """``activation(x @ kernel + bias)``.

    The kernel starts Glorot-uniform (X. Glorot and Y. Bengio, 2010), the bias at zero.

    Parameters
    ----------
    units : int
        Size of the output.
    activation : {"linear", "relu", "softmax"}, optional
    input_shape : sequence of int, optional
        Shape of one sample, where this is the first layer.
    """

    def __init__(self, units: int, activation: str | None = None, *,
                 input_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape)
        self.units = positive_int("units", units)
        self.activation: Activation = get_activation(activation)

    def build(self, input_shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator) -> Shape:
        if len(input_shape) != 1:
            raise ValueError(f"Dense needs flat samples, not of shape {input_shape}; put a Flatten "
                             f"before it")
        fan_in = input_shape[0]
        bound = math.sqrt(6 / (fan_in + self.units))
        self.kernel = rng.uniform(-bound, bound, (fan_in, self.units)).astype(dtype)
        self.bias = np.zeros(self.units, dtype)
        self.params = [self.kernel, self.bias]
        self.grads = [np.zeros_like(p) for p in self.params]
        return (self.units,)

    def allocate(self, batch: int, dtype: np.dtype[Any], needs_dx: bool) -> None:
        self.y = np.empty((batch, self.units), dtype)
        self.dx = np.empty((batch, len(self.kernel)), dtype) if needs_dx else None

    def forward(self, x: Array, training: bool) -> Array:
        if training:    # else the caller's array would be kept alive for nothing
            self.x = x
        y = self.y[:len(x)]
        np.matmul(x, self.kernel, out=y)
        y += self.bias
        self.activation.forward(y)
        return y

    def backward(self, dy: Array) -> Array | None:
        self.activation.backward(dy, self.y[:len(dy)])
        np.matmul(self.x.T, dy, out=self.grads[0])
        np.sum(dy, axis=0, out=self.grads[1])
        if self.dx is None:
            return None
        return np.matmul(dy, self.kernel.T, out=self.dx[:len(dy)])


class Dropout(Layer):
    """Set a random share of the inputs to zero while training, and scale the others up.

    The survivors are divided by ``1 - rate`` so that the expected sum is that of evaluation, which
    passes its input through (N. Srivastava et al., 2014).

    Parameters
    ----------
    rate : float
        Share of inputs to drop, from 0 up to but excluding 1.
    """

    def __init__(self, rate: float, *, input_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape)
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.floating)):
            raise TypeError(f"rate must be a number from 0 to below 1, not {rate!r}")
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be a number from 0 to below 1, not {rate!r}")
        self.rate = float(rate)

    def build(self, input_shape: Shape, dtype: np.dtype[Any], rng: np.random.Generator) -> Shape:
        self.shape = input_shape
        self.rng = rng.spawn(1)[0]
        return input_shape

    def allocate(self, batch: int, dtype: np.dtype[Any], needs_dx: bool) -> None:
        self.buffer = np.empty((batch, *self.shape), dtype)
        self.y = np.empty_like(self.buffer)

    def forward(self, x: Array, training: bool) -> Array:
        self.mask: Array | None = None
        if not training or self.rate == 0:
            return x
        self.mask = mask = self.buffer[:len(x)]
        self.rng.random(out=mask, dtype=mask.dtype)
        np.greater_equal(mask, self.rate, out=mask)
        mask *= 1 / (1 - self.rate)
        return np.multiply(x, mask, out=self.y[:len(x)])

    def backward(self, dy: Array) -> Array:
        return dy if self.mask is None else np.multiply(dy, self.mask, out=dy)
